"""Requests, errors and latencies by version, instance and second: what closed windows are cut from.

A window is handed out once it has ended and late points have had their time to arrive. From then on it never changes: a
point that falls into it is counted as late and dropped, because evidence that was looked at must not be rewritten.
Memory is bounded by seconds, instances, routes, gauges and versions, and what a bound leaves out is counted by reason.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.adapters.otlp_groups import TraceCounts
from controller.adapters.otlp_routes import RouteSeconds, ServiceRoutes
from controller.domain.counts import BUCKETS_PER_DOUBLING, ArmCounts, Histogram, TraceGroup

SECONDS_KEPT = 2 * 3600
MOST_INSTANCES = 64  # of a version; of those beyond, the longest silent one is counted in OTHERS
MOST_VERSIONS = 16  # of a service; the least recently heard of goes
MOST_LEVELS = 256  # series of a version's gauges
MOST_LAYOUTS = 16
EXEMPLARS_KEPT = 20
SLOW_KEPT = 5
LOWEST_BUCKET = -160  # 2^-20 ms
HIGHEST_BUCKET = 320  # 2^40 ms
OTHERS = "others"  # no instance: what is left of those that were too many

EXPONENTIAL = "exponential"
UNTIMED = ""
Layout = str | tuple[int, ...]  # EXPONENTIAL, UNTIMED, or the buckets that explicit bounds fall into
EXPONENTIAL_BIT = 1
UNCOMPARABLE_BIT = 1 << MOST_LAYOUTS


def latency_bucket(latency_ms: float) -> int:
    """The scale-3 bucket whose (base^i, base^(i+1)] holds a latency."""
    return (
        max(LOWEST_BUCKET, math.ceil(math.log2(latency_ms) * BUCKETS_PER_DOUBLING) - 1)
        if latency_ms > 0
        else LOWEST_BUCKET
    )


def comparable(layouts: int) -> bool:
    """Whether histograms of these layouts, one bit each, may be added up and compared."""
    return not layouts & UNCOMPARABLE_BIT and layouts & (layouts - 1) == 0


@dataclass(slots=True)
class Tally:
    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = field(default_factory=dict)  # by scale-3 bucket
    layouts: int = 0  # of the histograms in `latency`, a bit each
    probes: int = 0  # of the requests

    def add(self, requests: int, errors: int, latency: Mapping[int, int], layouts: int = EXPONENTIAL_BIT) -> None:
        self.requests += requests
        self.errors += errors
        if not latency:
            return
        self.layouts |= layouts
        mine = self.latency
        for bucket, count in latency.items():
            if bucket in mine:
                mine[bucket] += count
            else:
                mine[bucket] = count

    def merge(self, other: Tally) -> None:
        self.add(other.requests, other.errors, other.latency, other.layouts)
        self.probes += other.probes

    def arm(self, *, timed: bool = True) -> ArmCounts:
        latency = Histogram.of(self.latency) if timed else Histogram()
        return ArmCounts(requests=self.requests, errors=self.errors, latency=latency)


Seconds = dict[int, Tally]
Levels = dict[tuple[str, bytes], dict[int, int]]  # by instance and attributes: the last value of a second, in 1/1000


@dataclass(slots=True)
class VersionCounts:
    instances: dict[str, Seconds] = field(default_factory=dict)
    routes: RouteSeconds = field(default_factory=dict)
    gauges: dict[str, Levels] = field(default_factory=dict)
    first_failure_ms: int | None = None  # None: nothing has failed
    failed_traces: deque[str] = field(default_factory=lambda: deque(maxlen=EXEMPLARS_KEPT))
    served_traces: deque[str] = field(default_factory=lambda: deque(maxlen=EXEMPLARS_KEPT))
    slow_traces: list[tuple[float, str]] = field(default_factory=list)  # the slowest, by milliseconds
    total: Tally = field(default_factory=Tally)

    def failed_at(self, at_ms: int) -> None:
        self.first_failure_ms = at_ms if self.first_failure_ms is None else min(self.first_failure_ms, at_ms)

    def slow(self, latency_ms: float, trace: str) -> None:
        kept = self.slow_traces
        if (len(kept) < SLOW_KEPT or latency_ms > kept[0][0]) and all(trace != known for _, known in kept):
            insort(kept, (latency_ms, trace))
            del kept[:-SLOW_KEPT]

    def second(self, instance: str, second: int) -> Tally:
        seconds = self.instances.get(instance)
        if seconds is None:
            seconds = self.instances[instance] = {}
        found = seconds.get(second)
        if found is None:
            found = seconds[second] = Tally()
            drop_oldest(seconds, SECONDS_KEPT)
        return found

    def fold_one(self) -> None:
        """The longest silent instance becomes part of OTHERS: its requests stay counted."""
        known = (name for name in self.instances if name != OTHERS)
        silent = min(known, key=lambda name: next(reversed(self.instances[name]), 0))
        for second, tally in self.instances.pop(silent).items():
            self.second(OTHERS, second).merge(tally)

    def between(self, from_s: int, to_s: int) -> Tally:
        found = Tally()
        for seconds in self.instances.values():
            for second in range(from_s, to_s):
                if tally := seconds.get(second):
                    found.merge(tally)
        return found


class ServiceCounts:
    """What one source has seen of one service."""

    def __init__(self, health_route: str = "", gauges: tuple[str, ...] = ()) -> None:
        self.health_route = health_route  # asked for by machines: no user request; empty: there is none
        self.gauges = gauges  # names of the metrics that are kept as levels
        self.versions: OrderedDict[str, VersionCounts] = OrderedDict()
        self.routes = ServiceRoutes()
        self.traced = TraceCounts()
        self.closed_until_s = 0  # seconds before this one were handed out
        self.first_s: int | None = None  # the second of the first request that was counted. None: there was none
        self.excluded = Counter[str]()  # what was received and not counted, by reason
        self._layouts: dict[Layout, int] = {UNTIMED: 0, EXPONENTIAL: EXPONENTIAL_BIT}

    def version(self, version: str) -> VersionCounts:
        found = self.versions.get(version)
        if found is None:
            found = self.versions[version] = VersionCounts()
            if len(self.versions) > MOST_VERSIONS:
                self.versions.popitem(last=False)
                self.excluded["versions forgotten, too many at once"] += 1
        return found

    def layout_bit(self, layout: Layout) -> int:
        found = self._layouts.get(layout)
        if found is None:
            number = len(self._layouts) - 1
            found = 1 << number if number < MOST_LAYOUTS else UNCOMPARABLE_BIT
            if number < MOST_LAYOUTS:
                self._layouts[layout] = found
        return found

    def add(
        self,
        version: str,
        instance: str,
        at_ms: int,
        *,
        requests: int,
        errors: int,
        latency: Mapping[int, int],
        layouts: int = EXPONENTIAL_BIT,
        route: str = "",
        probes: int = 0,
    ) -> bool:
        """Whether it was counted; a point in a window that was handed out is late and is not."""
        counts = self.version(version)
        if errors:
            counts.failed_at(at_ms)
        second = at_ms // 1000
        if second < self.closed_until_s:
            self.excluded["late points"] += 1
            self.excluded["late requests"] += requests
            return False
        if instance not in counts.instances and len(counts.instances) >= MOST_INSTANCES:
            counts.fold_one()
            self.excluded["instances no longer told apart"] += 1
        self.versions.move_to_end(version)
        tally = counts.second(instance, second)
        tally.add(requests, errors, latency, layouts)
        tally.probes += probes
        counts.total.requests += requests
        counts.total.errors += errors
        if self.first_s is None or second < self.first_s:
            self.first_s = second
        if route and not self.routes.add(counts.routes, route, second, requests, errors):
            self.excluded["requests of routes beyond those counted apart"] += requests
        return True

    def level(self, version: str, instance: str, name: str, *, attributes: bytes, at_ms: int, milli: int) -> bool:
        """A gauge's value, of one of `gauges`. Whether it was kept."""
        second = at_ms // 1000
        if second < self.closed_until_s:
            self.excluded["late points"] += 1
            return False
        levels = self.version(version).gauges.setdefault(name, {})
        series = levels.get((instance, attributes))
        if series is None:
            if len(levels) >= MOST_LEVELS:
                del levels[next(iter(levels))]
                self.excluded["gauge series forgotten, too many at once"] += 1
            series = levels[instance, attributes] = {}
        series[second] = milli
        drop_oldest(series, SECONDS_KEPT)
        return True

    def traces(self, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """Finished traces by what they went through."""
        return self.traced.between(from_ms, to_ms)


def drop_oldest(seconds: dict[int, Tally] | dict[int, int], most: int) -> None:
    if len(seconds) > most:
        del seconds[next(iter(seconds))]
