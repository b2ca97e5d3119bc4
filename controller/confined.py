"""One function over text that somebody else wrote, in a process of its own with limits.

A parser may loop, fill the memory, exhaust the stack or crash on hostile text. In this process it would take log and
keys with it; in the child it costs one answer. The child gets the name of a function of this project, the bytes and
nothing else: no environment, no open file, an empty folder of its own, limits on time, memory, files and processes. It
is killed with its whole process group on every way out, also when whoever waits is cancelled.

One start costs some tens of milliseconds beside the imports of the function's module: a batch belongs in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import weakref
from asyncio import IncompleteReadError, StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp

from controller.confined_child import DEFECT, FAILED, HEADER, NO_MEMORY, OK, REFUSED, Limits
from controller.errors import ConfigError, Permanent, Unavailable

CHILD = Path(__file__).with_name("confined_child.py")
HOME = CHILD.parents[1]
FUNCTION = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*:[a-z_][a-z0-9_]*")
MAX_AT_ONCE = 4  # of one event loop; further calls wait for their turn
MAX_PAYLOAD_BYTES = 64 << 20
MAX_SECONDS = 300.0
GRACE_S = 1  # the limit on CPU time lies so far above the one on wall time: it holds if this process dies


class Why(StrEnum):
    """Why there is no answer."""

    TIME = "time"
    MEMORY = "memory"
    CRASH = "crash"
    OUTPUT = "output"
    REJECTED = "rejected"  # by the function, which raised an error that it does not name


class NotParsed(Permanent):  # noqa: N818 - read where it is raised
    """A function in a confined process gave no answer: the same bytes give none the next time either."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message, "Send a smaller or plainer text")
        self.why = why


async def confined(
    function: str,
    payload: bytes,
    *,
    seconds: float = 5.0,
    memory_bytes: int = 512 << 20,
    output_bytes: int = 1 << 20,
    file_bytes: int = 1 << 20,
    asker: str = "",
) -> bytes:
    """What `function` ("package.module:name", bytes to bytes) makes of the payload, in a child process.

    `asker`: the session, or whoever else, that may ask as often as it likes; its texts wait for each other, not those
    of others for it. Empty: the loop's own question.

    `seconds` bound the wall time with start and imports, from the moment it has its turn. `memory_bytes` bound the
    child's address space (not on macOS, which keeps no such limit), `file_bytes` each file that it writes in its own
    empty folder, which is its working directory and is deleted.

    Raises NotParsed if a bound is reached, the child crashes or the function fails; the function's own ConfigError and
    Permanent with their words; ConfigError for a payload larger than `MAX_PAYLOAD_BYTES`; Unavailable if no child can
    be started.
    """
    if FUNCTION.fullmatch(function) is None or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"{function!r} for {seconds} s: name a function as package.module:name, for a bounded time")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ConfigError(f"a text has {len(payload)} bytes", f"Give at most {MAX_PAYLOAD_BYTES}")
    limits = Limits(int(seconds) + GRACE_S, memory_bytes, file_bytes)
    async with _turns().taken(asker):
        folder = mkdtemp(prefix="flyball-confined-")
        try:
            process = await _started(function, limits, folder)
            return await _answered(process, payload, seconds, output_bytes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _answered(process: Process, payload: bytes, seconds: float, output_bytes: int) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            kind, answer = await _exchanged(process, payload, output_bytes)
    except TimeoutError:
        raise NotParsed(Why.TIME, f"the parser ran out of its {seconds:g} s") from None
    except IncompleteReadError:
        _kill(process)
        raise _ended(await process.wait()) from None
    finally:
        _kill(process)
        await asyncio.shield(_reaped(process))
    if kind != OK:
        raise _no(kind, answer)
    return answer


async def _started(function: str, limits: Limits, folder: str) -> Process:
    command = (sys.executable, "-I", "-B", str(CHILD), str(HOME), function, limits.words())
    environment = {"LC_ALL": "C.UTF-8", "TMPDIR": folder, "HOME": folder}
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, cwd=folder, start_new_session=True
        )
    except OSError as error:
        raise Unavailable(f"no process can be started to read a text: {error}", "See to this machine's limits") from (
            error
        )


async def _exchanged(process: Process, payload: bytes, output_bytes: int) -> tuple[bytes, bytes]:
    """The kind of the answer and the answer. The child lives on until it is killed, so its number stays its own."""
    if process.stdin is None or process.stdout is None:
        raise TypeError(process)
    feeding = asyncio.create_task(_fed(process.stdin, payload))
    try:
        return await _read(process.stdout, output_bytes)
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await feeding


async def _fed(pipe: asyncio.StreamWriter, payload: bytes) -> None:
    pipe.write(len(payload).to_bytes(8) + payload)
    await pipe.drain()


async def _read(pipe: StreamReader, most: int) -> tuple[bytes, bytes]:
    header = await pipe.readexactly(HEADER)
    kind, length = header[:1], int.from_bytes(header[1:])
    if length > most:
        raise NotParsed(Why.OUTPUT, f"the parser answered with {length} bytes, and may give {most}")
    return kind, await pipe.readexactly(length)


def _kill(process: Process) -> None:
    """With everything that it has started. A group that is empty has no number that another could have taken."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _reaped(process: Process) -> None:
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _ended(code: int) -> NotParsed:
    if code < 0:
        return NotParsed(Why.CRASH, f"the parser crashed by {signal.Signals(-code).name}")
    return NotParsed(Why.CRASH, f"the parser ended with exit code {code} and no answer")


def _no(kind: bytes, answer: bytes) -> Permanent:
    if kind == NO_MEMORY:
        return NotParsed(Why.MEMORY, "the parser ran out of its memory")
    if kind == DEFECT:
        raise TypeError(answer.decode(errors="replace"))
    said = json.loads(answer)
    if kind == FAILED:
        return NotParsed(Why.REJECTED, f"the parser failed: {said['message']}")
    if kind == REFUSED:
        return (ConfigError if said["config"] else Permanent)(said["message"], said["way_out"])
    raise TypeError(kind)


class _Turns:
    """Of one event loop. Each asker has one child at a time, and one place is only for texts that nobody asks about."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MAX_AT_ONCE)
        self._asked = asyncio.Semaphore(MAX_AT_ONCE - 1)
        self._own: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def taken(self, asker: str) -> AsyncIterator[None]:
        if not asker:
            async with self._all:
                yield
            return
        own = self._own.setdefault(asker, asyncio.Semaphore(1))
        async with own, self._asked, self._all:
            yield


def _turns() -> _Turns:
    """Of the running event loop: a semaphore serves one loop only."""
    return _TURNS.setdefault(asyncio.get_running_loop(), _Turns())


_TURNS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = weakref.WeakKeyDictionary()
