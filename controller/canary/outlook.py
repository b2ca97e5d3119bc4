"""What the traffic can show, and by when: said while it can still be changed.

Under a regression with canary rate p_c and baseline rate p_b, the E1 likelihood ratio of alternative theta grows by
p_c ln(theta/theta0) - (p_c + p_b m/n) [ln(1 - rho + rho theta) - ln(1 - rho + rho theta0)] nats a canary request on
average. The best alternative's growth, divided by phi, against what is needed, ln(1/alpha) plus the price of the grid
and of the weight, gives the requests until it is found. It is an estimate of a mean, not a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from controller.canary.eprocess import MICRO, multiples, threshold_micro
from controller.domain.verdict import JudgeConfig

SOON_S = 15 * 60.0  # a regression that takes longer than this is worth a word
NEVER_S = 24 * 3600.0
LARGER_SHARES = (25, 50)
PROBES_RPS = 5.0


class Traffic(NamedTuple):
    """What was seen so far."""

    all_rps: float  # requests a second of both arms
    share: float  # of the canary, in (0, 1)
    usual_rate: float  # the baseline's error rate


class Effect(NamedTuple):
    words: str
    rate: float  # the canary's error rate under it


def outlook(traffic: Traffic, phi_milli: int, weight_ppm: int, config: JudgeConfig) -> tuple[str, ...]:
    """Sentences. Empty: what matters is found soon, or nothing was seen yet. `weight_ppm` is that of errors."""
    if traffic.all_rps <= 0 or not 0 < traffic.share < 1:
        return ()
    found = [(one, _seconds(one.rate, traffic, phi_milli, weight_ppm, config)) for one in effects(traffic.usual_rate)]
    if all(seconds <= SOON_S for _, seconds in found[:3]):
        return ()
    canary_rps = traffic.all_rps * traffic.share
    head = f"at {canary_rps:.2g} canary requests a second ({round(100 * traffic.share)} %): "
    said = [head + "; ".join(f"{one.words} is found {_when(seconds)}" for one, seconds in found)]
    return (*said, _help(traffic, phi_milli, weight_ppm, config))


def effects(usual: float) -> tuple[Effect, ...]:
    """From the largest to the smallest."""
    base = max(usual, 0.002)
    times = [Effect(f"{n} times the usual errors", min(1.0, n * base)) for n in (10, 5, 2)]
    return (Effect("a canary that always fails", 1.0), Effect("one that fails 10 % of requests", 0.1), *times)


def _help(traffic: Traffic, phi_milli: int, weight_ppm: int, config: JudgeConfig) -> str:
    """What would make a tenfold regression be found sooner."""
    wanted = effects(traffic.usual_rate)[2].rate
    shares = [percent for percent in LARGER_SHARES if percent / 100 > traffic.share]
    ways = [
        f"with {percent} % of traffic {_when(_seconds(wanted, traffic._replace(share=percent / 100), *_given))}"
        for percent in shares
        for _given in [(phi_milli, weight_ppm, config)]
    ]
    probed = traffic._replace(all_rps=traffic.all_rps + PROBES_RPS)
    ways.append(
        f"with {PROBES_RPS:g} probes a second {_when(_seconds(wanted, probed, phi_milli, weight_ppm, config))}"
        " (service.probes, service.probe_rps)"
    )
    return f"ten times the usual errors would be found {', '.join(ways)}"


def _seconds(rate: float, traffic: Traffic, phi_milli: int, weight_ppm: int, config: JudgeConfig) -> float:
    """Infinite: it is never found."""
    growth = max(_growth(rate, traffic, multiples(config), config.theta0_milli / 1000)) * 1000 / phi_milli
    needed = threshold_micro(config.alpha_ppm) / MICRO + math.log(config.grid_points) + math.log(MICRO / weight_ppm)
    return needed / growth / (traffic.all_rps * traffic.share) if growth > 0 else math.inf


def _growth(rate: float, traffic: Traffic, ratios: Sequence[float], tolerated: float) -> list[float]:
    """Nats a canary request, by alternative."""
    rho = traffic.share
    failures = rate + traffic.usual_rate * (1 - rho) / rho

    def expected(ratio: float) -> float:
        return math.log1p(rho * (ratio - 1))

    return [
        rate * math.log(multiple) - failures * (expected(tolerated * multiple) - expected(tolerated))
        for multiple in ratios
    ]


def _when(seconds: float) -> str:
    if seconds > NEVER_S:
        return "not within a day"
    if seconds < 90:  # noqa: PLR2004  where minutes begin to read better
        return f"in about {max(1, math.ceil(seconds))} s"
    return f"in about {math.ceil(seconds / 60):,} min"
