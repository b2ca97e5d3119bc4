"""Every bound on a delivery and on what writes it: at the bound it may, one beyond never."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, HandClock, entries, sample
from test_steps_deciding import HEAD, NAME, House, only

from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.delivery import Phase
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    EffectKey,
    delivery_stream,
    queue_stream,
    rollout_stream,
)
from controller.domain.queue import fold as fold_queue
from controller.domain.risk import Colour
from controller.domain.rollout import RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.domain.verbs import LandCommit, OpenPullRequest, StartRun
from controller.errors import Permanent
from controller.history.breaker import breaker
from controller.ledger.lease import SqliteLease
from controller.ledger.sqlite import SqliteLog
from controller.loop import DELIVERY, _drafts
from controller.queue.table import plan
from controller.sim.world import MAIN, PRODUCTION, SERVICE, SHOP
from controller.steps.accept import accept
from controller.steps.author import author
from controller.steps.check import check
from controller.steps.clear import clear
from controller.steps.hand_over import hand_over
from controller.steps.merge import merge

OURS = delivery_stream(NAME)


class Yard(House):
    """A house whose changes are commits of its forge."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.heads = 0
        self.own: tuple[str, ...] = ("new1.py",)  # what the change says that it touches

    def head(self, *, base: Commit | None = None) -> tuple[Commit, Branch]:
        self.heads += 1
        branch = Branch(f"agent/{NAME}/{self.heads}")
        files: dict[str, str | None] = {f"new{self.heads}.py": "1\n"}
        at, onto = self.world.clock.now(), base or self.world.first
        return self.world.forge.commit(SHOP, branch, files, "It", at=at, onto=onto), branch

    async def proposes(self, *, red_before: int) -> None:
        """A change is proposed after so many other heads were red in CI."""
        await self.asked()
        await self.append(OURS, sample(e.TaskAccepted))
        for round_ in range(red_before + 1):
            head, branch = self.head()
            await self.append(OURS, *self.authored(head, branch, round_ + 1))
            if round_ < red_before:
                red = sample(e.CiReported, head=head, passed=False)
                back = e.SentBack(to="ACCEPTED", reason="red")
                await self.append(OURS, sample(e.CiStarted, head=head), red, back)

    def authored(self, head: Commit, branch: Branch, iteration: int) -> tuple[e.Event, ...]:
        given = {"head": head, "base": self.world.first, "branch": branch, "iteration": iteration, "files": self.own}
        change: Any = sample(e.ChangeAuthored, full=False, **given)
        return change, sample(e.PullRequestOpened, head=head, number=iteration)

    async def waits_in_line(self, *, cleared: Commit | None = None) -> Commit:
        """`cleared=None`: exactly the head under way is."""
        await self.proposes(red_before=0)
        head = (await self.delivery()).head
        assert head is not None
        branch = Branch(f"agent/{NAME}/{self.heads}")
        opened = OpenPullRequest(repository=SHOP, branch=branch, head=head, base=MAIN, title="It", body="")
        await self.world.forge.act(EffectKey(f"pull-request/{branch}/0"), opened)
        line = queue_stream(SHOP, MAIN)
        waits = e.Waited(waits_for=e.WaitsFor.QUEUE, on=line, until=AT + timedelta(days=9_999), reason="in line")
        steps = (sample(e.CiStarted, head=head), sample(e.CiReported, head=head, passed=True, tested=HEAD))
        await self.append(OURS, *steps, sample(e.RiskClassified), sample(e.Cleared, head=cleared or head), waits)
        return head

    async def passes(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.clock.now() + timedelta(seconds=seconds))

    def acts(self, verb: type) -> int:
        return sum(isinstance(one.verb, verb) for one in self.world.acts)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    found = Yard(tmp_path)
    yield found
    found.log.close()


# --- rounds, heads, depth, number -------------------------------------------------------------------------------------


async def test_the_second_head_goes_into_ci_and_a_third_never(yard: Yard) -> None:
    await yard.proposes(red_before=1)
    assert isinstance(only(await check(await yard.delivery(), yard.ports)), e.CiStarted)
    assert yard.acts(StartRun) == 1


async def test_a_third_head_is_given_up_before_any_run(yard: Yard) -> None:
    await yard.proposes(red_before=2)
    given_up = only(await check(await yard.delivery(), yard.ports))
    assert given_up.reason == "2 heads have been through CI, which is the bound; a person must look"
    assert yard.acts(StartRun) == 0


async def test_a_head_that_was_in_ci_before_may_go_again_at_the_bound(yard: Yard) -> None:
    await yard.proposes(red_before=1)
    last = (await yard.delivery()).head
    await yard.append(OURS, sample(e.CiStarted, head=last), e.Stuck(reason="lost"), e.Unstuck(by="x", to="PROPOSED"))
    assert isinstance(only(await check(await yard.delivery(), yard.ports)), e.CiStarted)


