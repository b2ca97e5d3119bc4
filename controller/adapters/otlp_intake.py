"""The one line in which exports wait to be counted, whichever protocol brought them: who may join it, and its bounds.

Exports are counted one after another and in slices, so that users' requests, which share the event loop, wait for a
slice at most. What waits is bounded by number and by bytes. Beyond that an export is turned away before it is read,
with the seconds after which to come again; the log says so once a minute. So 200 means counted, never "will be".
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from controller.adapters.otlp_points import Ingest
from controller.adapters.otlp_wanted import SLICE_S, Rejected
from controller.adapters.otlp_wire import cut_traces

MOST_WAITING = 64
MOST_WAITING_BYTES = 32 << 20
LARGEST_BODY_BYTES = 4 << 20  # as sent; 1,000 points are 140 to 380 KiB
LARGEST_UNPACKED_BYTES = 16 << 20
SLICE_SPANS = 50
OTHERS_BUSY_S = 0.0002  # an idle loop comes back sooner
LONGEST_RETRY_S = 30
SAY_EVERY_S = 60.0
FIRST_GUESS_BYTES_PER_S = 10 << 20
log = logging.getLogger("flyball.edge")


async def _pause() -> None:
    """Let others have the loop, and for as long as a slice takes once more when there are any."""
    began = time.perf_counter()
    await asyncio.sleep(0)
    if time.perf_counter() - began > OTHERS_BUSY_S:
        await asyncio.sleep(SLICE_S)


class BusyError(Exception):
    """No more can wait; nothing was read of it. The sender should come again."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("more exports are waiting than can be counted in time")
        self.retry_after_s = retry_after_s


class Bearer:
    """Who may send: whoever knows the token. `token=None`: everybody who reaches the port."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}".encode()

    def lets_in(self, authorization: str) -> bool:
        return self._expected is None or hmac.compare_digest(authorization.encode(), self._expected)


class Intake:
    def __init__(
        self, ingest: Ingest, *, most_waiting: int = MOST_WAITING, most_waiting_bytes: int = MOST_WAITING_BYTES
    ) -> None:
        self.turned_away = 0  # exports, since the start
        self._ingest = ingest
        self._most_waiting = most_waiting
        self._most_bytes = most_waiting_bytes
        self._waiting = 0
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._bytes_per_s = float(FIRST_GUESS_BYTES_PER_S)
        self._unsaid = 0
        self._saying: asyncio.TimerHandle | None = None  # None: nothing was turned away for a minute

    def left_out(self) -> dict[str, int]:
        """Of all services, by reason, since the start."""
        return {"exports turned away": self.turned_away, **self._ingest.assembler.dropped}

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """In the line, for an export of so many bytes, until it was counted. Raises `BusyError`."""
        if self._waiting >= self._most_waiting or self._bytes + size > self._most_bytes:
            self._turn_away()
            raise BusyError(min(LONGEST_RETRY_S, max(1, math.ceil(self._bytes / self._bytes_per_s))))
        self._waiting += 1
        self._bytes += size
        try:
            yield
        finally:
            self._waiting -= 1
            self._bytes -= size

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """Around unpacking and counting: one export at a time, in the order in which they came."""
        async with self._turn:
            began = time.monotonic()
            yield
            spent_s = time.monotonic() - began
            self._bytes_per_s += (max(size, 1) / max(spent_s, 1e-4) - self._bytes_per_s) / 16

    async def metrics(self, body: bytes, trace_id: Callable[[bytes], str] = bytes.hex) -> Rejected:
        """Within a turn. Raises protobuf's `DecodeError` with nothing counted."""
        rejected = Rejected()
        for _ in self._ingest.counting(body, rejected, trace_id):
            await _pause()
        return rejected

    async def traces(self, body: bytes, trace_id: Callable[[bytes], str] = bytes.hex) -> None:
        """Within a turn. Raises protobuf's `DecodeError`."""
        for piece in cut_traces(body, SLICE_SPANS):
            self._ingest.traces(ExportTraceServiceRequest.FromString(piece), trace_id)
            await _pause()

    def _turn_away(self) -> None:
        self.turned_away += 1
        self._unsaid += 1
        if self._saying is None:
            self._say()

    def _say(self) -> None:
        self._saying = None
        if not self._unsaid:
            return
        log.warning(
            "OTLP: turned %d exports away, %d with %d bytes were waiting: send less often, or fewer series",
            self._unsaid,
            self._waiting,
            self._bytes,
        )
        self._unsaid = 0
        self._saying = asyncio.get_running_loop().call_later(SAY_EVERY_S, self._say)
