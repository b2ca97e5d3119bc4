"""Servers that crash, connections that are cut, disks that are full: nothing is lost, and nobody is told a lie.

What an append's caller hears is held against the log afterwards: a receipt means it is there, Unavailable means it is
not, and only "may have been committed" leaves it open.
"""

from __future__ import annotations

import asyncio
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit
from postgres_kit import HandClock, Server, say, stream

from controller.errors import Permanent, Unavailable
from controller.ledger import postgres_sql
from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_lease import PostgresLease
from controller.ledger.postgres_verify import verify_postgres
from controller.ports import Receipt, Rejected


@pytest.fixture
def dsn() -> str:
    return postgres_kit.server().database()


@pytest.fixture
def log(dsn: str) -> Iterator[PostgresLog]:
    found = PostgresLog(dsn, HandClock())
    yield found
    found.close()


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may crash."""
    found = postgres_kit.new_server()
    yield found
    found.remove()


# --- writers that go on, whatever happens -----------------------------------------------------------------------------


@dataclass
class Told:
    """What writers were told, and whether it was true when they looked again."""

    receipts: dict[int, tuple[str, int]] = field(default_factory=dict)
    refused: int = 0
    doubts: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_saying(self, log: PostgresLog, name: str, stop: asyncio.Event) -> None:
        at = 0
        while not stop.is_set():
            try:
                outcome = await say(log, name, at=at)
            except Unavailable as error:
                at = await self._looked_again(log, name, at, error)
            else:
                assert isinstance(outcome, Receipt)
                at += 1
                self.receipts[outcome.index] = (stream(name), at)
                self.more.set()

    async def _looked_again(self, log: PostgresLog, name: str, at: int, error: Unavailable) -> int:
        version = None
        while version is None:
            try:
                row = await log.stream(stream(name))
                version = row.version if row else 0
            except Unavailable:
                continue
        if "may have been committed" in str(error):
            self.doubts += 1
            assert version in (at, at + 1)
        else:
            self.refused += 1
            assert version == at
        return version

    async def said(self, receipts: int) -> None:
        """Wait until so many more have been acknowledged."""
        for _ in range(receipts):
            self.more.clear()
            await self.more.wait()

    @asynccontextmanager
    async def by_five_writers(self, log: PostgresLog) -> AsyncIterator[None]:
        """They write as long as the block lasts. One that finds itself lied to ends it."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as writers:
            for number in range(5):
                writers.create_task(self.keep_saying(log, f"w{number}", stop))
            yield
            stop.set()

    async def check(self, log: PostgresLog, dsn: str) -> None:
        found = {entry.index: (entry.stream, entry.version) async for entry in log.scan()}
        assert sorted(found) == list(range(len(found)))
        assert {index: found.get(index) for index in self.receipts} == self.receipts
        assert len(self.receipts) <= len(found) <= len(self.receipts) + self.doubts
        report = verify_postgres(dsn)
        assert (report.size, report.findings) == (len(found), ())


@pytest.mark.timeout(90)
async def test_crashes_of_the_server_in_the_middle_of_appends_lose_and_invent_nothing(own: Server) -> None:
    dsn = own.database()
    log, told = PostgresLog(dsn, HandClock()), Told()
    async with told.by_five_writers(log):
        for _ in range(3):
            await told.said(20)
            await asyncio.to_thread(own.stop, signal.SIGQUIT)
            await asyncio.to_thread(own.start)
        await told.said(20)
    await told.check(log, dsn)
    assert told.refused + told.doubts
    log.close()


@pytest.mark.timeout(60)
async def test_connections_cut_in_the_middle_of_appends_lose_and_invent_nothing(log: PostgresLog, dsn: str) -> None:
    told = Told()
    async with told.by_five_writers(log):
        for turn in range(10):
            await told.said(3 + turn)
            await asyncio.to_thread(postgres_kit.server().cut_off, log.name.split()[0])
        await told.said(10)
    await told.check(log, dsn)


@pytest.mark.timeout(90)
async def test_a_synchronous_standby_that_takes_over_has_everything_that_was_acknowledged(own: Server) -> None:
    name = own.database().partition("dbname=")[2].split()[0]
    standby = own.standby().start()
    own.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
    own.run("SELECT pg_reload_conf()")
    both = own.dsn(name, host=f"{own.folder},{standby.folder}", target_session_attrs="read-write")
    log, told = PostgresLog(both, HandClock()), Told()
    async with told.by_five_writers(log):
        await told.said(30)
        await asyncio.to_thread(own.stop, signal.SIGQUIT)
        await asyncio.to_thread(standby.run, "SELECT pg_promote()")
        await told.said(30)
    await told.check(log, standby.dsn(name))
    log.close()
    standby.remove()


