"""`Facts` over a bare repository: both trees are read here, by libgit2; what their texts mean, in a confined child.

Sizes are bounded before anything is read: a file that is too large, or that is no UTF-8, goes along without its text
and is named. A rename is found by libgit2's similarity among the changed files alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus, DiffFind, FileMode, ObjectType, SortMode

from controller.adapters.git_ignored import ignored
from controller.adapters.git_outside import reached_by
from controller.adapters.git_store import Store, commit_of
from controller.adapters.git_tested import commanded, compared, is_pytest, runs_doctests
from controller.confined import NotParsed, confined
from controller.domain.change import (
    ChangeFacts,
    DependencyChange,
    FileFact,
    FileKind,
    FileStatus,
    Finding,
    OwnedPath,
    Role,
)
from controller.domain.ids import Commit, Repository
from controller.facts.owners import MOST_BYTES, PLACES
from controller.facts.tree import Analysis, ChangedFile, ChangedTree, Noted, PassingText
from controller.ports import Seals

ANALYSIS = "controller.facts.analyse:analysed"
ANALYSIS_SECONDS = 20.0
ANALYSIS_BYTES = 768 << 20
OUTPUT_BYTES = 4 << 20
MOST_FILES = 2_000
MOST_TEXT_BYTES = 2 << 20  # of one file
MOST_TEXTS_BYTES = 12 << 20  # of all files, both sides
MOST_COMMITS = 100  # of a branch, whose own additions are looked at for secrets
MOST_PASSING_BYTES = 4 << 20
_STATUS = {
    DeltaStatus.ADDED: FileStatus.ADDED,
    DeltaStatus.COPIED: FileStatus.ADDED,
    DeltaStatus.DELETED: FileStatus.DELETED,
    DeltaStatus.RENAMED: FileStatus.RENAMED,
}
_KINDS = {
    FileMode.BLOB: FileKind.FILE,
    FileMode.BLOB_EXECUTABLE: FileKind.EXECUTABLE,
    FileMode.LINK: FileKind.SYMLINK,
    FileMode.COMMIT: FileKind.SUBMODULE,
}


@dataclass(frozen=True, slots=True)
class FactsOptions:
    """`commands`: build commands, and start commands (whose own program is the service, not a script of it)."""

    build: tuple[tuple[str, ...], ...] = ()
    start: tuple[tuple[str, ...], ...] = ()
    test: tuple[str, ...] = ("python", "-m", "pytest")
    public: bool = True  # whether others use the interfaces of this repository's languages


class GitFacts:
    def __init__(self, store: Store, seals: Seals, options: FactsOptions) -> None:
        self._store = store
        self._seals = seals
        self._options = options

    async def of(self, repository: Repository, base: Commit, head: Commit, task: str) -> ChangeFacts:
        tree = await asyncio.to_thread(self._read, repository, base, head, task)
        try:
            answer = await confined(
                ANALYSIS,
                tree.model_dump_json().encode(),
                seconds=ANALYSIS_SECONDS,
                memory_bytes=ANALYSIS_BYTES,
                output_bytes=OUTPUT_BYTES,
            )
        except NotParsed as no:
            return await self._sealed(tree, _unanalysed(tree, no))
        return await self._sealed(tree, Analysis.model_validate_json(answer))

    # --- reading --------------------------------------------------------------------------------------------------

    def _read(self, repository: Repository, base: Commit, head: Commit, task: str) -> ChangedTree:
        repo = self._store.open(repository)
        old, new = commit_of(repo, base), commit_of(repo, head)
        diff = old.tree.diff_to_tree(new.tree)
        diff.find_similar(flags=DiffFind.FIND_RENAMES)
        outside = reached_by(repo, (old.tree, new.tree), self._options.build, self._options.start)
        files = tuple(_files(repo, diff))
        return ChangedTree(
            task=task,
            files=files,
            ignored=_ignored(self._store.path(repository), old.tree, files),
            passing=tuple(_passing(repo, old, new)),
            outside=outside,
            commanded=commanded((old.tree, new.tree), self._options.test),
            compared=compared(old.tree, [one.former for one in files if one.status is not FileStatus.ADDED]),
            second_verdict=is_pytest(self._options.test),
            doctests=runs_doctests(old.tree, self._options.test),
            public=self._options.public,
            owners=_owners(old.tree),
        )

    # --- sealing --------------------------------------------------------------------------------------------------

    async def _sealed(self, tree: ChangedTree, found: Analysis) -> ChangeFacts:
        return ChangeFacts(
            files=tuple(_fact(file, found) for file in tree.files),
            dependencies=tuple(
                [
                    DependencyChange(
                        ecosystem=one.ecosystem,
                        path=one.path,
                        what=one.what,
                        name=await self._seals.seal(one.name),
                        asked=one.asked,
                    )
                    for one in found.dependencies
                ]
            ),
            irreversible=await self._findings(found.irreversible),
            secrets=await self._findings(found.secrets),
            interfaces_removed=await self._findings(found.interfaces_removed),
            nothing_new=found.nothing_new,
            weakened=await self._findings(found.weakened),
            tests_touched=await self._findings(found.tests_touched),
            suspicious=await self._findings(found.suspicious),
            owned=tuple(OwnedPath(path=one.path, owners=one.owners) for one in found.owned),
            unread=await self._findings(found.unread),
        )

    async def _findings(self, noted: tuple[Noted, ...]) -> tuple[Finding, ...]:
        return tuple(
            [
                Finding(
                    rule=one.rule,
                    path=one.path,
                    line=one.line,
                    words=await self._seals.seal(one.words) if one.words else None,
                    asked=one.asked,
                    test=one.test,
                )
                for one in noted
            ]
        )


def _unanalysed(tree: ChangedTree, no: NotParsed) -> Analysis:
    """Nothing is known but what git says: a person looks."""
    why = Noted(rule="unread/analysis", path="", words=str(no))
    return Analysis(roles={file.path: (Role.SOURCE,) for file in tree.files}, unread=(why,))


def _fact(file: ChangedFile, found: Analysis) -> FileFact:
    return FileFact(
        path=file.path,
        status=file.status,
        was=file.was,
        kind=file.kind,
        was_kind=file.was_kind,
        binary=file.binary,
        bytes_after=file.bytes_after,
        lines_added=file.lines_added,
        lines_removed=file.lines_removed,
        roles=found.roles.get(file.path, ()),
        removal_asked=file.path in found.removals,
    )


def _ignored(bare: Path, tree: pygit2.Tree, files: tuple[ChangedFile, ...]) -> tuple[str, ...]:
    """New files that the base's own .gitignore names. Raises Permanent when git cannot tell."""
    new = [one.path for one in files if one.status in (FileStatus.ADDED, FileStatus.RENAMED)]
    return tuple(sorted(ignored(bare, new, lambda path: _blob(tree, path))))


