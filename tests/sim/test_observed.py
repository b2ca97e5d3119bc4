"""What the judge and those who stand beside it do in a whole world: outages, silence, leaks, and what comes after."""

from __future__ import annotations

from typing import Any

import pytest
from scenarios import BAD, GOOD, fill_the_book, legal, nothing_twice, one_by_one
from simulated import ROLLOUT, Simulation

from controller.canary.court import pack, unpack
from controller.canary.replay import replay
from controller.domain import events as e
from controller.domain.delivery import Phase
from controller.domain.entry import Entry
from controller.domain.ids import Digest, people_stream
from controller.domain.rollout import Rollout, RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.domain.verdict import Rule
from controller.errors import Refused
from controller.sim.traffic import Outage
from controller.sim.world import PLAN, SimWorld

SILENT, LEAKING = "Tidy the exporter", "Keep the carts"
LONG = PLAN.model_copy(update={"step_dwell_ms": 30_000})  # so that a gauge is compared before requests promote


def begun(seed: int = 1, **more: object) -> Simulation:
    sim = Simulation(SimWorld(seed, **more))  # type: ignore[arg-type]
    fill_the_book(sim.world)
    for title, marker in ((SILENT, "SILENT"), (LEAKING, "LEAKS")):
        name = marker.lower()
        tests = {f"tests/test_{name}.py": f"assert {name}\n"}
        fixed = {f"{name}.py": f"{name} = 1  # mended\n", f"tests/test_{name}_regression.py": f"assert {name} == 1\n"}
        sim.world.plays(title, {f"{name}.py": f"{name} = 1  # {marker}\n", **tests}, fixes=({**tests, **fixed},))
    sim.start("w1")
    return sim


async def events(sim: Simulation, kind: type[e.Event]) -> list[Entry]:
    return [entry for entry in await sim.log.read(ROLLOUT) if isinstance(entry.event, kind)]


async def until_phase(sim: Simulation, phase: RolloutPhase, seconds: float = 600) -> Rollout:
    async def there() -> bool:
        return (await sim.rollout()).phase is phase

    assert await sim.run(there, seconds=seconds), await sim.state()
    return await sim.rollout()


async def outage(sim: Simulation, rate: float, seconds: float) -> None:
    now_ms = sim.world.clock.now_ms()
    sim.world.telemetry.outages.append(Outage(now_ms, now_ms + int(seconds * 1000), rate))


def pages(sim: Simulation) -> list[str]:
    return [tell.text for key, tell in sim.world.chat.messages.items() if key.startswith("page/")]


async def test_recovery_is_seen_before_the_next_release_begins() -> None:
    sim = begun()
    await one_by_one(sim, GOOD, BAD)
    restored, verified = await events(sim, e.TrafficRestored), await events(sim, e.RecoveryVerified)
    assert len(restored) == len(verified) == 1
    seen = verified[0].event
    assert isinstance(seen, e.RecoveryVerified)
    assert seen.recovered
    assert seen.log_e_micro >= seen.threshold_micro
    assert seen.requests > 0
    opened = [one.index for one in await events(sim, e.ReleaseOpened)]
    assert not [index for index in opened if restored[0].index < index < verified[0].index]
    await nothing_twice(sim)
    await legal(sim)


async def test_users_who_go_on_being_hurt_after_the_roll_back_bring_a_person_in() -> None:
    """The confirmed release begins to fail just when the canary is taken back: it was not the canary alone."""
    sim = begun()
    await one_by_one(sim, GOOD)
    await sim.ask(BAD)
    await until_phase(sim, RolloutPhase.RECOVERING)
    await outage(sim, 0.1, 90)
    stuck = await until_phase(sim, RolloutPhase.STUCK)
    assert stuck.stuck_from is RolloutPhase.RECOVERING
    assert any("has not recovered" in text for text in pages(sim))
    await sim.run_for(120)
    await sim.intake.unstick_service("olga", "shop", "production", event_id="looked")
    await sim.run(seconds=1_200)
    verified = await events(sim, e.RecoveryVerified)
    assert verified[-1].event.recovered  # type: ignore[union-attr]
    assert (await sim.rollout()).phase is RolloutPhase.IDLE
    await legal(sim)


async def test_without_requests_recovery_is_not_claimed_and_a_person_is_told() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    await sim.ask(BAD)
    await until_phase(sim, RolloutPhase.RECOVERING)
    sim.world.telemetry.requests_per_second = 0.0

    async def verified() -> bool:
        return bool(await events(sim, e.RecoveryVerified))

    assert await sim.run(verified, seconds=600)
    told = (await events(sim, e.RecoveryVerified))[0].event
    assert isinstance(told, e.RecoveryVerified)
    assert (told.recovered, told.requests) == (False, 0)
    assert any("too few requests to tell" in text for text in pages(sim))


