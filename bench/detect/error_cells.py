"""Error rates: every method on rollouts that are no worse, and on ones that are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from controller.domain.verdict import JudgeConfig

from . import argo, flagger, kayenta, traffic
from .cells import BATCH, Cell, Found, Judged, Sizes, Tally, gathered, minutes, tell
from .ours import Combined, ErrorsTest
from .traffic import WINDOW_S, Arms, Numbers, Scenario

KAYENTA_SHARE = 10  # of the peers' null rollouts, Kayenta judges one in so many: it is the slowest


def judges(alphas_ppm: Sequence[int]) -> Callable[[Arms], Found]:
    """E1 without tolerance, with the default one, and the latter as it is when phi is unknown."""
    default = JudgeConfig()

    def judged(arms: Arms) -> Found:
        strict, tolerant = ErrorsTest(arms, JudgeConfig(theta0_milli=1_000)), ErrorsTest(arms, default)
        kinds = {
            "E1": Combined([strict]),
            "E1 tol 1.25": Combined([tolerant]),
            "E1 tol 1.25, phi 2 assumed": Combined([tolerant], phi=default.phi_prior_milli / 1000),
        }
        return named(kinds, alphas_ppm)

    return judged


def named(kinds: Mapping[str, Combined], alphas_ppm: Sequence[int]) -> Found:
    return {
        f"{name}@{alpha}": minutes(each, WINDOW_S)
        for name, combined in kinds.items()
        for alpha, each in combined.first_crossings(alphas_ppm).items()
    }


def quick_peers(arms: Arms) -> Found:
    by_minute = arms.by_minute()
    too_bad = argo.too_many_bad(by_minute, 0.01)
    found = {
        "Argo >1 %, fl=0": argo.first_abort(too_bad, 0),
        "Argo >1 %, fl=3": argo.first_abort(too_bad, 3),
        "Argo >1.2x stable, fl=3": argo.first_abort(argo.worse_than_stable(by_minute, 1.2), 3),
        "Flagger": flagger.first_rollback(flagger.failed_checks(by_minute)),
    }
    return {name: minutes(each, 60) for name, each in found.items()}


def by_kayenta(arms: Arms) -> Found:
    return {"Kayenta": minutes(kayenta.first_fail(*percentages(arms.by_minute())), 60)}


def peers(arms: Arms) -> Found:
    return quick_peers(arms) | by_kayenta(arms)


def percentages(by_minute: Arms) -> tuple[Numbers, Numbers]:
    """Percent of requests that failed, canary and baseline; NaN where there were none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        x, n, y, m = by_minute
        return 100 * x / n, 100 * y / m


def errors(rng: np.random.Generator, sizes: Sizes) -> Iterator[Cell]:
    ours_of = judges(sizes.alphas_ppm)
    for rps in sizes.rates:
        for scenario in (*traffic.NULLS, traffic.EDGE):
            tell(f"errors, {rps} canary requests a second: {scenario.name}")
            tally = gathered(rng, sizes.null_runs, BATCH, _judged(scenario, rps, ours_of))
            if scenario is not traffic.EDGE:
                tally.minutes |= _peers_of_null(rng, sizes, scenario, rps).minutes
            for cell in tally.cells("errors", rps, scenario.name, is_null=True):
                # At its edge a tolerance is tested by the test that has one; 1.25 is an effect for one without.
                if scenario is not traffic.EDGE or "tol" in cell.method:
                    yield cell
        for scenario in traffic.EFFECTS:
            tell(f"errors, {rps} canary requests a second: {scenario.name}")
            everybody = _judged(scenario, rps, lambda arms: ours_of(arms) | peers(arms))
            tally = gathered(rng, sizes.effect_runs, BATCH, everybody)
            yield from tally.cells("errors", rps, scenario.name, is_null=False)


def _judged(scenario: Scenario, rps: float, judge: Callable[[Arms], Found]) -> Judged:
    return lambda rng, runs: judge(traffic.draw(rng, scenario, rps, runs))


def _peers_of_null(rng: np.random.Generator, sizes: Sizes, scenario: Scenario, rps: float) -> Tally:
    most = gathered(rng, sizes.peer_null_runs, BATCH, _judged(scenario, rps, quick_peers))
    few = gathered(rng, max(1, sizes.peer_null_runs // KAYENTA_SHARE), BATCH, _judged(scenario, rps, by_kayenta))
    return Tally(most.minutes | few.minutes)
