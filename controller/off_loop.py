"""Short pieces of work in a few threads of their own, so that a long one holds up neither the loop nor the end.

Made for the policy engine: a decision takes 0.1 ms, and whoever waits for one longer than the bound is told so and
falls to the safe side. A thread that never comes back costs one of a few; when all are lost, every question runs out of
time. The threads are daemons: the process ends without them. (An engine that computes without end and never lets go of
the interpreter's lock would hold the loop up from any thread: Cedar's language has no loops, and policies are bounded
when they are loaded.)
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from controller.errors import Unavailable

T = TypeVar("T")
THREADS = 4
MAX_WAITING = 1_000  # pieces of work that no thread has begun
WITHIN_S = 5.0


class Runner(Protocol):
    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """What the work gives. Raises what it raises, and Unavailable when it is not done in time."""
        ...


class Inline:
    """At once and in the loop itself: for a simulation, in which nothing may depend on threads."""

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        return work(*given)


@dataclass(frozen=True, slots=True)
class _Piece:
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    work: Callable[[], Any]


class OffLoop:
    """`Runner`. May serve several loops; its threads start with the first piece of work."""

    def __init__(self, *, threads: int = THREADS, within_s: float = WITHIN_S) -> None:
        self._within_s = within_s
        self._pieces: queue.SimpleQueue[_Piece] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, daemon=True, name="off-loop") for _ in range(threads)]
        self._started = False

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        if self._pieces.qsize() >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} questions wait already", "Try again in a moment")
        self._start()
        loop = asyncio.get_running_loop()
        piece = _Piece(loop, loop.create_future(), lambda: work(*given))
        self._pieces.put(piece)
        try:
            async with asyncio.timeout(self._within_s):
                return cast("T", await piece.done)
        except TimeoutError as late:
            raise Unavailable(f"no answer within {self._within_s:g} s", "Try again in a moment") from late

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _serve(self) -> None:
        while True:
            piece = self._pieces.get()
            if piece.done.cancelled():
                continue  # nobody waits for it any more
            result, error = None, None
            try:
                result = piece.work()
            except BaseException as wrong:  # noqa: BLE001 - whatever it is, it is raised where somebody waits
                error = wrong
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                piece.loop.call_soon_threadsafe(_settle, piece.done, result, error)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    elif isinstance(error, Exception):
        done.set_exception(error)
    else:  # a panic of native code: a future takes it, and yet no loop should be ended by it
        done.set_exception(Unavailable(f"the work ended with {type(error).__name__}", "Look at the engine"))
