"""The assistant of whoever is on call asks, holds and stops: it makes things slower and safer, and never faster."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from scenarios import GOOD, QUICK, begun, legal, nothing_twice
from simulated import ROLLOUT, Simulation, authority

from controller.domain import events as e
from controller.domain.delivery import Phase
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Branch, DeliveryId, Digest, client_session
from controller.domain.risk import Colour
from controller.domain.rollout import RolloutPhase
from controller.ports import Badge, Receipt
from controller.requests import AgentRequests
from controller.sim.clock import EPOCH
from controller.sim.world import PRODUCTION, SERVICE, SHOP
from tools.belt import Call, NotPossible
from tools.deploy import DeployBelt
from tools.effects import place_of
from tools.telemetry import TelemetryBelt

SUBTLE = "Add a subtle discount"
PAGE = 1_500
HUNGRY = QUICK.model_copy(update={"step_requests": 10**6})  # no step of it ever has enough requests


@dataclass
class Assistant:
    """A program outside in the role on-call, with its session open."""

    sim: Simulation
    name: str = "helper"
    calls: int = 0

    @property
    def badge(self) -> Badge:
        session = client_session(self.name, 1)
        return Badge(
            session=session,
            role="on-call",
            delivery=f"client.{self.name}",
            repository=SHOP,
            branch=Branch(f"agent/{session}"),
            base=self.sim.world.first,
            allowed=(),
            protected=(),
            on_behalf_of="person:0123456789ab",
            scopes=frozenset({"deploy:read", "deploy:write", "forge:write"}),
        )

    @property
    def requests(self) -> AgentRequests:
        sim = self.sim
        return AgentRequests(
            log=sim.log, seals=sim.seals, policy=lambda: Digest(authority().digest), bounds=sim.world.bounds
        )

    async def arrive(self) -> Assistant:
        badge = self.badge
        started = e.ClientSessionStarted(
            client=self.name,
            role=badge.role,
            repository=SHOP,
            base=badge.base,
            branch=badge.branch,
            scopes=tuple(sorted(badge.scopes or ())),
            allowed_paths=(),
            on_behalf_of=badge.on_behalf_of,
            parent=None,
            expires_at=EPOCH,
        )
        kept = await self.sim.log.append(
            [Draft(badge.stream, started)], expect={badge.stream: 0}, by=Caller("service:controller", Digest(""))
        )
        assert isinstance(kept, Receipt)
        return self

    async def call(self, tool: str, **arguments: object) -> str:
        sim = self.sim
        world = sim.world
        deploy = DeployBelt(world.platform, sim.log, self.requests, world.repositories)
        telemetry = TelemetryBelt(world.telemetry, world.clock, sim.log, world.repositories, PAGE)
        tools = (*deploy.tools(), *telemetry.tools())
        run = next(one.run for one in tools if one.definition.name == tool)
        self.calls += 1
        return (await run(Call(self.badge, {"environment": PRODUCTION, **arguments}, 0, self.calls))).text

    async def ask_back(self, delivery: DeliveryId) -> DeliveryId:
        self.calls += 1
        return await self.requests.revert(place_of(Call(self.badge, {}, 0, self.calls)), delivery, "users complain")


async def weight(sim: Simulation) -> int:
    return (await sim.world.platform.status(SERVICE, PRODUCTION)).weight_percent


async def at_canary(sim: Simulation, title: str) -> DeliveryId:
    """A change of this title is before a quarter of the users."""
    sim.start("w1")
    assert await sim.run(lambda: sim.world.served is not None)
    delivery = await sim.ask(title)

    async def at_25() -> bool:
        return (await weight(sim)) == 25

    assert await sim.run(at_25), await sim.state()
    return delivery


async def control(sim: Simulation) -> list[tuple[str, str]]:
    return [(row.scope, row.state) for row in await sim.log.control() if row.state != "running"]


async def test_a_revert_that_an_agent_asks_for_waits_for_a_person_and_then_lands() -> None:
    sim = begun(1)
    sim.consenting = False
    sim.start("w1")
    assert await sim.run(lambda: sim.world.served is not None)
    merged = await sim.ask(GOOD)
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(merged)).phase is Phase.CONFIRMED
    assert "list.py" in sim.world.platform.tree(sim.world.served or sim.world.first)
    agent = await Assistant(sim).arrive()
    undo = await agent.ask_back(merged)
    await sim.run_for(300)
    waiting = await sim.delivery(undo)
    assert waiting.waiting is not None
    assert (waiting.phase, waiting.waiting.waits_for) == (Phase.CLASSIFIED, e.WaitsFor.CONSENT)
    assert waiting.risk is not None
    assert waiting.risk.verdict.colour is Colour.YELLOW
    assert waiting.risk.verdict.rules == ("yellow/asked-by-an-agent", "green/revert")
    assert waiting.asked.asked_by == agent.badge.principal
    told = [tell for tell in sim.world.chat.messages.values() if undo in tell.text]
    assert {tell.to for tell in told} == {"on-call"}, "an agent is nobody who reads chat"
    await sim.intake.act("olga", "approve", undo, event_id="yes")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(undo)).phase is Phase.CONFIRMED
    assert "list.py" not in sim.world.platform.tree(sim.world.served or sim.world.first)
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_a_person_says_no_to_a_revert_and_the_change_stays() -> None:
    sim = begun(1)
    sim.consenting = False
    sim.start("w1")
    assert await sim.run(lambda: sim.world.served is not None)
    merged = await sim.ask(GOOD)
    assert await sim.run(), await sim.state()
    undo = await (await Assistant(sim).arrive()).ask_back(merged)
    await sim.run_for(60)
    await sim.intake.act("olga", "reject", undo, event_id="no")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(undo)).phase is Phase.ABANDONED
    assert "list.py" in sim.world.platform.tree(sim.world.served or sim.world.first)
    await legal(sim)
    sim.close()


async def test_a_hold_by_an_agent_keeps_the_canary_where_it_is_until_its_role_takes_it_back() -> None:
    sim = begun(1)
    delivery = await at_canary(sim, GOOD)
    agent = await Assistant(sim).arrive()
    await agent.call("hold_release", reason="the dashboards look odd")
    await sim.run_for(200)
    assert await weight(sim) == 25, "its deadline is renewed, and it goes no further"
    assert agent.badge.principal in await agent.call("read_deployment")
    assert "taken back" in await agent.call("promote")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_promote_does_not_carry_a_canary_that_has_not_been_proved() -> None:
    sim = begun(1, HUNGRY)
    await at_canary(sim, GOOD)
    agent = await Assistant(sim).arrive()
    await agent.call("hold_release", reason="wait")
    await agent.call("promote")
    await agent.call("promote")
    await sim.run_for(200)
    assert await weight(sim) == 25
    assert (await sim.rollout()).phase is RolloutPhase.CANARY
    await legal(sim)
    sim.close()


async def test_a_hold_by_an_agent_does_not_keep_users_on_a_bad_release() -> None:
    sim = begun(1)
    files = {"discount.py": "FAILS 1.5%\n", "tests/test_discount.py": "ok\n"}
    sim.world.plays(SUBTLE, files, fixes=({**files, "discount.py": "mended\n"},))
    delivery = await at_canary(sim, SUBTLE)
    await (await Assistant(sim).arrive()).call("hold_release", reason="let me look")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(delivery)).phase is Phase.HANDED_OVER
    await legal(sim)
    sim.close()


async def test_an_agent_lifts_no_persons_hold_and_a_person_lifts_every_hold() -> None:
    sim = begun(1)
    delivery = await at_canary(sim, GOOD)
    agent = await Assistant(sim).arrive()
    await sim.intake.act("olga", "hold", delivery, event_id="hold")
    await agent.call("hold_release", reason="me too")
    assert "it stays held by person:" in await agent.call("promote")
    await sim.run_for(120)
    assert await weight(sim) == 25
    await agent.call("hold_release", reason="me again")
    await sim.intake.act("olga", "release", delivery, event_id="release")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    sim.close()


async def test_a_roll_back_by_an_agent_takes_users_off_at_once_and_waits_for_a_person() -> None:
    sim = begun(1)
    delivery = await at_canary(sim, GOOD)
    agent = await Assistant(sim).arrive()
    assert "all users go back to release 1" in await agent.call("roll_back", reason="checkout is slow for me")
    await sim.run_for(2)
    assert await weight(sim) == 0
    assert await control(sim) == [("service:shop", "stopped")]
    await sim.run_for(200)
    assert ((await sim.rollout()).phase, sim.world.served) == (RolloutPhase.PAUSED, sim.world.first)
    await sim.intake.resume("olga", "service:shop", "looked", event_id="resume")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_its_own_role_takes_a_roll_back_back_and_the_canary_begins_again_from_its_first_step() -> None:
    sim = begun(1)
    delivery = await at_canary(sim, GOOD)
    await (await Assistant(sim).arrive()).call("roll_back", reason="checkout is slow for me")
    await sim.run_for(60)
    other = await Assistant(sim, name="second").arrive()
    await other.call("promote")
    assert await control(sim) == []
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    steps = [one.event.step for one in await sim.log.read(ROLLOUT) if isinstance(one.event, e.StepStarted)]
    assert steps == [0, 0]
    sim.close()


@pytest.mark.parametrize("first", ["person", "agent"])
async def test_an_agent_does_not_lift_a_stop_that_a_person_has_set_before_or_after_its_own(first: str) -> None:
    sim = begun(1)
    await at_canary(sim, GOOD)
    agent = await Assistant(sim).arrive()
    if first == "person":
        await sim.intake.stop("olga", "service:shop", "mine", event_id="stop")
        assert "stopped already" in await agent.call("roll_back", reason="mine too")
    else:
        await agent.call("roll_back", reason="mine")
        await sim.intake.stop("olga", "service:shop", "mine too", event_id="stop")
    assert "only a person lifts that" in await agent.call("promote")
    await sim.run_for(120)
    assert await control(sim) == [("service:shop", "stopped")]
    assert await weight(sim) == 0
    sim.close()


async def test_nothing_is_rolled_back_where_nothing_is_under_way() -> None:
    sim = begun(1)
    sim.start("w1")
    agent = await Assistant(sim).arrive()
    assert await sim.run(lambda: sim.world.served is not None)
    assert await sim.run()
    with pytest.raises(NotPossible, match="no release of shop is under way in production"):
        await agent.call("roll_back", reason="to be safe")
    with pytest.raises(NotPossible, match="nothing of shop is deployed to staging"):
        await agent.call("hold_release", environment="staging", reason="to be safe")
    assert await control(sim) == []
    sim.close()


async def test_an_agent_sees_the_numbers_that_decide_newest_first_and_page_by_page() -> None:
    sim = begun(1, HUNGRY)
    await at_canary(sim, GOOD)
    await sim.run_for(60)
    agent = await Assistant(sim).arrive()
    rollout = await sim.rollout()
    first = await agent.call("query_telemetry", minutes=5)
    head, canary, confirmed, *windows = first.splitlines()
    assert head == "shop@production, last 5 min; counts: the simulated service's own counts; simulated"
    assert canary.startswith(f"canary, release {rollout.releases}: ")
    assert "50 % within" in canary
    assert confirmed.startswith("confirmed release 1: ")
    note = windows.pop()
    assert len(first.encode()) <= PAGE
    second = await agent.call("query_telemetry", minutes=5, offset=int(note.rstrip("]").rpartition(" ")[2]))
    assert second.splitlines()[3] < windows[-1] < windows[0], "newest first, and none twice"
    sealed = sum(one.canary_requests for one in rollout.segments)
    assert int(canary.split()[3]) >= sealed > 0
    with pytest.raises(NotPossible, match="this session looks at shop only"):
        await agent.call("query_telemetry", service="billing")
    sim.close()


async def test_where_no_canary_is_under_way_the_confirmed_release_is_told_alone() -> None:
    sim = begun(1)
    sim.start("w1")
    agent = await Assistant(sim).arrive()
    with pytest.raises(NotPossible, match="no release of shop has been confirmed yet"):
        await agent.call("query_telemetry")
    assert await sim.run(lambda: sim.world.served is not None)
    assert await sim.run()
    await sim.run_for(60)
    told = await agent.call("query_telemetry")
    assert "No canary is under way.\nconfirmed release 1: " in told
    assert "simulated" in told
    deployed = await agent.call("read_deployment")
    assert deployed.splitlines()[:2] == [
        "shop@production: IDLE",
        f"confirmed: release 1 at {sim.world.first[:12]}",
    ]
    sim.close()
