"""Runs of code in a session: always in a throwaway copy of its workspace, with what it may read and nothing else.

The workspace therefore holds what the session's tools wrote. A run's by-products are gone with the copy, unless the
settings name patterns that a run may bring back (snapshots, a lock file that a task asks for): then each such file is
decided like a call of `write_file` or `delete_file` on its path, a refusal is in the log like any other, and the agent
is told what came and what did not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.ports import Denied, Desk, RunCopy, ToolDefinition, ToolResult, WorkingCopies
from rbac.patterns import matches_any
from tools.belt import Call, NotPossible
from tools.git_calls import DELETE_FILES, WHICH, WRITE_FILES
from tools.tree import Tree

RunTests = Callable[[Path, str], Awaitable[str]]  # folder, target ("": all tests) -> what came of it

NAMED = 10  # files, in words
MAX_BROUGHT_BACK = 100  # files of one run
MAX_BROUGHT_BYTES = 8 * 1024 * 1024  # of all of them together; each has the workspace's own bound besides


@dataclass(frozen=True, slots=True)
class _Back:
    """A file that a run has left otherwise than it found it. `content` None: the run has deleted it."""

    path: str
    content: bytes | None

    @property
    def tool(self) -> ToolDefinition:
        return DELETE_FILES if self.content is None else WRITE_FILES

    def __str__(self) -> str:
        return f"{self.path} ({'deleted' if self.content is None else f'{len(self.content)} bytes'})"


@dataclass(frozen=True, slots=True)
class Runs:
    """`keeps`: patterns of what a run may bring back. Empty: nothing."""

    copies: WorkingCopies
    desk: Desk
    run: RunTests
    keeps: tuple[str, ...] = ()

    async def tests(self, call: Call, root: Path, target: str) -> ToolResult:
        async with self.copies.run_copy(root, lambda paths: self.desk.unreadable(call.badge, paths)) as copy:
            said = await self.run(copy.folder, target)
            kept = await self._kept(call, root, copy) if self.keeps else []
        return ToolResult("\n".join([said, *_of_left_out(copy.left_out), *kept]))

    async def _kept(self, call: Call, root: Path, copy: RunCopy) -> list[str]:
        found = await asyncio.to_thread(lambda: list(_changes(root, copy, self.keeps)))
        size = sum(len(one.content or b"") for one in found)
        if len(found) > MAX_BROUGHT_BACK or size > MAX_BROUGHT_BYTES:
            most = f"{MAX_BROUGHT_BACK} files or {MAX_BROUGHT_BYTES} bytes"
            return [f"[nothing of the run was kept: {len(found)} files of {size} bytes are more than {most}]"]
        ignored = await self.copies.ignored(call.badge.repository, call.badge.base, [one.path for one in found])
        notes = [f"[not kept: {one.path} is named by .gitignore]" for one in found if one.path in ignored]
        taken = []
        for one in found:
            if one.path not in ignored and (no := await self._taken(call, Tree(root), one)):
                notes.append(f"[not kept: {no}]")
            elif one.path not in ignored:
                taken.append(str(one))
        return [*notes, *([f"[kept from the run: {_some(taken)}]"] if taken else [])]

    async def _taken(self, call: Call, workspace: Tree, one: _Back) -> str:
        """Why it is not; "": it is in the workspace now."""
        arguments = {WHICH[0]: one.path}
        place = {"turn": call.turn, "index": call.index}
        decided = await self.desk.decide(call.badge, one.tool, one.tool.name, arguments, **place)
        if isinstance(decided, Denied):
            return decided.reason
        try:
            if one.content is None:
                await asyncio.to_thread(workspace.delete, one.path)
            else:
                await asyncio.to_thread(workspace.write, one.path, one.content)
        except NotPossible as no:
            return no.message
        return ""


def _changes(root: Path, copy: RunCopy, keeps: tuple[str, ...]) -> Iterator[_Back]:
    """Files of these patterns that the run has added, changed or deleted. Links and the unreadable are nobody's."""
    workspace, copied = Tree(root), Tree(copy.folder)
    before, after = _files(workspace, keeps), _files(copied, keeps)
    for path in sorted(after - frozenset(copy.left_out)):
        content = _content(copied, path)
        if content is not None and (path not in before or content != _content(workspace, path)):
            yield _Back(path, content)
    for path in sorted(before - after - frozenset(copy.left_out)):
        yield _Back(path, None)


def _files(tree: Tree, keeps: tuple[str, ...]) -> frozenset[str]:
    return frozenset(found.path for found in tree.walk() if not found.is_link and matches_any(keeps, found.path))


def _content(tree: Tree, path: str) -> bytes | None:
    """None: it is no file of a size that a workspace holds."""
    try:
        return tree.read(path)
    except NotPossible:
        return None


def _of_left_out(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [f"[not in the run, because this session may not read it: {_some(left_out)}]"]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
