"""Student's t distribution, from the regularised incomplete beta function. Nothing but the standard library.

P(|T| > t) with nu degrees of freedom is I_x(nu/2, 1/2) at x = nu/(nu + t^2) (DLMF 8.17 and Abramowitz & Stegun 26.7.1).
I_x(a, b) is its prefactor x^a (1-x)^b / (a B(a, b)) times the continued fraction of DLMF 8.17.22, which converges fast
below the mean, x < (a+1)/(a+b+2); above it I_x(a, b) = 1 - I_{1-x}(b, a) (DLMF 8.17.4). The fraction is evaluated from
the front by Lentz's method as Thompson and Barnett modified it (J. Comput. Phys. 64, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TERMS = 500  # it takes O(sqrt(max(a, b))) of them: 500 reach far beyond any series here
TINY = 1e-300  # stands in for a zero that would be divided by
SETTLED = 4e-16


def two_sided_p(t: float, df: float) -> float:
    """P(|T| >= |t|). `df` above 0; an infinite `t` gives 0. Tails far below 1e-100 keep their relative accuracy."""
    if math.isinf(t):
        return 0.0
    return regularised_beta(df / (df + t * t), t * t / (df + t * t), df / 2, 0.5)


def regularised_beta(x: float, rest: float, a: float, b: float) -> float:
    """I_x(a, b) for `a`, `b` above 0. `rest` is 1 - x, given apart so that neither loses digits near its end."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - regularised_beta(rest, x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log(rest) - log_beta) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d_1/(1 + d_2/(1 + ...)) of DLMF 8.17.22. Raises ArithmeticError when it does not settle."""
    value, ahead, behind = 1.0, 1.0, 0.0
    for term in range(1, MOST_TERMS + 1):
        d = _coefficient(term, x, a, b)
        behind = 1 / ((1 + d * behind) or TINY)
        ahead = (1 + d / ahead) or TINY
        value *= ahead * behind
        if abs(ahead * behind - 1) < SETTLED:
            return value
    raise ArithmeticError(f"I_x({a}, {b}) at x={x} does not settle in {MOST_TERMS} terms")


def _coefficient(term: int, x: float, a: float, b: float) -> float:
    m, odd = divmod(term, 2)
    if odd:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


@dataclass(frozen=True, slots=True)
class Sample:
    n: int
    mean: float
    squares: float  # sum of squared distances from the mean


def sample_of(values: Sequence[float]) -> Sample:
    """At least one value."""
    mean = math.fsum(values) / len(values)
    return Sample(len(values), mean, math.fsum((value - mean) ** 2 for value in values))


def same_mean_p(left: Sample, right: Sample) -> float:
    """Student's two-sample t-test (equal variances), two-sided.

    Without any spread: 0 when the means differ, 1 when they do not. One value on each side says nothing: 1.
    """
    df = left.n + right.n - 2
    if df < 1:
        return 1.0
    variance = (left.squares + right.squares) / df * (1 / left.n + 1 / right.n)
    apart = right.mean - left.mean
    if variance <= 0:
        return 0.0 if apart else 1.0
    return two_sided_p(apart / math.sqrt(variance), df)
