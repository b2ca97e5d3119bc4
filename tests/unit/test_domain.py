"""What the log can hold: every fact comes back as it went in, and nothing may happen that `NEXT` does not have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, BY, entries, entry, every_event, sample

from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain import queue as queues
from controller.domain import rollout as rollouts
from controller.domain.base import Fact
from controller.domain.delivery import NEXT, TERMINAL, Delivery, Phase
from controller.domain.entry import Draft, UnknownEvent, decode, encode
from controller.domain.ids import Commit, DeliveryId, StreamId, canonical
from controller.domain.queue import QUEUE_NEXT, QueuePhase
from controller.domain.rollout import ROLLOUT_NEXT, RolloutPhase
from controller.errors import Permanent
from controller.ledger.sqlite import SqliteLog
from controller.ports import Receipt

SHOP = DeliveryId("shop-1a2b3c")
STREAM = f"delivery/{SHOP}"
ASKED = sample(e.TaskRequested, delivery=SHOP, root=SHOP, cause=e.Cause.TASK, full=False)


# --- leaves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False], ids=["full", "bare"])
def test_every_kind_of_event_comes_back_as_it_went_in(full: bool) -> None:
    for event in every_event(full=full):
        leaf = encode(7, 3, AT + timedelta(microseconds=1), Draft(StreamId("x/1"), event), BY)
        back = decode(leaf)
        assert back.event == event, event.kind()
        assert (back.index, back.stream, back.version, back.principal) == (7, "x/1", 3, BY.principal)
        assert back.time == AT + timedelta(microseconds=1)
        assert encode(back.index, back.version, back.time, Draft(back.stream, event), BY) == leaf


def test_no_event_holds_a_float_anywhere() -> None:
    """A float's canonical bytes would depend on a printer."""
    floats = [f"{kind}: {where}" for kind, cls in e.ALL.items() for where in _floats(cls, kind)]
    assert floats == []


def _floats(annotation: Any, where: str) -> Iterator[str]:
    if annotation is float:
        yield where
    if isinstance(annotation, type) and issubclass(annotation, Fact):
        for name, field in annotation.model_fields.items():
            yield from _floats(field.annotation, f"{where}.{name}")
    for inside in get_args(annotation):
        yield from _floats(inside, where)


def test_fields_of_a_newer_writer_stay_in_the_leaf_and_are_left_out_of_the_event_however_deep_they_lie() -> None:
    event = next(one for one in every_event() if isinstance(one, e.Observed))
    raw = json.loads(entry("rollout/shop@production", event).leaf)
    raw["body"]["mood"] = "good"
    raw["body"]["verdict"]["mood"] = {"of": "the judge"}
    raw["body"]["verdict"]["canary"]["mood"] = 3
    leaf = canonical(raw)
    back = decode(leaf)
    assert back.event == event
    assert json.loads(back.leaf)["body"]["verdict"]["canary"]["mood"] == 3


def test_a_writer_can_not_add_a_field_that_nobody_declared() -> None:
    with pytest.raises(ValueError, match="mood"):
        e.Stuck(reason="it rains", mood="bad")  # type: ignore[call-arg]


def _from_the_future(stream: str, version: int) -> bytes:
    body = json.loads(entry(stream, e.Stuck(reason="x"), version=version, index=version).leaf)
    return canonical(body | {"kind": "Blessed", "v": 1})


def test_a_kind_that_nobody_knows_parks_its_stream_and_says_what_is_needed() -> None:
    known = entries(STREAM, ASKED)
    d = deliveries.evolve(deliveries.fold(SHOP, known), decode(_from_the_future(STREAM, 2)))
    q = queues.evolve(queues.Queue(StreamId("queue/shop@main")), decode(_from_the_future("queue/shop@main", 1)))
    name = StreamId("rollout/shop@production")
    r = rollouts.evolve(rollouts.Rollout(name), decode(_from_the_future(name, 1)))
    for state in (d, q, r):
        assert state.parked == "Blessed v1 needs a newer Flyball"
    assert d.phase is Phase.NEW


def test_a_known_kind_in_a_newer_shape_parks_its_stream_too() -> None:
    raw = json.loads(entry(STREAM, e.Stuck(reason="x")).leaf)
    event = decode(canonical(raw | {"v": 2})).event
    assert event == UnknownEvent("Stuck", 2, {"reason": "x", "detail": None, "landed": None})


# --- what may happen next ---------------------------------------------------------------------------------------------

