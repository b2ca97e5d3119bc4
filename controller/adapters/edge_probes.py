"""Flyball's own requests to a canary that too few users ask: sent to the public port, like theirs, and marked.

They go through the same draw, so both versions get their share by weight and the comparison stays a random one; sent to
the canary alone, they would compare probes with users. They are sent while a canary has weight, at an even pace, and
end with it. A window says how many of its requests were probes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from controller.adapters.edge_config import ServiceSettings
from controller.adapters.edge_http import LOOPBACK, get_status, loopback

PROBE_FIELD = "x-flyball-probe"
MOST_OUTSTANDING = 16
ANSWER_WITHIN_S = 10.0
LOOK_EVERY_S = 0.5  # whether there is anything to probe


class Probes:
    """`settings` is asked every time: a running edge takes new ones. `port` is the public one."""

    def __init__(
        self, settings: Callable[[], ServiceSettings], port: Callable[[], int], exposed: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._port = port
        self._exposed = exposed  # whether a canary has weight
        self._outstanding: set[asyncio.Task[int | None]] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            for number in count():
                settings = self._settings()
                if not (settings.probes and settings.probe_rps and self._exposed()):
                    await asyncio.sleep(LOOK_EVERY_S)
                    continue
                if len(self._outstanding) < MOST_OUTSTANDING:
                    self._send(settings.probes[number % len(settings.probes)])
                await asyncio.sleep(1 / settings.probe_rps)
        finally:
            for task in self._outstanding:
                task.cancel()

    def _send(self, path: str) -> None:
        port = self._port()
        probe = get_status(loopback(port), f"{LOOPBACK}:{port}", path, ANSWER_WITHIN_S, ((PROBE_FIELD, "1"),))
        task = asyncio.create_task(probe, name=f"probe {path}")
        self._outstanding.add(task)
        task.add_done_callback(self._outstanding.discard)
