"""Student's t against closed forms and printed tables."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.canary.student import Sample, regularised_beta, same_mean_p, sample_of, two_sided_p

# t at which the two-sided probability is .05, .01, .001: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
TABLE = {
    1: (12.706, 63.657, 636.619),
    2: (4.303, 9.925, 31.599),
    5: (2.571, 4.032, 6.869),
    10: (2.228, 3.169, 4.587),
    30: (2.042, 2.750, 3.646),
    100: (1.984, 2.626, 3.390),
    10**7: (1.960, 2.576, 3.291),  # as good as normal
}


@pytest.mark.parametrize(("df", "critical"), TABLE.items())
def test_the_printed_table_of_t_comes_out(df: int, critical: tuple[float, ...]) -> None:
    for t, p in zip(critical, (0.05, 0.01, 0.001), strict=True):
        around = (two_sided_p(t + 0.0005, df), two_sided_p(t - 0.0005, df))
        assert around[0] <= p <= around[1]


closed: dict[int, Callable[[float], float]] = {
    1: lambda t: 1 - 2 / math.pi * math.atan(t),
    2: lambda t: 1 - t / math.sqrt(2 + t * t),
    3: lambda t: 1 - 2 / math.pi * (t / math.sqrt(3) / (1 + t * t / 3) + math.atan(t / math.sqrt(3))),
    4: lambda t: 1 - (u := t / math.sqrt(4 + t * t)) * (1 + (1 - u * u) / 2),
}


@given(st.sampled_from(sorted(closed)), st.floats(0, 30))
def test_few_degrees_of_freedom_have_a_closed_form(df: int, t: float) -> None:
    assert two_sided_p(t, df) == pytest.approx(closed[df](t), abs=1e-13)


def test_the_far_tail_keeps_its_digits() -> None:
    # nu = 2: P(|T| > t) = 1 - t / sqrt(2 + t^2) = 1/t^2 - 3/(2 t^4) + ...
    assert two_sided_p(1e6, 2) == pytest.approx(1e-12, rel=1e-9)
    # nu = 4: with u = t / sqrt(4 + t^2), 1 - u (3 - u^2) / 2 = 6/t^4 + ...
    assert two_sided_p(1e5, 4) == pytest.approx(6e-20, rel=1e-8)
    assert two_sided_p(math.inf, 4) == 0.0


@given(st.floats(0.5, 300), st.floats(0.5, 300), st.floats(0, 1))
def test_the_two_ends_of_the_beta_function_are_each_others_rest(a: float, b: float, x: float) -> None:
    here, there = regularised_beta(x, 1 - x, a, b), regularised_beta(1 - x, x, b, a)
    assert 0 <= here <= 1
    assert here + there == pytest.approx(1, abs=1e-9)


@given(st.floats(1, 5_000), st.floats(0, 50), st.floats(0.001, 10))
def test_a_larger_t_is_never_likelier(df: float, t: float, more: float) -> None:
    assert two_sided_p(t + more, df) <= two_sided_p(t, df) + 1e-12


def test_two_samples_are_compared_as_in_the_textbook() -> None:
    left, right = sample_of([1.0, 2.0, 3.0]), sample_of([4.0, 6.0, 8.0])
    assert (left.n, left.mean, left.squares, right.squares) == (3, 2.0, 2.0, 8.0)
    t = 4 / math.sqrt((2 + 8) / 4 * (1 / 3 + 1 / 3))
    assert same_mean_p(left, right) == pytest.approx(closed[4](t))


def test_samples_without_spread_or_without_a_second_value_are_told_apart_by_what_can_be_known() -> None:
    assert same_mean_p(Sample(3, 1.0, 0.0), Sample(3, 2.0, 0.0)) == 0.0
    assert same_mean_p(Sample(3, 1.0, 0.0), Sample(3, 1.0, 0.0)) == 1.0
    assert same_mean_p(Sample(1, 1.0, 0.0), Sample(1, 9.0, 0.0)) == 1.0


def test_no_numeric_library_is_needed() -> None:
    asked = "import sys, controller.canary.slower; print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
