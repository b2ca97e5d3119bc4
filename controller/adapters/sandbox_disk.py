"""A watch on how much a command writes: one that outgrows its bound, or fills the disk, is ended.

No quota that works everywhere can be had without the system's owner. So this looks, at least twice a second, and less
often where looking takes long: what is written between two looks is what a command can exceed its bound by, and a file
that has no name any more is seen only by the space that it leaves. Files without a byte count by their number, and
folders so deep that what lies in them could not be counted are a reason too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 0.5
LOOKING_AT_MOST = 0.05  # of the time
LEAST_FREE_BYTES = 128 << 20  # on the disk: a log that cannot be written is worse than a test run that ends early
LEAST_FREE_FILES = 10_000  # likewise: the log makes some, and so does git
MOST_ENTRIES = 500_000  # more than what is there at the start
MOST_DEPTH = 200  # folders within folders; none of ours has as many
LONGEST_PATH_BYTES = 3_000  # PATH_MAX is 4,096 (linux/limits.h): what is beyond has no path that we could ask by


@dataclass(frozen=True)
class Seen:
    """What lies in some folders."""

    size: int  # bytes on the disk
    entries: int
    deepest: str  # a folder deeper than is looked into. Empty: none is


async def outgrown(folders: Sequence[Path], most_bytes: int, most_entries: int = MOST_ENTRIES) -> str:
    """Returns when there is a reason to end the command, and says it."""
    before, took_s = await asyncio.to_thread(_timed, folders)
    while True:
        await asyncio.sleep(max(LOOK_EVERY_S, took_s / LOOKING_AT_MOST))
        now, took_s = await asyncio.to_thread(_timed, folders)
        if now.size - before.size > most_bytes:
            return f"it had written {now.size - before.size:,} bytes into its folders, the bound is {most_bytes:,}"
        if now.entries - before.entries > most_entries:
            return f"it had made {now.entries - before.entries:,} files, the bound is {most_entries:,}"
        if now.deepest and not before.deepest:
            return f"it had made folders more than {MOST_DEPTH} deep or {LONGEST_PATH_BYTES:,} bytes long"
        if full := _full(folders):
            return full


def _full(folders: Sequence[Path]) -> str:
    """Empty: there is room."""
    rooms = [os.statvfs(folder) for folder in folders]
    free = min(room.f_bavail * room.f_frsize for room in rooms)
    if free < LEAST_FREE_BYTES:
        return f"the disk beneath its folders had {free:,} bytes left, {LEAST_FREE_BYTES:,} are kept free"
    counted = [room.f_favail for room in rooms if room.f_files]  # some file systems count none
    files = min(counted, default=LEAST_FREE_FILES)
    if files < LEAST_FREE_FILES:
        return f"the disk beneath its folders had room for {files:,} files, {LEAST_FREE_FILES:,} are kept free"
    return ""


def _timed(folders: Sequence[Path]) -> tuple[Seen, float]:
    began = time.monotonic()
    return _seen(folders), time.monotonic() - began


def _seen(folders: Sequence[Path]) -> Seen:
    """What vanishes meanwhile, or is hidden from us, is left out. Recurses on no stack but its own."""
    size = entries = 0
    deepest = ""
    left = [(os.fspath(folder), 0) for folder in folders]
    longest = LONGEST_PATH_BYTES + max((len(path) for path, _ in left), default=0)
    while left:
        folder, depth = left.pop()
        if depth > MOST_DEPTH or len(os.fsencode(folder)) > longest:
            deepest = folder
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        left.append((entry.path, depth + 1))
    return Seen(size, entries, deepest)
