"""What people say no to does not happen while the no stands: looked up in the world, which counts every act on it.

Each test lets time pass in which the act would have happened otherwise, and then takes the word back to see that it was
the word that kept it.
"""

from __future__ import annotations

import pytest
from meanwhile import A_WHILE_S, FORWARD, LONG_BAKE, STARVED, at, at_rollout, from_now, serving, world
from scenarios import BAD, GOOD, QUICK, YELLOW

from controller.domain import events as e
from controller.domain import verbs as v
from controller.domain.bounds import Bounds
from controller.domain.delivery import Phase
from controller.domain.ids import session_of, session_stream
from controller.domain.queue import QueuePhase
from controller.domain.rollout import RolloutPhase
from controller.sim.world import MAIN, PRODUCTION, SERVICE, SHOP

# --- hold -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.NEW, Phase.ACCEPTED, Phase.PROPOSED])
async def test_while_a_delivery_is_held_it_never_lands_whenever_the_hold_came(phase: Phase) -> None:
    async with world() as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        await at(sim, delivery, phase)
        main, meanwhile = sim.world.forge.repository(SHOP).branches[MAIN], await from_now(sim)
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.run_for(A_WHILE_S)
        assert meanwhile.done(v.LandCommit) == []
        assert sim.world.forge.repository(SHOP).branches[MAIN] == main
        held = await sim.delivery(delivery)
        assert held.phase is Phase.CLEARED
        assert held.waiting is not None
        assert (held.waiting.waits_for, held.waiting.reason[:8]) == (e.WaitsFor.PERSON, "held by ")
        await sim.intake.act("olga", "release", delivery, event_id="release")
        assert await sim.run(), await sim.state()
        assert len(meanwhile.done(v.LandCommit)) == 1


async def test_a_hold_that_comes_while_the_queue_tests_keeps_the_tested_commit_off_main() -> None:
    async with world() as sim:
        await serving(sim)
        sim.world.plays("Say one", {"one.py": "1\n", "tests/test_one.py": "1\n"})
        sim.world.plays("Say two", {"two.py": "2\n", "tests/test_two.py": "2\n"})
        for title in ("Say one", "Say two"):
            await sim.ask(title)

        async def testing() -> bool:
            queue = await sim.queue()
            return queue.phase is QueuePhase.PLANNED and queue.landings == 2

        assert await sim.run(testing), await sim.state()
        plan = (await sim.queue()).plan
        assert plan is not None
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "hold", plan.deliveries[0], event_id="hold")
        await sim.run_for(A_WHILE_S)
        assert meanwhile.done(v.LandCommit) == []
        await sim.intake.act("olga", "release", plan.deliveries[0], event_id="release")
        assert await sim.run(), await sim.state()
        assert [one.commit for one in meanwhile.done(v.LandCommit)] == [plan.tested]  # type: ignore[attr-defined]


async def test_while_a_merged_change_is_held_no_release_opens_with_it() -> None:
    async with world() as sim:
        await serving(sim)
        await sim.intake.stop("olga", "agent:releaser", "not yet", event_id="stop")
        delivery = await sim.ask(GOOD)
        await at(sim, delivery, Phase.MERGED)
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.intake.resume("olga", "agent:releaser", "now", event_id="resume")
        meanwhile = await from_now(sim)
        await sim.run_for(A_WHILE_S)
        assert await meanwhile.said(e.ReleaseOpened) == []
        assert meanwhile.done(v.Build, v.StartCanary, v.SetWeight) == []
        await sim.intake.act("olga", "release", delivery, event_id="release")
        assert await sim.run(), await sim.state()
        assert len(await meanwhile.said(e.ReleaseOpened)) == 1


async def test_while_a_canary_is_held_no_more_users_see_it() -> None:
    async with world() as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        await at_rollout(sim, RolloutPhase.CANARY)
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.run_for(A_WHILE_S)
        weights = {one.weight_percent for one in meanwhile.done(v.SetWeight)}  # type: ignore[attr-defined]
        assert weights == {QUICK.steps_percent[0]}, "renewed, and never raised"
        assert await meanwhile.said(e.StepPassed, e.Promoted) == []
        await sim.intake.act("olga", "release", delivery, event_id="release")
        assert await sim.run(), await sim.state()


async def test_while_a_promoted_release_is_held_it_is_not_confirmed_though_it_has_baked() -> None:
    async with world(plan=LONG_BAKE) as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        await at_rollout(sim, RolloutPhase.LIVE)
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.run_for(A_WHILE_S)
        assert meanwhile.done(v.ConfirmRelease) == []
        assert (await sim.rollout()).phase is RolloutPhase.LIVE
        await sim.intake.act("olga", "release", delivery, event_id="release")
        assert await sim.run(), await sim.state()
        assert len(meanwhile.done(v.ConfirmRelease)) == 1


