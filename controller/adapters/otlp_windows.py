"""Closed windows and baselines, cut from counts by the second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from controller.adapters.otlp_counts import (
    OTHERS,
    SECONDS_KEPT,
    Levels,
    Seconds,
    ServiceCounts,
    Tally,
    VersionCounts,
    comparable,
)
from controller.adapters.otlp_routes import busiest, route_counts
from controller.domain.counts import MOST_GAUGES, GaugeMeans, Histogram, InstanceMinute, WindowCounts
from controller.domain.ids import Commit
from controller.errors import Permanent
from controller.ports import Baseline

SECOND_MS = 1000
MOST_WINDOWS = 720  # handed out at once; the rest comes with the next question
BASELINE_ROUTES = 16
NOBODY = VersionCounts()


@dataclass(frozen=True, slots=True)
class Cut:
    """What windows of one comparison are cut from."""

    counts: ServiceCounts
    arms: tuple[VersionCounts, VersionCounts]  # canary, baseline
    chosen: dict[str, int]  # routes, and the second from which on each is shown
    told_until_s: int  # what is before was handed out before


def closed_windows(
    counts: ServiceCounts,
    canary: Commit,
    baseline: Commit,
    *,
    from_ms: int,
    width_ms: int,
    now_ms: int,
    hold_ms: int,
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
    before_s = counts.closed_until_s
    counts.closed_until_s = max(before_s, (from_ms + closed * width_ms) // 1000 if closed else 0)
    arms = counts.versions.get(canary, NOBODY), counts.versions.get(baseline, NOBODY)
    chosen = counts.routes.chosen((canary, baseline), arms[1].routes, max(before_s, from_ms // 1000))
    starts = range(from_ms, from_ms + closed * width_ms, width_ms)
    cut = Cut(counts, arms, chosen, before_s)
    return [_window(cut, start, start + width_ms) for start in starts]


def _window(cut: Cut, start_ms: int, end_ms: int) -> WindowCounts:
    seconds, arms, counts = (start_ms // 1000, end_ms // 1000), cut.arms, cut.counts
    canary, baseline = (arm.between(*seconds) for arm in arms)
    timed = comparable(canary.layouts | baseline.layouts)
    if not timed and seconds[0] >= cut.told_until_s:
        lost = sum(canary.latency.values()) + sum(baseline.latency.values())
        counts.excluded["latencies in buckets that differ between the versions"] += lost
    return WindowCounts(
        start_ms=start_ms,
        end_ms=end_ms,
        canary=canary.arm(timed=timed),
        baseline=baseline.arm(timed=timed),
        routes=route_counts(cut.chosen, arms[0].routes, arms[1].routes, *seconds),
        gauges=_gauges(arms[0].gauges, arms[1].gauges, *seconds),
        probes=canary.probes + baseline.probes,
    )


def _gauges(
    canary: Mapping[str, Levels], baseline: Mapping[str, Levels], from_s: int, to_s: int
) -> tuple[GaugeMeans, ...]:
    found = []
    for name in sorted({*canary, *baseline})[:MOST_GAUGES]:
        means = _mean(canary.get(name, {}), from_s, to_s), _mean(baseline.get(name, {}), from_s, to_s)
        if means != (None, None):
            found.append(GaugeMeans(name=name, canary_milli=means[0], baseline_milli=means[1]))
    return tuple(found)


def _mean(levels: Levels, from_s: int, to_s: int) -> int | None:
    """Over instances; of each the sum over its series of the last value in [from_s, to_s). None: no value."""
    sums: Counter[str] = Counter()
    told: set[str] = set()
    for (instance, _), seconds in levels.items():
        last = next((seconds[second] for second in range(to_s - 1, from_s - 1, -1) if second in seconds), None)
        if last is not None:
            sums[instance] += last
            told.add(instance)
    return round(sum(sums.values()) / len(told)) if told else None


def baseline_of(counts: ServiceCounts, version: Commit, *, from_ms: int, to_ms: int) -> Baseline:
    """Instances by minute, latency, routes and gauges over [from_ms, to_ms), in whole seconds."""
    known = counts.versions.get(version, NOBODY)
    from_s, to_s = max(from_ms // 1000, to_ms // 1000 - SECONDS_KEPT), to_ms // 1000
    whole = known.between(from_s, to_s)
    timed = comparable(whole.layouts)
    minutes = [
        minute
        for name, seconds in sorted(known.instances.items())
        if name != OTHERS
        for minute in _minutes(name, seconds, from_s, to_s, timed=timed)
    ]
    return Baseline(
        instances=tuple(minutes),
        latency=Histogram.of(whole.latency) if timed else Histogram(),
        requests=whole.requests,
        errors=whole.errors,
        routes=tuple(busiest(here for s, here in known.routes.items() if from_s <= s < to_s)[:BASELINE_ROUTES]),
        gauges=tuple(sorted(name for name, levels in known.gauges.items() if _mean(levels, from_s, to_s) is not None)),
    )


def _minutes(instance: str, seconds: Seconds, from_s: int, to_s: int, *, timed: bool) -> list[InstanceMinute]:
    minutes: dict[int, Tally] = {}
    for second, tally in seconds.items():
        if from_s <= second < to_s:
            minutes.setdefault(second // 60, Tally()).merge(tally)
    return [
        InstanceMinute(
            instance=instance,
            minute_ms=minute * 60_000,
            requests=tally.requests,
            errors=tally.errors,
            latency=Histogram.of(tally.latency) if timed else Histogram(),
        )
        for minute, tally in sorted(minutes.items())
    ]


def silences(
    counts: ServiceCounts, callers: ServiceCounts, version: Commit, *, from_ms: int, to_ms: int, width_ms: int
) -> tuple[int, int]:
    """Whole windows in which callers asked the version, and how many of these it reported nothing of."""
    own, seen = (source.versions.get(version, NOBODY) for source in (counts, callers))
    told, asked = (_windows_with_requests(known, width_ms) for known in (own, seen))
    first, last = -(-from_ms // width_ms), to_ms // width_ms
    within = {window for window in asked if first <= window < last}
    return len(within), len(within - told)


def _windows_with_requests(known: VersionCounts, width_ms: int) -> set[int]:
    return {
        second * SECOND_MS // width_ms
        for seconds in known.instances.values()
        for second, tally in seconds.items()
        if tally.requests
    }
