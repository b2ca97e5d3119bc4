"""From samples of counters to counts by arm and window, exactly.

A counter grew between two of its scrapes by the difference, or by its whole new value when it had restarted in
between. The growth belongs to the scrape that shows it: a window (start, end] counts what its scrapes saw for the first
time. Nothing is extrapolated, so windows side by side add up to what was served. A counter that begins counts from zero
where its instance is known to have been scraped before; where it is not, nobody can tell how long it has been counting,
and what it says first is left out and told. A histogram restarts as a whole: its count and its buckets are one object.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.adapters.otlp_counts import latency_bucket
from controller.adapters.prometheus_http import Series
from controller.domain.counts import MOST_ROUTES, ArmCounts, Histogram, InstanceMinute, RouteCounts, Totals
from controller.settings import PrometheusSection

Family = frozenset[tuple[str, str]]  # a counter, or the count and buckets of one histogram: labels they share
Member = tuple[str, float | None]  # metric and upper bound of a bucket. None: it is no bucket
Bounds = frozenset[float]
MINUTE_MS = 60_000
LONGEST_ROUTE = 200
NO_COUNT = "samples that are no counts"
UNSEEN = "requests before an instance's first scrape"
OTHER_BOUNDS = "latencies in other buckets than the baseline's"


def family_of(labels: Mapping[str, str]) -> Family:
    return frozenset((name, value) for name, value in labels.items() if name not in {"__name__", "le"})


@dataclass(frozen=True, slots=True)
class Growth:
    """What one counter or histogram grew by up to a scrape at `at_ms`."""

    at_ms: int
    version: str
    instance: str
    route: str
    failed: bool
    requests: float
    latency: Mapping[int, float]  # by scale-3 bucket


@dataclass
class Samples:
    """The samples of a stretch of time, and the last ones before it. `failing`: the families that count failures."""

    section: PrometheusSection
    before: list[Series]
    during: list[Series]
    failing: frozenset[Family]
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._last: dict[Family, dict[Member, float]] = defaultdict(dict)
        self._values: dict[Family, dict[int, dict[Member, float]]] = defaultdict(lambda: defaultdict(dict))
        for one in self.before:
            if (member := self._member(one)) is not None and _is_count(value := one.samples[-1][1]):
                self._last[family_of(one.labels)][member] = value
        for one in self.during:
            if (member := self._member(one)) is not None:
                self._take(self._values[family_of(one.labels)], member, one.samples)
        self._known = {self._instance(dict(family)) for family in self._last}

    def newcomers(self) -> dict[str, int]:
        """Instances without any sample before this stretch, and epoch ms of their first one in it."""
        first: dict[str, int] = {}
        for family, scrapes in self._values.items():
            instance = self._instance(dict(family))
            if instance not in self._known and scrapes:
                first[instance] = min([*scrapes, *([first[instance]] if instance in first else [])])
        return first

    def growth(self, scraped_before: frozenset[str]) -> Iterator[Growth]:
        """`scraped_before`: newcomers that were scraped before their first sample, though they counted nothing yet."""
        first = self.newcomers()
        for family, scrapes in self._values.items():
            labels = dict(family)
            instance = self._instance(labels)
            since = 0 if instance in self._known | scraped_before else first.get(instance, 0)
            for at_ms, grown in self._grown(family, scrapes, since):
                yield self._read(family, labels, at_ms, grown)

    def bounds(self, version: str) -> set[Bounds]:
        """Every set of bucket bounds that a version's histograms have."""
        found = set()
        for family in self._last.keys() | self._values.keys():
            if dict(family).get(self.section.version_label, "") == version:
                members = set(self._last[family]).union(*self._values[family].values())
                found.add(frozenset(bound for _, bound in members if bound is not None))
        return found - {frozenset()}

    def _member(self, one: Series) -> Member | None:
        """None: a bucket without a bound that is a number."""
        if one.labels.get("__name__") != self.section.latency:
            return one.labels.get("__name__", ""), None
        try:
            bound = float(one.labels["le"])
        except (KeyError, ValueError):
            bound = math.nan
        if math.isnan(bound):
            self.left_out[NO_COUNT] += len(one.samples)
            return None
        return self.section.latency, bound

    def _take(self, scrapes: dict[int, dict[Member, float]], member: Member, samples: list[tuple[int, float]]) -> None:
        for at_ms, value in samples:
            if _is_count(value):
                scrapes[at_ms][member] = value
            else:
                self.left_out[NO_COUNT] += 1

    def _instance(self, labels: Mapping[str, str]) -> str:
        return labels.get(self.section.instance_label, "")

    def _grown(
        self, family: Family, scrapes: Mapping[int, dict[Member, float]], since_ms: int
    ) -> Iterator[tuple[int, dict[Member, float]]]:
        """Scrapes that show growth, in order. What begins later than `since_ms` counts from zero."""
        last = dict(self._last.get(family, {}))
        for at_ms in sorted(scrapes):
            values = scrapes[at_ms]
            restarted = any(value < last.get(member, value) for member, value in values.items())
            grown: dict[Member, float] = {}
            for member, value in values.items():
                if member in last and not restarted:
                    grown[member] = value - last[member]
                elif member in last or at_ms > since_ms:
                    grown[member] = value
                elif member[0] == self.section.requests:
                    self.left_out[UNSEEN] += math.floor(value)
            last.update(values)
            if any(grown.values()):
                yield at_ms, grown

    def _read(self, family: Family, labels: Mapping[str, str], at_ms: int, grown: Mapping[Member, float]) -> Growth:
        section = self.section
        return Growth(
            at_ms=at_ms,
            version=labels.get(section.version_label, ""),
            instance=self._instance(labels),
            route=labels.get(section.route_label, "") if section.route_label else "",
            failed=family in self.failing,
            requests=grown.get((section.requests, None), 0.0),
            latency=latencies({bound: by for (_, bound), by in grown.items() if bound is not None}, section.unit_ms),
        )