async def test_shared_outage_touches_no_canary_pages_once_and_is_over_by_itself() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    delivery = await sim.ask("Round the prices")
    await until_phase(sim, RolloutPhase.CANARY)
    await outage(sim, 0.3, 40)
    await sim.run(seconds=2_400)
    rules = {one.event.verdict.rule for one in await events(sim, e.Observed)}  # type: ignore[union-attr]
    assert Rule.SHARED_INCIDENT in rules
    assert not await events(sim, e.RegressionFound)
    assert len([text for text in pages(sim) if "shared incident" in text]) == 1
    assert "StepFailed" not in {entry.kind for entry in await sim.entries()}  # though the page's words would change
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    await nothing_twice(sim)


async def test_canary_that_serves_and_reports_nothing_is_rolled_back_as_absent() -> None:
    sim = begun()
    sim.world.telemetry.callers = True
    await one_by_one(sim, GOOD, SILENT)
    found = [one.event for one in await events(sim, e.RegressionFound)]
    assert [one.verdict.rule for one in found if isinstance(one, e.RegressionFound) and one.verdict] == [Rule.ABSENT]
    assert [one.decision.rules[0] for one in found if isinstance(one, e.RegressionFound)] == [Rule.ABSENT.value]
    restored = (await events(sim, e.TrafficRestored))[0].event
    assert isinstance(restored, e.TrafficRestored)
    assert restored.badness is None  # nobody can count the end of silence on another release
    assert (await sim.rollout()).phase is RolloutPhase.IDLE
    await legal(sim)


async def test_silent_canary_that_nobody_vouches_for_is_held_and_told_and_not_rolled_back() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    await sim.ask(SILENT)
    await until_phase(sim, RolloutPhase.CANARY)
    await sim.run_for(120)
    assert not await events(sim, e.RegressionFound)
    assert (await sim.rollout()).phase is RolloutPhase.CANARY
    assert any("canary silent for" in text for text in pages(sim))


async def test_leak_holds_the_canary_and_pages_until_a_person_decides() -> None:
    sim = begun(plan=LONG)
    await one_by_one(sim, GOOD)
    delivery = await sim.ask(LEAKING)
    await until_phase(sim, RolloutPhase.CANARY)
    await sim.run_for(180)
    held = await sim.rollout()
    assert held.phase is RolloutPhase.CANARY
    assert held.last_verdict is not None
    assert held.last_verdict.rule is Rule.GAUGE
    assert any("process.memory.usage" in text for text in pages(sim))
    assert not await events(sim, e.RegressionFound)
    await sim.intake.act("olga", "promote", delivery, event_id="we know")
    await sim.run(seconds=1_200)
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED


async def test_live_release_that_begins_to_fail_pages_and_rolls_nothing_back() -> None:
    sim = begun(plan=PLAN)
    await one_by_one(sim, GOOD)
    await sim.run_for(30)
    await outage(sim, 0.2, 120)

    async def raised() -> bool:
        return bool(await events(sim, e.AlarmRaised))

    assert await sim.run(raised, seconds=300)
    alarm = (await events(sim, e.AlarmRaised))[0].event
    assert isinstance(alarm, e.AlarmRaised)
    assert "A false alarm comes once in 259,200 windows" in alarm.reason
    await sim.run_for(200)
    assert len(await events(sim, e.AlarmRaised)) == 1
    assert not await events(sim, e.RegressionFound)
    assert any("nothing is rolled back" in text for text in pages(sim))


async def test_release_that_raises_an_alarm_while_it_bakes_is_confirmed_by_a_person_only() -> None:
    plan = PLAN.model_copy(update={"bake_ms": 30_000})
    sim = begun(plan=plan)
    await one_by_one(sim, GOOD)
    delivery = await sim.ask("Round the prices")
    await until_phase(sim, RolloutPhase.LIVE)
    await outage(sim, 0.3, 60)
    await sim.run_for(150)
    assert (await sim.rollout()).phase is RolloutPhase.LIVE
    assert await events(sim, e.AlarmRaised)
    await sim.intake.act("olga", "promote", delivery, event_id="it was the bank")
    await sim.run(seconds=600)
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED


async def test_person_has_a_canary_begin_again_without_its_evidence() -> None:
    sim = begun(plan=LONG)
    await one_by_one(sim, GOOD)
    delivery = await sim.ask(LEAKING)
    await until_phase(sim, RolloutPhase.CANARY)
    await sim.run_for(60)
    before = await sim.rollout()
    assert before.segments
    await sim.intake.act("olga", "retry", delivery, event_id="again")

    async def retried() -> bool:
        return bool(await events(sim, e.ReleaseRetried))

    assert await sim.run(retried, seconds=60)
    entries = await sim.log.read(ROLLOUT)
    at = next(i for i, one in enumerate(entries) if isinstance(one.event, e.ReleaseRetried))
    after = fold_rollout(ROLLOUT, entries[: at + 1])
    assert (after.phase, after.weight_percent, after.segments, after.ready) == (RolloutPhase.PAUSED, 0, (), None)
    again = await until_phase(sim, RolloutPhase.CANARY)
    assert again.attempts == before.attempts + 1
    acts = [one.event for one in await sim.log.read(people_stream(delivery))]
    assert acts[-1].person == (await events(sim, e.ReleaseRetried))[0].event.by  # type: ignore[union-attr]
    await nothing_twice(sim)


