"""What a rollout's windows add up to: a fold, one score for each test of the panel, and what else is watched.

Integers in; no clock, no chance, no I/O. The tests of the panel are combined as their weighted mean, which is an
e-process whatever their dependence. Its null is "in no test is the canary worse than tolerated, and it is not silent".
The first crossing of 1/alpha is final and the fold stops there, so a verdict keeps the numbers that it rests on.

The caller discards warm-up windows, sends windows in order, and fixes phi, the boundaries and what else is `Given`
before the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.canary.boundaries import no_boundaries
from controller.canary.bystanders import NOT_SPLIT, Split, Watched, alarmed, nothing_watched, watched
from controller.canary.eprocess import (
    MICRO,
    NOTHING,
    Sums,
    TwoArms,
    added,
    log_e,
    log_weighted_mean,
    multiples,
    threshold_micro,
    to_micro,
)
from controller.canary.panel import NOTHING_MORE, Given, Score, Test, scored, tests_of
from controller.canary.promotion import NO_EVIDENCE, absolute_increments, relative_increments
from controller.canary.silence import NEW_BLOCK, NO_SILENCE, Block, silence_increments
from controller.domain.counts import WindowCounts
from controller.domain.verdict import Boundaries, Evidence, JudgeConfig, Phi, TestKind
from controller.errors import Permanent


class WindowRefused(Permanent):
    """A window overlaps what was already judged, or there are more of them than one rollout may have."""


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What the present weight has seen: all zero again when the weight changes."""

    start_ms: int
    canary_requests: int = 0
    silent_windows: int = 0  # trailing windows with baseline requests and none for the canary
    silent_baseline_requests: int = 0  # baseline requests in those windows
    silent_asked: int = 0  # requests that callers sent the canary in those windows
    block: Block = NEW_BLOCK
    split: Split = NOT_SPLIT
    probes: int = 0


@dataclass(frozen=True, slots=True)
class JudgeState:
    """Sums over the windows so far. Never stored: folding the same windows gives the same bits."""

    scores: tuple[Score, ...]  # one per test of the panel
    step: StepSeen
    watched: Watched
    absolute: Sums = NO_EVIDENCE
    relative: Sums = NO_EVIDENCE
    failed: TwoArms = NOTHING  # totals of errors
    calm: TwoArms = NOTHING  # of them, those outside shared incidents
    by_window: tuple[TwoArms, ...] = ()  # errors per window, for the interval
    windows: int = 0
    start_ms: int = 0  # where the first window began
    end_ms: int = 0  # where the last window ended
    first_crossing: int | None = None  # 0-based window; None: never crossed


