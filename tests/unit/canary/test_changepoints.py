"""Change points of a series of results: found where they are, and nowhere else."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.changepoints import DEFAULTS, ChangePointConfig, change_points, without_spikes

ANY_SIZE = replace(DEFAULTS, min_magnitude=0.0, window=40)


def noise(rng: random.Random, n: int, level: float = 100.0, share: float = 0.02) -> list[float]:
    return [rng.gauss(level, share * level) for _ in range(n)]


def indices(series: list[float], config: ChangePointConfig = DEFAULTS) -> list[int]:
    return [one.index for one in change_points(series, config)]


@st.composite
def stepped(draw: st.DrawFn) -> list[float]:
    """Whole numbers on one to three levels, so that shifting and doubling them is exact."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    lengths = draw(st.lists(st.integers(5, 40), min_size=1, max_size=3))
    levels = draw(st.lists(st.integers(5_000, 20_000), min_size=3, max_size=3))
    return [float(round(rng.gauss(level, 100))) for level, n in zip(levels, lengths, strict=False) for _ in range(n)]


@settings(deadline=None, max_examples=50)
@given(stepped(), st.integers(1, 50_000))
def test_adding_the_same_to_every_result_moves_no_change_point(series: list[float], more: int) -> None:
    assert indices([one + more for one in series], ANY_SIZE) == indices(series, ANY_SIZE)


@settings(deadline=None, max_examples=50)
@given(stepped(), st.integers(-20, 20))
def test_another_unit_changes_nothing_but_the_unit(series: list[float], power: int) -> None:
    found = change_points(series)
    scaled = change_points([one * 2.0**power for one in series])
    assert [(one.index, one.relative_change, one.p) for one in scaled] == [
        (one.index, one.relative_change, one.p) for one in found
    ]
    assert [one.before_mean for one in scaled] == [one.before_mean * 2.0**power for one in found]


@settings(deadline=None, max_examples=50)
@given(stepped())
def test_change_points_come_in_order_apart_significant_and_large(series: list[float]) -> None:
    config = replace(DEFAULTS, window=40)
    found = change_points(series, config)
    assert found == change_points(series, config)
    edges = [0, *(one.index for one in found), len(series)]
    assert all(after - before >= config.min_segment for before, after in pairwise(edges))
    for one in found:
        assert one.p <= config.alpha
        assert abs(one.relative_change) >= config.min_magnitude
        assert one.relative_change == pytest.approx(one.after_mean / one.before_mean - 1)
    assert all(a.after_mean == b.before_mean for a, b in pairwise(found))


@pytest.mark.parametrize(("share", "at_most"), [(0.02, 0), (0.10, 2)])
def test_independent_noise_has_change_points_in_at_most_a_thousandth_of_series(share: float, at_most: int) -> None:
    """250 series of 60. By Bonferroni 0.25 of them are expected at most; more than 2 has probability 0.002."""
    rng = random.Random(20260)
    false = sum(bool(change_points(noise(rng, 60, share=share))) for _ in range(250))
    assert false <= at_most


@pytest.mark.parametrize("after", [5, 7])
def test_a_shift_of_a_tenth_in_noise_of_a_fiftieth_is_found_within_five_results_and_nearly_always_in_place(
    after: int,
) -> None:
    rng = random.Random(7)
    found = [indices([*noise(rng, 60), *noise(rng, after, 110.0)]) for _ in range(60)]
    assert sum(len(one) == 1 for one in found) >= 59
    assert sum(one == [60] for one in found) >= 55
    assert all(abs(at - 60) <= 1 for one in found for at in one)


def test_four_results_on_a_new_level_are_not_yet_a_change_point() -> None:
    rng = random.Random(8)
    assert all(not change_points([*noise(rng, 60), *noise(rng, 4, 130.0)]) for _ in range(50))


def test_a_slow_patch_between_two_good_ones_has_a_beginning_and_an_end() -> None:
    rng = random.Random(9)
    series = [*noise(rng, 70), *noise(rng, 8, 115.0), *noise(rng, 70)]
    assert indices(series) == [70, 78]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 59), st.floats(0.02, 50), st.booleans(), st.integers(0, 10**6))
def test_a_lone_spike_is_no_change_point_wherever_it_stands(at: int, size: float, double: bool, seed: int) -> None:
    series = noise(random.Random(seed), 60)
    for one in {at, min(at + double, 59)}:
        series[one] *= size
    assert change_points(series) == ()


def test_a_spike_beside_a_change_hides_nothing() -> None:
    rng = random.Random(10)
    series = [*noise(rng, 30), *noise(rng, 30, 112.0)]
    series[12], series[40] = 900.0, 3.0
    assert [at for at in range(60) if at not in without_spikes(series, 0.05)] == [12, 40]
    assert indices(series) == [30]


def test_the_first_and_the_last_results_are_never_a_change_point() -> None:
    """A machine that was slow for four runs when it began, or has been for the last four, is no level."""
    rng = random.Random(11)
    for few in (1, 2, 3, 4):
        assert indices([*noise(rng, few, 150.0), *noise(rng, 56)]) == []
        assert indices([*noise(rng, 56), *noise(rng, few, 150.0)]) == []


@pytest.mark.parametrize("at", [40, 100, 149, 150, 151, 260])
def test_a_change_is_found_in_place_whatever_window_it_falls_into(at: int) -> None:
    rng = random.Random(at)
    series = [*noise(rng, at, share=0.01), *noise(rng, 300 - at, 110.0, share=0.01)]
    assert indices(series) == [at]


def test_a_change_below_the_smallest_magnitude_is_none_however_sure() -> None:
    rng = random.Random(12)
    series = [*noise(rng, 60, share=0.002), *noise(rng, 60, 104.0, share=0.002)]
    assert indices(series) == []
    assert indices(series, replace(DEFAULTS, min_magnitude=0.03)) == [60]


def test_results_without_any_noise_change_where_they_do() -> None:
    assert indices([7.0] * 20 + [9.0] * 6) == [20]
    assert indices([0.1] * 40) == []


def test_a_series_too_short_for_two_sides_has_none() -> None:
    assert [change_points([float(1 + n) for n in range(size)]) for size in range(10)] == [()] * 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_segment": 1}, "min_segment 1 must be 2 or more"),
        ({"window": 19}, "window 19 4 times that"),
        ({"alpha": 0.0}, r"alpha 0.0 must lie in \(0, 1\)"),
        ({"min_magnitude": -0.1}, "min_magnitude -0.1 not below 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ChangePointConfig(**wrong)  # type: ignore[arg-type]
