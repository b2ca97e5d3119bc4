"""One mishap a test: found by thinking, by a seed, or by an accident, and kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scenarios import BAD, GOOD, QUICK, begun, legal, nothing_twice, one_by_one
from simulated import Simulation

from controller.domain import events as e
from controller.domain.delivery import Phase
from controller.domain.entry import Caller, Draft
from controller.domain.ids import CONTROL, DeliveryId, Digest, EffectKey, delivery_stream
from controller.domain.queue import QueuePhase
from controller.domain.rollout import RolloutPhase
from controller.domain.verbs import RestoreTraffic, Verb
from controller.errors import Permanent
from controller.sim.platform import SimPlatform
from controller.sim.world import PRODUCTION, SERVICE, SHOP

BY = Caller("service:controller", Digest("sha256:" + "0" * 64))


async def serving(seed: int = 1) -> Simulation:
    """The first release is confirmed and one controller works."""
    sim = begun(seed)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.run_for(5)
    return sim


async def phase_of(sim: Simulation, delivery: DeliveryId) -> Phase:
    return (await sim.delivery(delivery)).phase


async def kinds(sim: Simulation) -> Counter[str]:
    return Counter(entry.kind for entry in await sim.entries())


async def until_phase(sim: Simulation, delivery: DeliveryId, phase: Phase) -> None:
    async def there() -> bool:
        return await phase_of(sim, delivery) is phase

    assert await sim.run(there), await sim.state()


@pytest.mark.parametrize("phase", [Phase.CLEARED, Phase.MERGED])
async def test_a_step_that_failed_once_does_not_lose_its_place_in_the_line_for_ever(phase: Phase) -> None:
    sim = await serving()
    if phase is Phase.CLEARED:
        await sim.intake.stop("olga", "agent:merger", "wait", event_id="s")
    else:
        await sim.intake.stop("olga", "agent:releaser", "wait", event_id="s")
    delivery = await sim.ask(GOOD)
    await sim.run_for(60)
    assert await phase_of(sim, delivery) is phase
    stream = delivery_stream(delivery)
    version = (await sim.delivery(delivery)).version
    failed = Draft(stream, e.StepFailed(step="merge", error="the machine slept", attempt=1))
    await sim.log.append([failed], expect={stream: version}, by=BY)
    await sim.run_for(60)
    await sim.intake.resume("olga", (await sim.log.control())[0].scope, "go on", event_id="r")
    assert await sim.run(seconds=600), await sim.state()
    assert await phase_of(sim, delivery) is Phase.CONFIRMED


async def test_many_long_sessions_keep_nobody_from_judging_a_canary() -> None:
    sim = await serving()
    bad = await sim.ask(BAD)
    await until_phase(sim, bad, Phase.MERGED)
    sim.world.model.seconds = 600.0
    for number in range(12):
        sim.world.plays(
            f"Long task number {number}.", {f"long{number}.py": "1\n", f"tests/test_long{number}.py": "1\n"}
        )
        await sim.ask(f"Long task number {number}.")

    async def back() -> bool:
        return await phase_of(sim, bad) in (Phase.ROLLED_BACK, Phase.HANDED_OVER)

    assert await sim.run(back, seconds=120), await sim.state()


async def test_a_pull_request_closed_by_somebody_else_neither_lands_nor_keeps_the_queue_busy() -> None:
    sim = await serving()
    await sim.intake.stop("olga", "agent:merger", "wait", event_id="s")
    delivery = await sim.ask(GOOD)
    await until_phase(sim, delivery, Phase.CLEARED)
    shop = sim.world.forge.repository(SHOP)
    (number,) = shop.pulls
    shop.pulls[number] = replace(shop.pulls[number], state="closed")
    await sim.intake.resume("olga", "agent:merger", "go on", event_id="r")
    await sim.run(seconds=300)
    assert (await kinds(sim))["LandingVoided"] <= 2
    assert await phase_of(sim, delivery) in (Phase.ABANDONED, Phase.CONFIRMED, Phase.STUCK)


async def test_a_hold_that_lands_while_the_queue_tests_does_not_make_it_plan_again_and_again() -> None:
    sim = await serving()
    sim.world.plays("Say one", {"one.py": "1\n", "tests/test_one.py": "1\n"})
    sim.world.plays("Say two", {"two.py": "2\n", "tests/test_two.py": "2\n"})
    both = [await sim.ask("Say one"), await sim.ask("Say two")]

    async def testing() -> bool:
        queue = await sim.queue()
        return queue.phase is QueuePhase.PLANNED and queue.landings == 2

    assert await sim.run(testing), await sim.state()
    second = (await sim.queue()).plan.deliveries[0]  # type: ignore[union-attr]
    sim.controllers[0].sweep.held.clear()
    stream = delivery_stream(second)
    await sim.shared.lease.acquire(stream, "a worker that died", 45)
    await sim.intake.act("olga", "hold", second, event_id="hold")
    await sim.run_for(100)
    assert (await kinds(sim))["LandingVoided"] <= 2
    await sim.intake.act("olga", "release", second, event_id="release")
    assert await sim.run(), await sim.state()
    assert {await phase_of(sim, one) for one in both} == {Phase.CONFIRMED}
    await legal(sim)


async def test_a_rollback_that_failed_can_be_tried_again_by_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = await serving()
    refused: list[EffectKey] = []
    act = SimPlatform.act

    async def refuses_once(self: SimPlatform, key: EffectKey, verb: Verb) -> object:
        if isinstance(verb, RestoreTraffic) and not refused:
            refused.append(key)
            raise Permanent("the mesh answers 403")
        return await act(self, key, verb)

    monkeypatch.setattr(SimPlatform, "act", refuses_once)
    delivery = await sim.ask(BAD)
    await until_phase(sim, delivery, Phase.STUCK)
    assert (await sim.rollout()).phase is RolloutPhase.STUCK
    await sim.intake.unstick_service("olga", SERVICE, PRODUCTION, event_id="u1")
    await sim.run_for(60)
    assert (await sim.rollout()).phase is RolloutPhase.IDLE, await sim.state()
    await sim.intake.act("olga", "unstick", delivery, event_id="u2")
    assert await sim.run(), await sim.state()
    assert await phase_of(sim, delivery) is Phase.HANDED_OVER
    await legal(sim)


async def test_old_rollbacks_do_not_freeze_a_service_when_the_controller_starts_again() -> None:
    sim = await serving()
    for number in range(6):
        name = f"Bad idea number {number}."
        bad = {f"bad{number}.py": "FAILS 10%\n", f"tests/test_bad{number}.py": "1\n"}
        sim.world.plays(name, bad, fixes=({**bad, f"bad{number}.py": "fine\n"},))
        await one_by_one(sim, name)
        sim.world.clock.advance(3_600)
    assert (await sim.log.control()) == []
    await sim.controllers[0].bury()
    sim.controllers.clear()
    sim.start("again")
    await sim.run_for(30)
    assert (await sim.log.control()) == []


async def test_too_many_rollbacks_in_an_hour_freeze_the_service_until_a_person_lifts_it() -> None:
    sim = begun(1, QUICK.model_copy(update={"steps_percent": (50, 100)}))
    sim.start("w1")
    for number in range(5):
        name = f"Bad idea number {number}."
        bad = {f"bad{number}.py": "FAILS 10%\n", f"tests/test_bad{number}.py": "1\n"}
        sim.world.plays(name, bad, fixes=({**bad, f"bad{number}.py": "fine\n"},))
        await sim.ask(name)
        await sim.run(seconds=400)
    frozen = [entry for entry in await sim.entries() if isinstance(entry.event, e.Frozen)]
    assert [entry.stream for entry in frozen] == [CONTROL]
    (row,) = await sim.log.control()
    await sim.intake.resume("olga", row.scope, "looked", event_id="r")
    assert await sim.run(seconds=4_000), await sim.state()
    assert await sim.log.control() == []


async def test_a_first_release_that_failed_is_begun_again_when_main_is_mended() -> None:
    sim = begun(1)
    sim.world.push_to_main({"app.py": "DEAD\n"})
    sim.start("w1")
    await sim.run_for(60)
    assert (await sim.rollout()).phase is RolloutPhase.STUCK
    mended = sim.world.push_to_main({"app.py": "fine\n"})
    await sim.intake.unstick_service("olga", SERVICE, PRODUCTION, event_id="u1")
    await sim.run_for(60)
    assert sim.world.served == mended


async def test_a_change_in_a_first_release_that_failed_goes_on_when_a_person_lets_it() -> None:
    sim = begun(1)
    sim.world.push_to_main({"start.py": "DEAD\n"})
    sim.world.plays("Mend it", {"start.py": "fine\n", "tests/test_start.py": "1\n"})
    await sim.intake.stop("olga", "agent:releaser", "wait", event_id="s")
    sim.start("w1")
    delivery = await sim.ask(GOOD)
    await until_phase(sim, delivery, Phase.MERGED)
    await sim.intake.resume("olga", "agent:releaser", "go on", event_id="r")
    await until_phase(sim, delivery, Phase.STUCK)
    sim.world.push_to_main({"start.py": "fine\n"})
    await sim.intake.unstick_service("olga", SERVICE, PRODUCTION, event_id="u1")
    await sim.run_for(30)
    await sim.intake.act("olga", "unstick", delivery, event_id="u2")
    await sim.run(seconds=300)
    assert sim.world.served is not None
    assert await phase_of(sim, delivery) in (Phase.CONFIRMED, Phase.ABANDONED, Phase.HANDED_OVER), await sim.state()


@pytest.mark.parametrize("seed", range(4))
async def test_a_change_that_fell_far_behind_is_rebased_and_tested_again(seed: int) -> None:
    sim = begun(seed)
    sim.world.bounds = sim.world.bounds.model_copy(update={"max_behind": 1})
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    for number in range(3):
        name = f"Small change number {number}."
        sim.world.plays(name, {f"small{number}.py": "1\n", f"tests/test_small{number}.py": "1\n"})
        await sim.ask(name)
    assert await sim.run(seconds=7_200), await sim.state()
    found = await sim.deliveries()
    assert {d.phase for d in found.values()} == {Phase.CONFIRMED}
    assert any(len(d.heads) > 1 for d in found.values())
    await nothing_twice(sim)
    await legal(sim)
