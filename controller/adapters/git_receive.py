"""A push that has not been let in yet: its objects lie in a quarantine, beside the repository, until somebody says yes.

Whoever pushes chose every byte. What a pack would unfold to is counted while it comes (git_scan), and only then does
git check it (complete, well-formed, without deltas on objects that were not sent), both in children with bounds on
memory, time and disk. Neither sees the repository: everything that the new commit reaches must either have come with it
or be in a branch that the sender may read, and an object that is hidden is answered like one that does not exist, or
else its id would tell that it does, and a tree that names it would make it readable. What each new commit changes is
listed commit by commit: a file that one commit adds and the next one removes has been pushed. Leaving the quarantine
removes it, so a refused push leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from controller.adapters import git_scan
from controller.adapters.git_changes import Changes, Pushed, changes_of
from controller.adapters.git_objects import Came, Reached, came_of, objects_under, reached
from controller.adapters.git_pack import PushRequest
from controller.adapters.git_process import child_stream, gathered, git_environment, git_output
from controller.adapters.git_refs import sync_folder
from controller.domain.ids import Commit
from controller.errors import Permanent
from controller.provenance.identity import GitIdentity

QUARANTINE = ".receiving-"
STALE_S = 3_600.0  # far above any push: whoever left it is dead
SIZE_OF_A_LINE = 140  # two ids, kind and size of an object
NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class PushLimits:
    """Of one push. Sizes in bytes."""

    pack_bytes: int = 64 * 1024 * 1024
    unfolded_bytes: int = 256 * 1024 * 1024  # of all objects together, inflated and with deltas resolved
    object_bytes: int = 128 * 1024 * 1024  # of one of them: git holds a delta, its base and its result at once
    free_bytes: int = 64 * 1024 * 1024  # of a pack of any size; a larger one may unfold to
    unfolded_times: int = 100  # times its own bytes more: a large file, changed in many commits, has about that
    tree_bytes: int = 32 * 1024 * 1024  # of all folders together, each as often as it changed
    delta_depth: int = 250  # git itself makes 50, or 250 when it is told to try hard
    objects: int = 50_000
    commits: int = 200
    files: int = 5_000
    seconds: float = 120.0  # of each look that git takes at it


@dataclass(frozen=True, slots=True)
class Offer:
    """What a push would bring. `faults` by kind, with how many; nothing may come in while there is one."""

    request: str  # sha256 in hex of the commands and the pack: the same push has the same
    faults: Mapping[str, int]
    complaint: str  # about a pack that is broken; "": none
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
            self.hash.update(chunk)
            yield chunk
            if self.counted > self.limit_bytes:
                return


@dataclass(frozen=True, slots=True)
class Readable:
    """What the sender of a push may read: branches by their commits, and, where that is asked, all of their objects."""

    commits: Callable[[], Awaitable[frozenset[bytes]]]  # ids in hex of their histories
    objects: Callable[[], Awaitable[frozenset[bytes]]]


@asynccontextmanager
async def receiving(
    bare: Path, push: PushRequest, trunk: Commit | None, may_read: Readable, *, by: GitIdentity, limits: PushLimits
) -> AsyncIterator[Offer]:
    """`trunk` None: there is no protected branch yet, and so nothing to descend from.

    Raises whatever `push.pack` raises. What is wrong with the push itself is a fault of the offer.
    """
    await asyncio.to_thread(_sweep, bare.parent)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{QUARANTINE}{bare.stem}-", dir=bare.parent))
    try:
        (folder / "pack").mkdir()
        yield await _Quarantine(bare, folder, by, limits).examined(push, trunk, may_read)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


class _FaultyError(Exception):
    """Looking further makes no sense."""

    def __init__(self, fault: str, count: int = 1, complaint: str = "") -> None:
        super().__init__(fault)
        self.faults = {fault: count}
        self.complaint = complaint


class _Quarantine:
    def __init__(self, bare: Path, folder: Path, by: GitIdentity, limits: PushLimits) -> None:
        self._bare = bare
        self._folder = folder
        self._by = by
        self._limits = limits
        # Where what is told of came alone: git must not see what the sender may not.
        self._alone = git_environment(
            bare,
            (("core.deltaBaseCacheLimit", str(limits.unfolded_bytes)),),
            GIT_OBJECT_DIRECTORY=str(folder),
        )

    async def examined(self, push: PushRequest, trunk: Commit | None, may_read: Readable) -> Offer:
        """`trunk` None: as in `receiving`."""
        metered = _Metered(push, self._limits.pack_bytes)
        faults: Mapping[str, int] = {}
        complaint, changes = "", NO_CHANGES
        try:
            await self._index(metered)
            new, came = push.commands[0].new, await self._objects()
            fresh = await self._all_known(new, came, may_read)
            changes = await asyncio.to_thread(self._changes, new, trunk, fresh)
            faults = changes.faults
        except _FaultyError as no:
            faults, complaint = no.faults, no.complaint
        request = metered.hash.hexdigest()
        return Offer(request, faults, complaint, changes.written, changes.deleted, changes.commits, self._moved_in)

    async def _index(self, metered: _Metered) -> None:
        """The pack as git takes it: counted first, then every object checked, none built on what did not come."""
        chunks = metered.chunks()
        first = await anext(chunks, None)
        if first is None:
            return  # nothing came: the commit is said to be here already
        incoming = self._folder / "incoming"
        counted = await self._counted(incoming, _chained(first, chunks))
        if counted.fault:
            raise _FaultyError(counted.fault, counted.count, counted.complaint)
        pack = incoming.rename(self._folder / "pack" / f"pack-{counted.name}.pack")
        try:
            await self._git("index-pack", "--fsck-objects", str(pack), limit_bytes=4_096)
        except Permanent as no:
            raise _FaultyError("broken_packs", complaint=no.message) from no

    async def _counted(self, incoming: Path, chunks: AsyncIterator[bytes]) -> git_scan.Verdict:
        limits = self._limits
        bounds = (
            limits.pack_bytes,
            limits.objects,
            limits.object_bytes,
            limits.unfolded_bytes,
            limits.free_bytes,
            limits.unfolded_times,
        )
        command = (sys.executable, "-I", "-S", "-B", git_scan.__file__, str(incoming), *map(str, bounds))
        environment = {"PATH": os.defpath, "LC_ALL": "C"}
        stream = child_stream(command, "the count of the pack", environment=environment, feed=chunks)
        try:
            said = await gathered(stream, "the count of the pack", seconds=limits.seconds, limit_bytes=4_096)
        except Permanent as no:
            raise _FaultyError("broken_packs", complaint="it could not be counted within its limits") from no
        return git_scan.Verdict(**json.loads(said))

    async def _objects(self) -> Came:
        """What came."""
        limits = self._limits
        listed = await self._git(
            "cat-file",
            "--batch-all-objects",
            "--batch-check=%(objectname) %(objecttype) %(objectsize) %(deltabase)",
            limit_bytes=SIZE_OF_A_LINE * limits.objects,
        )
        came = came_of(listed)
        if came.tree_bytes > limits.tree_bytes:
            raise _FaultyError("excess_bytes", came.tree_bytes)
        if (deepest := came.deepest_delta()) > limits.delta_depth:
            raise _FaultyError("deep_deltas", deepest)
        return came

    async def _all_known(self, new: Commit | None, came: Came, may_read: Readable) -> frozenset[bytes]:
        """Everything that `new` reaches has come, or is in what the sender may read; nothing else has come.

        Returns what is new to the sender's branches. Whether something else is in the repository is never looked at.
        """
        found = await asyncio.to_thread(self._reached, str(new).encode(), came)
        history = await may_read.commits()
        foreign = found.outside - history
        if foreign:
            foreign -= await objects_under(self._bare, found.outside & history, self._limits.seconds)
        stray = came.ids - found.inside
        if foreign or stray:
            known = await may_read.objects()
            foreign, stray = foreign - known, stray - known
        if foreign:
            raise _FaultyError("foreign_objects", len(foreign))
        if stray:
            raise _FaultyError("stray_objects", len(stray))
        await self._of_their_kinds(found)
        return found.inside - history

    def _reached(self, new: bytes, came: Came) -> Reached:
        try:
            return reached(self._folder, new, came)
        except Permanent as no:
            raise _FaultyError("broken_packs", complaint=no.message) from no

    async def _of_their_kinds(self, found: Reached) -> None:
        """What is named as a folder is one. Asked only of what the sender may read."""
        beside = git_environment(self._bare)
        wrong = await found.of_another_kind(beside, self._limits.seconds)
        if wrong:
            raise _FaultyError("broken_packs", complaint=f"{wrong} objects are not of the kind that they are named as")

    def _changes(self, new: Commit | None, trunk: Commit | None, fresh: frozenset[bytes]) -> Changes:
        if new is None or trunk is None:
            return Changes({"unrelated_commits": 1})
        limits = self._limits
        pushed = Pushed(self._folder, fresh, self._by)
        try:
            return changes_of(self._bare, new, trunk, max_commits=limits.commits, max_files=limits.files, pushed=pushed)
        except Permanent as no:
            raise _FaultyError("broken_packs", complaint=no.message) from no

    async def _git(self, *arguments: str, limit_bytes: int) -> bytes:
        return await git_output(
            *arguments, environment=self._alone, seconds=self._limits.seconds, limit_bytes=limit_bytes, bounded=True
        )

    async def _moved_in(self) -> None:
        await asyncio.to_thread(_move_packs, self._folder / "pack", self._bare / "objects" / "pack")


def _move_packs(source: Path, target: Path) -> None:
    """An index makes its pack count, so it comes last. The files have been synced; their folder is synced here."""
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
