"""What the best possible test could find: Neyman and Pearson's bound, computed and not simulated.

For two simple hypotheses no test of level alpha has more power than the one that rejects where the likelihood ratio is
largest, tossing a coin at the edge (Neyman & Pearson 1933). A sequential method with a false-alarm budget of alpha
per rollout is, at the end of the rollout, such a test: the bound holds for every method, however it looks.

Oracle: the healthy error rate and the effect are known exactly. The baseline then tells nothing, and the counts of
good and bad canary requests are all there is: independent Poisson. No method beats it.

Split: the error rate is unknown, and only the concurrent baseline tells it. Given all errors of both arms the canary's
are binomial; the test that rejects at the largest numbers of them is uniformly most powerful among unbiased ones
(Lehmann). A biased test may beat it at one error rate, at the price of others, but never the oracle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .counts import binomial, poisson
from .traffic import BASE_RATE, SHARE, WINDOW_S, WINDOWS, Numbers

HORIZON_S = WINDOW_S * WINDOWS
DEVIATIONS = 9.0  # Poisson counts further out than this have less than 1e-15
CERTAIN = 1e-9  # once less than this is missing, the bound is called 1


class Powers(NamedTuple):
    oracle: float
    split: float
    plain_split: float  # the same without the coin: what a test that decides on counts alone can have


def most_powerful(null: Numbers, alternative: Numbers, alpha: float) -> float:
    """Power of the best test of level `alpha` between two distributions over the same outcomes."""
    with np.errstate(all="ignore"):  # a ratio beyond all floats is as good as infinite
        ratios = np.where(null > 0, alternative / null, np.where(alternative > 0, np.inf, -1.0))
    order = np.argsort(-ratios, kind="stable")
    size, power = np.cumsum(null[order]), np.cumsum(alternative[order])
    edge = int(np.searchsorted(size, alpha, side="right"))
    before_size, before_power = (float(size[edge - 1]), float(power[edge - 1])) if edge else (0.0, 0.0)
    if edge == len(order):
        return min(1.0, before_power)
    part = (alpha - before_size) / float(null[order[edge]])
    return min(1.0, before_power + part * float(alternative[order[edge]]))


def oracle_power(requests: float, null_rate: float, rate: float, alpha: float) -> float:
    """Known rates; `requests` expected of the canary."""
    on_bad = _counted(requests * null_rate, requests * rate)
    power = most_powerful(poisson(on_bad, requests * null_rate), poisson(on_bad, requests * rate), alpha)
    if power > 1 - CERTAIN:
        return 1.0
    on_good = _counted(requests * (1 - rate), requests * (1 - null_rate))
    null = np.outer(poisson(on_bad, requests * null_rate), poisson(on_good, requests * (1 - null_rate)))
    other = np.outer(poisson(on_bad, requests * rate), poisson(on_good, requests * (1 - rate)))
    return most_powerful(null.ravel(), other.ravel(), alpha)


def split_power(
    canary_bad: float, baseline_bad: float, null_odds: float, odds: float, alpha: float
) -> tuple[float, float]:
    """With and without the coin. Errors expected of each arm under the effect; one is the canary's with these odds."""
    total = canary_bad + baseline_bad
    power = plain = 0.0
    for bad, chance in zip(_counted(total, total), poisson(_counted(total, total), total), strict=True):
        null, other = (binomial(int(bad), each / (1 + each)) for each in (null_odds, odds))
        power += float(chance) * most_powerful(null, other, alpha)
        given_up = null[::-1].cumsum()[::-1] <= alpha
        plain += float(chance) * float(other[given_up].sum())
    return min(1.0, power), min(1.0, plain)


def powers(
    canary_rps: float,
    times: float,
    alpha: float,
    *,
    null_times: float = 1.0,
    share: float = SHARE,
    seconds: float = HORIZON_S,
) -> Powers:
    """Of an effect that multiplies the canary's error rate, against "at most `null_times` the baseline's"."""
    requests, rate = canary_rps * seconds, min(1.0, BASE_RATE * times)
    oracle = oracle_power(requests, BASE_RATE * null_times, rate, alpha)
    per_baseline = share / (1 - share)
    split, plain = split_power(
        requests * rate, requests * BASE_RATE / per_baseline, per_baseline * null_times, per_baseline * times, alpha
    )
    return Powers(oracle, split, plain)


def requests_for(power: float, times: float, alpha: float) -> int:
    """The fewest canary requests with which the oracle has this power: nobody does with less."""
    low, high = 1.0, 2.0
    while oracle_power(high, BASE_RATE, min(1.0, BASE_RATE * times), alpha) < power:
        low, high = high, high * 2
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        enough = oracle_power(middle, BASE_RATE, min(1.0, BASE_RATE * times), alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return math.ceil(high)


def _counted(low_mean: float, high_mean: float) -> Numbers:
    """Counts that a Poisson variable with a mean between the two can have."""
    low = max(0.0, low_mean - DEVIATIONS * math.sqrt(low_mean) - DEVIATIONS)
    return np.arange(math.floor(low), math.ceil(high_mean + DEVIATIONS * math.sqrt(high_mean) + 4 * DEVIATIONS) + 1.0)