@pytest.mark.parametrize(("tried", "goes_on"), [(3, True), (4, False)])
async def test_a_fourth_head_is_written_and_a_fifth_never(yard: Yard, tried: int, *, goes_on: bool) -> None:
    await yard.proposes(red_before=tried - 1)
    await yard.append(OURS, e.SentBack(to="ACCEPTED", reason="red"))
    drafts = await author(await yard.delivery(), yard.ports)
    begun = [draft.event for draft in drafts if isinstance(draft.event, e.SessionStarted)]
    assert bool(begun) is goes_on
    assert goes_on or only(drafts).reason == "4 heads were tried, which is the bound; a person must look"


@pytest.mark.parametrize(("depth", "accepted"), [(2, True), (3, False)])
async def test_what_stands_deeper_than_the_bound_is_never_taken_on(yard: Yard, depth: int, *, accepted: bool) -> None:
    await yard.asked(depth=depth)
    said = only(await accept(await yard.delivery(), yard.ports))
    assert isinstance(said, e.TaskAccepted if accepted else e.Abandoned)


@pytest.mark.parametrize(
    ("bounds", "fixed"),
    [
        ({"fix_depth": 1}, True),
        ({"fix_depth": 0}, False),
        ({"fix_depth": 2, "spawn_depth": 1}, True),
        ({"fix_depth": 2, "spawn_depth": 0}, False),
        ({"fan_out_per_root": 2}, True),
        ({"fan_out_per_root": 1}, False),
    ],
)
async def test_a_fix_is_asked_for_within_depth_and_number_and_never_beyond(
    yard: Yard, bounds: dict[str, int], *, fixed: bool
) -> None:
    d = await yard.rolled_back()
    yard.bounded(**bounds)
    causes = [draft.event.cause for draft in await hand_over(d, yard.ports) if isinstance(draft.event, e.TaskRequested)]
    assert causes == ([e.Cause.REVERT, e.Cause.FIX] if fixed else [e.Cause.REVERT])


@pytest.mark.parametrize(("bound", "fixed"), [(3, True), (2, False)])
async def test_what_a_request_has_brought_about_before_counts(yard: Yard, bound: int, *, fixed: bool) -> None:
    """An agent has asked for its revert, which makes one; the revert after the roll-back and the fix are two more."""
    d = await yard.rolled_back()
    undo = DeliveryId(f"{NAME}-undo")
    await yard.append(delivery_stream(undo), sample(e.TaskRequested, delivery=undo, repository=SHOP))
    yard.bounded(fan_out_per_root=bound)
    drafts = await hand_over(d, yard.ports)
    assert any(isinstance(one.event, e.TaskRequested) and one.event.cause is e.Cause.FIX for one in drafts) is fixed


# --- steps ------------------------------------------------------------------------------------------------------------


