"""Attending a sandboxed process: its output up to a bound, its results line by line, its time, and its certain end."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any

from controller.adapters import sandbox_enter
from controller.adapters.sandbox_enter import SIGKILL, children_of

LONGEST_RESULT_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
END_WITHIN_S = 3.0


class Clipped:
    """The first and the last half of at most `most_bytes`, and the count of what was between."""

    def __init__(self, most_bytes: int) -> None:
        self.half = most_bytes // 2
        self.head = bytearray()
        self.tail: deque[bytes] = deque()
        self.in_tail = 0
        self.cut = 0

    def add(self, chunk: bytes) -> None:
        room = self.half - len(self.head)
        self.head += chunk[:room]
        if rest := chunk[room:]:
            self.tail.append(rest)
            self.in_tail += len(rest)
        while self.in_tail > self.half:
            self._shorten(self.in_tail - self.half)

    def _shorten(self, excess: int) -> None:
        first = self.tail.popleft()
        dropped = min(excess, len(first))
        if dropped < len(first):
            self.tail.appendleft(first[dropped:])
        self.in_tail -= dropped
        self.cut += dropped

    def text(self) -> str:
        note = f"\n[... {self.cut:,} bytes of output cut here ...]\n".encode() if self.cut else b""
        return (bytes(self.head) + note + b"".join(self.tail)).decode(errors="replace")


async def start(plan: dict[str, Any], python: str, passed: tuple[int, ...]) -> asyncio.subprocess.Process:
    """The launcher, with nothing of our environment, and its plan on stdin, which stays open as its lifeline."""
    door = Path(sandbox_enter.__file__)
    script = str(door.with_name("sandbox_watch.py") if plan["kind"] == "plain" else door)
    process = await asyncio.create_subprocess_exec(
        python,
        "-I",
        "-S",
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd="/",
        pass_fds=passed,
        start_new_session=True,
    )
    packed = marshal.dumps(plan)
    if process.stdin is not None:
        process.stdin.write(len(packed).to_bytes(4, "big") + packed)
    return process


async def attend(
    process: asyncio.subprocess.Process,
    results: IO[bytes],
    output: Clipped,
    on_result: Callable[[bytes], None],
    *,
    wall_s: float,
    outgrown: Coroutine[Any, Any, str],
) -> tuple[bool, str]:
    """Until the process and all below it are dead: whether it was still running at the limit, and what outgrew."""
    readers = [
        asyncio.create_task(read_output(process, output.add)),
        asyncio.create_task(_read_lines(results, on_result)),
    ]
    watch, ended = asyncio.create_task(outgrown), asyncio.create_task(process.wait())
    try:
        await asyncio.wait({watch, ended}, timeout=wall_s, return_when=asyncio.FIRST_COMPLETED)
        over = "" if ended.done() or not watch.done() else watch.result()
        timed_out = not ended.done() and not over
    finally:
        watch.cancel()
        await end(process)
        await ended
        await finish(readers)
    return timed_out, over


def ask_to_end(process: asyncio.subprocess.Process, *, plain: bool) -> None:
    """SIGTERM for the command. Its own pid 1 would not hear it, so it goes to what runs beneath."""
    if plain:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGUSR1)
        return
    for first in children_of(process.pid):
        for child in children_of(first):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill what is below the launcher: a namespace's pid 1 takes everybody along, a supervisor ends the rest itself."""
    while process.returncode is None:
        below = children_of(process.pid)
        for child in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, SIGKILL)
        if not below:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.stdin is not None:
        process.stdin.close()


async def finish(readers: list[asyncio.Task[None]]) -> None:
    """With every process dead the pipes are at their end; where one could hide (macOS) this takes its bound."""
    _, late = await asyncio.wait(readers, timeout=END_WITHIN_S)
    for reader in late:
        reader.cancel()
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def read_output(process: asyncio.subprocess.Process, take: Callable[[bytes], None]) -> None:
    """Until every holder of its end is gone."""
    await _read(process.stdout, take)


async def _read(stream: asyncio.StreamReader | None, take: Callable[[bytes], None]) -> None:
    while stream is not None and (chunk := await stream.read(CHUNK_BYTES)):
        take(chunk)


async def _read_lines(results: IO[bytes], take: Callable[[bytes], None]) -> None:
    """Whole lines only; one that is too long is dropped up to its end."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), results
    )
    lines = LineSplitter(take)
    try:
        await _read(stream, lines.add)
    finally:
        transport.close()


class LineSplitter:
    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        self.rest = b""
        self.dropping = False

    def add(self, chunk: bytes) -> None:
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        for line in whole:
            if not self.dropping and len(line) <= LONGEST_RESULT_BYTES:
                self.take(line)
            self.dropping = False
        if len(self.rest) > LONGEST_RESULT_BYTES:
            self.rest, self.dropping = b"", True
