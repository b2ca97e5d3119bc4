"""Connections to the log's database, what is demanded of its server, and what its refusals mean to whoever must act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo, errors, pq

from controller.errors import ConfigError, FlyballError, Permanent, Unavailable
from controller.ledger import postgres_sql as sql
from controller.ledger.database import Sync

Db = psycopg.Connection[Any]
OLDEST_SERVER = 140_000  # pipelines of statements, and pg_xact_status with 64-bit ids
CONNECT_S = 5
DEAD_PEER_MS = 10_000  # an unanswered packet for so long: the connection counts as cut

_WAYS_OUT: dict[type[psycopg.Error], str] = {
    errors.DiskFull: "Free space on the server's disk; appends work again by themselves",
    errors.TooManyConnections: "Raise max_connections, or run fewer controllers on this server",
    errors.LockNotAvailable: "Another process has held the log for seconds: look into pg_stat_activity for it",
    errors.QueryCanceled: "The server took too long: look at its load and locks",
    errors.IdleInTransactionSessionTimeout: "This process stood still while it appended: look at its machine's load",
    errors.ReadOnlySqlTransaction: "This server is a standby: name the primary, or add target_session_attrs=read-write",
}
_RECONNECT = "Look whether the server runs and can be reached; appends work again by themselves"
# After these the server has ended the connection, or it leads to a server that is no longer the one to write to.
_ENDED = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,
)
_MISCONFIGURED: dict[type[psycopg.Error], str] = {
    errors.InsufficientPrivilege: "Let the owner run `flyball log migrate --grant ROLE`",
    errors.UndefinedTable: "Let the owner run `flyball log migrate`",
    errors.InvalidCatalogName: "Create the database, or name another",
    errors.InvalidPassword: "Correct the password of the connection",
    errors.InvalidAuthorizationSpecification: "Correct the role of the connection",
}


def named(dsn: str) -> str:
    """The log's name in errors: host and database, never a password."""
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"the log's connection cannot be read: {error}".strip(), "See docs/postgres.md") from error
    return f"{parts.get('dbname') or 'the default database'} on {parts.get('host') or 'the local socket'}"


def explained(error: psycopg.Error, name: str) -> FlyballError:
    """Unavailable for what passes or is mended while Flyball runs, ConfigError for a setting, else Permanent."""
    what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for kind, way_out in _MISCONFIGURED.items():
        if isinstance(error, kind):
            return ConfigError(f"the log at {name} may not be used so: {what}", way_out)
    for kind, way_out in _WAYS_OUT.items():
        if isinstance(error, kind):
            return Unavailable(f"the log at {name} cannot be used now: {what}", way_out)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Unavailable(f"the log at {name} cannot be used now: {what}", _RECONNECT)
    if isinstance(error, psycopg.DataError):
        return Permanent(f"the log at {name} cannot hold this: {what}", "Mend the step that drafted it")
    return Permanent(f"the log at {name} is damaged or not a log: {what}", "Run `flyball log verify`")


@contextmanager
def explaining(name: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise explained(error, name) from error


def is_lost(db: Db, error: psycopg.Error) -> bool:
    """Whether the connection ended with this error. If not, the server refused a statement and undid all of them."""
    if db.closed or isinstance(error, _ENDED):
        return True
    broken = (pq.TransactionStatus.ACTIVE, pq.TransactionStatus.UNKNOWN)
    return db.info.pipeline_status is not pq.PipelineStatus.OFF or db.info.transaction_status in broken


def connected(dsn: str, name: str) -> Db:
    """A connection as every part of the log wants it. The caller closes it."""
    with explaining(name):
        db = psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_S,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=2,
            tcp_user_timeout=DEAD_PEER_MS,
            application_name="flyball",
            client_encoding="UTF8",
        )
        try:
            _demand(db, name)
            db.execute(sql.PREPARE_SESSION)
        except BaseException:
            db.close()
            raise
    return db


def open_writer(dsn: str, name: str, sync: Sync) -> Db:
    db = connected(dsn, name)
    with explaining(name):
        db.execute(sql.WAIT_FOR_DISK if sync is Sync.FULL else sql.DO_NOT_WAIT_FOR_DISK)
    return db


def open_reader(dsn: str, name: str) -> Db:
    """It cannot write. It sees what is committed."""
    db = connected(dsn, name)
    with explaining(name):
        db.execute(sql.READ_ONLY)
    return db


def _demand(db: Db, name: str) -> None:
    found = db.execute(sql.SERVER).fetchone()
    assert found is not None  # noqa: S101 - a SELECT of four settings has one row
    fsync, full_pages, encoding, version = found
    if version < OLDEST_SERVER:
        raise ConfigError(f"{name} is PostgreSQL {version // 10_000}", f"Use {OLDEST_SERVER // 10_000} or later")
    if encoding != "UTF8":
        raise ConfigError(f"the database {name} is encoded in {encoding}", "Create it with ENCODING 'UTF8'")
    if (fsync, full_pages) != ("on", "on"):
        what = f"{name} has fsync {fsync} and full_page_writes {full_pages}: a power cut may take acknowledged entries"
        raise ConfigError(what, "Set both to on")
