"""Throwaway copies of working copies, for runs of code that somebody wrote.

Code under test may write wherever it likes in its tree, so it never gets the working copy itself: what a run writes is
thrown away with the copy, and the working copy holds what tools wrote and nothing else. Content is copied (by the file
system's own sharing of blocks where it has that), never linked: a hard link would be the same file. What the session
may not read is left out, so a test cannot print what `read_file` refuses.

Folders are walked by descriptors without following links. Links of the tree are made again as they are: they lead to
what the copy has, or nowhere.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.removal import remove
from controller.errors import Permanent
from controller.ports import LeftOut, RunCopy

PREFIX = ".run-"  # no session's folder begins with a dot
STALE_S = 86_400.0  # far above any run: whoever left it is dead
MAX_ENTRIES = 100_000  # as many as a working copy may have when it is read back
MOST_DEPTH = 200  # folders within folders: each is open while what lies in it is walked
MAX_BYTES = 2 * 1024 * 1024 * 1024
CHUNK_BYTES = 64 * 1024 * 1024  # copied at once

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    mode: int


@asynccontextmanager
async def run_copy(root: Path, left_out: LeftOut) -> AsyncIterator[RunCopy]:
    """A copy of the tree at `root` beside it, without the files that `left_out` names. It is gone after the block.

    Raises Permanent for a tree past the bounds, and Unavailable when the copy cannot be removed.
    """
    await asyncio.to_thread(_sweep, root.parent)
    entries = await asyncio.to_thread(_entries, root)
    without = await left_out([one.path for one in entries if not stat.S_ISDIR(one.mode)])
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIX, dir=root.parent))
    try:
        await asyncio.to_thread(_copied, root, place, [one for one in entries if one.path not in without])
        yield RunCopy(place, tuple(sorted(without)))
    finally:
        await asyncio.to_thread(remove, place)


def _entries(root: Path) -> list[_Entry]:
    """Folders before what is in them. What is neither folder, file nor link is left out."""
    found: list[_Entry] = []
    start = os.open(root, _FOLDER)
    try:
        for place, folders, files, handle in os.fwalk(".", dir_fd=start, follow_symlinks=False):
            if place.count("/") >= MOST_DEPTH:
                raise Permanent(f"the working copy has folders more than {MOST_DEPTH} deep", "Remove them")
            names = (*sorted(folders), *sorted(files))
            found += [_Entry(os.path.normpath(f"{place}/{name}"), _mode(name, handle)) for name in names]
            if len(found) > MAX_ENTRIES:
                raise Permanent(f"the working copy has more than {MAX_ENTRIES} files and folders", "Remove some")
    finally:
        os.close(start)
    return [one for one in found if stat.S_ISDIR(one.mode) or stat.S_ISREG(one.mode) or stat.S_ISLNK(one.mode)]


def _mode(name: str, handle: int) -> int:
    return os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode


def _copied(root: Path, place: Path, entries: Sequence[_Entry]) -> None:
    source, target = os.open(root, _FOLDER), os.open(place, _FOLDER)
    left = MAX_BYTES
    os.fchmod(target, 0o755)  # as a working copy has it: the sandbox's user must get in
    try:
        for one in entries:
            if stat.S_ISDIR(one.mode):
                os.mkdir(one.path, 0o755, dir_fd=target)
            elif stat.S_ISLNK(one.mode):
                os.symlink(os.readlink(one.path, dir_fd=source), one.path, dir_fd=target)
            else:
                left -= _file(one, source, target)
            if left < 0:
                raise Permanent(f"the working copy has more than {MAX_BYTES} bytes", "Remove what is large")
    finally:
        os.close(source)
        os.close(target)


def _file(one: _Entry, source: int, target: int) -> int:
    """How many bytes it has."""
    reading = os.open(one.path, _FILE, dir_fd=source)
    try:
        writing = os.open(one.path, _NEW, one.mode & 0o777, dir_fd=target)
        try:
            size = os.fstat(reading).st_size
            _content(reading, writing)
            os.fchmod(writing, one.mode & 0o777)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return size


def _content(reading: int, writing: int) -> None:
    """`copy_file_range` shares blocks where the file system can; some cannot copy with it at all."""
    with suppress(AttributeError, OSError):
        while os.copy_file_range(reading, writing, CHUNK_BYTES):
            pass
        return
    os.lseek(reading, 0, os.SEEK_SET)
    os.lseek(writing, 0, os.SEEK_SET)
    os.ftruncate(writing, 0)
    while chunk := os.read(reading, 1024 * 1024):
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(writing, rest) :]


def _sweep(beside: Path) -> None:
    """What a killed process left."""
    for folder in beside.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # its own process has removed it
            if time.time() - folder.stat().st_mtime > STALE_S:
                remove(folder)
