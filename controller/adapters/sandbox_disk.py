"""A watch on how much a command writes: one that outgrows its bound, or fills the disk, is ended.

No quota that works everywhere can be had without the system's owner. So this looks, at least twice a second, and less
often where looking takes long: what is written between two looks is what a command can exceed its bound by, and a file
that has no name any more is seen only by the space that it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOOK_EVERY_S = 0.5
LOOKING_AT_MOST = 0.05  # of the time
LEAST_FREE_BYTES = 128 << 20  # on the disk: a log that cannot be written is worse than a test run that ends early


async def outgrown(folders: Sequence[Path], most_bytes: int) -> str:
    """Returns when there is a reason to end the command, and says it."""
    before, took_s = await asyncio.to_thread(_timed, folders)
    while True:
        await asyncio.sleep(max(LOOK_EVERY_S, took_s / LOOKING_AT_MOST))
        now, took_s = await asyncio.to_thread(_timed, folders)
        if now - before > most_bytes:
            return f"it had written {now - before:,} bytes into its folders, the bound is {most_bytes:,}"
        free = min(_free(folder) for folder in folders)
        if free < LEAST_FREE_BYTES:
            return f"the disk beneath its folders had {free:,} bytes left, {LEAST_FREE_BYTES:,} are kept free"


def _timed(folders: Sequence[Path]) -> tuple[int, float]:
    began = time.monotonic()
    return sum(size for folder in folders for size in _sizes(folder)), time.monotonic() - began


def _free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _sizes(folder: str | Path) -> Iterator[int]:
    """Bytes that each entry takes. What vanishes meanwhile, or is hidden from us, is left out."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)
