"""What counts as restored, as cured, as landed and as done in time, and what never does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import ZERO, HandClock, sample
from test_bounds_of_rollouts import Stage
from test_gate import KEY, TELL, Bench, tell
from test_steps_deciding import NAME, only

from controller.canary.choosing import cures_of, undeployable
from controller.canary.restoring import restore
from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.guards import Guard
from controller.domain.ids import Commit, DeliveryId, EffectKey, StreamId, delivery_stream, queue_stream
from controller.domain.queue import fold as fold_queue
from controller.domain.rollout import Regression
from controller.domain.verbs import LandCommit, Ok, Tell
from controller.errors import Unavailable
from controller.gate import ACT_MARGIN_S
from controller.intake import Intake
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Candidate, Pending, Receipt, Rejected
from controller.queue.table import check as queue_check
from controller.queue.table import land
from controller.sim.world import MAIN, SHOP


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.log.close()


# --- roll-back and cure -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checks", [0, 1])
async def test_traffic_that_went_to_a_release_that_is_not_healthy_is_not_restored(stage: Stage, checks: int) -> None:
    await stage.asked()
    await stage.canary(weight_percent=25)
    give_back = stage.world.platform._restore
    checked = {"health_checks": checks}
    stage.world.platform._restore = lambda verb: give_back(verb).model_copy(update=checked)  # type: ignore[method-assign]
    said = only(await restore(stage.rollout(sample(e.RegressionFound, release=2, verdict=None)), stage.ports))
    assert isinstance(said, e.TrafficRestored if checks else e.RolloutStuck)


@pytest.mark.parametrize("by", ["revert", "undo", "fix"])
async def test_a_bad_commit_goes_out_again_with_its_revert_whoever_asked_or_its_fix_once_that_has_landed(
    stage: Stage, by: str
) -> None:
    """`undo` is the revert that an agent asked for and a person consented to."""
    bad = stage.world.push_to_main({"bad.py": "FAILS 10%\n"})
    cure = stage.world.push_to_main({"bad.py": None})
    regression = Regression(bad, (NAME,), 2)
    state = replace(stage.rollout(), open_regressions=(regression,))
    name = DeliveryId(f"{NAME}-{by}")
    asked = sample(e.TaskRequested, delivery=name, repository=SHOP, full=False)
    cleared = (sample(e.TaskAccepted), sample(e.ChangeAuthored, head=cure, full=False))
    await stage.append(delivery_stream(name), asked, *cleared)
    assert await cures_of(regression, stage.ports) == ()
    assert "without its revert or fix" in (await undeployable(state, stage.ports, SHOP, cure) or "")
    rest = (e.PullRequestOpened, e.CiStarted, e.CiReported)
    await stage.append(delivery_stream(name), *(sample(kind, head=cure) for kind in rest), sample(e.RiskClassified))
    await stage.append(delivery_stream(name), sample(e.Cleared, head=cure), sample(e.Merged, commit=cure, head=cure))
    assert await cures_of(regression, stage.ports) == (cure,)
    assert await undeployable(state, stage.ports, SHOP, cure) is None
    assert "without its revert or fix" in (await undeployable(state, stage.ports, SHOP, bad) or "")


async def test_another_deliverys_revert_cures_nothing(stage: Stage) -> None:
    name = DeliveryId("shop-ffffff-revert")
    await stage.append(delivery_stream(name), sample(e.TaskRequested, delivery=name, repository=SHOP, full=False))
    assert await cures_of(Regression(Commit("a" * 40), (NAME,), 2), stage.ports) == ()


# --- a landing --------------------------------------------------------------------------------------------------------


async def landed(stage: Stage) -> e.Landed:
    """The change in line lands, whatever else the queue has to say of it."""
    head = await stage.waits_in_line()
    merged = await stage.ports.forge.merge(SHOP, stage.world.first, head, "It", stage.now)
    assert isinstance(merged, Candidate)
    line = queue_stream(SHOP, MAIN)
    given: Any = {"landing": 1, "base": stage.world.first, "tested": merged.commit, "tree": merged.tree}
    planned = sample(e.LandingPlanned, **given, deliveries=(NAME,), heads=(head,))
    await stage.append(line, planned, sample(e.LandingChecked, landing=1, passed=True))
    drafts = await land(fold_queue(line, await stage.log.read(line)), stage.ports)
    (found,) = [draft.event for draft in drafts if isinstance(draft.event, e.Landed)]
    return found


async def test_a_run_that_ci_has_lost_lands_nothing_and_a_run_under_way_is_waited_for(stage: Stage) -> None:
    head = await stage.waits_in_line()
    merged = await stage.ports.forge.merge(SHOP, stage.world.first, head, "It", stage.now)
    assert isinstance(merged, Candidate)
    line = queue_stream(SHOP, MAIN)
    given: Any = {"landing": 1, "base": stage.world.first, "tested": merged.commit, "tree": merged.tree}
    await stage.append(line, sample(e.LandingPlanned, **given, deliveries=(NAME,), heads=(head,)))
    assert await queue_check(fold_queue(line, await stage.log.read(line)), stage.ports) == []
    stage.world.ci.runs.clear()
    lost = only(await queue_check(fold_queue(line, await stage.log.read(line)), stage.ports))
    assert (lost.passed, lost.failures) == (False, ("ci/lost-the-run",))
    await stage.keep([Draft(line, lost)])
    out = only(await land(fold_queue(line, await stage.log.read(line)), stage.ports))
    assert (out.why, stage.acts(LandCommit)) == ("red", 0)


async def test_a_landing_of_what_was_tested_and_of_the_changes_own_files_is_verified(stage: Stage) -> None:
    assert (await landed(stage)).verified is True


async def test_a_landing_whose_tree_is_not_the_one_that_was_tested_is_never_verified(stage: Stage) -> None:
    """As when git is asked for the same commit and has other files under it."""
    trees = stage.ports.forge.tree

    async def another(*asked: Any) -> str:
        return (await trees(*asked))[:-1] + "x"

    stage.world.forge.tree = another  # type: ignore[method-assign, assignment]
    assert (await landed(stage)).verified is False


@pytest.mark.parametrize("own", [(), ("other.py",)])
async def test_a_landing_that_touches_a_file_which_is_not_the_changes_own_is_never_verified(
    stage: Stage, own: tuple[str, ...]
) -> None:
    stage.own = own
    assert (await landed(stage)).verified is False


@pytest.mark.parametrize("moved", ["away", "gone"])
async def test_a_landing_that_is_not_on_the_branch_is_never_verified(stage: Stage, moved: str) -> None:
    """Somebody forces the branch back, or deletes it, in the moment after the landing."""
    forge = stage.world.forge
    land_, branches = forge._land, forge.repository(SHOP).branches

    def lost(key: EffectKey, verb: LandCommit) -> Ok:
        done = land_(key, verb)
        del branches[MAIN]
        branches.update({MAIN: stage.world.first} if moved == "away" else {})
        return done

    forge._land = lost  # type: ignore[method-assign]
    assert (await landed(stage)).verified is False


# --- an effect --------------------------------------------------------------------------------------------------------


async def test_an_act_is_given_up_its_margin_before_anybody_else_may_take_it_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, now = Bench(), [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    bench.world.door = asyncio.Event()
    acting = asyncio.ensure_future(tell(bench.worker("w1")))
    for seconds, over in ((0.0, False), (TELL.deadline_s - ACT_MARGIN_S - 0.1, False), (TELL.deadline_s - 2.0, True)):
        now[0] = seconds
        for _ in range(9):
            await asyncio.sleep(0)
        assert acting.done() is over, f"after {seconds} s of {Tell.deadline_s}"
    assert isinstance(await acting, Pending)
    assert bench.world.done == {}, "what is given up does not happen later"
    assert KEY in bench.world.acts
    bench.log.close()


class Overtaken(SqliteLog):
    """Whoever claims an effect here finds that another worker was a moment quicker."""

    async def append(
        self, drafts: Sequence[Draft], *, expect: Mapping[StreamId, int], by: Caller, guards: Sequence[Guard] = ()
    ) -> Receipt | Rejected:
        (first, *_), rival = drafts, "the quicker one"
        if isinstance(first.event, e.EffectClaimed) and first.event.owner != rival:
            claim = first.event.model_copy(update={"owner": rival})
            await super().append([Draft(first.stream, claim)], expect=expect, by=by)
        return await super().append(drafts, expect=expect, by=by, guards=guards)


async def test_whoever_is_overtaken_in_claiming_an_effect_neither_looks_nor_acts() -> None:
    bench = Bench(Overtaken)
    await bench.dies_before_the_act(tell)
    acts = list(bench.world.acts)
    assert isinstance(await tell(bench.worker("w2")), Pending)
    assert (bench.world.acts, bench.world.looks, bench.world.done) == (acts, [], {})
    bench.log.close()


class Busy(SqliteLog):
    async def append(self, *_: Any, **__: Any) -> Receipt | Rejected:
        return Rejected("somebody else was quicker", None)


async def test_a_person_whose_act_cannot_be_written_down_is_told_so(tmp_path: Path) -> None:
    log = Busy(":memory:", HandClock(), inline=True)
    seals = LocalSeals(tmp_path / "keys", FileBlobs(tmp_path / "blobs", durable=False))
    with pytest.raises(Unavailable, match="control is too busy to write to"):
        await Intake(log=log, seals=seals, standing=Everyone()).stop("ann", "all", "it smells", event_id="m1")
    assert (await log.head()).size == 0
    log.close()


class Everyone:
    digest = ZERO

    def may_person(self, *_: object) -> bool:
        return True