@dataclass(frozen=True)
class Weighing:
    """Fixed inputs of one rollout at its present weight. A new weight takes a new judge, going on with the old state.

    `weight_percent` is the canary's intended share of requests; `step_start_ms` is when it was set: earlier windows
    stay evidence, but count neither for `min_step_requests` nor for silence.
    """

    config: JudgeConfig
    phi: Phi
    boundaries: Boundaries = field(default_factory=no_boundaries)
    weight_percent: int = 0
    step_start_ms: int = 0
    latency_phi: Phi | None = None  # None: latency is tempered by the errors' phi, and a caveat says so
    given: Given = NOTHING_MORE

    @cached_property
    def ratios(self) -> tuple[float, ...]:
        """Alternatives, as multiples of what is tolerated."""
        return multiples(self.config)

    @cached_property
    def panel(self) -> tuple[Test, ...]:
        return tests_of(self.config, self.boundaries, self.given)

    def start(self) -> JudgeState:
        zeros = (0.0,) * self.config.grid_points
        scores = tuple(Score(NO_SILENCE if one.kind is TestKind.ABSENT else zeros) for one in self.panel)
        return JudgeState(scores, StepSeen(self.step_start_ms), nothing_watched(self.given))

    def step(self, state: JudgeState, window: WindowCounts) -> JudgeState:
        """Fold one window in. After the first crossing the state no longer changes. Raises WindowRefused."""
        if state.first_crossing is not None:
            return state
        self._refuse_misplaced(state, window)
        failed = TwoArms(window.canary.errors, window.canary.requests, window.baseline.errors, window.baseline.requests)
        step = self._step_seen(state, window)
        # Decided before the window is seen: not to bet in it is no bet lost, and the proof stays one.
        calm = not alarmed(state.watched, self.given, self.config)
        absolute = absolute_increments(failed.canary_bad, failed.canary_total, self.config)
        folded = replace(
            state,
            scores=self._scores(state, window, step),
            step=replace(step, block=NEW_BLOCK) if step.block.whole else step,
            watched=watched(state.watched, window, self.given, self.config, self.phi.milli),
            absolute=added(state.absolute, absolute) if calm else state.absolute,
            relative=added(state.relative, relative_increments(failed, self.config)),
            failed=state.failed.plus(failed),
            calm=state.calm.plus(failed) if calm else state.calm,
            by_window=(*state.by_window, failed),
            windows=state.windows + 1,
            start_ms=state.start_ms if state.windows else window.start_ms,
            end_ms=window.end_ms,
        )
        crossed = combined_micro(self.evidence(folded)) >= threshold_micro(self.config.alpha_ppm)
        return replace(folded, first_crossing=state.windows) if crossed else folded

    def evidence(self, state: JudgeState) -> tuple[Evidence, ...]:
        return tuple(self._evidence(test, score) for test, score in zip(self.panel, state.scores, strict=True))

    def present_step(self, state: JudgeState) -> StepSeen:
        return state.step if state.step.start_ms == self.step_start_ms else StepSeen(self.step_start_ms)

    def _refuse_misplaced(self, state: JudgeState, window: WindowCounts) -> None:
        if window.start_ms < state.end_ms:
            raise WindowRefused(
                f"window starts at {window.start_ms} ms, before the last judged one ended at {state.end_ms} ms",
                "Drop and count late windows: evidence that was looked at cannot be rewritten.",
            )
        if state.windows >= self.config.max_windows:
            raise WindowRefused(
                f"rollout has {state.windows} windows, the most that max_windows allows",
                "End the rollout, or use longer windows.",
            )

    def _scores(self, state: JudgeState, window: WindowCounts, step: StepSeen) -> tuple[Score, ...]:
        return tuple(
            self._silence(score, step.block)
            if test.kind is TestKind.ABSENT
            else scored(test, score, window, self.boundaries, self.config, self.ratios)
            for test, score in zip(self.panel, state.scores, strict=True)
        )

    def _silence(self, score: Score, block: Block) -> Score:
        silence = self.given.silence
        if silence is None or not block.whole or block.silent is None:
            return score
        seen = score.seen.plus(TwoArms(int(block.silent), 1, 0, 0))
        return Score(silence_increments(score.sums, silent=block.silent, bound_ppm=silence.bound_ppm), seen)

    def _step_seen(self, state: JudgeState, window: WindowCounts) -> StepSeen:
        step, arrived = self.present_step(state), window.canary.requests
        if window.start_ms < self.step_start_ms:
            return step
        step = replace(
            step,
            block=step.block.plus(window),
            split=step.split.plus(window, self.weight_percent),
            probes=step.probes + window.probes,
            canary_requests=step.canary_requests + arrived,
        )
        if arrived:
            return replace(step, silent_windows=0, silent_baseline_requests=0, silent_asked=0)
        idle = not window.baseline.requests
        return replace(
            step,
            silent_windows=step.silent_windows + (0 if idle else 1),
            silent_baseline_requests=step.silent_baseline_requests + window.baseline.requests,
            silent_asked=step.silent_asked + (window.callers.canary.requests if window.callers else 0),
        )

    def _evidence(self, test: Test, score: Score) -> Evidence:
        """ABSENT is not tempered: its trials are blocks of windows, and its null says what one of them may do."""
        noise = {TestKind.ERRORS: self.phi, TestKind.LATENCY: self.latency_phi or self.phi}.get(test.kind)
        seen, silence = score.seen, self.given.silence
        if test.kind is TestKind.ABSENT and silence is not None:
            seen = seen._replace(baseline_bad=silence.silent, baseline_total=silence.asked)
        return Evidence(
            boundary=self.boundaries.indices[test.position] if test.position is not None else None,
            weight_ppm=test.weight_ppm,
            log_e_micro=to_micro(log_e(score.sums, noise.milli if noise else 1000)),
            kind=test.kind,
            view=test.view,
            route=test.route,
            **seen._asdict(),
        )


def combined_micro(evidence: tuple[Evidence, ...]) -> int:
    logs = [entry.log_e_micro / MICRO for entry in evidence]
    return to_micro(log_weighted_mean(logs, [entry.weight_ppm / MICRO for entry in evidence]))