LEADS_TO: dict[Phase, tuple[e.Event, ...]] = {
    Phase.ACCEPTED: (sample(e.TaskAccepted), sample(e.SentBack, to="ACCEPTED")),
    Phase.AUTHORED: (sample(e.ChangeAuthored),),
    Phase.PROPOSED: (sample(e.PullRequestOpened), sample(e.SentBack, to="PROPOSED")),
    Phase.CHECKED: (sample(e.CiReported, passed=True),),
    Phase.CLASSIFIED: (sample(e.RiskClassified),),
    Phase.CLEARED: (sample(e.Cleared),),
    Phase.MERGED: (sample(e.Merged), sample(e.WentAgain)),
    Phase.DEPLOYING: (sample(e.RolloutJoined),),
    Phase.DEPLOYED: (sample(e.ReleaseLive),),
    Phase.CONFIRMED: (sample(e.DeliveryConfirmed),),
    Phase.REGRESSED: (sample(e.DeliveryRegressed),),
    Phase.ROLLED_BACK: (sample(e.RolledBack),),
    Phase.HANDED_OVER: (sample(e.HandedOver),),
    Phase.ABANDONED: (sample(e.Abandoned),),
    Phase.SUPERSEDED: (sample(e.Superseded),),
    Phase.STUCK: (sample(e.Stuck),),
}
CHANGE = sample(e.ChangeAuthored, head=Commit("a" * 40))


def _at(phase: Phase) -> Delivery:
    begun = deliveries.fold(SHOP, entries(STREAM, ASKED))
    stuck_from = Phase.CLEARED if phase is Phase.STUCK else None
    return replace(begun, phase=phase, change=CHANGE, stuck_from=stuck_from)


@pytest.mark.parametrize("before", list(Phase))
def test_every_jump_that_next_does_not_have_is_refused_and_every_other_is_let_in(before: Phase) -> None:
    for after, events in LEADS_TO.items():
        if after is before:
            continue
        for event in events:
            reason = deliveries.admit(_at(before), event)
            legal = after in NEXT[before] and before is not Phase.STUCK
            assert (reason is None) == legal, f"{before} to {after} by {event.kind()}: {reason}"


def test_a_stuck_delivery_goes_on_exactly_where_it_stood_and_only_by_a_person() -> None:
    stuck = _at(Phase.STUCK)
    assert deliveries.admit(stuck, e.Unstuck(by="person:0123456789ab", to="CLEARED")) is None
    for elsewhere in Phase:
        if elsewhere is not Phase.CLEARED:
            words = deliveries.admit(stuck, e.Unstuck(by="person:0123456789ab", to=elsewhere.value))
            assert words is not None
            assert "CLEARED" in words


def test_a_delivery_that_is_not_stuck_is_not_moved_by_being_let_go_on() -> None:
    assert deliveries.admit(_at(Phase.CLEARED), e.Unstuck(by="person:0123456789ab", to="MERGED")) is not None


def test_a_delivery_begins_once_and_with_its_request() -> None:
    assert deliveries.admit(Delivery(SHOP), sample(e.Merged)) == "a delivery begins with TaskRequested"
    assert deliveries.admit(Delivery(SHOP), ASKED) is None
    assert "requested already" in (deliveries.admit(_at(Phase.NEW), ASKED) or "")


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_nothing_at_all_happens_after_the_end(phase: Phase) -> None:
    for event in every_event():
        assert deliveries.admit(_at(phase), event) is not None, event.kind()


async def test_the_log_itself_turns_an_illegal_jump_away_and_keeps_nothing_of_it() -> None:
    log = SqliteLog(":memory:", _StandingClock(), inline=True)
    stream = StreamId(STREAM)
    assert isinstance(await log.append([Draft(stream, ASKED)], expect={stream: 0}, by=BY), Receipt)
    with pytest.raises(Permanent, match="from NEW to MERGED"):
        await log.append([Draft(stream, sample(e.Merged))], expect={stream: 1}, by=BY)
    assert (await log.head()).size == 1
    log.close()


class _StandingClock:
    def now(self) -> Any:
        return AT

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def test_every_phase_can_be_reached_and_every_one_that_has_not_ended_can_be_left() -> None:
    tables: tuple[tuple[Any, Any, set[Any]], ...] = (
        (Phase, NEXT, set(TERMINAL)),
        (QueuePhase, QUEUE_NEXT, set()),
        (RolloutPhase, ROLLOUT_NEXT, set()),
    )
    for phases, table, ends in tables:
        assert set(table) == set(phases)
        first, *others = phases
        assert {after for followers in table.values() for after in followers} | {first} == {first, *others}
        assert {phase for phase, followers in table.items() if not followers} == ends
