"""What every log keeps. A second backend joins by adding its way to be opened to `BACKENDS`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from controller.domain import events as e
from controller.domain.decision import Claim, decide
from controller.domain.entry import Caller, Draft, UnknownEvent
from controller.domain.guards import HoldsFence, NotStopped, Under
from controller.domain.ids import CONTROL, Branch, Commit, DeliveryId, Digest, EffectKey, MicroUsd, Repository, StreamId
from controller.domain.money import Usage
from controller.domain.sealed import Sealed
from controller.errors import FlyballError, Permanent
from controller.ledger.merkle import leaf_hash, root_of
from controller.ledger.postgres import PostgresLog
from controller.ledger.sqlite import SqliteLog
from controller.ports import Log, Receipt, Rejected

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DIGEST = Digest("sha256:" + "0" * 64)
BY = Caller("agent:author", DIGEST, on_behalf_of="person:0123456789ab")
WHY = decide(
    "may this happen?",
    "yes",
    over={"no": "nothing speaks against it"},
    because=(Claim(text="it is a test", evidence="log#0"),),
    would_change="a stop",
    fallback="wait",
    rules=("test/always",),
)


@dataclass
class HandClock:
    time: datetime = START

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class OpenLog(Log, Protocol):
    def close(self) -> None: ...


@dataclass
class Backend:
    """One log, and every way into it that a test has opened."""

    opener: Callable[[HandClock], OpenLog]
    clock: HandClock = field(default_factory=HandClock)
    opened: list[OpenLog] = field(default_factory=list)

    def open(self) -> OpenLog:
        log = self.opener(self.clock)
        self.opened.append(log)
        return log

    def close(self) -> None:
        for log in self.opened:
            log.close()


def on_postgres(_: Path) -> Callable[[HandClock], OpenLog]:
    dsn = postgres_kit.server().database()
    return lambda clock: PostgresLog(dsn, clock)


Opener = Callable[[Path], Callable[[HandClock], OpenLog]]
SHARED: dict[str, Opener] = {
    "file": lambda folder: lambda clock: SqliteLog(folder / "log.db", clock),
    "file-inline": lambda folder: lambda clock: SqliteLog(folder / "log.db", clock, inline=True),
    "postgres": on_postgres,
}
BACKENDS: dict[str, Opener] = {
    **SHARED,
    "memory-inline": lambda _: lambda clock: SqliteLog(":memory:", clock, inline=True),
}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    found = Backend(BACKENDS[request.param](tmp_path))
    yield found
    found.close()


@pytest.fixture(params=list(SHARED))
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A log that several processes, or several parts of one, may open at once."""
    found = Backend(SHARED[request.param](tmp_path))
    yield found
    found.close()


@pytest.fixture
def log(backend: Backend) -> OpenLog:
    return backend.open()


# --- events, as short as they can be said -----------------------------------------------------------------------------


def note(reason: str = "it began") -> e.SessionResumed:
    return e.SessionResumed(turn=0, from_checkpoint=False, reason=reason)


def session(number: int) -> StreamId:
    return StreamId(f"session/shop-{number:06}/1")


def frozen(scope: str) -> e.Frozen:
    return e.Frozen(scope=scope, reason="three rollbacks in an hour")


def resumed(scope: str) -> e.Resumed:
    return e.Resumed(scope=scope, by="person:0123456789ab", reason="looked at it", event_id="1")


def reserved(micro_usd: int) -> e.ModelCallReserved:
    return e.ModelCallReserved(turn=0, micro_usd=MicroUsd(micro_usd), request_digest=DIGEST)


def requested(delivery: str) -> e.TaskRequested:
    return e.TaskRequested(
        delivery=DeliveryId(delivery),
        repository=Repository("shop"),
        branch=Branch("main"),
        task=Sealed(key_id="local:0", digest=DIGEST, size=4),
        asked_by="person:0123456789ab",
        source="cli",
        event_id=delivery,
        root=DeliveryId(delivery),
        depth=0,
    )


def accepted() -> e.TaskAccepted:
    return e.TaskAccepted(budget_micro_usd=MicroUsd(1), decision=WHY)


