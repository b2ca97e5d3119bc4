"""A push that has not been let in yet: its objects lie in a quarantine, beside the repository, until somebody says yes.

Whoever pushes chose every byte. git checks the pack as it comes (complete, well-formed, without deltas on objects that
were not sent), in bounded memory; then everything that the new commit reaches must either have come with it or be in a
branch that the sender may read, because an object that somebody only knows the id of would otherwise become readable by
pushing a tree that names it. What each new commit changes is listed commit by commit: a file that one commit adds and
the next one removes has been pushed. Leaving the quarantine removes it, so a refused push leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from controller.adapters.git_changes import Changes, changes_of
from controller.adapters.git_pack import PushRequest
from controller.adapters.git_process import git_environment, git_output, once
from controller.adapters.git_refs import sync_folder
from controller.domain.ids import Commit
from controller.errors import Permanent

QUARANTINE = ".receiving-"
STALE_S = 3_600.0  # far above any push: whoever left it is dead
SIZE_OF_A_LINE = 80  # id, kind and size of an object
NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class PushLimits:
    """Of one push."""

    pack_bytes: int = 64 * 1024 * 1024
    unfolded_bytes: int = 512 * 1024 * 1024  # of all objects together, inflated
    objects: int = 50_000
    commits: int = 200
    files: int = 5_000
    seconds: float = 120.0  # of each look that git takes at it


@dataclass(frozen=True, slots=True)
class Offer:
    """What a push would bring. `faults` by kind, with how many; nothing may come in while there is one."""

    request: str  # sha256 in hex of the commands and the pack: the same push has the same
    faults: Mapping[str, int]
    complaint: str  # of git about a pack that is broken; "": none
    written: tuple[str, ...]  # paths that some new commit adds or changes
    deleted: tuple[str, ...]
    commits: int  # new to the protected branch
    _keep: Callable[[], Awaitable[None]]

    async def keep(self) -> None:
        """Move the objects into the repository, synced. No ref is moved."""
        await self._keep()


@dataclass(slots=True)
class _Metered:
    """The pack on its way to git, counted and hashed, and cut off where it becomes too large."""

    push: PushRequest
    limit_bytes: int
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    counted: int = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        self.hash.update(self.push.head)
        async for chunk in self.push.pack:
            self.counted += len(chunk)
            if self.counted > self.limit_bytes:
                return
            self.hash.update(chunk)
            yield chunk


@dataclass(frozen=True, slots=True)
class Readable:
    """What the sender of a push may read: branches by their commits, and, where that is asked, all of their objects."""

    tips: frozenset[Commit]
    objects: Callable[[], Awaitable[frozenset[bytes]]]


@asynccontextmanager
async def receiving(
    bare: Path, push: PushRequest, trunk: Commit | None, may_read: Readable, limits: PushLimits
) -> AsyncIterator[Offer]:
    """`trunk` None: there is no protected branch yet, and so nothing to descend from.

    Raises whatever `push.pack` raises. What is wrong with the push itself is a fault of the offer.
    """
    await asyncio.to_thread(_sweep, bare.parent)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{QUARANTINE}{bare.stem}-", dir=bare.parent))
    try:
        (folder / "pack").mkdir()
        yield await _Quarantine(bare, folder, limits).examined(push, trunk, may_read)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


class _FaultyError(Exception):
    """Looking further makes no sense."""

    def __init__(self, fault: str, count: int = 1, complaint: str = "") -> None:
        super().__init__(fault)
        self.faults = {fault: count}
        self.complaint = complaint


class _Quarantine:
    def __init__(self, bare: Path, folder: Path, limits: PushLimits) -> None:
        self._bare = bare
        self._folder = folder
        self._limits = limits
        self._alone = git_environment(bare, GIT_OBJECT_DIRECTORY=str(folder))
        self._beside = {**self._alone, "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(bare / "objects")}

    async def examined(self, push: PushRequest, trunk: Commit | None, may_read: Readable) -> Offer:
        """`trunk` None: as in `receiving`."""
        metered = _Metered(push, self._limits.pack_bytes)
        faults: Mapping[str, int] = {}
        complaint, changes = "", NO_CHANGES
        try:
            await self._index(metered)
            came = await self._objects()
            await self._must_be_known(push.commands[0].new, came, may_read)
            changes = await asyncio.to_thread(self._changes, push.commands[0].new, trunk)
            faults = changes.faults
        except _FaultyError as no:
            faults, complaint = no.faults, no.complaint
        request = metered.hash.hexdigest()
        return Offer(request, faults, complaint, changes.written, changes.deleted, changes.commits, self._moved_in)

    async def _index(self, metered: _Metered) -> None:
        """The pack as git takes it: every object checked, none built on what did not come."""
        chunks = metered.chunks()
        first = await anext(chunks, None)
        if first is None:
            return  # nothing came: the commit is said to be here already
        try:
            await self._git("index-pack", "--stdin", "--strict", feed=_chained(first, chunks), limit_bytes=4_096)
        except Permanent as no:
            if metered.counted > self._limits.pack_bytes:
                raise _FaultyError("excess_bytes", metered.counted) from no
            raise _FaultyError("broken_packs", complaint=no.message) from no
        if metered.counted > self._limits.pack_bytes:
            raise _FaultyError("excess_bytes", metered.counted)

    async def _objects(self) -> frozenset[bytes]:
        """Ids of what came."""
        limit = self._limits.objects
        try:
            listed = await self._git(
                "cat-file", "--batch-all-objects", "--batch-check", limit_bytes=SIZE_OF_A_LINE * limit, alone=True
            )
        except Permanent as no:
            raise _FaultyError("excess_objects", limit + 1) from no
        rows = [line.split() for line in listed.splitlines()]
        if len(rows) > limit:
            raise _FaultyError("excess_objects", len(rows))
        unfolded = sum(int(size) for _, _, size in rows)
        if unfolded > self._limits.unfolded_bytes:
            raise _FaultyError("excess_bytes", unfolded)
        return frozenset(name for name, _, _ in rows)

    async def _must_be_known(self, new: Commit | None, came: frozenset[bytes], may_read: Readable) -> None:
        """Everything that `new` reaches has come, or is in what the sender may read."""
        asked = "".join([f"{new}\n", *(f"^{tip}\n" for tip in sorted(may_read.tips))]).encode()
        try:
            kind = await self._git("cat-file", "-t", str(new), limit_bytes=100)
            if kind.strip() != b"commit":
                raise _FaultyError("no_commits")
            listed = await self._git(
                "rev-list",
                "--objects",
                "--no-object-names",
                "--stdin",
                feed=once(asked),
                limit_bytes=SIZE_OF_A_LINE * 10 * self._limits.objects,
            )
        except Permanent as no:
            raise _FaultyError("broken_packs", complaint=no.message) from no
        foreign = frozenset(listed.split()) - came
        if foreign and (foreign := foreign - await may_read.objects()):
            raise _FaultyError("foreign_objects", len(foreign))

    def _changes(self, new: Commit | None, trunk: Commit | None) -> Changes:
        if new is None or trunk is None:
            return Changes({"unrelated_commits": 1})
        limits = self._limits
        return changes_of(self._bare, self._folder, new, trunk, max_commits=limits.commits, max_files=limits.files)

    async def _git(
        self, *arguments: str, limit_bytes: int, feed: AsyncIterator[bytes] | None = None, alone: bool = False
    ) -> bytes:
        return await git_output(
            *arguments,
            environment=self._alone if alone else self._beside,
            feed=feed,
            seconds=self._limits.seconds,
            limit_bytes=limit_bytes,
            bounded=True,
        )

    async def _moved_in(self) -> None:
        await asyncio.to_thread(_move_packs, self._folder / "pack", self._bare / "objects" / "pack")


def _move_packs(source: Path, target: Path) -> None:
    """An index makes its pack count, so it comes last. git has synced the files; their folder is synced here."""
    target.mkdir(exist_ok=True)
    found = sorted(source.glob("pack-*"), key=lambda file: file.suffix == ".idx")
    for file in found:
        file.replace(target / file.name)
    if found:
        sync_folder(target)


def _sweep(root: Path) -> None:
    """What a killed process left."""
    for folder in root.glob(f"{QUARANTINE}*"):
        try:
            stale = time.time() - folder.stat().st_mtime > STALE_S
        except FileNotFoundError:
            continue  # its own process has removed it
        if stale:
            shutil.rmtree(folder, ignore_errors=True)  # by two pushes at once, perhaps


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _quoted(path: Path) -> str:
    """As git reads a list of folders, in which a colon would separate two."""
    text = os.fspath(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
