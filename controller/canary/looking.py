"""One look at a canary, and what is written down of it: a sealed segment, or that it hurts users.

Every look seals what it saw before anything is decided on it. What only adds to the record, exemplars and the first
failure, keeps nobody from rolling back when it cannot be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from controller.canary.common import (
    current,
    draft,
    ground,
    ms,
    page,
    place,
    policy_of,
)
from controller.canary.court import pack, ready_of, segments_of
from controller.domain import events as e
from controller.domain.decision import decide
from controller.domain.entry import Draft
from controller.domain.ids import Digest
from controller.domain.rollout import Release, Rollout
from controller.domain.verdict import Exemplars, Verdict
from controller.domain.verdict import Outcome as Says
from controller.errors import Unavailable
from controller.ports import Contradicted, LookRequest, PlatformStatus, Ports, Seen, ServiceConfig


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a canary found."""

    seen: Seen
    counts: Digest | None  # None: no new window has closed
    policy: Digest  # of the parameters that it was judged by

    @property
    def verdict(self) -> Verdict:
        return self.seen.verdict

    def sealed(self, r: Rollout, ports: Ports) -> list[Draft]:
        """The new windows as a segment of the record. Empty: nothing new was seen."""
        if self.counts is None:
            return []
        return [draft(r, _observed(r, ports, self.seen, self.counts).model_copy(update={"policy": self.policy}))]


async def look_at(r: Rollout, ports: Ports, service: ServiceConfig) -> Look:
    try:
        seen = await ports.court.look(_request(r, service))
    except Contradicted as error:
        await page(r, ports, "judge-contradicted", f"release {current(r).number} of {service.name}: {error}")
        raise
    counts = await ports.blobs.put(pack(seen.windows)) if seen.windows else None
    return Look(seen, counts, await policy_of(r, ports))


def _request(r: Rollout, service: ServiceConfig) -> LookRequest:
    width, release, start = service.plan.window_ms, current(r), step_start_ms(r, service)
    sealed_to = r.segments[-1].to_ms if r.segments else 0
    return LookRequest(
        service=service.name,
        canary=release.commit,
        baseline=r.confirmed.version if r.confirmed else release.commit,
        from_ms=-(-max(start, sealed_to) // width) * width,
        width_ms=width,
        config=service.judge,
        ready=ready_of(r),
        segments=segments_of(r),
        weight_percent=r.weight_percent,
        step_start_ms=start,
    )


def step_start_ms(r: Rollout, service: ServiceConfig) -> int:
    """What is before this is not judged: another step's traffic, and the canary's warm-up after the first."""
    if r.step_started_at is None:
        return 0
    warmup = service.plan.warmup_ms if r.step == 0 else 0
    return ms(r.step_started_at) + warmup


def _observed(r: Rollout, ports: Ports, seen: Seen, counts: Digest) -> e.Observed:
    (_, service), windows = place(r, ports), seen.windows
    return e.Observed(
        release=current(r).number,
        step=r.step,
        weight_percent=r.weight_percent,
        step_start_ms=step_start_ms(r, service),
        segment=len(r.segments) + 1,
        windows=len(windows),
        from_ms=windows[0].start_ms,
        to_ms=windows[-1].end_ms,
        counts=counts,
        canary_requests=sum(w.canary.requests for w in windows),
        canary_errors=sum(w.canary.errors for w in windows),
        baseline_requests=sum(w.baseline.requests for w in windows),
        baseline_errors=sum(w.baseline.errors for w in windows),
        verdict=seen.verdict,
        source=seen.source,
        label=seen.label,
        excluded=seen.excluded,
    )


async def went_down(
    r: Rollout, ports: Ports, service: ServiceConfig, reason: str, status: PlatformStatus
) -> list[Draft]:
    """With a last look, if there is anything to compare it with and somebody who looks: it is taken back either way."""
    try:
        look = await look_at(r, ports, service) if r.confirmed is not None else None
    except Unavailable:
        look = None
    sealed = look.sealed(r, ports) if look else []
    return [*sealed, await _down(r, ports, look, reason, status)]


async def _down(r: Rollout, ports: Ports, look: Look | None, reason: str, status: PlatformStatus) -> Draft:
    """Its last words go sealed. `look=None`: there was nothing to compare it with, or nobody who looked."""
    said = await ports.seals.seal(status.canary_reason or "its health check fails")
    return draft(r, (await regression(r, ports, look, reason)).model_copy(update={"detail": said}))


async def regression(r: Rollout, ports: Ports, look: Look | None, reason: str) -> e.RegressionFound:
    release, (_, service) = current(r), place(r, ports)
    first_ms, exemplars = await _shown(r, ports, release, service)
    on = await ground(r, ports, look.counts if look else None, e.Observed)
    return e.RegressionFound(
        release=release.number,
        step=r.step,
        weight_percent=r.weight_percent,
        reason=reason[:600],
        first_bad_request_at=datetime.fromtimestamp(first_ms / 1000, UTC) if first_ms is not None else None,
        verdict=look.verdict if look else None,
        exemplars=exemplars,
        decision=decide(
            f"Is release {release.number} hurting users?",
            "roll back",
            over={
                "hold": "the evidence has crossed its line, or it is down",
                "promote": "it has been shown to be worse",
            },
            because=(on.claim(reason),),
            would_change="fewer bad requests than the line allows at this alpha",
            fallback="all traffic to the confirmed release",
            rules=(_rule(look), "rollout/never-wait-on-doubt"),
            policy=on.policy,
        ),
    )


async def _shown(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> tuple[int | None, Exemplars]:
    """When a request first failed (None: none did, or nobody can say), and traces to look at."""
    baseline = r.confirmed.version if r.confirmed else release.commit
    try:
        first_ms = await ports.telemetry.first_failure_ms(service.name, release.commit)
        return first_ms, await ports.telemetry.exemplars(service.name, canary=release.commit, baseline=baseline)
    except Unavailable:
        return None, Exemplars()


def _rule(look: Look | None) -> str:
    """The judge's own where it says so; else it went down, whatever the counts say."""
    judged = look is not None and look.verdict.may_act_alone and look.verdict.outcome is not Says.PROMOTE
    return look.verdict.rule.value if look is not None and judged else "canary/down"
