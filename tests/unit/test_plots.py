"""Pictures of a verdict: whatever the counts are, they are well-formed, inside their frame, and said in words too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import isfinite, log
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compliance.plots import MOST_POINTS, Arm, Boundary, Judging, Window, plots, wilson
from controller.compliance.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, staggered, ticks, width_of

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
START_MS, LIMIT, PAGING = 1_796_000_000_000, 6_907_756, 4_605_171

counts = st.integers(0, 2_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
arms = counts.map(lambda pair: Arm(*pair))
buckets = st.dictionaries(st.integers(-1024, 1024), st.integers(1, 10**12), max_size=30).map(
    lambda found: tuple(sorted(found.items()))
)


def read(svg: str) -> Element:
    return ET.fromstring(svg)  # noqa: S314 - written by the code under test


def window(n: int, weight: int, canary: Arm, baseline: Arm, log_e_micro: int) -> Window:
    return Window(START_MS + n * 1000, START_MS + (n + 1) * 1000, weight, canary, baseline, log_e_micro)


@st.composite
def judgings(draw: st.DrawFn) -> Judging:
    seen = draw(
        st.lists(
            st.tuples(st.integers(0, 100), arms, arms, st.integers(-(10**9), 10**9)),
            min_size=1,
            max_size=150,
        )
    )
    edges = draw(st.lists(st.tuples(st.integers(1, 999), st.integers(-1024, 1000)), max_size=6, unique=True))
    return Judging(
        ident="log-1",
        windows=[window(n, *one) for n, one in enumerate(seen)],
        threshold_micro=LIMIT,
        paging_micro=PAGING,
        first_crossing=draw(st.none() | st.integers(0, len(seen) - 1)),
        canary_ms=draw(buckets),
        baseline_ms=draw(buckets),
        boundaries=[Boundary(*one) for one in sorted(edges)],
        tolerance_buckets=draw(st.integers(0, 16)),
    )


def climbing(count: int, crossing: int | None = None, *, bad: int = 1) -> Judging:
    windows = [window(n, 10, Arm(bad, 9), Arm(0, 80), 7_000_000 * (n + 1) // count) for n in range(count)]
    timed = ((20, 5), (21, 9), (22, 2))
    return Judging("log-7", windows, LIMIT, PAGING, crossing, timed, timed, [Boundary(500, 21)], 1)


def places(svg: Element) -> Iterator[tuple[float, float]]:
    """Everything that is drawn, as points."""
    for one in svg.iter():
        found = one.attrib
        if one.tag == f"{SVG}path":
            numbers = [float(n) for n in NUMBER.findall(found["d"])]
            yield from zip(numbers[::2], numbers[1::2], strict=True)
        elif one.tag == f"{SVG}line":
            yield float(found["x1"]), float(found["y1"])
            yield float(found["x2"]), float(found["y2"])
        elif one.tag == f"{SVG}circle":
            yield float(found["cx"]), float(found["cy"])
        elif one.tag == f"{SVG}rect" and "x" in found:
            x, y = float(found["x"]), float(found["y"])
            yield x, y
            yield x + float(found["width"]), y + float(found["height"])
        elif one.tag == f"{SVG}text":
            yield float(found["x"]), float(found["y"])


def marked(svg: Element, kind: str) -> list[Element]:
    return [one for one in svg.iter() if kind in one.attrib.get("class", "").split()]


def classed(svg: Element, kinds: str) -> list[Element]:
    return [one for one in svg.iter() if one.attrib.get("class") == kinds and float(one.attrib.get("y1", "99")) > 40]


@settings(max_examples=60, deadline=None)
@given(judgings())
def test_everything_is_drawn_inside_the_frame_whatever_was_counted(judging: Judging) -> None:
    for name, svg in plots(judging).items():
        assert "nan" not in svg.lower()
        assert not re.search(r"\binf\b", svg)
        tree = read(svg)
        assert tree.attrib["viewBox"] == f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
        for x, y in places(tree):
            assert isfinite(x + y)
            assert 0 <= x <= WIDTH, name
            assert 0 <= y <= HEIGHT, name


@settings(max_examples=40, deadline=None)
@given(judgings())
def test_curves_stay_inside_the_area_that_the_axes_span(judging: Judging) -> None:
    for svg in plots(judging).values():
        for one in marked(read(svg), "curve"):
            numbers = [float(n) for n in NUMBER.findall(one.attrib.get("d", ""))]
            assert all(LEFT <= x <= RIGHT for x in numbers[::2])
            assert all(TOP <= y <= BOTTOM for y in numbers[1::2])


@settings(max_examples=40, deadline=None)
@given(judgings())
def test_crossing_is_marked_in_its_window_at_its_height_and_nowhere_else(judging: Judging) -> None:
    svg = read(plots(judging)["evidence"])
    rings = marked(svg, "ring")
    if judging.first_crossing is None:
        assert rings == []
        return
    share = (float(rings[0].attrib["cx"]) - LEFT) / (RIGHT - LEFT)
    assert share * len(judging.windows) == pytest.approx(judging.first_crossing + 0.5, abs=0.05 * len(judging.windows))
    assert [one.text for one in marked(svg, "crossing")] == [f"crossed in window {judging.first_crossing}"]
    curve = next(NUMBER.findall(one.attrib["d"]) for one in marked(svg, "curve") if "d" in one.attrib)
    on_curve = list(zip(curve[::2], curve[1::2], strict=True))
    assert (rings[0].attrib["cx"], rings[0].attrib["cy"]) in on_curve


def test_line_lies_where_one_over_alpha_is_and_the_last_point_above_it() -> None:
    svg = read(plots(climbing(10, crossing=9))["evidence"])
    (limit,) = classed(svg, "limit")
    (ring,) = marked(svg, "ring")
    assert float(ring.attrib["cy"]) < float(limit.attrib["y1"])
    assert any("10³" in (one.text or "") for one in svg.iter(f"{SVG}text"))
    assert pytest.approx(3 * log(10), abs=1e-5) == LIMIT / 1e6


@pytest.mark.parametrize("count", [1, 59, 60, 61, 1_000, 8_640])
def test_a_day_of_windows_is_drawn_with_about_sixty_points(count: int) -> None:
    drawn = plots(climbing(count, crossing=count - 1))
    errors = read(drawn["errors"])
    discs = [one for one in marked(errors, "dot") if float(one.attrib["cy"]) > 40]  # without the legend's
    squares = [one for one in marked(errors, "hollow") if float(one.attrib["y"]) > 40]
    assert 1 <= len(discs) <= MOST_POINTS
    assert len(discs) == len(squares) == -(-count // -(-count // MOST_POINTS))
    assert len(drawn["evidence"]) < 20_000
    assert len(marked(read(drawn["evidence"]), "ring")) == 1


def test_no_errors_at_all_are_points_on_the_axis_with_an_interval_above_them() -> None:
    svg = read(plots(climbing(5, bad=0))["errors"])
    discs = [one for one in marked(svg, "dot") if float(one.attrib["cy"]) > 40]
    assert {float(one.attrib["cy"]) for one in discs} == {BOTTOM}
    whiskers = classed(svg, "canary")
    assert len(whiskers) == 5
    assert all(float(one.attrib["y2"]) < BOTTOM for one in whiskers)


def test_arm_without_requests_leaves_a_gap_and_no_zero() -> None:
    judging = climbing(5)
    idle = replace(judging, windows=[one._replace(canary=Arm(0, 0)) for one in judging.windows])
    svg = read(plots(idle)["errors"])
    assert [one for one in marked(svg, "dot") if float(one.attrib["cy"]) > 40] == []
    assert len([one for one in marked(svg, "hollow") if float(one.attrib["y"]) > 40]) == 5


def test_latency_that_nobody_timed_is_said_to_be_not_judged() -> None:
    judging = replace(climbing(3), canary_ms=(), baseline_ms=(), boundaries=[])
    svg = read(plots(judging)["latency"])
    said = next(svg.iter(f"{SVG}desc")).text or ""
    assert "Latency is not judged" in said
    assert "canary: 0 timed requests" in said


def test_arms_differ_by_more_than_colour() -> None:
    for name in ("errors", "latency"):
        svg = plots(climbing(5))[name]
        legend = [one.text for one in read(svg).iter(f"{SVG}text")]
        assert {"canary", "baseline"} <= set(legend)
        assert ".baseline.curve { stroke-dasharray" in svg
        assert "<circle" in svg
        assert "hollow" in svg


def test_a_reader_who_sees_nothing_is_told_the_same() -> None:
    for name, svg in plots(climbing(10, crossing=9)).items():
        tree = read(svg)
        title, said = next(tree.iter(f"{SVG}title")), next(tree.iter(f"{SVG}desc"))
        assert tree.attrib["aria-labelledby"] == f"{title.attrib['id']} {said.attrib['id']}"
        assert tree.attrib["role"] == "img"
        assert title.attrib["id"].startswith(f"log-7-{name}")
        assert len(said.text or "") > 20


def test_what_comes_from_outside_is_text_and_nothing_else() -> None:
    chart = Chart("x", "<script>&", "<b>said</b>", [("limit", '"><script>')], "]]><a>")
    tree = read(chart.svg())
    assert {one.tag for one in tree.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "title", "desc", "style", "rect", "text", "line")
    }
    assert next(tree.iter(f"{SVG}desc")).text == "<b>said</b>"


@given(judgings())
@settings(max_examples=15, deadline=None)
def test_the_same_counts_give_the_same_bytes(judging: Judging) -> None:
    assert plots(judging) == plots(replace(judging))


@pytest.mark.parametrize(
    ("arm", "low", "high"), [(Arm(0, 10), 0, 0.2775), (Arm(5, 10), 0.2366, 0.7634), (Arm(10, 10), 0.7225, 1)]
)
def test_wilsons_interval_is_the_one_in_the_tables(arm: Arm, low: float, high: float) -> None:
    assert wilson(arm) == pytest.approx((low, high), abs=5e-5)


@given(counts.filter(lambda pair: pair[1] > 0))
def test_wilsons_interval_holds_the_share_that_was_seen(pair: tuple[int, int]) -> None:
    low, high = wilson(Arm(*pair))
    assert 0 <= low <= pair[0] / pair[1] + 1e-12
    assert pair[0] / pair[1] - 1e-12 <= high <= 1


@given(st.lists(st.tuples(st.floats(LEFT, RIGHT), st.sampled_from(["p5", "p50", "p99.9", "1,000"])), max_size=20))
def test_labels_make_way_for_each_other(labels: list[tuple[float, str]]) -> None:
    spans: dict[int, list[tuple[float, float]]] = {}
    for middle, row, words in staggered(labels, 3):
        half = width_of(words) / 2
        assert middle - half >= LEFT - 0.01
        assert middle + half <= RIGHT + 0.01
        spans.setdefault(row, []).append((middle - half, middle + half))
    for beside in spans.values():
        assert all(before[1] < after[0] for before, after in pairwise(beside))


@given(st.floats(-1e6, 1e6), st.floats(0.01, 1e6))
def test_ticks_are_few_round_and_within(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * span <= one <= low + span * (1 + 1e-6) for one in found)
