"""Overdispersed errors: what phi costs, and what ignoring it costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from controller.domain.verdict import JudgeConfig

from . import noise
from .cells import ROOMY_BATCH, Cell, Found, Judged, Sizes, gathered, tell
from .error_cells import named, peers
from .ours import Combined, ErrorsTest

TOO_NOISY = "held as too noisy"
TEMPERED = "E1 tol 1.25, tempered"


def noisy(rng: np.random.Generator, sizes: Sizes) -> Iterator[Cell]:
    runs_of = {1.0: max(sizes.effect_runs, sizes.null_runs // 10), 5.0: sizes.effect_runs, 10.0: sizes.effect_runs}
    for rps in [rate for rate in sizes.rates if rate >= 0.5]:
        for level in noise.NOISES:
            tell(f"noise, {rps} canary requests a second: phi {level.phi}")
            for times, runs in runs_of.items():
                name = f"phi {level.phi:g}, {level.persistence_s} s" + ("" if times == 1 else f", x{times:g}")
                tally = gathered(rng, runs, ROOMY_BATCH, _noisy_all(level, rps, times, sizes))
                yield from tally.cells("noise", rps, name, is_null=times == 1)


def _noisy_all(level: noise.Noise, rps: float, times: float, sizes: Sizes) -> Judged:
    config = JudgeConfig()

    def judged(rng: np.random.Generator, runs: int) -> Found:
        arms = noise.draw(rng, level, rps, runs, times)
        phi = noise.measured_phi(rng, level, rps, runs, config) / 1000
        held = phi * 1000 > config.phi_too_noisy_milli
        found = {TOO_NOISY: np.where(held, 0.0, np.inf)}
        test = ErrorsTest(arms, config)
        kinds = {"E1 tol 1.25, phi ignored": Combined([test]), TEMPERED: Combined([test], phi=phi[:, None])}
        found |= named(kinds, sizes.alphas_ppm)
        for alpha in sizes.alphas_ppm:
            found[f"judge@{alpha}"] = np.where(held, np.inf, found[f"{TEMPERED}@{alpha}"])
        return found | peers(arms)

    return judged
