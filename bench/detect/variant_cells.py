"""What would find more at the same alpha: other grids and weights, other shares, a larger baseline, history, probes.

Each variant is one test of errors with the default tolerance, run over the same kinds of rollouts. The one with history
takes today's healthy error rate to be at most the tolerated ratio times yesterday's: what that is worth, and what it
does in a ramp or a shared incident, stands side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.canary.eprocess import MICRO, multiples, threshold_micro
from controller.domain.verdict import JudgeConfig

from . import ours, spending, traffic
from .cells import BATCH, Cell, Found, Sizes, gathered, minutes, tell
from .ours import Combined, ErrorsTest
from .traffic import BASE_RATE, SHARE, WINDOW_S, Arms, Numbers

Crossings = dict[int, NDArray[np.int64]]
Judge = Callable[[Arms, tuple[int, ...]], Crossings]
DEFAULT = JudgeConfig()
NULL_PART = 20  # null rollouts of a variant: one in so many of the others'


@dataclass(frozen=True)
class Variant:
    """`canary_rps` and `share` of its traffic, by the judge given."""

    family: str
    name: str
    canary_rps: float
    judge: Judge
    share: float = SHARE


def with_config(config: JudgeConfig, weights: tuple[float, ...] | None = None) -> Judge:
    return lambda arms, alphas: Combined([ErrorsTest(arms, config)], parts=weights).first_crossings(alphas)


def gridded(first_milli: int, last_milli: int, points: int) -> Judge:
    return with_config(JudgeConfig(grid_first_milli=first_milli, grid_last_milli=last_milli, grid_points=points))


def tilted(power: float) -> Judge:
    """The default grid, weights proportional to a power of the multiple."""
    raw = np.array(multiples(DEFAULT)) ** power
    return with_config(DEFAULT, tuple(float(each) for each in raw / raw.sum()))


def by_spending(arms: Arms, alphas_ppm: tuple[int, ...]) -> Crossings:
    return {alpha: spending.first_crossings(arms, DEFAULT.theta0_milli / 1000, alpha / MICRO) for alpha in alphas_ppm}


def with_history(arms: Arms, alphas_ppm: tuple[int, ...]) -> Crossings:
    """The mean of E1 and of a test against yesterday's error rate, known exactly: the most that history can give."""
    tolerated = BASE_RATE * DEFAULT.theta0_milli / 1000
    steps = [
        arms.canary_bad * math.log(multiple) - arms.canary_total * tolerated * (multiple - 1)
        for multiple in multiples(DEFAULT)
    ]
    absolute = ours.log_e_paths(steps, 1.0)
    everyone = np.ones(len(absolute), dtype=bool)
    relative = ours.log_e_paths(list(ErrorsTest(arms, DEFAULT).steps(everyone)), 1.0)
    both: Numbers = np.logaddexp(absolute, relative) - math.log(2)
    return {alpha: ours.first(both * MICRO >= threshold_micro(alpha)) for alpha in alphas_ppm}


def all_variants(sizes: Sizes) -> Iterator[Variant]:
    default = with_config(DEFAULT)
    for rps in [rate for rate in sizes.rates if rate <= 5]:
        yield Variant("grid", "default: 16 from 1.25 to 128", rps, default)
        yield Variant("grid", "8 from 1.5 to 20", rps, gridded(1_500, 20_000, 8))
        yield Variant("grid", "8 from 2 to 32", rps, gridded(2_000, 32_000, 8))
        yield Variant("grid", "6 from 3 to 32", rps, gridded(3_000, 32_000, 6))
        yield Variant("grid", "6 from 4 to 64", rps, gridded(4_000, 64_000, 6))
        yield Variant("grid", "16 from 1.25 to 512", rps, gridded(1_250, 512_000, 16))
        yield Variant("weights", "heavier at large ratios", rps, tilted(0.5))
        yield Variant("weights", "heavier at small ratios", rps, tilted(-0.5))
        yield Variant("spending", "exact alpha spending, independent requests only", rps, by_spending)
        yield Variant("history", "mean with a test against yesterday's rate", rps, with_history)
    for total in (0.5, 5.0):
        for percent in (5, 10, 25, 50):
            name = f"{percent} % of {total:g} rps in all"
            yield Variant("share", name, total * percent / 100, default, percent / 100)
    for baseline in (1, 3, 9, 99):
        yield Variant("baseline", f"{baseline} times the canary's traffic", 0.5, default, 1 / (1 + baseline))
    for probes in (0.2, 0.45, 0.95):
        canary, others = 0.05 + probes, 0.45 + probes
        yield Variant(
            "probes", f"0.05 rps and {probes:g} rps of probes to each arm", canary, default, canary / (canary + others)
        )


def variants(rng: np.random.Generator, sizes: Sizes) -> Iterator[Cell]:
    """Cells whose section is the family and whose method is the variant."""
    for variant in all_variants(sizes):
        tell(f"variants, {variant.family}, {variant.canary_rps:g} rps: {variant.name}")
        nulls = (*traffic.NULLS, traffic.EDGE) if variant.family in {"history", "spending"} else (traffic.EDGE,)
        for scenario in (*nulls, *traffic.EFFECTS[:4]):
            is_null = scenario in nulls
            runs = max(1, sizes.null_runs // NULL_PART) if is_null else sizes.effect_runs

            def judged(
                rng: np.random.Generator, runs: int, variant: Variant = variant, scenario: traffic.Scenario = scenario
            ) -> Found:
                arms = traffic.draw(rng, scenario, variant.canary_rps, runs, variant.share)
                found = variant.judge(arms, sizes.alphas_ppm)
                return {f"{variant.name}@{alpha}": minutes(each, WINDOW_S) for alpha, each in found.items()}

            tally = gathered(rng, runs, BATCH, judged)
            yield from tally.cells(variant.family, variant.canary_rps, scenario.name, is_null=is_null)
