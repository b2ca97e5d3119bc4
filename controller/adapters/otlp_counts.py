"""Requests, errors and latencies by version, instance and second, and the closed windows that a judge reads.

A window is handed out once it has ended and late points have had `hold_ms` to arrive. From then on it never changes: a
point that falls into it is counted as late and dropped, because evidence that was looked at must not be rewritten.
Memory is bounded by seconds, instances and versions.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.adapters.otlp_groups import TraceCounts
from controller.domain.counts import (
    BUCKETS_PER_DOUBLING,
    ArmCounts,
    Histogram,
    InstanceMinute,
    TraceGroup,
    WindowCounts,
)
from controller.domain.ids import Commit
from controller.errors import Permanent
from controller.ports import Baseline

SECONDS_KEPT = 2 * 3600
SECOND_MS = 1000
MOST_INSTANCES = 64  # of a version
MOST_VERSIONS = 16  # of a service; the least recently heard of goes
MOST_WINDOWS = 720  # handed out at once; the rest comes with the next question
EXEMPLARS_KEPT = 20
LOWEST_BUCKET = -160  # 2^-20 ms
HIGHEST_BUCKET = 320  # 2^40 ms


def latency_bucket(latency_ms: float) -> int:
    """The scale-3 bucket whose (base^i, base^(i+1)] holds a latency."""
    return (
        max(LOWEST_BUCKET, math.ceil(math.log2(latency_ms) * BUCKETS_PER_DOUBLING) - 1)
        if latency_ms > 0
        else LOWEST_BUCKET
    )


@dataclass(slots=True)
class Tally:
    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = field(default_factory=dict)  # by scale-3 bucket

    def add(self, requests: int, errors: int, latency: Mapping[int, int]) -> None:
        self.requests += requests
        self.errors += errors
        mine = self.latency
        for bucket, count in latency.items():
            mine[bucket] = mine.get(bucket, 0) + count

    def arm(self) -> ArmCounts:
        return ArmCounts(requests=self.requests, errors=self.errors, latency=Histogram.of(self.latency))


@dataclass(slots=True)
class VersionCounts:
    instances: dict[str, dict[int, Tally]] = field(default_factory=dict)
    first_failure_ms: int | None = None  # None: nothing has failed
    failed_traces: deque[str] = field(default_factory=lambda: deque(maxlen=EXEMPLARS_KEPT))
    served_traces: deque[str] = field(default_factory=lambda: deque(maxlen=EXEMPLARS_KEPT))
    total: Tally = field(default_factory=Tally)

    def failed_at(self, at_ms: int) -> None:
        self.first_failure_ms = at_ms if self.first_failure_ms is None else min(self.first_failure_ms, at_ms)

    def second(self, instance: str, second: int) -> Tally:
        if instance not in self.instances and len(self.instances) >= MOST_INSTANCES:
            del self.instances[next(iter(self.instances))]
        seconds = self.instances.setdefault(instance, {})
        if second not in seconds:
            seconds[second] = Tally()
            if len(seconds) > SECONDS_KEPT:
                del seconds[next(iter(seconds))]
        return seconds[second]

    def between(self, from_s: int, to_s: int) -> Tally:
        found = Tally()
        for seconds in self.instances.values():
            for second in range(from_s, to_s):
                if tally := seconds.get(second):
                    found.add(tally.requests, tally.errors, tally.latency)
        return found


class ServiceCounts:
    """What one source has seen of one service."""

    def __init__(self, health_route: str = "") -> None:
        self.health_route = health_route  # asked for by machines: no user request; empty: there is none
        self.versions: OrderedDict[str, VersionCounts] = OrderedDict()
        self.closed_until_s = 0  # seconds before this one were handed out
        self.traced = TraceCounts()
        self.late = Counter[str]()  # points and requests that came too late, by "points" and "requests"

    def version(self, version: str) -> VersionCounts:
        found = self.versions.get(version)
        if found is None:
            found = self.versions[version] = VersionCounts()
            if len(self.versions) > MOST_VERSIONS:
                self.versions.popitem(last=False)
        return found

    def add(
        self, version: str, instance: str, at_ms: int, *, requests: int, errors: int, latency: Mapping[int, int]
    ) -> bool:
        """Whether it was counted; a point in a window that was handed out is late and is not."""
        counts = self.version(version)
        if errors:
            counts.failed_at(at_ms)
        second = at_ms // 1000
        if second < self.closed_until_s:
            self.late["points"] += 1
            self.late["requests"] += requests
            return False
        self.versions.move_to_end(version)
        counts.second(instance, second).add(requests, errors, latency)
        counts.total.add(requests, errors, {})
        return True

    def windows(
        self, canary: Commit, baseline: Commit, *, from_ms: int, width_ms: int, now_ms: int, hold_ms: int
    ) -> list[WindowCounts]:
        """The closed windows from `from_ms` on. Raises `Permanent` where none can be given without a gap."""
        if width_ms < SECOND_MS or width_ms % SECOND_MS or from_ms % width_ms:
            raise Permanent(
                f"windows of {width_ms} ms from {from_ms} ms cannot be cut from counts by the second",
                "Give a width in whole seconds and a start that is a multiple of it",
            )
        if from_ms < now_ms - SECONDS_KEPT * 1000:
            raise Permanent(
                f"counts are kept for {SECONDS_KEPT} s, and {from_ms} ms is longer ago", "Start the canary again"
            )
        closed = min(MOST_WINDOWS, max(0, (now_ms - hold_ms - from_ms) // width_ms))
        starts = range(from_ms, from_ms + closed * width_ms, width_ms)
        self.closed_until_s = max(self.closed_until_s, (from_ms + closed * width_ms) // 1000 if closed else 0)
        arms = self.versions.get(canary, VersionCounts()), self.versions.get(baseline, VersionCounts())
        return [_window(start, start + width_ms, *arms) for start in starts]

    def traces(self, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """Finished traces by what they went through."""
        return self.traced.between(from_ms, to_ms)

    def baseline(self, version: Commit, *, from_ms: int, to_ms: int, width_ms: int) -> Baseline:
        """Instances by minute and latency over [from_ms, to_ms), in whole seconds."""
        counts = self.versions.get(version, VersionCounts())
        from_s, to_s = max(from_ms // 1000, to_ms // 1000 - SECONDS_KEPT), to_ms // 1000
        whole = counts.between(from_s, to_s)
        minutes = [
            m for name, seconds in sorted(counts.instances.items()) for m in _minutes(name, seconds, from_s, to_s)
        ]
        return Baseline(
            instances=tuple(minutes), latency=Histogram.of(whole.latency), requests=whole.requests, errors=whole.errors
        )


def _window(start_ms: int, end_ms: int, canary: VersionCounts, baseline: VersionCounts) -> WindowCounts:
    seconds = start_ms // 1000, end_ms // 1000
    return WindowCounts(
        start_ms=start_ms,
        end_ms=end_ms,
        canary=canary.between(*seconds).arm(),
        baseline=baseline.between(*seconds).arm(),
    )


def _minutes(instance: str, seconds: Mapping[int, Tally], from_s: int, to_s: int) -> list[InstanceMinute]:
    minutes: dict[int, Tally] = {}
    for second, tally in seconds.items():
        if from_s <= second < to_s:
            minutes.setdefault(second // 60, Tally()).add(tally.requests, tally.errors, {})
    return [
        InstanceMinute(instance=instance, minute_ms=minute * 60_000, requests=tally.requests, errors=tally.errors)
        for minute, tally in sorted(minutes.items())
    ]
