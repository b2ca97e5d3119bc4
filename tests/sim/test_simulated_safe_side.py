"""A bad canary is out at 25 %, and then the controller dies, or its log is full, or somebody stops everything."""

from __future__ import annotations

import pytest
from scenarios import BAD, QUICK, begun, facts_of, legal, nothing_twice, undisturbed
from simulated import Controller, Simulation

from controller.domain.delivery import Phase
from controller.sim.world import PRODUCTION, SERVICE

SOON_S = QUICK.weight_ttl_ms / 1000
SUBTLE = "Add a subtle discount"


async def exposed(sim: Simulation) -> Controller:
    """A change that hurts so little that it is not found before it is at 25 %."""
    files = {"discount.py": "FAILS 1.5%\n", "tests/test_discount.py": "ok\n"}
    sim.world.plays(SUBTLE, files, fixes=({**files, "discount.py": "mended\n"},))
    controller = sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.ask(SUBTLE)

    async def at_25() -> bool:
        return (await weight(sim)) == 25

    assert await sim.run(at_25), await sim.state()
    return controller


async def weight(sim: Simulation) -> int:
    return (await sim.world.platform.status(SERVICE, PRODUCTION)).weight_percent


async def test_the_controller_is_killed_and_traffic_returns_within_the_deadline() -> None:
    sim = begun(1)
    controller = await exposed(sim)
    controller.process.dead = True
    await sim.run_for(1)
    sim.world.clock.advance(SOON_S)
    assert await weight(sim) == 0
    assert sim.world.served == sim.world.first
    sim.start("w2")
    assert await sim.run(), await sim.state()
    assert "mended" in "".join(sim.world.platform.tree(sim.world.served).values())
    lapses = [entry for entry in await sim.entries() if entry.kind == "WeightLapsed"]
    assert len(lapses) == 1
    await legal(sim)


async def test_the_log_cannot_be_written_and_traffic_returns_within_the_deadline() -> None:
    sim = begun(1)
    controller = await exposed(sim)
    controller.process.log_is_full = True
    await sim.run_for(SOON_S + 1)
    assert await weight(sim) == 0
    controller.process.log_is_full = False
    assert await sim.run(), await sim.state()
    await nothing_twice(sim)
    await legal(sim)


@pytest.mark.parametrize("scope", ["all", "service:shop", "agent:releaser", "repository:shop"])
async def test_a_stop_takes_the_canary_to_stable_at_once_and_it_goes_on_when_it_is_lifted(scope: str) -> None:
    sim = begun(1)
    await exposed(sim)
    await sim.intake.stop("olga", scope, "look at this", event_id="stop")
    await sim.run_for(2)
    assert await weight(sim) == 0
    await sim.run_for(120)
    assert sim.world.served == sim.world.first
    await sim.intake.resume("olga", scope, "looked", event_id="resume")
    assert await sim.run(), await sim.state()
    await nothing_twice(sim)
    await legal(sim)


async def test_a_bad_release_is_rolled_back_though_everything_forward_is_frozen() -> None:
    sim = begun(1)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    delivery = await sim.ask(BAD)

    async def found() -> bool:
        return (await sim.rollout()).phase.value == "REGRESSED" or (await sim.delivery(delivery)).regressed is not None

    assert await sim.run(found)
    await sim.intake.stop("olga", "all", "look at this", event_id="stop")
    await sim.run_for(60)
    assert await weight(sim) == 0
    assert (await sim.delivery(delivery)).phase is Phase.HANDED_OVER
    await sim.intake.resume("olga", "all", "looked", event_id="resume")
    assert await sim.run(), await sim.state()
    expected, _ = await undisturbed(1, (BAD,))
    assert (await facts_of(sim)).ends == expected.ends
    await legal(sim)
