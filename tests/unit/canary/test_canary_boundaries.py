"""Histograms and the latency boundaries chosen from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.canary.boundaries import choose_boundaries, edge_ms, guessed_rate, slower_in
from controller.canary.eprocess import NOTHING, TwoArms
from controller.domain.counts import ArmCounts, Histogram
from controller.domain.verdict import BoundarySource, JudgeConfig

CONFIG = JudgeConfig()
COUNTS = st.dictionaries(st.integers(-60, 200), st.integers(1, 50), max_size=30)


def bucket(duration_ms: float, scale: int) -> int:
    """Index i with base^i < duration <= base^(i+1) at a scale."""
    return math.ceil(math.log2(duration_ms) * (1 << scale)) - 1


@given(st.lists(st.floats(0.01, 100_000), max_size=50), st.integers(1, 5))
def test_finer_histogram_read_at_scale_3_is_the_one_recorded_at_scale_3(durations: list[float], halvings: int) -> None:
    fine, coarse = Histogram(), Histogram()
    for duration in durations:
        fine_index = bucket(duration, 3 + halvings)
        if abs(fine_index) <= 1024:
            fine = fine.merged_with(Histogram.of({fine_index: 1}))
            coarse = coarse.merged_with(Histogram.of({bucket(duration, 3): 1}))
    assert fine.downscaled(halvings) == coarse


@given(COUNTS, COUNTS, COUNTS)
def test_instances_may_be_merged_in_any_order(one: dict[int, int], two: dict[int, int], three: dict[int, int]) -> None:
    a, b, c = (ArmCounts(requests=9, errors=2, latency=Histogram.of(counts)) for counts in (one, two, three))
    assert a.merged_with(b).merged_with(c) == c.merged_with(a.merged_with(b)) == b.merged_with(c).merged_with(a)
    assert len({a.merged_with(b), b.merged_with(a)}) == 1


@pytest.mark.parametrize("buckets", [((2, 1), (1, 1)), ((1, 1), (1, 2)), ((1, 0),), ((1, -3),)])
def test_histogram_that_is_unsorted_repeated_or_empty_in_a_bucket_is_refused(
    buckets: tuple[tuple[int, int], ...],
) -> None:
    with pytest.raises(ValidationError):
        Histogram(buckets=buckets)


@given(st.dictionaries(st.integers(-60, 200), st.integers(1, 500), min_size=1, max_size=30))
def test_boundary_leaves_at_most_its_quantile_beyond_it_and_the_one_below_would_not(counts: dict[int, int]) -> None:
    history = Histogram.of(counts)
    chosen = choose_boundaries(history, CONFIG, BoundarySource.HISTORY)
    for quantile, index, slower in zip(chosen.quantiles_milli, chosen.indices, chosen.slower, strict=True):
        assert slower == history.slower_than(index)
        assert slower * 1000 <= history.total * (1000 - quantile)
        assert history.slower_than(index - 1) * 1000 > history.total * (1000 - quantile)


def test_tail_quantile_waits_until_history_has_five_requests_beyond_it() -> None:
    assert choose_boundaries(Histogram.of({40: 9}), CONFIG, BoundarySource.HISTORY).indices == ()
    assert choose_boundaries(Histogram.of({40: 99}), CONFIG, BoundarySource.HISTORY).quantiles_milli == (500, 750, 900)
    assert choose_boundaries(Histogram.of({40: 500}), CONFIG, BoundarySource.HISTORY).quantiles_milli[-1] == 990


def test_canary_one_bucket_slower_than_the_baseline_is_tolerated() -> None:
    baseline = ArmCounts(requests=100, errors=0, latency=Histogram.of({47: 90, 60: 10}))
    canary = ArmCounts(requests=100, errors=0, latency=Histogram.of({48: 80, 60: 13, 61: 7}))
    assert slower_in(canary.latency, baseline.latency, 60, CONFIG) == TwoArms(7, 100, 10, 100)
    assert edge_ms(48) == 64.0


def test_guessed_rate_starts_from_history_and_is_overruled_by_today() -> None:
    chosen = choose_boundaries(Histogram.of({40: 90_000, 50: 10_000}), CONFIG, BoundarySource.HISTORY)
    last = chosen.quantiles_milli.index(900)
    assert guessed_rate(chosen, last, NOTHING, CONFIG) == pytest.approx(0.1, abs=0.001)
    assert guessed_rate(chosen, last, TwoArms(0, 0, 5_000, 10_000), CONFIG) == pytest.approx(0.46, abs=0.01)
