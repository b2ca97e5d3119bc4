"""Every bound in one place, each with its default and where the number comes from."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from controller.domain.base import Fact
from controller.domain.ids import MicroUsd

Positive = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Money = Annotated[MicroUsd, Field(ge=1)]
EVERYBODY = 100  # percent of users
Percent = Annotated[int, Field(ge=1, le=EVERYBODY)]


class Bounds(Fact):
    ci_rounds: Positive = 2  # distinct heads submitted to shared CI per change; the benchmark of the field
    heads_per_delivery: Positive = 4  # rounds plus clean rebases
    fix_depth: Whole = 1  # a fix of a fix is a person's business
    spawn_depth: Whole = 2
    fan_out_per_root: Positive = 6
    step_seconds: Positive = 30  # hard time-out of a step, below the lease
    lease_seconds: Positive = 45
    step_attempts: Positive = 3  # in a row, then STUCK
    ci_seconds: Positive = 600
    session_seconds: Positive = 900
    session_turns: Positive = 60  # seen in the wild: 30-60 for review, 150 for large changes
    session_refusals: Positive = 8
    session_calls_per_minute: Positive = 600  # of tools; a model makes some ten, a program in a loop is stopped
    role_calls_per_minute: Positive = 6_000  # of all sessions of a role together
    nonsense_replies: Positive = 3  # in a row: no tool call where one is due, unknown stop, empty
    reply_max_tokens: Positive = 8_192
    model_stall_seconds: Positive = 90  # silence on the stream
    prompt_bytes: Positive = 400_000
    tool_result_bytes: Positive = 30_000
    consent_seconds: Positive = 7 * 24 * 3600
    wait_seconds: Positive = 24 * 3600  # for the queue, a rollout or another delivery; then a person is told
    max_behind: Whole = 20  # landings on main since the change's base; more, and it is rebased and tested again
    call_micro_usd: Money = MicroUsd(500_000)
    session_micro_usd: Money = MicroUsd(2_000_000)
    delivery_micro_usd: Money = MicroUsd(5_000_000)
    day_micro_usd: Money = MicroUsd(50_000_000)
    rollbacks_in_window: Positive = 5  # then forward verbs freeze for the repository
    rollback_window_seconds: Positive = 3600

    @model_validator(mode="after")
    def _steps_end_before_their_lease(self) -> Bounds:
        if self.step_seconds >= self.lease_seconds:
            raise ValueError(f"step_seconds {self.step_seconds} must be below lease_seconds {self.lease_seconds}")
        return self


class RolloutPlan(Fact):
    """How a release is exposed. Times in milliseconds."""

    steps_percent: tuple[Percent, ...] = (5, 25, 50, 100)  # the last is the promotion
    step_requests: Whole = 200  # canary requests at a step before it may pass
    step_dwell_ms: Whole = 60_000  # and at least this long, and
    step_doubt_milli: Whole = (
        1_000  # evidence against it no higher than this, in thousandths of a nat: else it waits where it is
    )
    step_limit_ms: Positive = 3_600_000  # without enough requests by then, a person is told; the weight stays
    window_ms: Positive = 10_000
    segment_ms: Positive = 60_000  # counts are sealed at least this often, and before every decision
    weight_ttl_ms: Positive = 150_000  # the platform takes the canary's weight back if nobody renews it within this
    warmup_ms: Whole = 60_000  # of a canary's first traffic, not judged: caches are cold and code is being compiled
    bake_ms: Whole = 60_000  # promoted, the former release standing by
    recovery_ms: Positive = 600_000  # after a roll-back, to see that users fare as before; then a person is told
    canary_instances: Positive = 1
    changes_per_release: Positive = (
        1  # merged changes that wait and may go out together; of a bad release one is sought
    )
    baseline_ms: Positive = 3_600_000  # of the confirmed release before a canary: noise and boundaries come from it
    ready_seconds: Positive = 60  # a service that is not healthy by then never becomes a canary

    @model_validator(mode="after")
    def _rises_to_everybody(self) -> RolloutPlan:
        steps = self.steps_percent
        if not steps or steps[-1] != EVERYBODY or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"steps_percent must rise and end at 100, found {list(steps)}")
        return self