def waits(on: StreamId) -> e.Waited:
    return e.Waited(waits_for=e.WaitsFor.QUEUE, on=on, until=START + timedelta(hours=1), reason="in line")


def intended(key: EffectKey, owner: str, fence: int) -> e.EffectIntended:
    return e.EffectIntended(
        key=key,
        verb="forge.push",
        agent="author",
        direction="forward",
        single="world-CAS",
        args=DIGEST,
        subject=StreamId("delivery/shop-1"),
        owner=owner,
        fence=fence,
        deadline=START + timedelta(seconds=10),
        decision=WHY,
        allowed_by=("grant/author",),
    )


async def said(log: Log, stream: StreamId, *events: Any, at: int = 0, **more: Any) -> Receipt | Rejected:
    return await log.append([Draft(stream, event) for event in events], expect={stream: at}, by=BY, **more)


async def everything(log: Log, from_index: int = 0, kinds: frozenset[str] | None = None) -> list[Any]:
    return [entry async for entry in log.scan(from_index, kinds)]


# --- the envelope -----------------------------------------------------------------------------------------------------


async def test_an_empty_log_has_no_entries_and_the_root_of_the_empty_tree(log: OpenLog) -> None:
    head = await log.head()
    assert (head.size, head.root) == (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert await everything(log) == []
    assert await log.stream(session(1)) is None


async def test_the_log_adds_the_envelope_and_reads_back_what_was_said(log: OpenLog) -> None:
    assert await said(log, session(1), note("first"), note("second")) == Receipt(index=0, size=2)
    first, second = await log.read(session(1))
    assert (first.index, first.version, first.kind, first.v) == (0, 1, "SessionResumed", 1)
    assert (first.principal, first.on_behalf_of, first.policy) == (BY.principal, BY.on_behalf_of, BY.policy)
    assert (first.event, second.event, first.time) == (note("first"), note("second"), START)
    assert await log.read(session(1), after=1) == [second]


async def test_time_never_runs_backwards_though_the_clock_does(backend: Backend) -> None:
    log = backend.open()
    await said(log, session(1), note())
    backend.clock.time -= timedelta(hours=1)
    await said(log, session(1), note(), at=1)
    backend.clock.time += timedelta(hours=2)
    await said(log, session(1), note(), at=2)
    assert [entry.time for entry in await everything(log)] == [START, START, START + timedelta(hours=1)]


async def test_a_kind_that_a_newer_version_wrote_is_readable_as_unknown(log: OpenLog) -> None:
    class Teleported(e.Event):
        to: str

    await said(log, session(1), Teleported(to="the moon"))
    (entry,) = await log.read(session(1))
    assert entry.event == UnknownEvent("Teleported", 1, {"to": "the moon"})
    row = await log.stream(session(1))
    assert row is not None
    assert (row.version, row.terminal) == (1, False)


async def test_the_root_is_that_of_all_leaves_after_every_append(log: OpenLog) -> None:
    for version in range(9):
        await said(log, session(1), note(str(version)), at=version)
        hashes = [leaf_hash(entry.leaf) for entry in await everything(log)]
        head = await log.head()
        assert (head.size, head.root) == (len(hashes), root_of(hashes).hex())


async def test_a_scan_gives_every_entry_once_and_only_the_kinds_asked_for(log: OpenLog) -> None:
    for number in range(9):
        await said(log, session(number), *[note(str(turn)) for turn in range(50)], reserved(1))
    found = await everything(log)
    assert [entry.index for entry in found] == list(range(9 * 51))
    assert await everything(log, from_index=400) == found[400:]
    paid = await everything(log, kinds=frozenset({"ModelCallReserved"}))
    assert [entry.index for entry in paid] == [51 * number + 50 for number in range(9)]
    assert await everything(log, kinds=frozenset()) == []


# --- races ------------------------------------------------------------------------------------------------------------


async def test_a_lost_race_is_a_value_and_appends_nothing(log: OpenLog) -> None:
    await said(log, session(1), note("winner"))
    outcome = await said(log, session(1), note("loser"))
    assert isinstance(outcome, Rejected)
    assert (outcome.stream, outcome.guard) == (session(1), None)
    assert outcome.reason == f"{session(1)} is at version 1, not 0"
    assert (await log.head()).size == 1


async def test_one_stale_expectation_keeps_out_the_whole_append(log: OpenLog) -> None:
    await said(log, session(1), note())
    drafts = [Draft(session(2), note()), Draft(session(1), note())]
    outcome = await log.append(drafts, expect={session(2): 0, session(1): 0}, by=BY)
    assert isinstance(outcome, Rejected)
    assert outcome.stream == session(1)
    assert await log.read(session(2)) == []
    outcome = await log.append(drafts, expect={session(2): 0, session(1): 1}, by=BY)
    assert outcome == Receipt(index=1, size=3)


async def test_a_stream_that_is_only_looked_at_may_be_expected_too(log: OpenLog) -> None:
    await said(log, session(1), note())
    outcome = await log.append([Draft(session(2), note())], expect={session(2): 0, session(1): 0}, by=BY)
    assert isinstance(outcome, Rejected)
    assert outcome.stream == session(1)
    assert await log.append([Draft(session(2), note())], expect={session(2): 0, session(1): 1}, by=BY) == Receipt(1, 2)


async def test_one_failing_append_does_not_fail_its_neighbours(log: OpenLog) -> None:
    bad = StreamId("delivery/shop-bad")
    appends = [said(log, bad, accepted()) if n % 5 == 0 else said(log, session(n // 2), note()) for n in range(40)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    receipts = [found for found in outcomes if isinstance(found, Receipt)]
    assert sum(isinstance(found, Permanent) for found in outcomes) == 8
    assert {found.index for found in receipts} == set(range(len(receipts)))
    assert len(receipts) == len({n // 2 for n in range(40) if n % 5})
    assert sum(isinstance(found, Rejected) for found in outcomes) == 40 - 8 - len(receipts)
    assert (await log.head()).size == len(receipts)


async def test_of_many_writers_on_one_version_exactly_one_wins(shared: Backend) -> None:
    logs = [shared.open(), shared.open()]
    outcomes = await asyncio.gather(*[said(logs[n % 2], session(1), note(str(n))) for n in range(50)])
    assert sum(isinstance(found, Receipt) for found in outcomes) == 1
    assert [entry.version for entry in await logs[0].read(session(1))] == [1]


async def test_what_one_has_appended_the_other_sees_at_once(shared: Backend) -> None:
    one, other = shared.open(), shared.open()
    for version in range(5):
        await said(one, session(1), note(), at=2 * version)
        assert isinstance(await said(other, session(1), note(), at=2 * version), Rejected)
        assert await said(other, session(1), note(), at=2 * version + 1) == Receipt(2 * version + 1, 2 * version + 2)
    assert await one.head() == await other.head()


# --- guards -----------------------------------------------------------------------------------------------------------


async def test_a_reservation_that_no_longer_fits_is_rejected_with_the_numbers(log: OpenLog) -> None:
    guard = Under("total", "2026-11-22", 60, 100)
    await said(log, session(1), reserved(60), guards=[guard])
    outcome = await said(log, session(2), reserved(60), guards=[guard])
    assert isinstance(outcome, Rejected)
    assert (outcome.guard, outcome.stream) == (guard, None)
    assert outcome.reason == "total in 2026-11-22: 60 asked, 0 micro-USD spent and 60 reserved of 100"
    assert isinstance(
        await said(log, session(2), reserved(40), guards=[Under("total", "2026-11-22", 40, 100)]), Receipt
    )
    assert await log.spent("total", "2026-11-22") == (100, 0)
    assert await log.spent("total", "2026-11-23") == (0, 0)


async def test_a_settled_call_frees_what_it_did_not_cost(log: OpenLog) -> None:
    await said(log, session(1), reserved(100))
    reply = e.ReplyRecorded(
        turn=0,
        reply=DIGEST,
        reply_sealed=Sealed(key_id="local:0", digest=DIGEST, size=4),
        stop_reason="end_turn",
        usage=Usage(),
        cost_micro_usd=MicroUsd(30),
        reserved_micro_usd=MicroUsd(100),
        model="claude-haiku-5-5",
        label=e.Label.SCRIPTED,
        request_id="1",
    )
    await said(log, session(1), reply, at=1)
    assert await log.spent("total", "2026-11-22") == (0, 30)
    assert await log.spent("delivery/shop-000001", "all") == (0, 30)


async def test_fifty_concurrent_reservations_never_exceed_the_limit(shared: Backend) -> None:
    logs = [shared.open(), shared.open()]
    guard = Under("total", "2026-11-22", 7, 100)
    outcomes = await asyncio.gather(*[said(logs[n % 2], session(n), reserved(7), guards=[guard]) for n in range(50)])
    assert sum(isinstance(found, Receipt) for found in outcomes) == 14
    assert {found.guard for found in outcomes if isinstance(found, Rejected)} == {guard}
    assert await logs[0].spent("total", "2026-11-22") == (98, 0)


async def test_a_stop_keeps_out_everything_that_asks_for_its_scope_until_it_is_lifted(log: OpenLog) -> None:
    guard = NotStopped(("all", "repository:shop"))
    assert isinstance(await said(log, session(1), note(), guards=[guard]), Receipt)
    await said(log, CONTROL, frozen("repository:shop"), frozen("service:till"))
    outcome = await said(log, session(2), note(), guards=[guard])
    assert isinstance(outcome, Rejected)
    assert outcome.guard == guard
    assert outcome.reason == "repository:shop is frozen since entry 1: three rollbacks in an hour"
    assert [(row.scope, row.state) for row in await log.control()] == [
        ("repository:shop", "frozen"),
        ("service:till", "frozen"),
    ]
    await said(log, CONTROL, resumed("repository:shop"), at=2)
    assert isinstance(await said(log, session(2), note(), guards=[guard]), Receipt)
    assert [row.scope for row in await log.control()] == ["service:till"]


async def test_after_a_stop_is_acknowledged_nothing_forward_gets_in(shared: Backend) -> None:
    one, other = shared.open(), shared.open()
    forward = [said(one, session(n), note(), guards=[NotStopped(("all",))]) for n in range(30)]
    stop = said(other, CONTROL, e.Stopped(scope="all", by="person:0123456789ab", reason="smoke", event_id="1"))
    *outcomes, stopped = await asyncio.gather(*forward, stop)
    assert isinstance(stopped, Receipt)
    assert all(isinstance(found, Rejected) or found.index < stopped.index for found in outcomes)


async def test_an_old_owner_cannot_end_an_effect_that_was_taken_over(log: OpenLog) -> None:
    key = EffectKey("push-1")
    stream = StreamId("effect/push-1")
    missing = await said(log, session(1), note(), guards=[HoldsFence(key, "one", 1)])
    assert isinstance(missing, Rejected)
    assert missing.reason == "effect push-1 has no intent"
    await said(log, stream, intended(key, "one", 1))
    claim = e.EffectClaimed(owner="two", fence=2, deadline=START + timedelta(minutes=1))
    await said(log, stream, claim, at=1, guards=[HoldsFence(key, "one", 1)])
    done = e.EffectDone(fence=2, how="acted", result="{}")
    late = await said(log, stream, done, at=2, guards=[HoldsFence(key, "one", 1)])
    assert isinstance(late, Rejected)
    assert "open, owner two, fence 2" in late.reason
    assert isinstance(await said(log, stream, done, at=2, guards=[HoldsFence(key, "two", 2)]), Receipt)
    assert isinstance(await said(log, session(1), note(), guards=[HoldsFence(key, "two", 2)]), Rejected)


async def test_open_effects_are_those_without_an_outcome(log: OpenLog) -> None:
    for name in ("b", "a", "done"):
        await said(log, StreamId(f"effect/{name}"), intended(EffectKey(name), "one", 1))
    await said(log, StreamId("effect/done"), e.EffectDone(fence=1, how="acted", result="{}"), at=1)
    assert [(row.key, row.owner, row.deadline) for row in await log.open_effects()] == [
        ("a", "one", START + timedelta(seconds=10)),
        ("b", "one", START + timedelta(seconds=10)),
    ]


async def test_live_streams_are_those_that_have_not_ended(log: OpenLog) -> None:
    for name in ("delivery/shop-a", "delivery/shop-b", "delivery/shop-c"):
        await said(log, StreamId(name), requested(name.partition("/")[2]))
    await said(log, session(1), note())
    await said(log, StreamId("delivery/shop-b"), e.Abandoned(reason="withdrawn"), at=1)
    assert [row.stream for row in await log.live("delivery/")] == ["delivery/shop-a", "delivery/shop-c"]
    assert [row.stream for row in await log.live()] == ["delivery/shop-a", "delivery/shop-c", session(1)]
    ended = await log.stream(StreamId("delivery/shop-b"))
    assert ended is not None
    assert (ended.terminal, ended.version) == (True, 2)


async def test_who_waits_stands_in_line_in_the_order_of_the_log(log: OpenLog) -> None:
    queue = StreamId("queue/shop@main")
    for name in ("zebra", "ape", "lynx"):
        await said(log, StreamId(f"delivery/{name}"), requested(name), waits(queue))
    assert [row.stream for row in await log.waiting_on(queue)] == ["delivery/zebra", "delivery/ape", "delivery/lynx"]
    assert [row.waits_since for row in await log.waiting_on(queue)] == [1, 3, 5]
    await said(log, StreamId("delivery/ape"), e.Abandoned(reason="withdrawn"), at=2)
    await said(log, StreamId("delivery/zebra"), accepted(), at=2)
    assert [row.stream for row in await log.waiting_on(queue)] == ["delivery/lynx"]
    (waiting,) = await log.waiting_on(queue)
    assert waiting.wake_at == START + timedelta(hours=1)


# --- what may not happen ----------------------------------------------------------------------------------------------


async def test_a_delivery_takes_no_step_that_its_table_does_not_have(log: OpenLog) -> None:
    stream = StreamId("delivery/shop-1")
    with pytest.raises(Permanent, match="a delivery begins with TaskRequested"):
        await said(log, stream, accepted())
    await said(log, stream, requested("shop-1"))
    with pytest.raises(Permanent, match="from NEW to DEPLOYED, which NEXT does not have"):
        await said(log, stream, e.ReleaseLive(release=1), at=1)
    await said(log, stream, accepted(), e.Abandoned(reason="withdrawn"), at=1)
    with pytest.raises(Permanent, match="has ended"):
        await said(log, stream, accepted(), at=3)
    assert (await log.head()).size == 3


async def test_a_queue_lands_only_what_was_tested(log: OpenLog) -> None:
    commit = Commit("0" * 40)
    queue = StreamId("queue/shop@main")
    plan = e.LandingPlanned(landing=1, base=commit, tested=commit, deliveries=(), heads=(), lane="normal", order=())
    landed = e.Landed(landing=1, commit=commit, base=commit, deliveries=(), heads=(), verified=True, decision=WHY)
    checked = e.LandingChecked(landing=1, passed=True, run="1", reused=False, failures=())
    await said(log, queue, plan)
    with pytest.raises(Permanent, match="only a landing whose check passed may land"):
        await said(log, queue, landed, at=1)
    assert await said(log, queue, checked, landed, plan, at=1) == Receipt(1, 4)


async def test_an_append_names_the_version_of_every_stream_it_writes(log: OpenLog) -> None:
    with pytest.raises(Permanent, match="expect names no version for session/shop-000002/1"):
        await log.append([Draft(session(1), note()), Draft(session(2), note())], expect={session(1): 0}, by=BY)
    with pytest.raises(Permanent, match="1 to 1000 drafts, this one 0"):
        await log.append([], expect={}, by=BY)


async def test_what_belongs_into_a_blob_is_refused(log: OpenLog) -> None:
    with pytest.raises(Permanent, match="Put its bulk into a blob"):
        await said(log, session(1), note("x" * 2_000_000))
    assert (await log.head()).size == 0


async def test_a_time_without_a_zone_is_refused_and_takes_no_index(log: OpenLog) -> None:
    naive = waits(CONTROL).model_copy(update={"until": START.replace(tzinfo=None)})
    with pytest.raises(FlyballError, match="has no time zone"):
        await said(log, session(1), naive)
    assert await said(log, session(1), note()) == Receipt(0, 1)
