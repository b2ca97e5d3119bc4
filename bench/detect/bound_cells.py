"""The power of Flyball's test of errors beside the best that anybody could have, and the traffic that anybody needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from . import bound, traffic
from .cells import Cell, Sizes, tell

NEEDED_POWER = 0.9
NULLS = {1.0: ("E1",), 1.25: ("E1 tol 1.25", "E1 tol 1.25, phi 2 assumed")}  # what is tolerated, and who tolerates it


@dataclass(frozen=True)
class Bounded:
    """Against "at most `null_times` the baseline's". `ours`: powers by method, where the errors section was run."""

    canary_rps: float
    scenario: str
    alpha_ppm: int
    null_times: float
    oracle_percent: float
    split_percent: float
    plain_split_percent: float
    ours: dict[str, float]


@dataclass(frozen=True)
class Needed:
    """The fewest canary requests with which the oracle finds `scenario` in nine rollouts of ten."""

    scenario: str
    alpha_ppm: int
    canary_requests: int


def bounded(sizes: Sizes, cells: Sequence[Cell]) -> Iterator[Bounded]:
    for rps in sizes.rates:
        for scenario in traffic.EFFECTS[:-1]:  # nobody misses a canary that always fails
            tell(f"bound, {rps} canary requests a second: {scenario.name}")
            for alpha, (null_times, methods) in product(sizes.alphas_ppm, NULLS.items()):
                best = bound.powers(rps, scenario.canary_times, alpha / 1e6, null_times=null_times)
                here = [c for c in cells if (c.canary_rps, c.scenario, c.alpha_ppm) == (rps, scenario.name, alpha)]
                found = {cell.method: cell.percent for cell in here if cell.method in methods}
                oracle, split, plain = (100 * power for power in best)
                yield Bounded(rps, scenario.name, alpha, null_times, oracle, split, plain, found)


def needed(sizes: Sizes) -> Iterator[Needed]:
    for scenario in traffic.EFFECTS:
        for alpha in sizes.alphas_ppm:
            requests = bound.requests_for(NEEDED_POWER, scenario.canary_times, alpha / 1e6)
            yield Needed(scenario.name, alpha, requests)
