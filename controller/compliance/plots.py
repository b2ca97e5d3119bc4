"""What a verdict rests on, drawn: evidence against its line, both arms' error rates, both arms' latency.

Plots are views of counts that lie elsewhere and prove nothing. Pure: plain values in, SVG out. However many windows
there are, about sixty points are drawn: neighbours are pooled, and the picture says how many stand for one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from controller.compliance.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TEXT,
    TOP,
    Chart,
    Look,
    Place,
    Scale,
    Sign,
    across,
    band,
    line,
    marker,
    path,
    ring,
    staggered,
    text,
    ticks,
    upwards,
    width_of,
)

MOST_POINTS = 60  # drawn of an arm
MOST_BUCKETS = 120  # of latency; more are pooled
WILSON_Z = 1.959964  # of 95 %, both sides
LOG_10_MICRO = 1e6 * math.log(10)
BUCKETS_PER_DOUBLING = 8
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
Buckets = Sequence[tuple[int, int]]  # (index, count) of an exponential histogram at scale 3, in milliseconds


class Arm(NamedTuple):
    bad: int
    total: int


class Window(NamedTuple):
    """One window of counts, and the combined evidence after it."""

    start_ms: int
    end_ms: int
    weight_percent: int
    canary: Arm
    baseline: Arm
    log_e_micro: int


class Boundary(NamedTuple):
    quantile_milli: int
    edge: int  # base^edge ms


@dataclass(frozen=True, slots=True)
class Judging:
    """Plain values of one verdict. `windows` has at least one."""

    ident: str  # letters, digits and hyphens; no other on the same page
    windows: Sequence[Window]
    threshold_micro: int  # at which the canary is rolled back
    paging_micro: int
    first_crossing: int | None  # 0-based window. None: never
    canary_ms: Buckets
    baseline_ms: Buckets
    boundaries: Sequence[Boundary]  # empty: latency is not judged
    tolerance_buckets: int


def plots(judging: Judging) -> Mapping[str, str]:
    """By name: `evidence`, `errors`, `latency`."""
    return {"evidence": evidence_plot(judging), "errors": errors_plot(judging), "latency": latency_plot(judging)}


# --- evidence ---------------------------------------------------------------------------------------------------------


def evidence_plot(judging: Judging) -> str:
    """The combined e-value after every window, as a power of ten, against the lines at which something happens."""
    heights = [one.log_e_micro / LOG_10_MICRO for one in judging.windows]
    limit, paging = judging.threshold_micro / LOG_10_MICRO, judging.paging_micro / LOG_10_MICRO
    low, high = min(-0.5, *heights), max(limit, *heights)
    x, y = across(0, len(heights)), upwards(low, high + 0.12 * (high - low))
    legend: list[tuple[Sign, str]] = [("canary curve", "E after a window"), ("limit", "roll back"), ("paging", "page")]
    said = f"E ends at {_power(heights[-1])} after {len(heights)} windows; the line is at {_power(limit)}. "
    chart = Chart(f"{judging.ident}-evidence", "Evidence E that the canary is worse", said, legend, _span(judging))
    chart.marks += _weights(judging, x)
    chart.axes(_window_ticks(judging, x), [(y(n), f"10{_raised(n)}") for n in ticks(y.low, y.high) if n == int(n)])
    chart.marks.append(line((LEFT, y(paging)), (RIGHT, y(paging)), "paging"))
    chart.marks.append(line((LEFT, y(limit)), (RIGHT, y(limit)), "limit"))
    kept = [(x(n + 0.5), y(heights[n])) for n in _telling(heights, judging.first_crossing)]
    chart.marks.append(path(kept, "canary curve"))
    chart.marks += [marker(place, "canary") for place in (kept if len(kept) <= MOST_POINTS else kept[-1:])]
    room = y(paging) - y(limit) > TEXT + 3
    chart.marks.append(text(f"a person is told, {_power(paging)}", (LEFT + 4, y(paging) + (-4 if room else TEXT + 1))))
    chart.marks.append(text(f"roll back, {_power(limit)}", (LEFT + 4, y(limit) - 4)))
    chart.marks += _crossing(judging, x, y, heights)
    return chart.svg()


def _crossing(judging: Judging, x: Scale, y: Scale, heights: Sequence[float]) -> Iterator[str]:
    at = judging.first_crossing
    if at is None or at >= len(heights):
        return
    place = x(at + 0.5), y(heights[at])
    yield line(place, (place[0], BOTTOM), "edge")
    yield ring(place)
    words = f"crossed in window {at}"
    fits = place[0] + 8 + width_of(words) <= RIGHT
    yield text(words, (place[0] + (8 if fits else -8), BOTTOM - 6), "start" if fits else "end", "crossing")


def _telling(heights: Sequence[float], crossing: int | None) -> list[int]:
    """Of each group of windows the lowest, the highest and the last, and where the line was crossed."""
    size = -(-len(heights) // MOST_POINTS)
    found = {crossing} if crossing is not None and crossing < len(heights) else set()
    for start in range(0, len(heights), size):
        group = range(start, min(start + size, len(heights)))
        found |= {min(group, key=heights.__getitem__), max(group, key=heights.__getitem__), group[-1]}
    return sorted(found)


def _weights(judging: Judging, x: Scale) -> Iterator[str]:
    """How much of the traffic the canary had, as shade and in words."""
    start = 0
    for weight, group in groupby(one.weight_percent for one in judging.windows):
        end = start + len([*group])
        yield band(x(start), x(end), 0.03 + 0.0022 * weight)
        room = x(end) - x(start) - 4
        words = next((one for one in (f"{weight} % of traffic", f"{weight} %") if width_of(one) <= room), "")
        if words:
            yield text(words, ((x(start) + x(end)) / 2, TOP - 5), "middle", "share")
        start = end


# --- error rates ------------------------------------------------------------------------------------------------------


def errors_plot(judging: Judging) -> str:
    """Failed requests of each arm, in percent, with Wilson's interval."""
    size = -(-len(judging.windows) // MOST_POINTS)
    pooled = [_pooled(judging.windows[start : start + size]) for start in range(0, len(judging.windows), size)]
    top = _top([arm for pair in pooled for arm in pair if arm.total])
    x, y = across(0, len(judging.windows)), upwards(0, 100 * top)
    names: tuple[Look, Look] = ("canary", "baseline")
    whole = _pooled(judging.windows)
    said = "; ".join(f"{name} {arm.bad} of {arm.total} requests failed" for name, arm in zip(names, whole, strict=True))
    said += f". A point pools {size} windows; bars are Wilson's 95 % interval."
    each = "" if size == 1 else f", {size} windows a point"
    legend: list[tuple[Sign, str]] = [("canary curve", "canary"), ("baseline curve", f"baseline{each}")]
    heading = "Failed requests, with 95 % intervals"
    chart = Chart(f"{judging.ident}-errors", heading, said, legend, _span(judging))
    chart.marks += _weights(judging, x)
    chart.axes(_window_ticks(judging, x), [(y(n), f"{n:g} %") for n in ticks(0, y.high)])
    for position, look in reversed([*enumerate(names)]):
        points = [
            (x(min((n + 0.5) * size, len(judging.windows) - 0.5)) + (0.8 if position == 0 else -0.8), pair[position])
            for n, pair in enumerate(pooled)
            if pair[position].total
        ]
        chart.marks += _rates(points, look, y)
    return chart.svg()


def _rates(points: Sequence[tuple[float, Arm]], look: Look, y: Scale) -> Iterator[str]:
    for at, arm in points:
        low, high = wilson(arm)
        yield line((at, y(100 * low)), (at, y(100 * high)), look)
    places = [(at, y(100 * arm.bad / arm.total)) for at, arm in points]
    yield path(places, f"{look} curve")
    yield from (marker(place, look) for place in places)


def wilson(arm: Arm) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (JASA 22, 1927), for one look at one point. `total` is positive."""
    square, share = WILSON_Z**2, arm.bad / arm.total
    middle = (share + square / (2 * arm.total)) / (1 + square / arm.total)
    half = (
        WILSON_Z * math.sqrt(share * (1 - share) / arm.total + square / (4 * arm.total**2)) / (1 + square / arm.total)
    )
    return max(0.0, middle - half), min(1.0, middle + half)


def _pooled(windows: Sequence[Window]) -> tuple[Arm, Arm]:
    sums = [sum(getattr(one, arm)[n] for one in windows) for arm in ("canary", "baseline") for n in (0, 1)]
    return Arm(sums[0], sums[1]), Arm(sums[2], sums[3])


def _top(arms: Sequence[Arm]) -> float:
    """A share that every rate lies below, and half of the intervals: few requests would press all else down."""
    if not arms:
        return 0.01
    uppers = sorted(wilson(arm)[1] for arm in arms)
    return min(1.0, max(1.2 * max(arm.bad / arm.total for arm in arms), 1.2 * uppers[len(uppers) // 2]))


# --- latency ----------------------------------------------------------------------------------------------------------


class Bars(NamedTuple):
    """Buckets [low, high), `size` of them drawn as one bar."""

    low: int
    high: int
    size: int


def latency_plot(judging: Judging) -> str:
    """Both arms' histograms, each as shares of its own requests, with the boundaries that were fixed before."""
    arms = {"canary": judging.canary_ms, "baseline": judging.baseline_ms}
    edges = [one.edge for one in judging.boundaries]
    indices = [index for buckets in arms.values() for index, _ in buckets] + edges or [0]
    low, high = min(indices) - 1, max(indices) + 2
    bars = Bars(low, high, -(-(high - low) // MOST_BUCKETS))
    shares = {name: _shares(buckets, bars) for name, buckets in arms.items()}
    top = max([0.01, *(share for found in shares.values() for share in found.values())])
    x, y = across(low, high), upwards(0, 130 * top)
    said = "; ".join(f"{name}: {sum(n for _, n in buckets)} timed requests" for name, buckets in arms.items())
    legend: list[tuple[Sign, str]] = [("canary curve", "canary"), ("baseline curve", "baseline")]
    legend += [("edge", "baseline's boundary")] if edges else []
    heading = "How long requests took, as shares of each arm"
    chart = Chart(f"{judging.ident}-latency", heading, f"{said}. {_bounds(judging)}", legend, "milliseconds, log scale")
    chart.axes(_ms_ticks(x), [(y(n), f"{n:g} %") for n in ticks(0, 100 * top)])
    if judging.canary_ms:
        chart.marks.append(path(_steps(shares["canary"], bars, x, y), "area", closed=True))
    for look in ("baseline", "canary"):
        found = _steps(shares[look], bars, x, y) if arms[look] else []
        chart.marks.append(path(found, f"{look} curve"))
    chart.marks += [line((x(at), TOP), (x(at), BOTTOM), "edge") for at in edges]
    labels = [(x(one.edge), f"p{one.quantile_milli / 10:g}") for one in judging.boundaries]
    chart.marks += [
        text(words, (middle, TOP - 6 + row * (TEXT + 1)), "middle") for middle, row, words in staggered(labels, 3)
    ]
    return chart.svg()


def _shares(buckets: Buckets, bars: Bars) -> dict[int, float]:
    """By bar, the first of them 0."""
    total, found = sum(count for _, count in buckets), dict[int, float]()
    for index, count in buckets:
        bar = (index - bars.low) // bars.size
        found[bar] = found.get(bar, 0.0) + count / total
    return found


def _steps(shares: Mapping[int, float], bars: Bars, x: Scale, y: Scale) -> list[Place]:
    """The outline of the bars, from the axis to the axis."""
    places: list[Place] = [(x(bars.low), y(0))]
    for n, start in enumerate(range(bars.low, bars.high, bars.size)):
        top = y(100 * shares.get(n, 0.0))
        places += [(x(start), top), (x(min(bars.high, start + bars.size)), top)]
    return [*places, (x(bars.high), y(0))]


def _bounds(judging: Judging) -> str:
    if not judging.boundaries:
        return "Latency is not judged."
    said = ", ".join(f"p{one.quantile_milli / 10:g} {_ms(one.edge):.4g} ms" for one in judging.boundaries)
    return f"Boundaries of the baseline: {said}; the canary's lie {judging.tolerance_buckets} buckets higher."


def _ms_ticks(x: Scale) -> list[tuple[float, str]]:
    """Powers of ten, and where there are few of them also their doubles and fives."""
    first, last = math.log10(_ms(x.low)), math.log10(_ms(x.high))
    powers = range(math.floor(first), math.ceil(last) + 1)
    times = (1, 2, 5) if last - first <= 3 else (1,)  # noqa: PLR2004 - of ten: three decades have room for nine labels
    values = [many * 10.0**power for power in powers for many in times]
    return [(x(_index(ms)), f"{ms:,.6g}") for ms in values if x.low <= _index(ms) <= x.high]


def _ms(index: float) -> float:
    return float(2 ** (index / BUCKETS_PER_DOUBLING))


def _index(ms: float) -> float:
    return math.log2(ms) * BUCKETS_PER_DOUBLING


# --- words ------------------------------------------------------------------------------------------------------------


def _window_ticks(judging: Judging, x: Scale) -> list[tuple[float, str]]:
    if len(judging.windows) == 1:
        return [(x(0.5), "0")]
    return [(x(n + 0.5), f"{n:,.0f}") for n in ticks(0, len(judging.windows) - 1) if n == int(n)]


def _span(judging: Judging) -> str:
    """Like "window of 1 s, 09:12:03 to 09:12:41 UTC"; with dates where it lasted for longer than a day."""
    first, last = judging.windows[0], judging.windows[-1]
    each = f"window of {(first.end_ms - first.start_ms) / 1000:g} s"
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (first.start_ms, last.end_ms))
    form = "%H:%M:%S" if end - start < timedelta(days=1) else "%d %b %H:%M"
    return f"{each}, {start:{form}} to {end:{form}} UTC"


def _power(log10: float) -> str:
    return f"10{_raised(round(log10, 1))}"


def _raised(value: float) -> str:
    """A power in superscript; one with a fraction after a caret, for want of a raised point."""
    whole = int(value)
    return str(whole).translate(SUPERSCRIPTS) if value == whole else f"^{value:g}"