def _is_count(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def latencies(up_to: Mapping[float, float], unit_ms: float) -> dict[int, float]:
    """Cumulative buckets by upper bound, as scale-3 buckets: what is in (low, high] goes where `high` is.

    What is slower than every bound goes one bucket beyond the highest.
    """
    found: dict[int, float] = {}
    below, index = 0.0, 0
    for bound in sorted(up_to):
        index = latency_bucket(bound * unit_ms) if math.isfinite(bound) else index + 1
        if up_to[bound] > below:
            found[index] = found.get(index, 0.0) + up_to[bound] - below
        below = max(below, up_to[bound])
    return found if len(up_to) > 1 else {}


def whole(parts: Iterable[float]) -> int:
    """Their sum as a count, half rounded up. Exact summation: a part of the parts is never more than the whole."""
    return math.floor(math.fsum(parts) + 0.5)


@dataclass(slots=True)
class Sums:
    """Growth of one arm in one window, or of one instance in one minute."""

    requests: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    latency: dict[int, list[float]] = field(default_factory=dict)
    routes: dict[str, Sums] = field(default_factory=dict)

    def add(self, one: Growth, *, of_route: bool = False) -> None:
        self.requests.append(one.requests)
        if one.failed:
            self.errors.append(one.requests)
        if of_route:
            return
        for bucket, by in one.latency.items():
            self.latency.setdefault(bucket, []).append(by)
        if 0 < len(one.route) <= LONGEST_ROUTE:
            self.routes.setdefault(one.route, Sums()).add(one, of_route=True)

    def histogram(self) -> Histogram:
        return Histogram.of({bucket: whole(parts) for bucket, parts in self.latency.items()})

    def arm(self, *, timed: bool = True) -> ArmCounts:
        latency = self.histogram() if timed else Histogram()
        return ArmCounts(requests=whole(self.requests), errors=whole(self.errors), latency=latency)

    def totals(self) -> Totals:
        return Totals(requests=whole(self.requests), errors=whole(self.errors))


def routes_of(canary: Sums, baseline: Sums) -> tuple[RouteCounts, ...]:
    """By name; of more than may be counted apart, those with the most requests of both arms."""
    none = Sums()
    found = [
        RouteCounts(
            route=name,
            canary=canary.routes.get(name, none).totals(),
            baseline=baseline.routes.get(name, none).totals(),
        )
        for name in canary.routes.keys() | baseline.routes.keys()
    ]
    busiest = sorted(found, key=lambda one: (-one.canary.requests - one.baseline.requests, one.route))[:MOST_ROUTES]
    return tuple(sorted(busiest, key=lambda one: one.route))


def minutes_of(grown: Iterable[Growth]) -> tuple[InstanceMinute, ...]:
    sums: dict[tuple[str, int], Sums] = {}
    for one in grown:
        sums.setdefault((one.instance, (one.at_ms - 1) // MINUTE_MS * MINUTE_MS), Sums()).add(one)
    return tuple(
        InstanceMinute(instance=instance, minute_ms=minute_ms, latency=found.histogram(), **found.totals().model_dump())
        for (instance, minute_ms), found in sorted(sums.items())
    )
