"""What Flyball's judge concludes, for many rollouts at once: the formulas of `controller.canary`, in arrays.

Equal to the product's own functions to 1e-9 and to whole runs of its `Judge` in the window of the first crossing;
tests/unit/bench_detect compares them. A mean of e-values is at most the largest of them, so only rollouts in which a
single alternative gets near the threshold, in single precision, are computed in full: under the null, almost none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.canary.eprocess import MICRO, multiples, threshold_micro
from controller.domain.verdict import Boundaries, JudgeConfig

from .traffic import Arms, Counts, Flags, Numbers

NEVER = -1  # in place of the window of a first crossing
WORTH_PACKING = 0.6  # of the windows; when more say something, moving them costs more than it saves
SLACK = 0.1  # nats; screening in single precision must not lose a rollout to rounding, which stays below 0.01


class PackedArms(NamedTuple):
    """Single-precision counts of the windows that say anything, each rollout's moved to its left; zeros after them."""

    canary_bad: Numbers
    canary_total: Numbers
    baseline_bad: Numbers
    baseline_total: Numbers


class Test(Protocol):
    """One e-process, not yet tempered."""

    @property
    def highest(self) -> Numbers:
        """Per rollout, the highest sum that any alternative ever has, in nats: a bound on log E."""
        ...

    def steps(self, chosen: Flags) -> Iterator[Numbers]:
        """Increments of each alternative, of the chosen rollouts."""
        ...


@dataclass(frozen=True)
class ErrorsTest:
    """E1."""

    arms: Arms
    config: JudgeConfig

    @cached_property
    def highest(self) -> Numbers:
        return _highest(self._steps(PackedArms(*_pack(_telling(self.arms), *self.arms))))

    def steps(self, chosen: Flags) -> Iterator[Numbers]:
        return self._steps(self.arms.rows(chosen))

    def _steps(self, arms: Arms | PackedArms) -> Iterator[Numbers]:
        tolerated = self.config.theta0_milli / 1000
        return rare_event_steps(arms, tolerated, [tolerated * multiple for multiple in multiples(self.config)])


@dataclass(frozen=True)
class LatencyTest:
    """E2 at one boundary. `guessed`: the baseline's slow fraction before each window."""

    arms: Arms
    guessed: Numbers
    config: JudgeConfig

    @cached_property
    def highest(self) -> Numbers:
        both = (self.arms.canary_total > 0) & (self.arms.baseline_total > 0)
        x, n, y, m, guessed = _pack(both, *self.arms, self.guessed)
        guessed[guessed == 0] = 0.5  # where there are no requests
        return _highest(block_steps(PackedArms(x, n, y, m), guessed, multiples(self.config)))

    def steps(self, chosen: Flags) -> Iterator[Numbers]:
        return block_steps(self.arms.rows(chosen), self.guessed[chosen], multiples(self.config))


