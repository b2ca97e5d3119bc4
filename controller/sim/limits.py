"""Rates in memory: the twin of the shared count, with the same windows and without a file."""

from __future__ import annotations

from controller.errors import Unavailable
from controller.ports import Clock


class SimLimits:
    """`ports.Limits`. `down`: nobody can tell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: dict[tuple[str, int], tuple[int, int]] = {}
        self.down = False

    async def take(self, who: str, *, limit: int, window_s: int) -> float:
        if self.down:
            raise Unavailable("the shared count of calls cannot be reached", "Wait")
        at = self._clock.now().timestamp()
        latest, taken = self._taken.get((who, window_s), (0, 0))
        window = max(latest, int(at // window_s))
        taken = taken if window == latest else 0
        if taken >= limit:
            return max(1.0, (window + 1) * window_s - at)
        self._taken[who, window_s] = (window, taken + 1)
        return 0.0