@pytest.mark.timeout(60)
async def test_a_server_that_lost_acknowledged_entries_is_not_appended_to(own: Server) -> None:
    name = own.database().partition("dbname=")[2].split()[0]
    PostgresLog(own.dsn(name), HandClock()).close()
    standby = own.standby()  # it will hear of nothing that follows
    both = own.dsn(name, host=f"{own.folder},{standby.folder}", target_session_attrs="read-write")
    log = PostgresLog(both, HandClock())
    await say(log, times=3)
    own.stop(signal.SIGQUIT)
    standby.start().run("SELECT pg_promote()")
    with pytest.raises(Permanent, match=r"has 0 entries, but 3 were acknowledged.*Stop every controller"):
        await say(log, "b")
    log.close()
    standby.remove()


# --- a connection that is cut while it commits ------------------------------------------------------------------------


class Relay:
    """Between a log and its server. It can cut the next connection that commits."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self._server = folder, server.folder / ".s.PGSQL.5432"
        self.cut: Callable[[socket.socket, socket.socket, bytes], None] | None = None  # None: it passes everything on
        self.refuses = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / ".s.PGSQL.5432"))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            if self.refuses:
                return
            server.connect(str(self._server))
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    cut = self.cut
                    if source is client and b"COMMIT\0" in data and cut is not None:
                        self.cut = None
                        cut(client, server, data)
                        return
                    (server if source is client else client).sendall(data)


def before_the_server_heard(_: socket.socket, __: socket.socket, ___: bytes) -> None: ...


def after_the_server_did(client: socket.socket, server: socket.socket, data: bytes) -> None:
    server.sendall(data)
    answer = b""
    while b"COMMIT\0" not in answer:
        for source in select.select([client, server], [], [])[0]:
            if source is client:
                server.sendall(client.recv(65536))
            else:
                answer += server.recv(65536)


@pytest.fixture
def relay() -> Iterator[Relay]:
    folder = postgres_kit._new_folder()
    found = Relay(folder, postgres_kit.server())
    yield found
    found.close()
    shutil.rmtree(folder)


@pytest.fixture
def relayed(relay: Relay, dsn: str) -> Iterator[PostgresLog]:
    found = PostgresLog(f"{dsn} host={relay.folder}", HandClock())
    yield found
    found.close()


async def test_a_commit_whose_answer_was_lost_is_found_and_acknowledged(
    relay: Relay, relayed: PostgresLog, dsn: str
) -> None:
    relay.cut = after_the_server_did
    assert await say(relayed) == Receipt(0, 1)
    assert relay.cut is None
    assert await say(relayed, at=1) == Receipt(1, 2)
    assert verify_postgres(dsn).size == 2


async def test_a_commit_that_never_arrived_is_found_missing_and_can_be_tried_again(
    relay: Relay, relayed: PostgresLog, dsn: str
) -> None:
    relay.cut = before_the_server_heard
    with pytest.raises(Unavailable, match="cannot be used now") as caught:
        await say(relayed)
    assert "may have been committed" not in str(caught.value)
    assert relay.cut is None
    assert await say(relayed) == Receipt(0, 1)
    assert verify_postgres(dsn).findings == ()


async def test_when_nobody_can_be_asked_what_became_of_a_commit_the_caller_is_told_so(
    relay: Relay, relayed: PostgresLog
) -> None:
    def and_nobody_answers_any_more(client: socket.socket, server: socket.socket, data: bytes) -> None:
        after_the_server_did(client, server, data)
        relay.refuses = True

    relay.cut = and_nobody_answers_any_more
    with pytest.raises(Unavailable, match="may have been committed"):
        await say(relayed)
    relay.refuses = False
    assert isinstance(await say(relayed), Rejected)
    assert await say(relayed, at=1) == Receipt(1, 2)


# --- silence ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_was_restarted_while_nothing_was_said_costs_no_append(own: Server) -> None:
    dsn = own.database()
    log, lease = PostgresLog(dsn, HandClock()), PostgresLease(dsn, HandClock())
    await say(log)
    assert await lease.acquire(stream("a"), "one", 30) is not None
    own.stop()
    own.start()
    assert (await log.head()).size == 1
    assert await say(log, at=1) == Receipt(1, 2)
    assert await lease.acquire(stream("b"), "one", 30) is not None
    log.close()
    lease.close()


async def test_who_holds_the_log_and_falls_silent_loses_it(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patience:
        session = postgres_sql.PREPARE_SESSION.replace("'10s'", "'100ms'")
        patience.setattr(postgres_sql, "PREPARE_SESSION", session)
        silent = PostgresLog(dsn, HandClock())  # a process that is stopped in the middle of an append
        silent._writer._begun([])
    log = PostgresLog(dsn, HandClock())
    assert await say(log) == Receipt(0, 1)
    assert await say(silent, "b") == Receipt(1, 2)
    silent.close()
    log.close()


async def test_a_lock_that_is_never_let_go_costs_seconds_and_no_truth(
    log: PostgresLog, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sql, "PREPARE_SESSION", postgres_sql.PREPARE_SESSION.replace("'5s'", "'50ms'"))
    hasty = PostgresLog(dsn, HandClock())
    log._writer._begun([])
    with pytest.raises(Unavailable, match="Another process has held the log"):
        await say(hasty)
    log._writer._db.rollback()
    assert await say(hasty) == Receipt(0, 1)
    hasty.close()
