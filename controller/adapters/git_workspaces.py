"""Working copies that git never enters: plain files out of the forge's objects, and objects made of plain files again.

There is no `.git` in a working copy, and no git command or work-tree function ever runs in one, so hooks, filters and
monitors that somebody writes there are text. Reading back goes folder by folder through descriptors that refuse to
follow links, so a link (even one swapped in during the walk) cannot bring in a file from outside. What is read is
bounded in files, bytes and depth.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus, FileMode

from controller.adapters.git_ignored import ignored
from controller.adapters.git_merges import change_between
from controller.adapters.git_store import FLYBALL, Identity, Store, commit_of
from controller.adapters.git_trees import Held, Kind, held_by, written
from controller.adapters.removal import remove
from controller.adapters.run_copies import run_copy
from controller.domain.ids import Commit, Repository
from controller.errors import Permanent
from controller.ports import Committed, LeftOut, RunCopy

LITTER = (
    "__pycache__",
    "*.pyc",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    ".coverage",
    ".venv",
)  # what running the tests leaves behind; committed only where the base tracks it
SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}(/[A-Za-z0-9][A-Za-z0-9._-]{0,119}){0,4}")
MOST_REMEMBERED = 10_000  # paths, of which it is known whether a commit's ignore files name them
NEVER_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Entry = tuple[Kind, pygit2.Oid]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one working copy, when it is read back."""

    entries: int = 100_000  # files and folders; the largest repositories on one branch have about that many
    file_bytes: int = 64 * 1024 * 1024
    total_bytes: int = 2 * 1024 * 1024 * 1024
    depth: int = 64  # folders within folders


class GitWorkspaces:
    """`Workspaces` beside a folder of bare repositories."""

    def __init__(self, root: Path, store: Store, limits: Limits = Limits(), identity: Identity = FLYBALL) -> None:
        self._root = root
        self._store = store
        self._limits = limits
        self._by = identity
        self._named: dict[tuple[Repository, Commit, str], bool] = {}  # whether a .gitignore of that commit names it

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        return await asyncio.to_thread(self._create, session, repository, base)

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        return await asyncio.to_thread(self._commit, session, repository, base, message, at)

    async def kept(self, session: str) -> Path | None:
        place = self._place(session)
        return place if place.is_dir() and not place.is_symlink() else None

    async def discard(self, session: str) -> None:
        await asyncio.to_thread(remove, self._place(session))

    def run_copy(self, root: Path, left_out: LeftOut) -> AbstractAsyncContextManager[RunCopy]:
        return run_copy(root, left_out)

    async def ignored(self, repository: Repository, base: Commit, paths: Sequence[str]) -> frozenset[str]:
        """A commit's ignore files do not change: each path is asked for once."""
        if len(self._named) >= MOST_REMEMBERED:
            self._named.clear()
        known = {path: self._named[key] for path in paths if (key := (repository, base, path)) in self._named}
        if unknown := [path for path in paths if path not in known]:
            found = await asyncio.to_thread(self._ignored, repository, base, unknown)
            known |= {path: path in found for path in unknown}
            self._named |= {(repository, base, path): known[path] for path in unknown}
        return frozenset(path for path in paths if known[path])

    def _create(self, session: str, repository: Repository, base: Commit) -> Path:
        tree = commit_of(self._store.open(repository), base).tree
        place = self._place(session)
        remove(place)
        place.mkdir(parents=True)
        lay_out(tree, place)
        return place

    def _commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        repo = self._store.open(repository)
        before = commit_of(repo, base).tree
        place = self._place(session)
        after = _Reading(repo, self._limits).whole(place, before)
        left_out = self._ignored(repository, base, _added(before, after))
        if left_out:
            after = _Reading(repo, self._limits, left_out).whole(place, before)
        if after.id == before.id:
            return None
        signature = self._by.signed(at)
        head = repo.create_commit(None, signature, signature, message, after.id, [base])
        change = change_between(before, after)
        return Committed(Commit(str(head)), change.files, change.lines_changed, tuple(sorted(left_out)))

    def _ignored(self, repository: Repository, base: Commit, paths: Sequence[str]) -> frozenset[str]:
        tree = commit_of(self._store.open(repository), base).tree
        new = [path for path in paths if path not in tree]
        return ignored(self._store.path(repository), new, lambda path: _blob(tree, path))

    def _place(self, session: str) -> Path:
        """No two sessions share a folder: "@" is in no session's name."""
        if not SESSION.fullmatch(session):
            raise Permanent(f"{session!r} is no session name", "Name a session <delivery>/<iteration>")
        return self._root / session.replace("/", "@")