@dataclass(frozen=True)
class Combined:
    """A weighted mean of tests, as the judge takes it. `phi`: of all rollouts, or of each, as a column."""

    tests: Sequence[Test]
    weights_ppm: Sequence[int] = (MICRO,)
    phi: float | Numbers = 1.0
    parts: Sequence[float] | None = None  # weights of the alternatives; None: equal

    def first_crossings(self, alphas_ppm: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """Per rollout, the 0-based window in which it reaches 1/alpha; NEVER where it does not.

        Evidence is rounded down to micro-nats as the judge logs it, each test and then the mean.
        """
        highest = np.max([test.highest for test in self.tests], axis=0)
        highest /= self.phi[:, 0] if isinstance(self.phi, np.ndarray) else self.phi
        near = np.asarray(highest >= threshold_micro(max(alphas_ppm)) / MICRO - SLACK)
        found = {alpha: np.full(len(near), NEVER, dtype=np.int64) for alpha in alphas_ppm}
        if near.any():
            micro = self.log_e_micro(near)
            for alpha in alphas_ppm:
                found[alpha][near] = first(micro >= threshold_micro(alpha))
        return found

    def log_e_micro(self, chosen: Flags) -> Numbers:
        """After each window, of the chosen rollouts."""
        phi = self.phi[chosen] if isinstance(self.phi, np.ndarray) else self.phi
        paths = [log_e_paths(list(test.steps(chosen)), phi, self.parts) for test in self.tests]
        logs = np.stack([np.floor(path * MICRO) / MICRO for path in paths])
        top = logs.max(axis=0)
        shares = np.array([weight / MICRO for weight in self.weights_ppm])
        micro: Numbers = np.floor((top + np.log(np.einsum("t,trw->rw", shares, np.exp(logs - top)))) * MICRO)
        return micro


def rare_event_steps(arms: Arms | PackedArms, null_ratio: float, ratios: Sequence[float]) -> Iterator[Numbers]:
    """E1's increments of each alternative, in nats: arrays (rollouts, windows)."""
    x, n, y, m = _where_both(arms)
    bad, share = x + y, n / np.maximum(n + m, 1)
    at_null = bad * np.log1p(share * (null_ratio - 1))
    for ratio in ratios:
        yield x * math.log(ratio / null_ratio) - bad * np.log1p(share * (ratio - 1)) + at_null


def block_steps(arms: Arms | PackedArms, guessed: Numbers, ratios: Sequence[float]) -> Iterator[Numbers]:
    """E2's increments of each alternative, in nats.

    With worse = the alternative's odds, its rate is worse / (1 + worse) and the pooled one `pooled` / (1 + worse).
    """
    x, n, y, m = _where_both(arms)
    bad, good, share = x + y, n + m - x - y, n / np.maximum(n + m, 1)
    odds, apart = guessed / (1 - guessed), guessed * (1 - share)
    fixed = y * np.log(guessed) + (m - y) * np.log1p(-guessed) + x * np.log(odds)
    for ratio in ratios:
        worse = odds * ratio
        pooled = apart * (1 + worse) + share * worse
        rest = m * np.log1p(worse) - bad * np.log(pooled) - good * np.log(1 + worse - pooled)
        yield fixed + x * math.log(ratio) + rest


def _where_both(arms: Arms | PackedArms) -> Iterator[Numbers]:
    """Counts as floats, and none in windows in which an arm is idle."""
    if isinstance(arms, PackedArms):
        return iter(arms)
    both = (arms.canary_total > 0) & (arms.baseline_total > 0)
    return (np.where(both, counts, 0.0) for counts in arms)


def guessed_rates(boundaries: Boundaries, position: int, arms: Arms, config: JudgeConfig) -> Numbers:
    """The baseline's slow fraction as the judge guesses it before each window."""
    weight = min(1.0, config.history_weight_requests / max(1, boundaries.requests))
    bad = boundaries.slower[position] * weight + _before(arms.baseline_bad) + 0.5
    rates: Numbers = bad / (boundaries.requests * weight + _before(arms.baseline_total) + 1)
    return rates


def _before(counts: Counts) -> Counts:
    return counts.cumsum(axis=1) - counts


def log_e_paths(steps: Sequence[Numbers], phi: float | Numbers, shares: Sequence[float] | None = None) -> Numbers:
    """Log of the tempered e-value after each window: the mean of exp(sum / phi) over the alternatives."""
    sums = np.stack([step.cumsum(axis=1) / phi for step in steps])
    parts = np.full(len(steps), 1 / len(steps)) if shares is None else np.array(shares)
    top = sums.max(axis=0)
    paths: Numbers = top + np.log(np.einsum("j,jrw->rw", parts, np.exp(sums - top)))
    return paths


def first(reached: Flags) -> NDArray[np.int64]:
    """The first true column of each row; NEVER where there is none."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1), NEVER)


def _highest(steps: Iterator[Numbers]) -> Numbers:
    highest: Numbers = np.max([step.cumsum(axis=1).max(axis=1, initial=0.0) for step in steps], axis=0)
    return highest


def _telling(arms: Arms) -> Flags:
    return (arms.canary_bad + arms.baseline_bad > 0) & (arms.canary_total > 0) & (arms.baseline_total > 0)


def _pack(kept: Flags, *columns: Counts | Numbers) -> list[Numbers]:
    """Each row's kept entries, moved to its left where many are not: quiet windows cost nothing."""
    if kept.mean() > WORTH_PACKING:
        return [np.where(kept, column, 0).astype(np.float32) for column in columns]
    rows, places = np.nonzero(kept)
    sizes = kept.sum(axis=1)
    shape = (len(kept), max(1, int(sizes.max(initial=0))))
    starts = np.repeat(sizes.cumsum() - sizes, sizes)
    packed: list[Numbers] = []
    for column in columns:
        made = np.zeros(shape, dtype=np.float32)
        made[rows, np.arange(len(rows)) - starts] = column[rows, places]
        packed.append(made)
    return packed
