"""What a canary judge sees: counts by arm and window, all of them integers that fit in a log entry.

Two arms, the canary and the confirmed release beside it, over the same window. The service's own report is the main
view; its callers' report of the same requests is another, where there is one. Durations are exponential histograms;
what has no counts (memory, queue lengths) is a gauge, a mean in thousandths of its unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from controller.domain.base import Fact

Count = Annotated[int, Field(ge=0, le=10**12)]
EpochMs = Annotated[int, Field(ge=0, le=10**14)]
BucketIndex = Annotated[int, Field(ge=-1024, le=1024)]  # 2^-128 ms to 2^128 ms at scale 3
Level = Annotated[int, Field(ge=-(10**18), le=10**18)]
Name = Annotated[str, Field(min_length=1, max_length=200)]

SCALE = 3  # OpenTelemetry exponential histogram scale: base 2^(1/8), buckets 9.05 % wide
BUCKETS_PER_DOUBLING = 2**SCALE
MOST_ROUTES = 32  # of a service that are counted apart; the rest is counted in the whole only
MOST_GAUGES = 16


class Histogram(Fact):
    """Sparse exponential histogram at scale 3: bucket `i` counts durations in (base^i, base^(i+1)] milliseconds.

    `buckets` holds (index, count) pairs, sorted, each index once, counts positive; empty means that nothing was timed.
    """

    buckets: tuple[tuple[BucketIndex, Annotated[int, Field(gt=0, le=10**12)]], ...] = Field(default=(), max_length=2048)

    @model_validator(mode="after")
    def _sorted_once(self) -> Histogram:
        indices = [index for index, _ in self.buckets]
        if indices != sorted(set(indices)):
            raise ValueError("histogram buckets must be sorted by index, each index once: build it with Histogram.of()")
        return self

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> Histogram:
        return cls(buckets=tuple(sorted((index, count) for index, count in counts.items() if count)))

    @property
    def total(self) -> int:
        return sum(count for _, count in self.buckets)

    def slower_than(self, index: int) -> int:
        """How many durations exceed base^index milliseconds, the lower edge of bucket `index`."""
        return sum(count for bucket, count in self.buckets if bucket >= index)

    def merged_with(self, other: Histogram) -> Histogram:
        counts = Counter(dict(self.buckets))
        counts.update(dict(other.buckets))
        return Histogram.of(counts)

    def downscaled(self, halvings: int) -> Histogram:
        """Read a histogram of scale 3 + `halvings` at scale 3: neighbours merge in pairs, exactly."""
        counts: Counter[int] = Counter()
        for index, count in self.buckets:
            counts[index >> halvings] += count
        return Histogram.of(counts)


class _Erring(Fact):
    requests: Count
    errors: Count

    @model_validator(mode="after")
    def _errors_are_requests(self) -> _Erring:
        if self.errors > self.requests:
            raise ValueError(f"errors {self.errors} exceed requests {self.requests}: count each logical request once")
        return self


class Totals(_Erring):
    """Requests of one arm since the rollout began, and how many of them failed."""


class ArmCounts(_Erring):
    """One arm in one window. `latency` may time fewer requests than were counted, or none."""

    latency: Histogram = Histogram()

    def merged_with(self, other: ArmCounts) -> ArmCounts:
        return ArmCounts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=self.latency.merged_with(other.latency),
        )


class CallerCounts(Fact):
    """The same window as those saw it who called: their client spans, or the proxy in front."""

    canary: ArmCounts
    baseline: ArmCounts


class RouteCounts(Fact):
    """One route of the service's own report in one window; a part of what the window's arms count."""

    route: Name
    canary: Totals
    baseline: Totals


class GaugeMeans(Fact):
    """A gauge in one window: the mean over an arm's instances, in thousandths of its unit. None: nobody reported it."""

    name: Name
    canary_milli: Level | None
    baseline_milli: Level | None


class WindowCounts(Fact):
    """Canary and concurrent baseline over the same [start_ms, end_ms) of epoch milliseconds."""

    start_ms: EpochMs
    end_ms: EpochMs
    canary: ArmCounts
    baseline: ArmCounts
    callers: CallerCounts | None = None  # None: nobody tells what the callers saw
    routes: tuple[RouteCounts, ...] = Field(default=(), max_length=MOST_ROUTES)  # by name, each once
    gauges: tuple[GaugeMeans, ...] = Field(default=(), max_length=MOST_GAUGES)  # by name, each once
    probes: Count = 0  # how many of both arms' requests were Flyball's own, sent for want of users

    @model_validator(mode="after")
    def _has_length(self) -> WindowCounts:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"window ends at {self.end_ms}, not after its start {self.start_ms}")
        return self


class InstanceMinute(_Erring):
    """One baseline instance over the minute that starts at `minute_ms`; what dispersion is learnt from."""

    instance: str
    minute_ms: EpochMs
    latency: Histogram = Histogram()


class TraceGroup(Fact):
    """Finished traces that are alike: what they went through, and where the judged service's request failed."""

    through: tuple[Name, ...] = Field(max_length=64)  # every served span as "service@version", sorted, each once
    route: str  # of the judged service's own span; empty: it names none
    origin: Name | None = None  # "service@version" that broke, or "peer@unknown". None: the request was served
    files: tuple[Name, ...] = Field(
        default=(), max_length=32
    )  # of the judged service on the failing stack, innermost first
    traces: Annotated[int, Field(ge=1, le=10**12)]
