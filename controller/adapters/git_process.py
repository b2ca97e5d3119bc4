"""git as a child process for somebody else's request: environment made from nothing, streams, memory and time bounded.

Nothing of this process's environment but PATH is handed on, and no configuration is read but the repository's own and
what is given here, so no hook, no replaced object and no credential of the machine has a part in it. Everything that
git starts in turn ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from pathlib import Path

from controller.errors import Permanent, Unavailable

CHUNK_BYTES = 64 * 1024
WORDS_BYTES = 4_096  # of what git complains about
MEMORY_KB = 1024 * 1024  # address space, where the system can bound it: a pack is small and may unfold without end
CPU_S = 60
FILE_BLOCKS = 1024 * 1024  # of 512 bytes: nothing that git writes of one pack is larger
BOUNDED = (
    "/bin/sh",
    "-c",
    'ulimit -v "$0" 2>/dev/null; ulimit -t "$1"; ulimit -f "$2"; ulimit -c 0; shift 2; exec "$@"',
    str(MEMORY_KB),
    str(CPU_S),
    str(FILE_BLOCKS),
)

logger = logging.getLogger(__name__)


def git_environment(bare: Path, config: Sequence[tuple[str, str]] = (), **variables: str) -> dict[str, str]:
    """`config` outranks the repository's own, and is the only one that may name safe directories."""
    settings = (
        ("safe.directory", str(bare)),
        ("core.hooksPath", os.devnull),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("pack.threads", "1"),
        ("core.bigFileThreshold", "16m"),  # larger ones are streamed, not held in memory
        ("core.packedGitWindowSize", "32m"),
        ("core.packedGitLimit", "256m"),
        *config,
    )
    numbered = {f"GIT_CONFIG_KEY_{at}": key for at, (key, _) in enumerate(settings)}
    numbered |= {f"GIT_CONFIG_VALUE_{at}": value for at, (_, value) in enumerate(settings)}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_DIR": str(bare),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": str(len(settings)),
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        **numbered,
        **variables,
    }


async def nothing() -> AsyncIterator[bytes]:
    """A standard input that is empty."""
    return
    yield b""


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def git_stream(
    *arguments: str, environment: Mapping[str, str], feed: AsyncIterable[bytes], bounded: bool = False
) -> AsyncGenerator[bytes]:
    """Standard output as it comes. Closing the iterator kills git and all that it has started.

    The caller bounds the time. Raises Permanent with git's own words when git says no, or whatever `feed` raises.
    """
    command = (*(BOUNDED if bounded else ()), "git", *arguments)
    stream = child_stream(command, f"git {arguments[0]}", environment=environment, feed=feed)
    async with contextlib.aclosing(stream) as chunks:
        async for chunk in chunks:
            yield chunk


async def child_stream(
    command: Sequence[str], name: str, *, environment: Mapping[str, str], feed: AsyncIterable[bytes]
) -> AsyncGenerator[bytes]:
    """As `git_stream`, for any program. `name`: what it is called in errors."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - pipes were asked for
    feeding = asyncio.create_task(_feed(process.stdin, feed))
    complaint = asyncio.create_task(_beginning(process.stderr))
    try:
        while chunk := await process.stdout.read(CHUNK_BYTES):
            yield chunk
        code = await process.wait()
        if feeding.done():
            feeding.result()  # a request that broke off is why git complains
        if code:
            raise Permanent(f"{name} said no: {await complaint or f'exit code {code}'}")
        await feeding
    finally:
        await _end(process, feeding, complaint)


async def git_output(
    *arguments: str,
    environment: Mapping[str, str],
    feed: AsyncIterable[bytes] | None = None,
    seconds: float,
    limit_bytes: int,
    bounded: bool = False,
) -> bytes:
    """All of standard output. Raises Permanent when git says no or too much, Unavailable when it takes too long."""
    stream = git_stream(*arguments, environment=environment, feed=feed or nothing(), bounded=bounded)
    return await gathered(stream, f"git {arguments[0]}", seconds=seconds, limit_bytes=limit_bytes)


async def gathered(stream: AsyncGenerator[bytes], name: str, *, seconds: float, limit_bytes: int) -> bytes:
    """All that a child says. Raises Permanent when it is too much, Unavailable when it takes too long."""
    found = bytearray()
    try:
        async with asyncio.timeout(seconds), contextlib.aclosing(stream) as chunks:
            async for chunk in chunks:
                found += chunk
                if len(found) > limit_bytes:
                    raise Permanent(f"{name} says more than {limit_bytes} bytes", "Work on less at once")
    except TimeoutError as late:
        raise Unavailable(f"{name} did not finish within {seconds:g} s", "Try again later") from late
    return bytes(found)


async def _feed(stdin: asyncio.StreamWriter, feed: AsyncIterable[bytes]) -> None:
    """It may end before it has read everything: it has said why by then."""
    try:
        async for chunk in feed:
            stdin.write(chunk)
            await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        stdin.close()


async def _beginning(stderr: asyncio.StreamReader) -> str:
    """Read to its end, so that git is never held up, and kept as far as a person reads."""
    kept = b""
    while chunk := await stderr.read(CHUNK_BYTES):
        kept = (kept + chunk)[:WORDS_BYTES]
    return kept.decode(errors="replace").strip()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """A process ends for asyncio when its pipes have been read: what nobody has taken would keep it for ever."""
    while process.stdout is not None and await process.stdout.read(CHUNK_BYTES):
        pass
    await process.wait()


async def _end(process: asyncio.subprocess.Process, *tasks: asyncio.Task[object]) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(_ended(process))
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, asyncio.CancelledError):
            logger.debug("the request ended with its input: %r", outcome)
