"""The bench's arrays conclude what the product concludes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from bench.detect import durations, noise, ours, traffic
from bench.detect.durations import Cells
from bench.detect.ours import Combined, ErrorsTest, LatencyTest
from bench.detect.traffic import Arms
from controller.canary.boundaries import guessed_rate, slower_in
from controller.canary.dispersion import estimate_phi
from controller.canary.eprocess import (
    MICRO,
    NOTHING,
    TwoArms,
    added,
    block_increments,
    log_e,
    multiples,
    rare_event_increments,
)
from controller.canary.judge import Judge
from controller.domain.counts import ArmCounts, Histogram, InstanceMinute, WindowCounts
from controller.domain.verdict import Boundaries, JudgeConfig, Phi, PhiSource

CONFIG = JudgeConfig()
ALPHAS_PPM = (1_000, 10_000, 200_000)  # the last is crossed often
EQUAL = 1e-9  # nats


def random_arms(seed: int, rollouts: int = 6, windows: int = 12) -> Arms:
    """Some windows without the canary, without the baseline, without errors, all errors."""
    rng = np.random.default_rng(seed)
    n, m = (rng.poisson(rng.choice([0.5, 20, 3000], (rollouts, windows))) for _ in range(2))
    x, y = (rng.binomial(total, rng.choice([0, 0.002, 0.3, 1], total.shape)) for total in (n, m))
    return Arms(x, n, y, m)


def window_of(arms: Arms, rollout: int, window: int) -> TwoArms:
    return TwoArms(*(int(counts[rollout, window]) for counts in arms))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("theta0_milli", [1_000, 1_250, 3_000])
def test_evidence_of_errors_is_the_products_after_every_window(seed: int, theta0_milli: int) -> None:
    config, arms = JudgeConfig(theta0_milli=theta0_milli), random_arms(seed)
    tolerated, phi_milli = theta0_milli / 1000, 1_700
    ratios = [tolerated * multiple for multiple in multiples(config)]
    steps = list(ErrorsTest(arms, config).steps(np.ones(len(arms.canary_bad), dtype=bool)))
    paths = ours.log_e_paths(steps, phi_milli / 1000)
    for rollout in range(len(paths)):
        sums: tuple[float, ...] = (0.0,) * len(ratios)
        for window in range(paths.shape[1]):
            sums = added(sums, rare_event_increments(window_of(arms, rollout, window), tolerated, ratios))
            assert paths[rollout, window] == pytest.approx(log_e(sums, phi_milli), abs=EQUAL, rel=EQUAL)


@pytest.mark.parametrize("seed", range(5))
def test_evidence_of_latency_is_the_products_in_every_window(seed: int) -> None:
    arms, grid = random_arms(seed), multiples(CONFIG)
    guessed = np.random.default_rng(seed).uniform(0.001, 0.999, arms.canary_bad.shape)
    steps = np.stack(list(ours.block_steps(arms, guessed, grid)))
    for rollout, window in np.ndindex(*guessed.shape):
        expected = block_increments(window_of(arms, rollout, window), float(guessed[rollout, window]), grid)
        assert steps[:, rollout, window] == pytest.approx(expected, abs=1e-8, rel=EQUAL)


def test_the_guessed_rate_never_looks_at_its_own_window() -> None:
    arms = random_arms(3)
    boundaries = durations.draw_boundaries(np.random.default_rng(1), 0.5, CONFIG)
    for position in range(len(boundaries.indices)):
        rates = ours.guessed_rates(boundaries, position, arms, CONFIG)
        seen = NOTHING
        for window in range(rates.shape[1]):
            assert rates[0, window] == pytest.approx(guessed_rate(boundaries, position, seen, CONFIG), abs=EQUAL)
            seen = seen.plus(window_of(arms, 0, window))


@pytest.mark.parametrize("seed", range(4))
def test_looking_only_at_promising_rollouts_loses_no_crossing(seed: int) -> None:
    arms = traffic.draw(np.random.default_rng(seed), traffic.Scenario("x3", canary_times=3), 5.0, 60)
    combined = Combined([ErrorsTest(arms, CONFIG)])
    everyone = np.ones(len(arms.canary_bad), dtype=bool)
    micro, found = combined.log_e_micro(everyone), combined.first_crossings(ALPHAS_PPM)
    for alpha in ALPHAS_PPM:
        assert (found[alpha] == ours.first(micro >= math.ceil(math.log(MICRO / alpha) * MICRO))).all()
    assert (found[ALPHAS_PPM[-1]] != ours.NEVER).any()


@dataclass(frozen=True)
class Rollouts:
    """Simulated rollouts, and the same ones as the product sees them."""

    failed: Arms
    cells: Cells
    boundaries: Boundaries

    def judged(self, alpha_ppm: int) -> list[int | None]:
        config = JudgeConfig(alpha_ppm=alpha_ppm)
        phi = Phi(milli=1_000, source=PhiSource.MEASURED, instances=10, minutes=60)
        court, crossings = Judge(config, phi, self.boundaries, 10), []
        for rollout in range(len(self.failed.canary_bad)):
            state = court.start()
            for window in range(traffic.WINDOWS):
                state = court.step(state, self.window(rollout, window))
            crossings.append(state.first_crossing)
        return crossings

    def window(self, rollout: int, window: int) -> WindowCounts:
        failed = window_of(self.failed, rollout, window)
        return WindowCounts(
            start_ms=window * 10_000,
            end_ms=(window + 1) * 10_000,
            canary=self._arm(failed.canary_bad, failed.canary_total, self.cells.canary[rollout, window]),
            baseline=self._arm(failed.baseline_bad, failed.baseline_total, self.cells.baseline[rollout, window]),
        )

    def _arm(self, errors: int, requests: int, counts: traffic.Counts) -> ArmCounts:
        """Cell `i` holds durations up to its edge; the bucket of an edge begins there."""
        starts = [round(8 * math.log2(edge)) for edge in self.cells.edges_ms]
        buckets = dict(zip([starts[0] - 1, *starts], (int(count) for count in counts), strict=True))
        return ArmCounts(requests=requests, errors=errors, latency=Histogram.of(buckets))


def rollouts(canary_rps: float, slowness: durations.Slowness, count: int, seed: int) -> Rollouts:
    rng = np.random.default_rng(seed)
    boundaries = durations.draw_boundaries(rng, canary_rps, CONFIG)
    cells = durations.draw(
        rng, slowness, canary_rps, count, durations.edges_of(boundaries, (CONFIG.tolerance_buckets,))
    )
    failed = traffic.draw(rng, traffic.Scenario("x3", canary_times=3), canary_rps, count)
    return Rollouts(failed, cells, boundaries)


@pytest.mark.parametrize(("canary_rps", "slowness"), [(0.5, durations.EFFECTS[2]), (5.0, durations.EFFECTS[3])])
def test_whole_rollouts_are_rolled_back_in_the_window_in_which_the_judge_does(
    canary_rps: float, slowness: durations.Slowness
) -> None:
    seen = rollouts(canary_rps, slowness, 4, seed=11)
    latency: list[ours.Test] = [
        LatencyTest(arms, ours.guessed_rates(seen.boundaries, position, arms, CONFIG), CONFIG)
        for position, arms in enumerate(durations.arms_of(seen.cells, seen.boundaries, CONFIG.tolerance_buckets))
    ]
    each = (MICRO - CONFIG.errors_weight_ppm) // len(latency)
    weights = [CONFIG.errors_weight_ppm, *[each] * len(latency)]
    combined = Combined([ErrorsTest(seen.failed, CONFIG), *latency], weights)
    for alpha, found in combined.first_crossings(ALPHAS_PPM).items():
        expected = seen.judged(alpha)
        assert [None if window == ours.NEVER else int(window) for window in found] == expected
        assert any(window is not None for window in expected)


def test_a_boundary_counts_in_cells_what_it_counts_in_the_products_histogram() -> None:
    seen = rollouts(5.0, durations.EFFECTS[1], 1, seed=5)
    for position, arms in enumerate(durations.arms_of(seen.cells, seen.boundaries, CONFIG.tolerance_buckets)):
        window = seen.window(0, 7)
        boundary = seen.boundaries.indices[position]
        expected = slower_in(window.canary.latency, window.baseline.latency, boundary, CONFIG)
        assert window_of(arms, 0, 7) == expected


@pytest.mark.parametrize("requests", [0.4, 40.0])
def test_phi_is_measured_as_the_product_measures_it(requests: float) -> None:
    rng = np.random.default_rng(int(requests))
    total = rng.poisson(requests, (3, 4, 30))
    bad = rng.binomial(total, rng.beta(0.2, 2, total.shape))
    for milli, errors, counts in zip(noise.phi_milli(bad, total, CONFIG), bad, total, strict=True):
        entries = [
            InstanceMinute(instance=str(i), minute_ms=60_000 * t, requests=int(counts[i, t]), errors=int(errors[i, t]))
            for i, t in np.ndindex(*counts.shape)
        ]
        assert milli == pytest.approx(estimate_phi(entries, CONFIG).milli, abs=1)


@pytest.mark.parametrize("persistence_s", [10, 60])
def test_drawn_noise_has_the_dispersion_that_it_is_named_after(persistence_s: int) -> None:
    plain = JudgeConfig(phi_margin_milli=0)
    drawn = noise.measured_phi(np.random.default_rng(2), noise.Noise(3.0, persistence_s), 5.0, 200, plain)
    assert float(drawn.mean()) / 1000 == pytest.approx(3.0, rel=0.1)


def test_durations_have_the_percentiles_that_the_page_names() -> None:
    assert durations.slower_than(durations.AS_EVER, 60.0) == pytest.approx(0.5)
    assert durations.slower_than(durations.AS_EVER, 386.0) == pytest.approx(0.01, rel=0.01)
    fractions = durations.cell_fractions(durations.EFFECTS[4].canary, durations.EDGES_MS)
    assert fractions.sum() == pytest.approx(1.0)
    p99 = durations.p99_ms(
        np.round(10_000_000 * durations.cell_fractions(durations.AS_EVER, durations.EDGES_MS)), durations.EDGES_MS
    )
    assert float(p99) == pytest.approx(386.0, rel=0.02)
