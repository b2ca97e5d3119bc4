"""What the steps decide by: pure functions of facts, from who lands next to what a commit says of itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, entries, entry, sample, verdict

from controller.canary.attributing import to_blame
from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain import rollout as rollouts
from controller.domain.bounds import Bounds
from controller.domain.delivery import Delivery, Phase
from controller.domain.ids import Commit, DeliveryId, Digest, MicroUsd, SessionId, StreamId
from controller.domain.rollout import Regression, Rollout, deployable
from controller.history.breaker import breaker
from controller.metrics.deliveries import phase_times, recoveries, total_ms
from controller.provenance.trailers import TITLE_CHARS, merge_message, title_of, trailers
from controller.queue.line import InLine, lane_of, ordered

STREAM = StreamId("rollout/shop@production")
BAD, REVERT, FIX, OTHER = (Commit(c * 40) for c in "badf")


def delivery(name: str = "shop-1a2b3c", cause: e.Cause = e.Cause.TASK, **given: Any) -> Delivery:
    asked = sample(e.TaskRequested, delivery=name, root=name, cause=cause, asked_by="person:0123456789ab", full=False)
    asked = asked.model_copy(update=given)
    return deliveries.fold(DeliveryId(name), entries(f"delivery/{name}", asked))


# --- whose fault, and what may go out ---------------------------------------------------------------------------------


def test_every_change_of_a_release_that_hurt_is_suspected() -> None:
    carried = [delivery("a"), delivery("b", e.Cause.FIX)]
    assert to_blame(carried) == carried


def test_a_revert_is_innocent_while_anything_else_is_in_the_release() -> None:
    revert, change = delivery("r", e.Cause.REVERT), delivery("a")
    assert to_blame([revert, change]) == [change]
    assert to_blame([revert]) == [revert]
    assert to_blame([]) == []


@pytest.mark.parametrize(
    ("holds", "cures", "may"),
    [
        ({OTHER}, {}, True),
        ({BAD}, {}, False),
        ({BAD}, {BAD: (REVERT, FIX)}, False),
        ({BAD, REVERT}, {BAD: (REVERT,)}, True),
        ({BAD, FIX}, {BAD: (REVERT, FIX)}, True),
        ({BAD, OTHER}, {BAD: (REVERT,)}, False),
    ],
)
def test_a_bad_commit_goes_out_again_only_with_its_cure(
    holds: set[Commit], cures: dict[Commit, tuple[Commit, ...]], *, may: bool
) -> None:
    regressions = (Regression(BAD, (DeliveryId("a"),), 3),)
    why = deployable(
        OTHER, regressions, lambda _, ancestor: ancestor in holds, lambda one: cures.get(one.bad_commit, ())
    )
    assert (why is None) == may
    assert why is None or (BAD[:10] in why and "release 3" in why)


def test_every_open_regression_needs_a_cure_of_its_own() -> None:
    regressions = (Regression(BAD, (), 1), Regression(OTHER, (), 2))
    cures = {BAD: (REVERT,), OTHER: (FIX,)}
    held = {BAD, OTHER, REVERT}
    why = deployable(OTHER, regressions, lambda _, ancestor: ancestor in held, lambda one: cures[one.bad_commit])
    assert why is not None
    assert "release 2" in why


# --- who lands next ---------------------------------------------------------------------------------------------------


def test_reverts_land_first_and_everybody_else_in_the_order_in_which_they_came() -> None:
    line = [
        InLine(delivery("late"), 40),
        InLine(delivery("fix", e.Cause.FIX), 20),
        InLine(delivery("second-revert", e.Cause.REVERT), 35),
        InLine(delivery("early"), 10),
        InLine(delivery("first-revert", e.Cause.REVERT), 30),
    ]
    names = ["first-revert", "second-revert", "early", "fix", "late"]
    for turned in (line, line[::-1], line[2:] + line[:2]):
        assert [one.delivery.id for one in ordered(turned)] == names
    assert {lane_of(one.delivery) for one in line} == {"fast", "normal"}
    assert ordered([]) == []


# --- one roll-back too many -------------------------------------------------------------------------------------------


def _rolled_back(numbers: int, *, every: timedelta = timedelta(minutes=5)) -> Rollout:
    state = Rollout(STREAM)
    for n in range(1, numbers + 1):
        back = AT + n * every
        for event in (
            sample(e.ReleaseOpened, release=n, deliveries=(f"d{n}",), against=None),
            sample(e.RegressionFound, release=n),
            sample(
                e.TrafficRestored,
                release=n,
                to_release=0,
                traffic_back_at=back,
                culprits=(),
                bad_commits=(),
                badness=None,
            ),
        ):
            state = rollouts.evolve(state, entry(STREAM, event, version=state.version + 1, at=back))
    return state


BOUNDS = Bounds(rollbacks_in_window=3, rollback_window_seconds=3_600)


def _frozen(backs: int, now: datetime, lifted: datetime | None = None) -> e.Frozen | None:
    return breaker(_rolled_back(backs), "shop", now, BOUNDS, lifted)


def test_the_last_roll_back_that_is_one_too_many_freezes_the_service_and_says_why() -> None:
    now = AT + timedelta(minutes=16)
    assert _frozen(2, now) is None
    frozen = _frozen(3, now)
    assert frozen is not None
    assert frozen.scope == "service:shop"
    assert frozen.reason == "3 roll-backs within 3600 s (bound 3)"


def test_roll_backs_of_long_ago_do_not_count() -> None:
    assert _frozen(3, AT + timedelta(minutes=64)) is not None
    assert _frozen(3, AT + timedelta(minutes=65)) is None  # the first was at minute 5


def test_roll_backs_that_somebody_has_looked_at_do_not_count() -> None:
    now = AT + timedelta(minutes=16)
    assert _frozen(3, now, AT + timedelta(minutes=5)) is None
    assert _frozen(3, now, AT + timedelta(minutes=4)) is not None


# --- what a commit says of itself -------------------------------------------------------------------------------------


def _authored(
    name: str = "shop-1a2b3c", cause: e.Cause = e.Cause.TASK, *, model: str | None = "claude-sonnet-5-5"
) -> Delivery:
    change = sample(
        e.ChangeAuthored,
        iteration=2,
        session=SessionId(f"{name}/2") if model else None,
        model=model,
        label=e.Label.SCRIPTED if model else None,
        prompt_digest=Digest("sha256:" + "d" * 64) if model else None,
        cost_micro_usd=MicroUsd(7),
    )
    return replace(delivery(name, cause, bad_commit=BAD if cause is e.Cause.REVERT else None), change=change)


def test_a_landing_says_who_asked_and_what_made_it_in_the_same_bytes_every_time() -> None:
    said = merge_message(_authored(), "Sort the cart\n\nby price", OTHER)
    assert said == merge_message(_authored(), "Sort the cart\n\nby price", OTHER)
    assert said.splitlines() == [
        "Sort the cart",
        "",
        "Lands ffffffffffff.",
        "",
        "Flyball-Delivery: shop-1a2b3c",
        "Requested-By: person:0123456789ab",
        "Assisted-by: flyball-author:claude-sonnet-5-5",
        "Agent-Session: shop-1a2b3c/2",
        "Agent-Iterations: 2",
        f"Prompt-Digest: sha256:{'d' * 64}",
        "Model-Label: scripted",
    ]


def test_nothing_that_is_learned_later_stands_in_a_landing() -> None:
    before = _authored()
    after = replace(before, phase=Phase.CLEARED, risk=None, release=3, cost_micro_usd=MicroUsd(9), version=40)
    assert merge_message(before, "x", OTHER) == merge_message(after, "x", OTHER)


@pytest.mark.parametrize("cause", list(e.Cause))
@pytest.mark.parametrize("model", ["claude-sonnet-5-5", None])
def test_an_agent_never_signs_off(cause: e.Cause, model: str | None) -> None:
    lines = trailers(_authored(cause=cause, model=model))
    said = merge_message(_authored(cause=cause, model=model), "x", OTHER)
    assert "signed-off-by" not in said.lower()
    assert any(line.startswith("Assisted-by:") for line in lines) == (model is not None)
    assert (f"Reverts: {BAD}" in lines) == (cause is e.Cause.REVERT)


def test_a_task_that_looks_like_a_trailer_becomes_no_trailer() -> None:
    said = merge_message(_authored(), "Sort\n\nSigned-off-by: Mallory <m@example.org>", OTHER)
    assert "Signed-off-by" not in said


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("Sort the cart", "Sort the cart"),
        ("\n  \n  Sort the cart  \nby price", "Sort the cart"),
        ("x" * TITLE_CHARS, "x" * TITLE_CHARS),
        ("x" * (TITLE_CHARS + 1), "x" * (TITLE_CHARS - 1) + "…"),
        ("", "Change"),
    ],
)
def test_a_title_is_the_first_line_and_fits_a_subject(task: str, title: str) -> None:
    assert title_of(task) == title
    assert len(title_of(task)) <= TITLE_CHARS


# --- how long it took -------------------------------------------------------------------------------------------------


def _walked() -> Delivery:
    name = "delivery/shop-1a2b3c"
    asked = sample(e.TaskRequested, delivery="shop-1a2b3c", root="shop-1a2b3c", full=False)
    waited = sample(e.Waited, full=False)
    steps = (asked, sample(e.TaskAccepted), waited, waited, sample(e.ChangeAuthored), sample(e.Abandoned, full=False))
    return deliveries.fold(DeliveryId("shop-1a2b3c"), entries(name, *steps, seconds=2))


def test_a_phase_lasts_until_the_next_one_and_waiting_is_part_of_it() -> None:
    d = _walked()
    assert [(t.phase, t.ms) for t in phase_times(d)] == [
        (Phase.NEW, 2_000),
        (Phase.ACCEPTED, 6_000),
        (Phase.AUTHORED, 2_000),
    ]
    assert total_ms(d) == 10_000 == sum(t.ms for t in phase_times(d))


def test_what_is_under_way_has_taken_no_time_yet() -> None:
    assert total_ms(delivery()) is None
    assert phase_times(delivery()) == ()


def _recovered(*, first_bad: datetime | None, seen: bool) -> Rollout:
    found = sample(
        e.RegressionFound,
        release=2,
        weight_percent=5,
        reason="it fails",
        first_bad_request_at=first_bad,
        verdict=verdict() if seen else None,
    )
    back = sample(
        e.TrafficRestored, release=2, to_release=1, traffic_back_at=AT + timedelta(milliseconds=1_250), badness=None
    )
    opened = sample(e.ReleaseOpened, release=2, deliveries=())
    return rollouts.fold(STREAM, entries(STREAM, opened, found, back, seconds=1))


def test_a_recovery_counts_from_detection_and_from_the_first_request_that_failed() -> None:
    (back,) = recoveries(_recovered(first_bad=AT - timedelta(seconds=3), seen=True))
    assert back.detected_at == AT + timedelta(seconds=1)
    assert back.detection_to_rollback_ms == 250
    assert back.first_bad_to_rollback_ms == 4_250
    assert (back.release, back.weight_percent, back.canary_requests) == (2, 5, verdict().canary.requests)


def test_a_release_that_no_user_saw_has_no_first_bad_request() -> None:
    (back,) = recoveries(_recovered(first_bad=None, seen=False))
    assert back.first_bad_to_rollback_ms is None
    assert (back.canary_requests, back.canary_errors) == (0, 0)


def test_a_release_that_ended_well_is_no_recovery() -> None:
    good = rollouts.fold(STREAM, entries(STREAM, sample(e.ReleaseOpened), sample(e.ReleaseConfirmed)))
    assert recoveries(good) == ()
