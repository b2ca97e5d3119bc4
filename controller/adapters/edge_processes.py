"""One instance of a service: started in a sandbox on a port of its own, watched while it lives, gone when the edge is.

In a sandbox with isolation the port is its own loopback's, and reached through the sandbox; without, a port is found by
binding 0 and handed over, and when somebody else takes it in between, another one is tried. An instance that is not
healthy in time, or ends, is down with its last words as the reason, its secrets taken out of them. A confirmed one is
started again, each time later, and not for ever. Everything that an instance has started ends with it, and all of them
with the edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from controller.adapters.edge_http import LARGEST_HEAD_BYTES, LOOPBACK, get_status
from controller.adapters.edge_secrets import SecretSource, longest_piece, read_secrets, without_secrets
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_doors import Place
from controller.adapters.sandbox_rungs import Limits
from controller.adapters.sandbox_running import Running
from controller.errors import Permanent, Unavailable

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # before each new start; the last one is the end of it
STEADY_S = 60  # an instance that lived this long has its restarts back
PORT_TRIES = 3
CHECK_EVERY_S = 1.0
CHECK_WITHIN_S = 2.0
BAD_CHECKS = 3  # in a row, until an instance counts as unhealthy
STOP_WITHIN_S = 5.0
TAIL_BYTES = 4 << 10
LAST_WORDS_CHARS = 1_500
OK = 200
NOT_THERE = 127  # the exit code of a command that cannot be found, as a shell says it
BY_SIGNAL = 128


class Life(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How an instance is started; `command` and `environment` are told the port."""

    sandbox: Sandbox
    python: str
    command: Callable[[int], list[str]]
    environment: Mapping[str, str]
    secrets: Mapping[str, SecretSource]
    folder: Path
    reads: tuple[Path, ...]
    reach: Sequence[Place]
    health: str
    ready_seconds: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Instance:
    """`start` returns at once; `life` and `reason` tell the rest."""

    def __init__(self, name: str, plan: StartPlan, *, restarts: bool = False) -> None:
        self.name = name
        self.port = 0
        self.life = Life.STARTING
        self.reason = ""  # empty: nothing speaks against it (yet)
        self.restarts = restarts
        self._plan = plan
        self._tail = b""
        self._secrets: Mapping[str, str] = {}
        self._running: Running | None = None  # None: not spawned
        self._keeper: asyncio.Task[None] | None = None  # None: not started

    @property
    def serving(self) -> bool:
        return self.life is Life.HEALTHY

    async def start(self) -> None:
        """Raises `Permanent` when the command cannot be run at all."""
        process = await self._spawn()
        self._keeper = asyncio.create_task(self._keep(process), name=f"keep {self.name}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL. May be called twice."""
        self.life, self.reason = Life.STOPPED, "it was stopped"
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._running is not None:
            await _ended(self._running)

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        """Raises `OSError` when nothing listens."""
        if self._running is None:
            raise ConnectionRefusedError(f"{self.name} has not been started")
        return await self._running.connect(self.port, LARGEST_HEAD_BYTES)

    async def _spawn(self) -> Running:
        self.port, self._tail = free_port(), b""
        plan = self._plan
        self._secrets = await read_secrets(plan.secrets)
        try:
            self._running = await plan.sandbox.start(
                plan.command(self.port),
                tree=plan.folder,
                python=plan.python,
                env={**plan.environment, **self._secrets, "PORT": str(self.port)},
                readable=plan.reads,
                limits=Limits(),
                reach=plan.reach,
                on_output=self._hear,
            )
        except Unavailable as error:
            raise Permanent(f"{self.name} cannot be started: {error.message}", error.way_out) from error
        return self._running

    async def _keep(self, process: Running) -> None:
        """Lives follow each other until the last one is over."""
        now = asyncio.get_running_loop().time
        lives = 0
        while True:
            began = now()
            reason = await self._one_life(process)
            await _ended(process)
            if self.life is Life.STOPPED:
                return
            self.life, self.reason = Life.DOWN, reason
            lives = 0 if now() - began > STEADY_S else lives
            if not self.restarts or lives >= len(BACKOFF_S):
                return
            await asyncio.sleep(BACKOFF_S[lives])
            lives += 1
            try:
                process = await self._spawn()
            except Permanent as error:
                self.reason = str(error)
                return
            self.life, self.reason = Life.STARTING, ""

    async def _one_life(self, process: Running) -> str:
        """Why it ended."""
        for _ in range(PORT_TRIES):
            try:
                ending = await self._until_over(process)
            finally:
                await _ended(process)
            if b"address already in use" not in self._tail.lower():
                break
            try:
                process = await self._spawn()
            except Permanent as error:
                return f"{ending}, and it could not be started on another port: {error}"
        words = self._last_words()
        return f"{ending}; it said last: {words}" if words else f"{ending}, and said nothing"

    def _last_words(self) -> str:
        """Without secrets, and without the beginning of a cut text, which may be the end of one."""
        cut = len(self._tail) >= self._tail_bytes
        text = self._tail.decode(errors="replace")[longest_piece(self._secrets) if cut else 0 :]
        return without_secrets(text.strip(), self._secrets)[-LAST_WORDS_CHARS:]

    @property
    def _tail_bytes(self) -> int:
        return TAIL_BYTES + 4 * longest_piece(self._secrets)  # a character has four bytes at most

    def _hear(self, piece: bytes) -> None:
        self._tail = (self._tail + piece)[-self._tail_bytes :]

    async def _until_over(self, process: Running) -> str:
        exit_ = asyncio.create_task(process.wait())
        try:
            if not await self._until_ready(exit_):
                within = f"within {self._plan.ready_seconds:g} s"
                return _exit_words(process) if exit_.done() else f"GET {self._plan.health} did not answer 200 {within}"
            await self._watch(exit_)
        finally:
            exit_.cancel()
        return _exit_words(process)

    async def _until_ready(self, exit_: asyncio.Task[None]) -> bool:
        now = asyncio.get_running_loop().time
        deadline = now() + self._plan.ready_seconds
        pause = 0.05
        while now() < deadline and not exit_.done():
            healthy = await self._healthy(min(CHECK_WITHIN_S, self._plan.ready_seconds))
            if healthy and not exit_.done():
                self.life, self.reason = Life.HEALTHY, ""
                return True
            await asyncio.wait({exit_}, timeout=pause)
            pause = min(0.25, pause * 1.5)
        return False

    async def _watch(self, exit_: asyncio.Task[None]) -> None:
        bad = 0
        while not (await asyncio.wait({exit_}, timeout=CHECK_EVERY_S))[0]:
            bad = 0 if await self._healthy(CHECK_WITHIN_S) else bad + 1
            if bad >= BAD_CHECKS:
                self.life, self.reason = Life.UNHEALTHY, f"GET {self._plan.health} failed {bad} times in a row"
            elif not bad:
                self.life, self.reason = Life.HEALTHY, ""

    async def _healthy(self, within_s: float) -> bool:
        return await get_status(self.connect, f"{LOOPBACK}:{self.port}", self._plan.health, within_s) == OK


def _exit_words(process: Running) -> str:
    code = process.exit_code
    if code is None:
        return "it ended"
    if code == NOT_THERE:
        return (
            "it ended with exit code 127: correct the service's `start` command if it says that there is no such file"
        )
    known = {BY_SIGNAL + number.value: number.name for number in signal.Signals}
    return f"it was ended by {known[code]}" if code in known else f"it ended with exit code {code}"


async def _ended(process: Running) -> None:
    """All of it, bounded: politely first."""
    if process.exit_code is None:
        process.ask_to_end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
    await process.end()
