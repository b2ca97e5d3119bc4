"""Connections to the log's file, and what SQLite's refusals mean to whoever must act on them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from controller.errors import FlyballError, Permanent, Unavailable
from controller.ledger import sql
from controller.ledger.tile_rows import complete_tiles

MEMORY = ":memory:"
BUSY_S = 5.0  # how long a writer waits for another process's transactions; one takes milliseconds
# SQLite's own waiting backs off to 100 ms and starves beside a busy process: of three processes that wrote without
# pause, one append waited 1.04 s, against 0.06 s when asking this often (2 CPUs, one writer each, 4 s, 2026-11-22).
ASK_AGAIN_S = 0.0005
WAL_BYTES_KEPT = 64 * 1024 * 1024


class Sync(StrEnum):
    """What a commit waits for. SQLite, "PRAGMA synchronous"."""

    FULL = "FULL"  # the disk: an acknowledged entry survives a power cut
    NORMAL = "NORMAL"  # survives the process; a power cut may take the last commits, never the file
    OFF = "OFF"  # simulation only: a power cut may damage the file


_WAYS_OUT = {
    sqlite3.SQLITE_FULL: "Free space on this disk; appends work again by themselves",
    sqlite3.SQLITE_IOERR: "Free space or repair the disk; appends work again by themselves",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user",
    sqlite3.SQLITE_PERM: "Make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "Create the folder and make it writable for this user",
    sqlite3.SQLITE_BUSY: "Another process has held the write lock for seconds: end it if it hangs",
    sqlite3.SQLITE_LOCKED: "Another process has held the write lock for seconds: end it if it hangs",
    sqlite3.SQLITE_NOMEM: "Free memory on this machine",
}


def explained(error: sqlite3.Error, path: str) -> FlyballError:
    """Unavailable for what an operator can mend while Flyball runs, Permanent for a damaged or foreign file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _WAYS_OUT:
        return Unavailable(f"the log at {path} cannot be used now: {error}", _WAYS_OUT[code])
    return Permanent(
        f"the log at {path} is damaged or not a log: {error}", "Run `flyball log verify` on a copy of the file"
    )


@contextmanager
def explaining(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Hold the one write lock of the file from the first statement on, and keep all or nothing."""
    _begin(db)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # on some errors SQLite has rolled back by itself
            db.rollback()
        raise


def _begin(db: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(ASK_AGAIN_S)
        else:
            return


def open_writer(path: str, sync: Sync) -> sqlite3.Connection:
    """A connection that may write, on a file that is created with its schema if it is not there."""
    with explaining(path):
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path, sync)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection, path: str, sync: Sync) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {sync.value}")
    db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the platter; no effect elsewhere
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    (version,) = db.execute(sql.VERSION).fetchone()
    if version > sql.SCHEMA_VERSION:
        raise Permanent(
            f"the log at {path} has schema {version}, this Flyball knows {sql.SCHEMA_VERSION}", "Run a newer Flyball"
        )
    if version == 0:
        db.executescript(sql.SCHEMA)
    db.execute("PRAGMA busy_timeout = 0")  # from here on `transaction` does the waiting
    if version == 1:
        _migrate_from_1(db)


def _migrate_from_1(db: sqlite3.Connection) -> None:
    """Give an older log its tiles: all of them or none, and once, whoever opens it first. Seconds a million entries."""
    with transaction(db):
        (version,) = db.execute(sql.VERSION).fetchone()
        if version != 1:
            return
        create, done = sql.MIGRATE_FROM_1
        db.execute(create)
        (size,) = db.execute(sql.SIZE).fetchone()
        complete_tiles(db, 0, size)
        db.execute(done)


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write. It sees what is committed, and never waits for a writer."""
    with explaining(path):
        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def to_text(at: datetime) -> str:
    if at.tzinfo is None:
        raise Permanent(f"{at} has no time zone", "Use aware datetimes; the log keeps UTC")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def to_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
