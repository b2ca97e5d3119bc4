"""A landing that nobody has looked at, or that is not verified: what goes out of it, and what is proposed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import entries, sample
from test_bounds_of_rollouts import Stage
from test_steps_deciding import NAME

from controller.canary.choosing import unproven
from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.ids import Commit, DeliveryId, delivery_stream, queue_stream
from controller.ports import Candidate
from controller.queue.doubting import repair_of
from controller.sim.world import MAIN, SHOP

OTHER = DeliveryId("shop-ffffff")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.log.close()


async def planned(stage: Stage) -> Commit:
    """The commit that is on its way to the branch, with two deliveries."""
    head = await stage.waits_in_line()
    merged = await stage.ports.forge.merge(SHOP, stage.world.first, head, "It", stage.now)
    assert isinstance(merged, Candidate)
    given: Any = {"landing": 1, "base": stage.world.first, "tested": merged.commit, "tree": merged.tree}
    landing = sample(e.LandingPlanned, **given, deliveries=(NAME, OTHER), heads=(head, head))
    await stage.append(queue_stream(SHOP, MAIN), landing)
    return merged.commit


async def merged(stage: Stage, name: DeliveryId, commit: Commit) -> None:
    if name != NAME:
        asked = sample(e.TaskRequested, delivery=name, repository=SHOP, full=False)
        steps = (e.PullRequestOpened, e.CiStarted, e.CiReported)
        done = (sample(e.TaskAccepted), sample(e.ChangeAuthored, head=commit, full=False))
        await stage.append(delivery_stream(name), asked, *done, *(sample(kind, head=commit) for kind in steps))
        await stage.append(delivery_stream(name), sample(e.RiskClassified), sample(e.Cleared, head=commit))
    await stage.append(delivery_stream(name), sample(e.Merged, commit=commit, head=commit))


async def test_what_holds_a_landing_that_is_under_way_is_not_deployed_and_what_is_before_it_is(stage: Stage) -> None:
    commit = await planned(stage)
    assert "is not verified yet" in (await unproven(stage.ports, SHOP, commit) or "")
    assert await unproven(stage.ports, SHOP, stage.world.first) is None


@pytest.mark.parametrize("rest", ["nothing", "elsewhere", "here"])
async def test_a_landing_that_is_not_verified_is_let_through_with_all_of_its_deliveries_or_not(
    stage: Stage, rest: str
) -> None:
    commit = await planned(stage)
    said: Any = {"landing": 1, "commit": commit, "base": stage.world.first, "deliveries": (NAME, OTHER)}
    landed = sample(e.Landed, **said, heads=(commit, commit), verified=False, doubts=("another_tree",))
    await stage.append(queue_stream(SHOP, MAIN), sample(e.LandingChecked, landing=1, passed=True), landed)
    assert "which is not verified" in (await unproven(stage.ports, SHOP, commit) or "")
    await merged(stage, NAME, commit)
    if rest != "nothing":
        await merged(stage, OTHER, commit if rest == "here" else stage.world.first)
    assert (await unproven(stage.ports, SHOP, commit) is None) is (rest == "here")


def asked_for(cause: e.Cause) -> Delivery:
    asked = sample(e.TaskRequested, delivery=NAME, repository=SHOP, cause=cause, full=False)
    return fold_delivery(NAME, entries(delivery_stream(NAME), asked))


@pytest.mark.parametrize(
    ("doubts", "cause", "reverted"),
    [
        (("another_tree",), e.Cause.TASK, True),
        (("stray_files",), e.Cause.FIX, True),
        (("missing",), e.Cause.TASK, False),
        (("missing", "another_tree"), e.Cause.TASK, False),
        (("another_tree",), e.Cause.REVERT, False),
    ],
)
def test_a_revert_is_proposed_only_of_what_is_on_the_branch_and_is_no_revert(
    doubts: tuple[Any, ...], cause: e.Cause, reverted: bool
) -> None:
    landed = sample(e.Landed, deliveries=(NAME,), doubts=doubts, verified=False)
    found = repair_of(landed, asked_for(cause), SHOP, MAIN)
    assert found.revert == (f"{NAME}-revert" if reverted else None)
    assert "flyball resume" in found.proposal