async def test_retry_of_what_is_no_canary_is_refused_with_a_way_out() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    delivery = next(iter(await sim.deliveries()))
    with pytest.raises(Refused, match="only a canary that is under way"):
        await sim.intake.act("olga", "retry", delivery, event_id="too late")


async def test_every_computed_verdict_in_the_log_agrees_with_its_replay_to_the_last_digit() -> None:
    sim = begun()
    sim.world.telemetry.callers = True
    await one_by_one(sim, GOOD, BAD, SILENT)
    entries, held = await sim.log.read(ROLLOUT), set()
    for entry in entries:
        if isinstance(entry.event, e.Observed | e.RegressionFound | e.Promoted | e.RecoveryVerified):
            if getattr(entry.event, "verdict", True) is None:
                continue
            found = await replay(ROLLOUT, entries, entry.index, sim.blobs)
            assert found.differences == (), (entry.kind, found.differences)
            held.add(entry.kind)
    assert held == {"Observed", "RegressionFound", "Promoted", "RecoveryVerified"}


async def test_replay_finds_a_count_that_was_changed_by_one() -> None:
    sim = begun()
    await one_by_one(sim, GOOD, BAD)
    entries = await sim.log.read(ROLLOUT)
    found = next(one for one in entries if isinstance(one.event, e.RegressionFound))
    segment = [one for one in entries if isinstance(one.event, e.Observed) and one.index < found.index][-1]
    counts = segment.event.counts  # type: ignore[union-attr]
    windows = unpack(await sim.blobs.get(counts))
    last = windows[-1]
    fewer = last.canary.model_copy(update={"errors": max(0, last.canary.errors - 1)})
    windows[-1] = last.model_copy(update={"canary": fewer})
    changed = await sim.blobs.put(pack(windows))
    forged = [_with_counts(one, counts, changed) for one in entries]
    again = await replay(ROLLOUT, forged, found.index, sim.blobs)
    assert "log_e_micro" in again.differences


def _with_counts(entry: Entry, old: Digest, new: Digest) -> Entry:
    if not isinstance(entry.event, e.Observed) or entry.event.counts != old:
        return entry
    fields = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    return Entry(**{**fields, "event": entry.event.model_copy(update={"counts": new})})


async def test_entry_without_a_verdict_is_refused_by_name() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    entries = await sim.log.read(ROLLOUT)
    with pytest.raises(Refused, match="ReleaseOpened"):
        await replay(ROLLOUT, entries, entries[0].index, sim.blobs)


async def test_rolled_back_release_stays_out_while_the_controller_is_dead() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    await sim.ask(BAD)
    await until_phase(sim, RolloutPhase.RECOVERING)
    await sim.controllers[0].bury()
    sim.controllers.clear()
    sim.world.clock.advance(300)
    sim.start("w2")
    await sim.run(seconds=2_400)
    released = [one.event.commit for one in await events(sim, e.ReleaseOpened)]  # type: ignore[union-attr]
    bad = (await events(sim, e.TrafficRestored))[0].event.bad_commits[0]  # type: ignore[union-attr]
    assert released.count(bad) == 1
    await nothing_twice(sim)


async def test_step_that_wants_requests_says_once_what_would_help() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    sim.world.telemetry.requests_per_second = 4.0
    await sim.ask("Round the prices")
    await until_phase(sim, RolloutPhase.CANARY)
    await sim.run_for(60)
    said = [one.event.reason for one in await events(sim, e.Waited) if "reached the canary" in one.event.reason]  # type: ignore[union-attr]
    assert len(said) == 1
    assert "too few requests reached the canary at 5 %" in said[0]
    assert "ten times the usual errors would be found with 25 % of traffic" in said[0]
    assert "service.probes" in said[0]


async def test_controller_that_slept_for_hours_asks_for_no_counts_that_nobody_keeps() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    asked: list[float] = []
    telling = sim.world.telemetry.windows

    async def windows(*names: Any, from_ms: int, **more: Any) -> Any:
        asked.append((sim.world.clock.now_ms() - from_ms) / 3_600_000)
        return await telling(*names, from_ms=from_ms, **more)

    sim.world.telemetry.windows = windows  # type: ignore[method-assign]
    await sim.run_for(30)
    sim.world.clock.advance(5 * 3_600)
    await sim.run_for(60)
    assert asked
    assert max(asked) <= 1
    await sim.ask(BAD)
    await until_phase(sim, RolloutPhase.RECOVERING)
    sim.world.clock.advance(5 * 3_600)
    await until_phase(sim, RolloutPhase.IDLE)
    assert max(asked) <= 1
