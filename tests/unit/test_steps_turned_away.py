"""What steps do when the world says no, says nothing, or is not there: nothing forward, and somebody hears of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, WHY, sample
from test_bounds_of_deliveries import OURS, Yard
from test_steps_deciding import HEAD, MERGED, NAME, RELEASES, only

from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import CONTROL, queue_stream
from controller.domain.queue import fold as fold_queue
from controller.domain.risk import Colour
from controller.domain.verbs import LandCommit, OpenPullRequest, PushBranch, StartRun, Tell
from controller.errors import Permanent, Unavailable
from controller.ports import Candidate, CiRun, Conflict, TestResult
from controller.queue.table import check as queue_check
from controller.queue.table import land, plan
from controller.sim.world import MAIN, SHOP
from controller.steps.accept import accept
from controller.steps.author import author
from controller.steps.check import check
from controller.steps.clear import clear
from controller.steps.common import push
from controller.steps.deploy import deploy
from controller.steps.follow import follow
from controller.steps.merge import merge
from controller.steps.unstick import unstick

LINE = queue_stream(SHOP, MAIN)


class Outskirts(Yard):
    """A yard whose world can be made to refuse, or to say nothing."""

    def refuses(self, hands: Any, verb: type, how: Exception) -> None:
        """From now on, for this verb."""
        act = hands.act

        async def no(key: Any, wanted: Any) -> Any:
            if isinstance(wanted, verb):
                raise how
            return await act(key, wanted)

        hands.act = no

    async def planned(self) -> e.LandingPlanned:
        head = await self.waits_in_line()
        merged = await self.ports.forge.merge(SHOP, self.world.first, head, "It", self.world.clock.now())
        assert isinstance(merged, Candidate)
        given: Any = {"landing": 1, "base": self.world.first, "tested": merged.commit, "tree": merged.tree}
        found: e.LandingPlanned = sample(e.LandingPlanned, **given, deliveries=(NAME,), heads=(head,))
        await self.append(LINE, found)
        return found

    async def queue(self) -> Any:
        return fold_queue(LINE, await self.log.read(LINE))

    def ends(self, run: CiRun) -> None:
        """Whatever CI is asked for, this is how it ends."""

        async def said(_: str) -> CiRun:
            return run

        self.world.ci.run = said  # type: ignore[method-assign, assignment]

    def conflicts(self, what: str) -> None:
        async def no(*_: object) -> Conflict:
            return Conflict(("cart.py", "app.py"))

        setattr(self.world.forge, what, no)


@pytest.fixture
def outskirts(tmp_path: Path) -> Iterator[Outskirts]:
    found = Outskirts(tmp_path)
    yield found
    found.log.close()


def run_of(state: Any, *tests: TestResult, reason: str = "") -> CiRun:
    return CiRun("run-1", HEAD, state, AT, AT, tests, "none: simulated", reason=reason)


# --- the queue --------------------------------------------------------------------------------------------------------


async def test_a_branch_that_is_gone_is_a_persons_and_nothing_lands(outskirts: Outskirts) -> None:
    await outskirts.waits_in_line()
    outskirts.world.forge.repository(SHOP).branches.clear()
    with pytest.raises(Permanent, match="shop has no branch main"):
        await plan(await outskirts.queue(), outskirts.ports)


async def test_a_change_that_ci_cannot_start_leaves_the_line(outskirts: Outskirts) -> None:
    planned = await outskirts.planned()
    outskirts.refuses(outskirts.world.ci, StartRun, Permanent("no runner"))
    out = only(await queue_check(await outskirts.queue(), outskirts.ports))
    assert isinstance(out, e.Evicted)
    assert (out.why, out.landing, out.head) == ("red", 1, planned.heads[0])
    assert out.reason == "ci/not-started: CI could not start the run"
    assert "no runner" in await outskirts.seals.open(out.detail)  # type: ignore[arg-type]


async def test_while_the_merger_is_stopped_a_planned_landing_waits_and_says_so_once(outskirts: Outskirts) -> None:
    await outskirts.planned()
    await outskirts.append(CONTROL, sample(e.Stopped, scope="agent:merger", reason="wait"))
    waits = only(await queue_check(await outskirts.queue(), outskirts.ports))
    later = outskirts.world.clock.now() + timedelta(seconds=outskirts.ports.bounds.wait_seconds)
    assert (waits.waits_for, waits.until, waits.reason) == (e.WaitsFor.FREEZE, later, "agent:merger is stopped")
    await outskirts.keep([Draft(LINE, waits)])
    assert await queue_check(await outskirts.queue(), outskirts.ports) == []
    assert outskirts.acts(StartRun) == 0


async def test_ci_that_does_not_answer_is_asked_again_and_nothing_is_said(outskirts: Outskirts) -> None:
    await outskirts.planned()
    outskirts.refuses(outskirts.world.ci, StartRun, Unavailable("no answer"))
    assert await queue_check(await outskirts.queue(), outskirts.ports) == []


@pytest.mark.parametrize(
    ("run", "failures", "said"),
    [
        (run_of("failed", TestResult("t::a", True, 1, ""), TestResult("t::b", False, 1, "no")), 1, "t::b"),
        (run_of("broken", reason="out of memory"), 1, "out of memory"),
    ],
)
async def test_what_is_red_in_the_queue_never_lands_and_goes_back_with_what_failed(
    outskirts: Outskirts, run: CiRun, failures: int, said: str
) -> None:
    planned = await outskirts.planned()
    outskirts.ends(run)
    checked = only(await queue_check(await outskirts.queue(), outskirts.ports))
    assert (checked.passed, checked.reused, len(checked.failures)) == (False, False, failures)
    assert await outskirts.seals.open(checked.detail) == said
    assert (checked.failures == ("ci/broken",)) is (run.state == "broken")
    await outskirts.keep([Draft(LINE, checked)])
    out = only(await land(await outskirts.queue(), outskirts.ports))
    assert (out.why, out.head, out.landing) == ("red", planned.heads[0], 1)
    assert outskirts.acts(LandCommit) == 0


async def test_a_green_run_of_the_queues_own_is_not_called_reused(outskirts: Outskirts) -> None:
    await outskirts.planned()
    outskirts.ends(run_of("passed", TestResult("t::a", True, 1, "")))
    checked = only(await queue_check(await outskirts.queue(), outskirts.ports))
    assert (checked.passed, checked.reused) == (True, False)


@pytest.mark.parametrize("moved", [True, False])
async def test_what_the_forge_does_not_land_leaves_the_line_or_is_planned_again_when_main_has_moved(
    outskirts: Outskirts, *, moved: bool
) -> None:
    planned = await outskirts.planned()
    await outskirts.append(LINE, sample(e.LandingChecked, landing=1, passed=True))
    outskirts.refuses(outskirts.world.forge, LandCommit, Permanent("a hook says no"))
    if moved:
        outskirts.world.push_to_main({"elsewhere.py": "1\n"})
    out: Any = only(await land(await outskirts.queue(), outskirts.ports))
    assert out.kind() == ("LandingVoided" if moved else "Evicted")
    assert moved or (out.why, out.head) == ("refused", planned.heads[0])
    assert "a hook says no" in await outskirts.seals.open(out.detail)


async def test_a_rebase_that_conflicts_goes_back_with_the_files(outskirts: Outskirts) -> None:
    await outskirts.waits_in_line()
    outskirts.bounded(max_behind=0)
    outskirts.world.push_to_main({"elsewhere.py": "1\n"})
    outskirts.conflicts("rebase")
    out = only(await plan(await outskirts.queue(), outskirts.ports))
    assert (out.why, out.new_head) == ("conflict", None)
    assert out.reason == "queue/conflict: rebasing on main conflicts in 2 files"
    assert await outskirts.seals.open(out.detail) == "cart.py\napp.py"


# --- taking on and writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("configured", "known"), [(True, "shop"), (False, "none")])
async def test_a_repository_that_is_not_configured_is_never_worked_on(
    outskirts: Outskirts, known: str, *, configured: bool
) -> None:
    await outskirts.asked(repository="elsewhere")
    if not configured:
        outskirts.ports = replace(outskirts.ports, repositories={})
    given_up = only(await accept(await outskirts.delivery(), outskirts.ports))
    assert given_up.reason == f"repository elsewhere is not configured here (known: {known})"


async def test_a_session_that_does_not_end_in_time_is_a_persons(outskirts: Outskirts) -> None:
    await outskirts.asked()
    await outskirts.append(OURS, sample(e.TaskAccepted))
    begun = await author(await outskirts.delivery(), outskirts.ports)
    await outskirts.keep(begun)
    await outskirts.passes(outskirts.ports.bounds.session_seconds - 1)
    assert await author(await outskirts.delivery(), outskirts.ports) == []
    await outskirts.passes(1)
    with pytest.raises(Permanent, match="did not end within 900 s"):
        await author(await outskirts.delivery(), outskirts.ports)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("conflict", "revert/conflict: the revert conflicts in 2 files; the fix goes forward instead"),
        ("nothing", "there is nothing left to revert"),
        ("push", "author/push-refused: the forge does not take the branch"),
    ],
)
async def test_a_revert_that_cannot_be_made_is_given_up_with_the_reason(
    outskirts: Outskirts, what: str, words: str
) -> None:
    bad = outskirts.world.push_to_main({"bad.py": "1\n"})
    if what == "nothing":
        outskirts.world.push_to_main({"bad.py": None})
    await outskirts.asked(cause=e.Cause.REVERT, bad_commit=bad)
    await outskirts.append(OURS, sample(e.TaskAccepted))
    if what == "conflict":
        outskirts.conflicts("revert")
    if what == "push":
        outskirts.refuses(outskirts.world.forge, PushBranch, Permanent("a hook says no"))
    assert only(await author(await outskirts.delivery(), outskirts.ports)).reason == words
    assert outskirts.acts(PushBranch) == 0


async def test_a_revert_of_nothing_is_a_defect_and_pushes_nothing(outskirts: Outskirts) -> None:
    await outskirts.asked(cause=e.Cause.REVERT, bad_commit=None)
    await outskirts.append(OURS, sample(e.TaskAccepted))
    with pytest.raises(Permanent, match="a revert without a commit to revert"):
        await author(await outskirts.delivery(), outskirts.ports)


# --- CI ---------------------------------------------------------------------------------------------------------------


async def test_a_run_that_ci_has_forgotten_is_a_persons_and_no_verdict(outskirts: Outskirts) -> None:
    await outskirts.proposes(red_before=0)
    await outskirts.keep(await check(await outskirts.delivery(), outskirts.ports))
    outskirts.world.ci.runs.clear()
    with pytest.raises(Permanent, match="CI does not know run"):
        await check(await outskirts.delivery(), outskirts.ports)


@pytest.mark.parametrize("revert", [False, True])
async def test_a_change_that_conflicts_goes_back_to_its_author_and_a_revert_is_given_up(
    outskirts: Outskirts, *, revert: bool
) -> None:
    await outskirts.proposes(red_before=0)
    d = await outskirts.delivery()
    if revert:
        d = replace(d, request=d.asked.model_copy(update={"cause": e.Cause.REVERT}))
    outskirts.conflicts("merge")
    said = only(await check(d, outskirts.ports))
    assert isinstance(said, e.Abandoned if revert else e.SentBack)
    assert said.reason.startswith("check/conflict: it conflicts with main in 2 files")
    assert said.reason.endswith("the fix goes forward instead") is revert
    assert outskirts.acts(StartRun) == 0


async def test_a_run_that_ci_cannot_start_ends_the_delivery_with_what_it_said(outskirts: Outskirts) -> None:
    await outskirts.proposes(red_before=0)
    outskirts.refuses(outskirts.world.ci, StartRun, Permanent("no runner"))
    given_up = only(await check(await outskirts.delivery(), outskirts.ports))
    assert given_up.reason == "ci/not-started: CI could not start the run"
    assert "no runner" in await outskirts.seals.open(given_up.detail)


async def test_a_broken_run_is_red_and_says_that_it_was_the_run_itself(outskirts: Outskirts) -> None:
    await outskirts.proposes(red_before=0)
    await outskirts.keep(await check(await outskirts.delivery(), outskirts.ports))
    outskirts.ends(run_of("broken", reason="out of memory"))
    report, back = (draft.event for draft in await check(await outskirts.delivery(), outskirts.ports))
    assert isinstance(report, e.CiReported)
    assert isinstance(back, e.SentBack)
    assert (report.passed, [one.test for one in report.failures]) == (False, ["(the run itself)"])


async def test_a_rebased_head_that_the_forge_does_not_take_yet_is_not_tested(outskirts: Outskirts) -> None:
    await outskirts.proposes(red_before=0)
    branch = (await outskirts.delivery()).change.branch  # type: ignore[union-attr]
    outskirts.world.forge.repository(SHOP).branches[branch] = outskirts.world.first
    outskirts.refuses(outskirts.world.forge, PushBranch, Unavailable("no answer"))
    waits = only(await check(await outskirts.delivery(), outskirts.ports))
    assert (waits.waits_for, waits.reason) == (e.WaitsFor.EFFECT, "an effect is under way")
    assert outskirts.acts(StartRun) == 0


async def test_a_branch_that_somebody_has_moved_is_moved_back_from_where_it_is_now(outskirts: Outskirts) -> None:
    """The same head for the same branch, expected elsewhere, is an effect of its own."""
    await outskirts.proposes(red_before=0)
    d = await outskirts.delivery()
    assert d.change is not None
    branches, branch = outskirts.world.forge.repository(SHOP).branches, d.change.branch
    for where in (None, outskirts.world.first, None):
        branches.pop(branch)
        branches.update({branch: where} if where else {})
        await push(d, outskirts.ports, "author", branch, d.change.head, decision=WHY)
        assert where is None or branches[branch] == d.change.head
    assert outskirts.acts(PushBranch) == 2, "a key that was settled is not acted on again"


async def test_while_the_checker_is_stopped_no_run_begins_and_the_wait_is_as_long_as_the_bound(
    outskirts: Outskirts,
) -> None:
    await outskirts.proposes(red_before=0)
    await outskirts.append(CONTROL, sample(e.Stopped, scope="agent:checker", reason="wait"))
    waits = only(await check(await outskirts.delivery(), outskirts.ports))
    later = outskirts.world.clock.now() + timedelta(seconds=outskirts.ports.bounds.wait_seconds)
    assert (waits.waits_for, waits.until) == (e.WaitsFor.FREEZE, later)
    assert outskirts.acts(StartRun) == 0


# --- after the queue --------------------------------------------------------------------------------------------------


async def test_a_revert_that_the_queue_evicts_is_given_up_and_never_written_again(outskirts: Outskirts) -> None:
    head = await outskirts.waits_in_line()
    out = sample(e.Evicted, landing=None, delivery=NAME, head=head, why="red", reason="queue/red", new_head=None)
    await outskirts.append(LINE, out.model_copy(update={"detail": None}))
    d = await outskirts.delivery()
    d = replace(d, request=d.asked.model_copy(update={"cause": e.Cause.REVERT}))
    assert only(await merge(d, outskirts.ports)).reason == "queue/red; the fix goes forward instead"


async def merged(outskirts: Outskirts, *more: e.Event) -> None:
    await outskirts.classified(Colour.GREEN)
    await outskirts.append(OURS, sample(e.Cleared, head=HEAD), sample(e.Merged, head=HEAD, commit=MERGED), *more)


async def test_a_release_that_never_comes_is_a_persons_when_the_time_is_over(outskirts: Outskirts) -> None:
    await merged(outskirts)
    await outskirts.keep(await deploy(await outskirts.delivery(), outskirts.ports))
    await outskirts.passes(outskirts.ports.bounds.wait_seconds - 1)
    assert await deploy(await outskirts.delivery(), outskirts.ports) == []
    await outskirts.passes(1)
    with pytest.raises(Permanent, match="has waited for a release of shop too long"):
        await deploy(await outskirts.delivery(), outskirts.ports)


async def test_a_delivery_whose_rollout_is_stuck_is_stuck_with_it_and_never_confirmed(outskirts: Outskirts) -> None:
    await merged(outskirts, sample(e.RolloutJoined, release=1))
    opened = sample(e.ReleaseOpened, release=1, deliveries=(NAME,), against=None)
    await outskirts.append(RELEASES, opened, e.RolloutStuck(release=1, reason="the mesh answers 403"))
    stuck = only(await follow(await outskirts.delivery(), outskirts.ports))
    assert (type(stuck), stuck.reason) == (e.Stuck, "the rollout is stuck: the mesh answers 403")


async def test_a_service_that_was_taken_out_of_the_settings_confirms_nothing(outskirts: Outskirts) -> None:
    await merged(outskirts, sample(e.RolloutJoined, release=1))
    (repository,) = outskirts.ports.repositories.values()
    outskirts.ports = replace(outskirts.ports, repositories={SHOP: replace(repository, service=None)})
    with pytest.raises(Permanent, match="has lost its service"):
        await follow(await outskirts.delivery(), outskirts.ports)


# --- telling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["clear", "accept", "unstick"])
async def test_nothing_is_decided_before_people_have_been_told_of_it(outskirts: Outskirts, step: str) -> None:
    """A message that is under way is waited for; one that has failed stops nothing."""
    if step == "clear":
        await outskirts.classified(Colour.YELLOW)
    elif step == "accept":
        await outskirts.asked(repository="elsewhere")
    else:
        await outskirts.checked()
        await outskirts.append(OURS, e.Stuck(reason="an effect is unknown"))
    outskirts.refuses(outskirts.world.chat, Tell, Unavailable("no answer"))
    steps: dict[str, Any] = {"clear": clear, "accept": accept, "unstick": unstick}
    assert await steps[step](await outskirts.delivery(), outskirts.ports) == []
    assert (await outskirts.log.read(OURS))[-1].kind != "Abandoned"


async def test_a_pull_request_that_cannot_be_closed_yet_keeps_its_delivery_from_ending(outskirts: Outskirts) -> None:
    await outskirts.proposes(red_before=2)
    outskirts.refuses(outskirts.world.forge, object, Unavailable("no answer"))
    assert await check(await outskirts.delivery(), outskirts.ports) == []
    assert outskirts.acts(OpenPullRequest) == 0