def _blob(tree: pygit2.Tree, path: str) -> bytes | None:
    """None: there is no file there."""
    return found.data if path in tree and isinstance(found := tree[path], pygit2.Blob) else None


def _owners(tree: pygit2.Tree) -> str:
    """The first of the places that the forges look at. "": there is none."""
    for place in PLACES:
        if place in tree and isinstance(blob := tree[place], pygit2.Blob):
            return blob.data[:MOST_BYTES].decode(errors="replace")
    return ""


def _files(repo: pygit2.Repository, diff: pygit2.Diff) -> Iterator[ChangedFile]:
    left = MOST_TEXTS_BYTES
    for number, patch in enumerate(diff):
        if patch is None:
            continue
        file = _file(repo, patch, left if number < MOST_FILES else 0)
        left -= len(file.before or "") + len(file.after or "")
        yield file


def _file(repo: pygit2.Repository, patch: pygit2.Patch, left: int) -> ChangedFile:
    delta = patch.delta
    status = _status(delta)
    path, was = _name(delta.new_file), _name(delta.old_file) if delta.status == DeltaStatus.RENAMED else None
    size = 0 if status is FileStatus.DELETED else _size(repo, delta.new_file)
    kind, was_kind = _kind(delta.new_file), _kind(delta.old_file)
    if status is FileStatus.DELETED:
        kind = was_kind or kind
    unread = "too-large" if max(size, _size(repo, delta.old_file)) > MOST_TEXT_BYTES or left <= 0 else ""
    before, after = (None, None) if unread else (_text(repo, delta.old_file), _text(repo, delta.new_file))
    binary = bool(delta.is_binary) or before is _BINARY or after is _BINARY
    lines = [line for hunk in patch.hunks for line in hunk.lines] if not binary and not unread else []
    _, added, removed = patch.line_stats
    if kind in (FileKind.SUBMODULE, FileKind.SYMLINK):
        before, after = None, None
    return ChangedFile(
        path=path,
        status=status,
        was=was,
        kind=kind or FileKind.FILE,
        was_kind=was_kind if was_kind is not None and was_kind is not kind else None,
        binary=binary,
        bytes_after=size,
        before=None if binary else before,
        after=None if binary else after,
        added=tuple(line.new_lineno for line in lines if line.origin == "+"),
        removed=tuple(line.old_lineno for line in lines if line.origin == "-"),
        lines_added=added,
        lines_removed=removed,
        unread=unread,
    )


