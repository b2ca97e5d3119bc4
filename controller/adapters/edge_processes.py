"""One instance of a service: started on a port of its own, watched while it lives, and gone when the edge is.

A port is found by binding 0 and handed over; when somebody else takes it in between, another one is tried. An instance
that is not healthy in time, or ends, is down with its last words as the reason. A confirmed one is started again, each
time later, and not for ever. On Linux an instance is killed by the kernel when the edge dies; everywhere its whole
process group is ended when the edge stops.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from controller.adapters.edge_http import LOOPBACK, get_status
from controller.errors import Permanent

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # before each new start; the last one is the end of it
STEADY_S = 60  # an instance that lived this long has its restarts back
PORT_TRIES = 3
CHECK_EVERY_S = 1.0
CHECK_WITHIN_S = 2.0
BAD_CHECKS = 3  # in a row, until an instance counts as unhealthy
STOP_WITHIN_S = 5.0
TAIL_BYTES = 4 << 10
PR_SET_PDEATHSIG = 1
OK = 200
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME")


class Life(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How an instance is started; `command` and `environment` are told the port."""

    command: Callable[[int], list[str]]
    environment: Mapping[str, str]
    folder: Path
    health: str
    ready_seconds: float


def plain_environment() -> dict[str, str]:
    """What a child gets of this process's environment: nothing that could be a secret."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in the child. Linux only: elsewhere a killed edge leaves its instances to whoever killed it."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group(process: Process, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has ended meanwhile (macOS: it has, and nobody has asked how)


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
        self._process: Process | None = None  # None: not spawned
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
        if self._process is not None:
            await _ended(self._process)

    async def _spawn(self) -> Process:
        self.port = free_port()
        words = self._plan.command(self.port)
        environment = {**plain_environment(), **self._plan.environment, "PORT": str(self.port)}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                cwd=self._plan.folder,
                env=environment,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                process_group=0,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise Permanent(
                f"{words[0]} cannot be started: {error}", "Correct the service's `start` command"
            ) from error
        return self._process

    async def _keep(self, process: Process) -> None:
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

    async def _one_life(self, process: Process) -> str:
        """Why it ended."""
        for _ in range(PORT_TRIES):
            self._tail = b""
            reading = asyncio.create_task(self._read(process))
            try:
                ending = await self._until_over(process)
            finally:
                await _ended(process)
                await asyncio.wait({reading}, timeout=1)
                reading.cancel()
            if b"address already in use" not in self._tail.lower():
                break
            process = await self._spawn()
        words = self._tail.decode(errors="replace").strip()
        return f"{ending}; it said last: {words[-1500:]}" if words else f"{ending}, and said nothing"

    async def _until_over(self, process: Process) -> str:
        exit_ = asyncio.create_task(process.wait())
        try:
            if not await self._until_ready(exit_):
                within = f"within {self._plan.ready_seconds:g} s"
                return _exit_words(process) if exit_.done() else f"GET {self._plan.health} did not answer 200 {within}"
            await self._watch(exit_)
        finally:
            exit_.cancel()
        return _exit_words(process)

    async def _until_ready(self, exit_: asyncio.Task[int]) -> bool:
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

    async def _watch(self, exit_: asyncio.Task[int]) -> None:
        bad = 0
        while not (await asyncio.wait({exit_}, timeout=CHECK_EVERY_S))[0]:
            bad = 0 if await self._healthy(CHECK_WITHIN_S) else bad + 1
            if bad >= BAD_CHECKS:
                self.life, self.reason = Life.UNHEALTHY, f"GET {self._plan.health} failed {bad} times in a row"
            elif not bad:
                self.life, self.reason = Life.HEALTHY, ""

    async def _healthy(self, within_s: float) -> bool:
        return await get_status(self.port, self._plan.health, within_s) == OK

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101  PIPE was asked for
        while piece := await process.stdout.read(TAIL_BYTES):
            self._tail = (self._tail + piece)[-TAIL_BYTES:]


def _exit_words(process: Process) -> str:
    code = process.returncode
    if code is None:
        return "it ended"
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


async def _ended(process: Process) -> None:
    """The whole group, bounded: politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            break
        end_group(process, number)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            continue
    end_group(process, signal.SIGKILL)  # what it has started and left behind
