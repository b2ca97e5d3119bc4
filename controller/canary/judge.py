"""The judge of a canary: weighs windows of counts, and reads a verdict from what they add up to.

Integers in, integers out. Rollback rests on the panel's combined e-process (`weighing`), promotion must be proven too
(`promotion`); what is neither is held, with the number of requests missing. Whatever else is watched (`bystanders`) has
no part in alpha and may only hold and page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.canary.deciding import verdict_of
from controller.canary.panel import NOTHING_MORE, Given
from controller.canary.weighing import JudgeState, Weighing
from controller.domain.counts import WindowCounts
from controller.domain.verdict import Boundaries, JudgeConfig, Phi, Verdict


@dataclass(frozen=True)
class Judge(Weighing):
    def verdict(self, state: JudgeState) -> Verdict:
        """What the state says now, with its reasons. Pure and repeatable: no window is spent by asking."""
        return verdict_of(self, state)


def judge(
    config: JudgeConfig,
    windows: Iterable[WindowCounts],
    phi: Phi,
    boundaries: Boundaries,
    *,
    weight_percent: int,
    step_start_ms: int = 0,
    latency_phi: Phi | None = None,  # None: latency is tempered by the errors' phi, and a caveat says so
    given: Given = NOTHING_MORE,
) -> Verdict:
    """The verdict over all windows of a rollout, in order of time, warm-up left out.

    The same inputs give the same verdict, bit for bit, under one C library; another one's logarithms may differ in the
    last of the logged micro-nats. Raises WindowRefused where windows overlap, run backwards or
    exceed `max_windows`.
    """
    court = Judge(config, phi, boundaries, weight_percent, step_start_ms, latency_phi, given)
    state = court.start()
    for window in windows:
        state = court.step(state, window)
    return court.verdict(state)