# --- out of the forge -----------------------------------------------------------------------------


def lay_out(tree: pygit2.Tree, folder: Path) -> None:
    """Every path is new and made without following links, so nothing in the tree can direct a write elsewhere."""
    for raw, entry in held_by(tree).items():
        name = os.fsdecode(raw)
        if name.lower() in {"", ".", "..", ".git"} or "/" in name:
            raise Permanent(f"the repository holds an entry named {name!r}", "Remove it: no working copy can hold it")
        path = folder / name
        if isinstance(entry.object, pygit2.Tree):
            path.mkdir()
            lay_out(entry.object, path)
        elif entry.kind is Kind.SUBMODULE:
            path.mkdir()  # an empty folder, as git leaves it
        elif isinstance(entry.object, pygit2.Blob):
            _lay_out_file(entry.kind, entry.object, path)
        else:
            raise Permanent(f"{name} is named as a {entry.kind} and is none", "Run git fsck on the repository")


def _lay_out_file(kind: Kind, blob: pygit2.Blob, path: Path) -> None:
    if kind is Kind.LINK:
        path.symlink_to(os.fsdecode(blob.data))
        return
    mode = 0o755 if kind is Kind.EXECUTABLE else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(blob.data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


# --- back into the forge --------------------------------------------------------------------------


class _Reading:
    """One walk over a working copy, with what it has read so far."""

    def __init__(self, repo: pygit2.Repository, limits: Limits, left_out: frozenset[str] = frozenset()) -> None:
        self._left_out = left_out
        self._repo = repo
        self._limits = limits
        self._entries = 0
        self._bytes = 0

    def whole(self, place: Path, base: pygit2.Tree) -> pygit2.Tree:
        try:
            descriptor = os.open(place, NEVER_FOLLOW | os.O_DIRECTORY)
        except FileNotFoundError as gone:
            raise Permanent(f"there is no working copy at {place}", "Create it again and repeat the work") from gone
        found = self._folder(descriptor, base, "", 0)
        tree = self._repo[written(self._repo, {}) if found is None else found]
        if not isinstance(tree, pygit2.Tree):
            raise TypeError(f"{tree.id} is no tree")
        return tree

    def _folder(self, descriptor: int, base: pygit2.Tree | None, path: str, depth: int) -> pygit2.Oid | None:
        """Takes over the descriptor. `base=None`: the base has no such folder. None: it holds nothing to commit."""
        known = {} if base is None else {os.fsdecode(name): one for name, one in held_by(base).items()}
        found: dict[str, Entry] = {n: (e.kind, e.id) for n, e in known.items() if e.kind is Kind.SUBMODULE}
        try:
            for name in sorted(os.listdir(descriptor)):  # noqa: PTH208 - a path would be followed, a descriptor is not
                if name not in known and any(fnmatchcase(name, litter) for litter in LITTER):
                    continue
                entry = self._entry(descriptor, name, known.get(name), f"{path}{name}", depth)
                if entry is not None:
                    found[name] = entry
        finally:
            os.close(descriptor)
        return self._tree(base, known, found)

    def _entry(self, folder: int, name: str, was: Held | None, path: str, depth: int) -> Entry | None:
        """None: an empty folder, which git does not keep, or a file that is left out."""
        self._count(path)
        if path in self._left_out:
            return None
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if name.lower() == ".git":
            raise Permanent(f"{path} would be a repository within the repository", "Remove it from the working copy")
        if was is not None and was.kind is Kind.SUBMODULE:
            return self._submodule(folder, name, was, path)
        if stat.S_ISDIR(mode):
            inner = self._open(name, os.O_DIRECTORY, folder, path)
            base = was.object if was is not None and isinstance(was.object, pygit2.Tree) else None
            if depth >= self._limits.depth:
                os.close(inner)
                raise Permanent(f"{path} lies deeper than {self._limits.depth} folders", "Flatten it or remove it")
            tree = self._folder(inner, base, f"{path}/", depth + 1)
            return None if tree is None else (Kind.FOLDER, tree)
        if stat.S_ISLNK(mode):
            return _unchanged_link(folder, name, was, path)
        if not stat.S_ISREG(mode):
            raise Permanent(f"{path} is neither file nor folder", "Remove it from the working copy")
        return self._file(folder, name, was, path)

    def _file(self, folder: int, name: str, was: Held | None, path: str) -> Entry:
        with os.fdopen(self._open(name, 0, folder, path), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise Permanent(
                    f"{path} changed its kind while it was read", "Stop what runs in the working copy first"
                )
            content = file.read(self._limits.file_bytes + 1) if info.st_size <= self._limits.file_bytes else b""
        size = max(info.st_size, len(content))
        if size > self._limits.file_bytes:
            raise Permanent(
                f"{path} has {size} bytes, more than {self._limits.file_bytes}", "Keep it out of the repository"
            )
        self._bytes += size
        if self._bytes > self._limits.total_bytes:
            raise Permanent(
                f"the working copy holds more than {self._limits.total_bytes} bytes", "Remove what was generated"
            )
        kind = Kind.EXECUTABLE if info.st_mode & stat.S_IXUSR else Kind.FILE
        blob = pygit2.hash(content)
        return kind, blob if was is not None and was.id == blob else self._repo.create_blob(content)

    def _submodule(self, folder: int, name: str, was: Held, path: str) -> Entry:
        inner = self._open(name, os.O_DIRECTORY, folder, path)
        try:
            if os.listdir(inner):  # noqa: PTH208 - same
                raise Permanent(f"submodule {path} was changed", "Leave submodules as they are")
        finally:
            os.close(inner)
        return Kind.SUBMODULE, was.id

    def _open(self, name: str, extra: int, folder: int, path: str) -> int:
        try:
            return os.open(name, NEVER_FOLLOW | extra, dir_fd=folder)
        except OSError as no:
            raise Permanent(
                f"{path} cannot be read ({no.strerror})", "Make it a readable file or folder, or remove it"
            ) from no

    def _count(self, path: str) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise Permanent(
                f"the working copy holds more than {self._limits.entries} files and folders, {path} among them",
                "Remove what was generated",
            )

    def _tree(
        self, base: pygit2.Tree | None, known: Mapping[str, Held], found: Mapping[str, Entry]
    ) -> pygit2.Oid | None:
        """None: nothing is in it."""
        before = {name: (one.kind, one.id) for name, one in known.items()}
        if base is not None and before == found:
            return base.id
        if not found:
            return None
        for name, (kind, one) in found.items():
            if name not in before:
                _must_be_a_name(self._repo, name, kind, one)
        return written(self._repo, {os.fsencode(name): entry for name, entry in found.items()})


def _must_be_a_name(repository: pygit2.Repository, name: str, kind: Kind, one: pygit2.Oid) -> None:
    """Names that another system would take for `.git` are refused by libgit2, and so are names that are not UTF-8."""
    try:
        repository.TreeBuilder().insert(name, one, FileMode(int(kind.value, 8)))
    except (pygit2.GitError, UnicodeEncodeError) as no:
        raise Permanent(f"{name!r} cannot be a file's name in a repository ({no})", "Rename it") from no


def _unchanged_link(folder: int, name: str, was: Held | None, path: str) -> Entry:
    target = os.fsencode(os.readlink(name, dir_fd=folder))
    if was is None or was.kind is not Kind.LINK or pygit2.hash(target) != was.id:
        raise Permanent(f"{path} is a symlink that was added or changed", "Use a regular file instead")
    return Kind.LINK, was.id


def _added(before: pygit2.Tree, after: pygit2.Tree) -> list[str]:
    deltas = before.diff_to_tree(after).deltas
    return [os.fsdecode(delta.new_file.raw_path) for delta in deltas if delta.status == DeltaStatus.ADDED]


def _blob(tree: pygit2.Tree, path: str) -> bytes | None:
    """A file's content. None: there is no such file."""
    try:
        found = tree[path]
    except KeyError:
        return None
    return found.data if isinstance(found, pygit2.Blob) else None
