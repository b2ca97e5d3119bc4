"""A court that lies, and one that is away: the traffic goes back by itself, and nothing is ever promoted on a lie."""

from __future__ import annotations

from collections import Counter

import pytest
from scenarios import CRASHING, GOOD, QUICK, begun, legal, nothing_twice
from simulated import Simulation

from controller.canary.court import InProcessCourt, checked
from controller.domain.delivery import Phase
from controller.domain.events import RegressionFound
from controller.domain.verdict import Outcome, Rule
from controller.errors import Unavailable
from controller.ports import LookRequest, Seen
from controller.sim import assembly
from controller.sim.world import PRODUCTION, SERVICE

PROMOTE = {"outcome": Outcome.PROMOTE, "rule": Rule.PROMOTED, "may_act_alone": True, "must_page": False}


class Court(InProcessCourt):
    """Does what its class says, as long as it says so."""

    away = lying = False
    looks = 0

    async def look(self, request: LookRequest) -> Seen:
        Court.looks += 1
        if Court.away:
            raise Unavailable("the judge's process ended: exit code -9", "It is started again")
        seen = await super().look(request)
        if Court.lying:
            seen = seen.model_copy(update={"verdict": seen.verdict.model_copy(update=PROMOTE)})
        return await checked(request, seen, self._blobs)


@pytest.fixture(autouse=True)
def courts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "InProcessCourt", Court)
    Court.away, Court.lying, Court.looks = False, False, 0


async def at_its_first_step(task: str = GOOD) -> Simulation:
    sim = begun(1)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.ask(task)

    async def shown() -> bool:
        return (await sim.world.platform.status(SERVICE, PRODUCTION)).weight_percent > 0

    assert await sim.run(shown), await sim.state()
    return sim


async def kinds(sim: Simulation) -> Counter[str]:
    return Counter(entry.kind for entry in await sim.entries())


async def lapsed(sim: Simulation) -> bool:
    return (await kinds(sim))["WeightLapsed"] > 0


async def test_verdict_that_does_not_follow_promotes_nothing_and_somebody_is_told() -> None:
    sim = await at_its_first_step()
    Court.lying = True
    before, looks = await kinds(sim), Court.looks
    assert await sim.run(lambda: lapsed(sim), seconds=3 * QUICK.weight_ttl_ms / 1000), await sim.state()
    after = await kinds(sim)
    assert Court.looks > looks
    assert all(after[kind] == before[kind] for kind in ("Observed", "StepPassed", "Promoted", "WeightRenewed"))
    told = [tell.text for key, tell in sim.world.chat.messages.items() if key.endswith("/judge-contradicted")]
    assert len(told) == 1
    assert "the judge says promote by canary/promoted" in told[0]
    Court.lying = False
    assert await sim.run(), await sim.state()
    assert [one.phase for one in (await sim.deliveries()).values()] == [Phase.CONFIRMED]
    await nothing_twice(sim)
    await legal(sim)


async def test_court_that_is_away_for_a_while_only_costs_time() -> None:
    sim = await at_its_first_step()
    Court.away = True
    await sim.run_for(QUICK.weight_ttl_ms / 4000)
    Court.away = False
    assert await sim.run(), await sim.state()
    assert not await lapsed(sim)
    assert [one.phase for one in (await sim.deliveries()).values()] == [Phase.CONFIRMED]
    await legal(sim)


async def test_court_that_stays_away_lets_the_traffic_go_back() -> None:
    sim = await at_its_first_step()
    Court.away = True
    assert await sim.run(lambda: lapsed(sim), seconds=3 * QUICK.weight_ttl_ms / 1000), await sim.state()
    assert sim.world.served == sim.world.first
    Court.away = False
    assert await sim.run(), await sim.state()
    assert [one.phase for one in (await sim.deliveries()).values()] == [Phase.CONFIRMED]
    await legal(sim)


async def test_canary_that_went_down_is_taken_back_though_nobody_judges() -> None:
    sim = await at_its_first_step(CRASHING)
    Court.away = True

    async def found() -> bool:
        return (await kinds(sim))["TrafficRestored"] > 0

    assert await sim.run(found, seconds=QUICK.weight_ttl_ms / 1000), await sim.state()
    regressions = [entry.event for entry in await sim.entries() if isinstance(entry.event, RegressionFound)]
    assert [(one.verdict, one.reason.partition(":")[0]) for one in regressions] == [(None, "canary/down")]
    assert not await lapsed(sim)
    await legal(sim)
