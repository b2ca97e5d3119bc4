"""Every bound in one place, each with its default and where the number comes from."""

from __future__ import annotations

from controller.domain.base import Fact
from controller.domain.ids import MicroUsd


class Bounds(Fact):
    ci_rounds: int = 2  # distinct heads submitted to shared CI per change; the benchmark of the field
    heads_per_delivery: int = 4  # rounds plus clean rebases
    fix_depth: int = 1  # a fix of a fix is a person's business
    spawn_depth: int = 2
    fan_out_per_root: int = 6
    step_seconds: int = 30  # hard time-out of a step, below the lease
    lease_seconds: int = 45
    step_attempts: int = 3  # in a row, then STUCK
    ci_seconds: int = 600
    session_seconds: int = 900
    session_turns: int = 60  # seen in the wild: 30-60 for review, 150 for large changes
    session_refusals: int = 8
    nonsense_replies: int = 3  # in a row: no tool call where one is due, unknown stop, empty
    reply_max_tokens: int = 8_192
    model_stall_seconds: int = 90  # silence on the stream
    prompt_bytes: int = 400_000
    tool_result_bytes: int = 30_000
    consent_seconds: int = 7 * 24 * 3600
    wait_seconds: int = 24 * 3600  # for the queue, a rollout or another delivery; then a person is told
    max_behind: int = 20  # landings on main since the change's base; more, and it is rebased and tested again
    call_micro_usd: MicroUsd = MicroUsd(500_000)
    session_micro_usd: MicroUsd = MicroUsd(2_000_000)
    delivery_micro_usd: MicroUsd = MicroUsd(5_000_000)
    day_micro_usd: MicroUsd = MicroUsd(50_000_000)
    rollbacks_in_window: int = 5  # then forward verbs freeze for the repository
    rollback_window_seconds: int = 3600


class RolloutPlan(Fact):
    """How a release is exposed. Times in milliseconds."""

    steps_percent: tuple[int, ...] = (5, 25, 50, 100)
    step_requests: int = 200  # canary requests at a step before it may pass
    step_dwell_ms: int = 60_000  # and at least this long
    step_limit_ms: int = 3_600_000  # and at most this long without enough requests: a person is told, the weight stays
    window_ms: int = 10_000
    segment_ms: int = 60_000  # counts are sealed at least this often, and before every decision
    weight_ttl_ms: int = 150_000  # the platform takes the canary's weight back if nobody renews it within this
    warmup_ms: int = 60_000  # of a canary's first traffic, not judged: caches are cold and code is being compiled
    bake_ms: int = 60_000  # promoted, the former release standing by
    canary_instances: int = 1
    baseline_ms: int = 10_000  # baseline looked at before a canary starts when there is no history
    ready_seconds: int = 60  # a service that is not healthy by then never becomes a canary