# --- release ----------------------------------------------------------------------------------------------------------


async def test_a_release_of_another_delivery_or_one_told_again_lifts_no_hold() -> None:
    async with world() as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        other = await sim.ask(YELLOW)
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.intake.act("olga", "release", delivery, event_id="release")
        await sim.intake.act("olga", "hold", delivery, event_id="hold again")
        await sim.intake.act("olga", "release", delivery, event_id="release")  # the very same event, delivered twice
        await sim.intake.act("olga", "release", other, event_id="release other")
        meanwhile = await from_now(sim)
        await sim.run_for(A_WHILE_S)
        assert meanwhile.done(v.LandCommit) == []
        await sim.intake.act("olga", "reject", other, event_id="no")
        await sim.intake.act("olga", "release", delivery, event_id="release at last")
        assert await sim.run(), await sim.state()
        assert len(meanwhile.done(v.LandCommit)) == 1


# --- approve and reject -----------------------------------------------------------------------------------------------


async def test_without_consent_a_yellow_change_never_lands_and_is_given_up_when_its_time_is_over() -> None:
    async with world(bounds=Bounds(consent_seconds=600)) as sim:
        await serving(sim)
        meanwhile = await from_now(sim)
        delivery = await sim.ask(YELLOW)
        await sim.intake.act("olga", "promote", delivery, event_id="promote")  # another word, which is no consent
        await sim.run_for(590)
        assert (await sim.delivery(delivery)).phase is Phase.CLASSIFIED
        assert await sim.run(), await sim.state()
        assert (await sim.delivery(delivery)).phase is Phase.ABANDONED
        assert meanwhile.done(v.LandCommit) == []


async def test_consent_to_an_older_head_never_lands_the_newer_one() -> None:
    async with world(bounds=Bounds(max_behind=0)) as sim:
        await serving(sim)
        delivery = await sim.ask(YELLOW)
        await at(sim, delivery, Phase.CLASSIFIED)
        old = (await sim.delivery(delivery)).head
        sim.world.push_to_main({"elsewhere.py": "1\n"})
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "approve", delivery, event_id="yes to the old one")
        await sim.run_for(A_WHILE_S)
        moved = await sim.delivery(delivery)
        assert moved.head != old
        assert (moved.phase, meanwhile.done(v.LandCommit)) == (Phase.CLASSIFIED, [])
        await sim.intake.act("olga", "approve", delivery, event_id="yes to the new one")
        assert await sim.run(), await sim.state()
        assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED


async def test_a_rejection_after_the_consent_keeps_it_from_landing_for_good() -> None:
    async with world() as sim:
        await serving(sim)
        delivery = await sim.ask(YELLOW)
        await at(sim, delivery, Phase.CLASSIFIED)
        await sim.run_for(5)
        await sim.intake.stop("olga", "agent:merger", "wait", event_id="stop")
        await sim.intake.act("olga", "approve", delivery, event_id="yes")
        await at(sim, delivery, Phase.CLEARED)
        meanwhile = await from_now(sim)
        await sim.intake.act("otto", "reject", delivery, event_id="no")
        await sim.intake.resume("olga", "agent:merger", "go on", event_id="resume")
        assert await sim.run(), await sim.state()
        assert (await sim.delivery(delivery)).phase is Phase.ABANDONED
        assert meanwhile.done(v.LandCommit) == []


# --- promote, retry, unstick, revoke ----------------------------------------------------------------------------------


async def test_a_promotion_takes_a_canary_on_only_after_its_dwell_and_not_while_it_is_held() -> None:
    plan = STARVED.model_copy(update={"step_dwell_ms": 60_000})
    async with world(plan=plan) as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        await at_rollout(sim, RolloutPhase.CANARY)
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "promote", delivery, event_id="promote")
        await sim.run_for(50)
        assert await meanwhile.said(e.StepPassed) == [], "users have not met it for long enough"
        await sim.intake.act("olga", "hold", delivery, event_id="hold")
        await sim.run_for(A_WHILE_S)
        assert await meanwhile.said(e.StepPassed, e.Promoted) == []
        await sim.intake.act("olga", "release", delivery, event_id="release")
        assert await sim.run(), await sim.state()
        assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED


async def test_nobodys_word_promotes_a_canary_that_hurts() -> None:
    async with world(plan=QUICK.model_copy(update={"step_dwell_ms": 60_000})) as sim:
        await serving(sim)
        delivery = await sim.ask(BAD)
        meanwhile = await from_now(sim)
        await at_rollout(sim, RolloutPhase.CANARY)
        await sim.intake.act("olga", "promote", delivery, event_id="promote")
        await at(sim, delivery, Phase.ROLLED_BACK, Phase.HANDED_OVER)
        assert await meanwhile.said(e.StepPassed, e.Promoted) == []
        assert await sim.run(), await sim.state()


