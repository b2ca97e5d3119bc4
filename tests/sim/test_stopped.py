"""While a scope is stopped nothing forward begins in it, whenever the stop came; a pause forgets nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from meanwhile import A_WHILE_S, FORWARD, LONG_BAKE, at, at_rollout, from_now, serving, world
from scenarios import GOOD
from simulated import Simulation

from controller.domain import events as e
from controller.domain import verbs as v
from controller.domain.control import branch_scope, scopes
from controller.domain.delivery import Phase
from controller.domain.ids import DeliveryId
from controller.domain.rollout import RolloutPhase
from controller.errors import Refused
from controller.sim.world import MAIN, SERVICE, SHOP

# --- stop and resume --------------------------------------------------------------------------------------------------

SCOPES = (
    "all",
    "repository:shop",
    branch_scope(SHOP, MAIN),
    "service:shop",
    *(f"agent:{one}" for one in ("author", "merger", "checker", "releaser")),
)
MOMENTS: dict[str, Callable[[Simulation, DeliveryId], Awaitable[None]]] = {
    "written": lambda sim, one: at(sim, one, Phase.ACCEPTED),
    "in CI": lambda sim, one: at(sim, one, Phase.PROPOSED),
    "at canary": lambda sim, _: at_rollout(sim, RolloutPhase.CANARY),
    "baking": lambda sim, _: at_rollout(sim, RolloutPhase.LIVE),
}


def within(scope: str, event: e.EffectIntended) -> bool:
    """Whether the stop of this scope forbids it."""
    verb = FORWARD.get(event.verb)
    if verb is None or event.direction != "forward":
        return False
    repository = SHOP if "repository" in verb.model_fields else None
    service = SERVICE if "service" in verb.model_fields else None
    branch = MAIN if verb is v.LandCommit else None
    return scope in scopes(agent=event.agent, repository=repository, service=service, branch=branch)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_while_a_scope_is_stopped_nothing_forward_begins_in_it(scope: str, moment: str) -> None:
    async with world(plan=LONG_BAKE) as sim:
        await serving(sim)
        await MOMENTS[moment](sim, await sim.ask(GOOD))
        await sim.intake.stop("olga", scope, "let me look", event_id="stop")
        meanwhile = await from_now(sim)
        await sim.run_for(A_WHILE_S)
        begun_then = await meanwhile.said(e.EffectIntended)
        assert [one for one in begun_then if isinstance(one, e.EffectIntended) and within(scope, one)] == []
        if scope in ("all", "agent:author", "repository:shop"):
            assert await meanwhile.said(e.ModelCallReserved) == []
        await sim.intake.resume("olga", scope, "go on", event_id="resume")
        assert await sim.run(), await sim.state()


@pytest.mark.parametrize("scope", ["all", "repository:shop", "service:shop", "agent:author"])
async def test_while_a_scope_is_stopped_no_agent_is_set_to_work_in_it(scope: str) -> None:
    async with world() as sim:
        await serving(sim)
        await sim.intake.stop("olga", scope, "let me look", event_id="stop")
        meanwhile = await from_now(sim)
        delivery = await sim.ask(GOOD)
        await sim.run_for(A_WHILE_S)
        assert await meanwhile.said(e.SessionStarted) == []
        waiting = (await sim.delivery(delivery)).waiting
        assert waiting is not None
        assert (waiting.waits_for, waiting.reason) == (e.WaitsFor.FREEZE, f"{scope} is stopped")
        await sim.intake.resume("olga", scope, "go on", event_id="resume")
        assert await sim.run(), await sim.state()
        assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED


async def test_a_resume_lifts_its_own_scope_and_no_other() -> None:
    async with world() as sim:
        await serving(sim)
        for scope in ("all", "agent:releaser"):
            await sim.intake.stop("olga", scope, "let me look", event_id=f"stop-{scope}")
        delivery = await sim.ask(GOOD)
        await sim.intake.resume("olga", "all", "go on", event_id="resume")
        meanwhile = await from_now(sim)
        await sim.run_for(A_WHILE_S)
        assert (await sim.delivery(delivery)).phase is Phase.MERGED
        assert meanwhile.done(v.StartCanary, v.SetWeight, v.ConfirmRelease) == []
        with pytest.raises(Refused, match="is not stopped"):
            await sim.intake.resume("olga", "all", "go on", event_id="resume twice")
        await sim.intake.resume("olga", "agent:releaser", "go on", event_id="resume-releaser")
        assert await sim.run(), await sim.state()


async def test_a_canary_that_was_paused_goes_on_with_what_was_presumed_before_its_first_user() -> None:
    """A pause is no way to have the evidence weighed by other numbers."""
    async with world() as sim:
        await serving(sim)
        meanwhile = await from_now(sim)
        await sim.ask(GOOD)
        await at_rollout(sim, RolloutPhase.CANARY)
        await sim.intake.stop("olga", "all", "let me look", event_id="stop")
        await sim.run_for(A_WHILE_S)
        await sim.intake.resume("olga", "all", "go on", event_id="resume")
        assert await sim.run(), await sim.state()
        first, again = await meanwhile.said(e.CanaryReady)
        assert again == first