async def test_a_step_has_its_seconds_and_not_one_more(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    await yard.asked()
    now = [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    door = asyncio.Event()

    async def slow(*_: object) -> list[Draft]:
        await door.wait()
        return []

    async def after(seconds: float) -> list[Draft]:
        """What the step has said by then; None would be nothing yet."""
        now[0], state = 0.0, await yard.delivery()
        machine = replace(DELIVERY, table={Phase.NEW: cast("Any", slow)})
        work = asyncio.ensure_future(_drafts(machine, Phase.NEW, state, OURS, yard.ports))
        await turns()
        now[0] = seconds
        await turns()
        door.set()
        said = list(await work)
        door.clear()
        return said

    assert await after(29.9) == []
    failed = only(await after(30.1))
    assert (failed.attempt, failed.error) == (1, "slow took longer than 30 s")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("failures", "stuck"), [(1, False), (2, True)])
async def test_the_last_attempt_of_a_step_makes_it_stuck_and_none_before(
    yard: Yard, failures: int, *, stuck: bool
) -> None:
    await yard.asked()

    async def fails(*_: object) -> list[Draft]:
        raise OSError("no")

    state = replace(await yard.delivery(), failures=failures)
    machine = replace(DELIVERY, table={Phase.NEW: cast("Any", fails)})
    said = [draft.event for draft in await _drafts(machine, Phase.NEW, state, OURS, yard.ports)]
    assert [type(one) for one in said] == [e.StepFailed, *([e.Stuck] if stuck else [])]


@pytest.mark.parametrize(("passed_s", "taken"), [(44, False), (45, True)])
async def test_a_lease_is_another_workers_when_its_seconds_are_over_and_not_before(
    tmp_path: Path, passed_s: int, *, taken: bool
) -> None:
    clock, seconds = HandClock(), Bounds().lease_seconds
    lease = SqliteLease(tmp_path / "log.db", clock, inline=True)
    SqliteLog(tmp_path / "log.db", clock, inline=True).close()
    assert await lease.acquire(OURS, "w1", seconds) is not None
    clock.pass_(passed_s)
    assert (await lease.acquire(OURS, "w2", seconds) is not None) is taken


# --- waiting ----------------------------------------------------------------------------------------------------------


async def waits_out(yard: Yard, step: Callable[..., Awaitable[list[Draft]]], seconds: int) -> Any:
    """A second before its time is over it still waits; then it does what is returned."""
    await yard.keep(await step(await yard.delivery(), yard.ports))
    await yard.passes(seconds - 1)
    assert await step(await yard.delivery(), yard.ports) == []
    await yard.passes(1)
    return await step(await yard.delivery(), yard.ports)


async def test_ci_has_its_seconds_and_is_given_up_then(yard: Yard) -> None:
    await yard.proposes(red_before=0)
    await yard.keep(await check(await yard.delivery(), yard.ports))
    ((name, run),) = yard.world.ci.runs.items()
    yard.world.ci.runs[name] = replace(run, begun=run.begun + timedelta(days=1))  # it takes for ever
    yard.world.clock.advance(0.5)
    assert "CI did not finish within 600 s" in only(await waits_out(yard, check, 600)).reason


async def test_what_comes_first_has_its_time_and_is_not_waited_for_longer(yard: Yard) -> None:
    first = DeliveryId("shop-ffffff")
    await yard.append(delivery_stream(first), sample(e.TaskRequested, delivery=first))
    await yard.asked(after=first)
    given_up = only(await waits_out(yard, accept, yard.ports.bounds.wait_seconds))
    assert given_up.reason == "shop-ffffff, which comes first, did not end in time"


async def test_a_consent_has_its_time_to_the_second(yard: Yard) -> None:
    await yard.classified(Colour.YELLOW)
    await yard.keep(await clear(await yard.delivery(), yard.ports))
    assert only(await waits_out(yard, clear, yard.ports.bounds.consent_seconds)).reason == "nobody consented in time"


async def test_a_line_that_does_not_move_is_a_persons_when_its_time_is_over(yard: Yard) -> None:
    await yard.waits_in_line()
    await yard.append(OURS, e.StepFailed(step="merge", error="x", attempt=1))
    with pytest.raises(Permanent, match="has waited for queue/shop@main too long"):
        await waits_out(yard, merge, yard.ports.bounds.wait_seconds)


# --- the queue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("landings", "rebased"), [(2, False), (3, True)])
async def test_a_change_lands_at_the_bound_of_what_it_is_behind_and_is_rebased_beyond(
    yard: Yard, landings: int, *, rebased: bool
) -> None:
    await yard.waits_in_line()
    yard.bounded(max_behind=2)
    for number in range(landings):
        yard.world.push_to_main({f"other{number}.py": "1\n"})
    line = queue_stream(SHOP, MAIN)
    said = only(await plan(fold_queue(line, await yard.log.read(line)), yard.ports))
    assert isinstance(said, e.Evicted) is rebased
    assert isinstance(said, e.LandingPlanned) is not rebased
    if isinstance(said, e.Evicted):
        assert (said.why, said.new_base) == ("base_moved", await yard.ports.forge.tip(SHOP, MAIN))


async def test_a_clearance_of_an_older_head_never_stands_in_line(yard: Yard) -> None:
    older = Commit("e" * 40)
    await yard.waits_in_line(cleared=older)
    line = queue_stream(SHOP, MAIN)
    assert await plan(fold_queue(line, await yard.log.read(line)), yard.ports) == []
    assert yard.acts(LandCommit) == 0


# --- roll-backs in a window -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds_ago", "counts"), [(3_599, True), (3_600, False)])
@pytest.mark.parametrize("roll_backs", [4, 5])
def test_a_service_freezes_at_its_bound_of_roll_backs_in_the_window_and_never_below(
    roll_backs: int, seconds_ago: int, *, counts: bool
) -> None:
    events: list[e.Event] = [sample(e.ReleaseOpened, release=1, against=None), e_confirmed()]
    back = AT - timedelta(seconds=seconds_ago)
    for number in range(2, roll_backs + 2):
        restored = sample(e.TrafficRestored, release=number, badness=None, suspects=(), traffic_back_at=back)
        opened = sample(e.ReleaseOpened, release=number)
        events += [opened, sample(e.RegressionFound, release=number), restored]
    stream = rollout_stream(SERVICE, PRODUCTION)
    state = fold_rollout(stream, entries(stream, *events))
    assert state.phase is RolloutPhase.IDLE
    frozen = breaker(state, "shop", AT, Bounds(), None)
    assert (frozen is not None) is (roll_backs == 5 and counts)


def e_confirmed() -> Any:
    return sample(e.ReleaseConfirmed, release=1)