_BINARY = "\0"


def _status(delta: pygit2.DiffDelta) -> FileStatus:
    if delta.status in _STATUS:
        return _STATUS[delta.status]
    same = delta.old_file.id == delta.new_file.id
    return FileStatus.MODE if same else FileStatus.CHANGED


def _kind(file: pygit2.DiffFile) -> FileKind | None:
    """None: there is no file on this side."""
    mode = int(file.mode)
    return None if not mode else _KINDS.get(FileMode(mode), FileKind.FILE)


def _name(file: pygit2.DiffFile) -> str:
    return file.raw_path.decode("utf-8", "backslashreplace")


def _size(repo: pygit2.Repository, file: pygit2.DiffFile) -> int:
    """0: no blob on this side."""
    if not int(file.mode) or int(file.mode) == FileMode.COMMIT:
        return 0
    kind, size = repo.odb.read_header(file.id)
    return int(size) if kind == ObjectType.BLOB else 0


def _text(repo: pygit2.Repository, file: pygit2.DiffFile) -> str | None:
    """None: no blob on this side. `_BINARY`: no UTF-8 text."""
    if not int(file.mode) or int(file.mode) == FileMode.COMMIT:
        return None
    blob = repo[file.id]
    if not isinstance(blob, pygit2.Blob):
        return None
    data = blob.data
    if b"\0" in data:
        return _BINARY
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _BINARY


def _passing(repo: pygit2.Repository, base: pygit2.Commit, head: pygit2.Commit) -> Iterator[PassingText]:
    """Texts of files as earlier commits had them, where neither tree has them: they come into the history as well."""
    walk = repo.walk(head.id, SortMode.NONE)
    walk.hide(base.id)
    left = MOST_PASSING_BYTES
    for number, commit in enumerate(walk):
        if number >= MOST_COMMITS or left <= 0:
            return
        if commit.id == head.id or len(commit.parents) != 1:
            continue
        for delta in commit.parents[0].tree.diff_to_tree(commit.tree).deltas:
            path = _name(delta.new_file)
            same = path in head.tree and head.tree[path].id == delta.new_file.id
            if delta.status == DeltaStatus.DELETED or same or _size(repo, delta.new_file) > min(left, MOST_TEXT_BYTES):
                continue
            text = _text(repo, delta.new_file)
            if text and text is not _BINARY:
                left -= len(text)
                yield PassingText(path=path, text=text)
