"""Effects that nobody will ask for again: ended as unknown, told once, and never taken from somebody who still asks."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from scenarios import GOOD, begun, legal, nothing_twice, one_by_one
from simulated import Simulation

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, WHY, HandClock, sample

from controller.domain import events as e
from controller.domain.effect import EffectState
from controller.domain.effect import fold as fold_effect
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, StreamId, delivery_stream, effect_stream
from controller.domain.verbs import Tell
from controller.ledger.sqlite import SqliteLog
from controller.ports import Receipt
from controller.service.leftovers import LEFT_AFTER, Leftovers

KEY = EffectKey("agent/shop-1a2b3c/1/0/0")
MINUTE = 60
OVER_TEN_MINUTES = LEFT_AFTER.total_seconds() + MINUTE


async def intended(sim: Simulation, subject: StreamId, key: EffectKey = KEY, *, direction: str = "forward") -> None:
    """Somebody has begun it, and died."""
    intent = sample(
        e.EffectIntended,
        key=key,
        verb="forge.comment",
        direction=direction,
        subject=subject,
        owner="dead",
        fence=1,
        deadline=sim.world.clock.now() + timedelta(seconds=10),
        decision=WHY,
    )
    kept = await sim.log.append([Draft(effect_stream(key), intent)], expect={effect_stream(key): 0}, by=BY)
    assert isinstance(kept, Receipt)


async def state(sim: Simulation, key: EffectKey = KEY) -> EffectState:
    return fold_effect(key, await sim.log.read(effect_stream(key))).state


def told(sim: Simulation) -> dict[EffectKey, Tell]:
    return {key: tell for key, tell in sim.world.chat.messages.items() if key.startswith("unknown/")}


async def delivered() -> Simulation:
    """A change has gone all its way; its session has ended."""
    sim = begun(1)
    sim.start("w1")
    await one_by_one(sim, GOOD)
    return sim


async def ended_session(sim: Simulation) -> StreamId:
    (entry,) = [entry for entry in await sim.entries() if isinstance(entry.event, e.SessionEnded)]
    return entry.stream


async def test_what_an_ended_session_left_open_is_unknown_after_ten_minutes_and_on_call_hears_of_it_once() -> None:
    sim = await delivered()
    await intended(sim, await ended_session(sim))
    await sim.run_for(9 * MINUTE)
    assert (await state(sim), told(sim)) == (EffectState.OPEN, {})
    await sim.run_for(3 * MINUTE)
    assert await state(sim) is EffectState.UNKNOWN
    (message,) = told(sim).values()
    assert message.to == "on-call"
    assert f"forge.comment for {await ended_session(sim)}" in message.text
    sim.start("w2")  # reads the whole log again
    await sim.run_for(5 * MINUTE)
    assert len(told(sim)) == 1
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_nobody_is_missed_when_the_controller_dies_between_giving_up_and_telling() -> None:
    sim = await delivered()
    await intended(sim, await ended_session(sim))
    (first,) = sim.controllers
    sim.world.clock.advance(OVER_TEN_MINUTES)
    await Leftovers(first.sweep.ports).look()
    assert (await state(sim), told(sim)) == (EffectState.UNKNOWN, {})
    sim.controllers.clear()
    await first.bury()
    sim.start("w2")
    await sim.run_for(MINUTE)
    assert len(told(sim)) == 1
    sim.close()


async def test_a_call_of_a_program_outside_is_given_up_although_its_session_lasts() -> None:
    sim = await delivered()
    outside = StreamId("client/robot/1")
    event = sample(e.ClientSessionStarted, full=True)
    assert isinstance(await sim.log.append([Draft(outside, event)], expect={outside: 0}, by=BY), Receipt)
    await intended(sim, outside, EffectKey("agent/client.robot/1/0/0"))
    await sim.run_for(OVER_TEN_MINUTES)
    assert await state(sim, EffectKey("agent/client.robot/1/0/0")) is EffectState.UNKNOWN
    assert len(told(sim)) == 1
    sim.close()


async def test_a_session_under_way_and_a_stopped_delivery_keep_what_they_have_begun() -> None:
    """They ask again when they go on, however long that takes."""
    sim = begun(1)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.intake.stop("olga", "all", "wait", event_id="s")
    delivery = await sim.ask(GOOD)
    await sim.run_for(30)
    session = StreamId(f"session/{delivery}/1")
    started = sample(e.SessionStarted, full=False)
    await sim.log.append([Draft(session, started)], expect={session: 0}, by=BY)
    await intended(sim, session)
    await intended(sim, delivery_stream(delivery), EffectKey("push/x/1"))
    await sim.run_for(3 * OVER_TEN_MINUTES)
    assert (await state(sim), await state(sim, EffectKey("push/x/1"))) == (EffectState.OPEN, EffectState.OPEN)
    assert told(sim) == {}
    sim.close()


async def test_a_page_that_was_cut_off_is_given_up_although_its_rollout_lasts_for_ever() -> None:
    sim = await delivered()
    page = EffectKey("page/shop@production/2/suspect")
    await intended(sim, StreamId("rollout/shop@production"), page, direction="safe")
    await sim.run_for(OVER_TEN_MINUTES)
    assert await state(sim, page) is EffectState.UNKNOWN
    sim.close()


async def test_after_an_hour_of_silence_who_still_asks_has_ten_minutes_to_do_so() -> None:
    sim = await delivered()
    page = EffectKey("page/shop@production/2/suspect")
    await intended(sim, StreamId("rollout/shop@production"), page, direction="safe")
    sim.world.clock.advance(3_600)
    await sim.run_for(9 * MINUTE)
    assert await state(sim, page) is EffectState.OPEN
    await sim.run_for(2 * MINUTE)
    assert await state(sim, page) is EffectState.UNKNOWN
    sim.close()


async def test_who_claims_it_in_time_keeps_it() -> None:
    sim = await delivered()
    subject = await ended_session(sim)
    await intended(sim, subject)
    (only,) = sim.controllers
    leftovers = Leftovers(only.sweep.ports)
    sim.world.clock.advance(OVER_TEN_MINUTES)
    claim = e.EffectClaimed(owner="w2", fence=2, deadline=sim.world.clock.now() + timedelta(seconds=10))
    await sim.log.append([Draft(effect_stream(KEY), claim)], expect={effect_stream(KEY): 1}, by=BY)
    await leftovers.look()
    assert await state(sim) is EffectState.OPEN
    sim.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    found = SqliteLog(tmp_path / "log.db", HandClock())
    yield found
    found.close()


async def test_a_log_on_disk_lists_exactly_the_effects_without_an_outcome(log: SqliteLog) -> None:
    ends = {
        "done": sample(e.EffectDone, fence=1),
        "failed": sample(e.EffectFailed, fence=1),
        "unknown": sample(e.EffectUnknown, fence=1),
        "claimed": sample(e.EffectClaimed, fence=2, owner="w2"),
    }
    for key in ("open", *ends):
        stream = effect_stream(EffectKey(key))
        intent = sample(e.EffectIntended, key=key, owner="w1", fence=1)
        await log.append([Draft(stream, intent)], expect={stream: 0}, by=BY)
        if key in ends:
            await log.append([Draft(stream, ends[key])], expect={stream: 1}, by=BY)
    found = {row.key: (row.owner, row.fence) for row in await log.open_effects()}
    assert found == {"open": ("w1", 1), "claimed": ("w2", 2)}