async def test_one_retry_begins_a_canary_again_once() -> None:
    async with world(plan=STARVED) as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)
        await at_rollout(sim, RolloutPhase.CANARY)
        meanwhile = await from_now(sim)
        await sim.intake.act("olga", "retry", delivery, event_id="retry")
        await sim.run_for(A_WHILE_S)
        assert len(await meanwhile.said(e.ReleaseRetried)) == 1
        await sim.intake.act("olga", "promote", delivery, event_id="promote")
        assert await sim.run(), await sim.state()
        assert len(await meanwhile.said(e.ReleaseRetried)) == 1


async def test_while_nobody_unsticks_a_rollout_nothing_of_it_moves_and_one_word_frees_it_once() -> None:
    async with world(same_words=True) as sim:
        sim.world.push_to_main({"start.py": "DEAD\n"})
        sim.start("w1")
        await at_rollout(sim, RolloutPhase.STUCK)
        meanwhile = await from_now(sim)
        await sim.run_for(A_WHILE_S)
        assert meanwhile.done(*FORWARD.values()) == []
        await sim.intake.unstick_service("olga", SERVICE, PRODUCTION, event_id="unstick")
        await sim.run_for(A_WHILE_S)
        assert (await sim.rollout()).phase is RolloutPhase.STUCK, "it is as dead as before"
        assert len(await meanwhile.said(e.Unstuck)) == 1
        assert len(await meanwhile.said(e.ReleaseOpened)) == 1


async def test_a_revoked_session_asks_no_model_and_brings_no_change() -> None:
    async with world() as sim:
        await serving(sim)
        delivery = await sim.ask(GOOD)

        async def begun_to_write() -> bool:
            return bool(await sim.log.read(session_stream(session)))

        session = session_of(delivery, 1)
        assert await sim.run(begun_to_write), await sim.state()
        await sim.intake.revoke("olga", session, "it smells", event_id="revoke")
        meanwhile = await from_now(sim)
        assert await sim.run(), await sim.state()
        assert await meanwhile.said(e.ModelCallReserved, e.ChangeAuthored) == []
        assert (await sim.delivery(delivery)).phase is Phase.ABANDONED


# --- what nobody has to say -------------------------------------------------------------------------------------------


async def test_a_release_that_is_not_healthy_after_the_roll_back_never_counts_as_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as sim:
        await serving(sim)
        restore = sim.world.platform._restore

        def sick(verb: v.RestoreTraffic) -> v.Restored:
            found = restore(verb)
            assert isinstance(found, v.Restored)
            return found.model_copy(update={"health_checks": 0})

        monkeypatch.setattr(sim.world.platform, "_restore", sick)
        delivery = await sim.ask(BAD)
        meanwhile = await from_now(sim)
        await at(sim, delivery, Phase.STUCK)
        await sim.run_for(A_WHILE_S)
        assert await meanwhile.said(e.TrafficRestored, e.RolledBack, e.HandedOver) == []
        state = await sim.rollout()
        assert (state.phase, state.stuck_from) == (RolloutPhase.STUCK, RolloutPhase.REGRESSED)
        assert state.stuck_reason == "all traffic is on release 1, but that is not healthy either"
        monkeypatch.undo()
        await sim.intake.unstick_service("olga", SERVICE, PRODUCTION, event_id="unstick")
        await sim.run_for(A_WHILE_S)
        assert len(await meanwhile.said(e.TrafficRestored)) == 1


@pytest.mark.parametrize("changes", [1, 2])
async def test_a_release_carries_as_many_changes_as_the_plan_says_and_no_more(changes: int) -> None:
    async with world(plan=QUICK.model_copy(update={"changes_per_release": changes})) as sim:
        await serving(sim)
        await sim.intake.stop("olga", "agent:releaser", "not yet", event_id="stop")
        titles = [f"Say {number}" for number in range(3)]
        for title in titles:
            name = title.replace(" ", "").lower()
            sim.world.plays(title, {f"{name}.py": "1\n", f"tests/test_{name}.py": "1\n"})
        asked = [await sim.ask(title) for title in titles]
        for delivery in asked:
            await at(sim, delivery, Phase.MERGED)
        meanwhile = await from_now(sim)
        await sim.intake.resume("olga", "agent:releaser", "now", event_id="resume")
        assert await sim.run(), await sim.state()
        carried = [len(one.deliveries) for one in await meanwhile.said(e.ReleaseOpened)]  # type: ignore[attr-defined]
        assert carried == [changes] * (3 // changes) + [3 % changes] * bool(3 % changes)
