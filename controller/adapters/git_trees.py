"""Trees as their bytes stand, read once and in one way by everybody: pushes, working copies, CI, builds, merges.

git reads a mode loosely: of an entry's number it looks at the kind and the owner's executable bit, takes whatever is no
file, link or folder for a submodule, and writes 100644, 100755, 120000, 40000 or 160000 when it writes a tree itself.
libgit2 and others draw the line elsewhere, and so an odd mode is a link to one reader and a file to another. Whatever
is new here has one of the three modes of files and folders, byte for byte; what a repository has always had is read as
git reads it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pygit2
from pygit2.enums import ObjectType

from controller.errors import Permanent

MAX_VISITED = 1_000_000  # entries looked at in one comparison
MAX_DEPTH = 128  # folders within folders
EMPTY = bytes.fromhex("4b825dc642cb6eb9a060e54bf8d69288fbee4904")  # folders without an entry are never written by git
READ_TREES = 512  # kept in one comparison

_ENTRY = re.compile(rb"([^ \0]{1,16}) ([^\0]{1,4096})\0(.{20})", re.DOTALL)


class Kind(StrEnum):
    """What an entry is; the value is the mode that git writes for it."""

    FILE = "100644"
    EXECUTABLE = "100755"
    FOLDER = "40000"
    LINK = "120000"
    SUBMODULE = "160000"


PLAIN = frozenset({Kind.FILE, Kind.EXECUTABLE, Kind.FOLDER})
_BY_MODE = {kind.value.encode(): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Entry:
    mode: bytes  # as it stands
    name: bytes
    id: bytes  # 20 bytes

    @property
    def kind(self) -> Kind:
        """As git reads the mode. Raises Permanent for one that is no number."""
        found = _BY_MODE.get(self.mode)
        return _as_git_reads(self.mode) if found is None else found

    @property
    def exact(self) -> bool:
        """The mode is spelt as git spells it."""
        return self.mode in _BY_MODE

    def same_as(self, other: Entry | None) -> bool:
        """`other` is here before, to the byte, or in an odd spelling that git would write like this."""
        if other is None or other.id != self.id:
            return False
        return other.mode == self.mode or (self.exact and other.kind is self.kind)


def _as_git_reads(mode: bytes) -> Kind:
    if not re.fullmatch(rb"[0-7]+", mode):
        raise Permanent(f"a tree has an entry of the mode {mode!r}", "Rewrite the commit with git fsck's help")
    number = int(mode, 8)
    if stat.S_ISREG(number):
        return Kind.EXECUTABLE if number & stat.S_IXUSR else Kind.FILE
    if stat.S_ISLNK(number):
        return Kind.LINK
    return Kind.FOLDER if stat.S_ISDIR(number) else Kind.SUBMODULE


def parsed(raw: bytes) -> Iterator[Entry]:
    """Raises Permanent for what is no tree."""
    at = 0
    while at < len(raw):
        found = _ENTRY.match(raw, at)
        if found is None:
            raise Permanent("a tree is malformed", "Run git fsck on the repository")
        yield Entry(*found.groups())
        at = found.end()


def entries_of(repository: pygit2.Repository, tree: bytes | pygit2.Oid) -> list[Entry]:
    """Raises Permanent for an object that is no tree, or is not there."""
    oid = tree if isinstance(tree, pygit2.Oid) else pygit2.Oid(raw=tree)
    try:
        kind, raw = repository.odb.read(oid)
    except KeyError:
        raise Permanent(f"the repository has no tree {oid}", "Run git fsck on it") from None
    if kind is not ObjectType.TREE:
        raise Permanent(f"{oid} is named as a tree and is none", "Run git fsck on the repository")
    return list(parsed(raw))


def odd_modes(repository: pygit2.Repository, tree: pygit2.Oid) -> Iterator[bytes]:
    """Paths of a whole tree whose modes are not spelt as git spells them; each folder is read once."""
    ahead, seen = [(tree.raw, b"")], set[bytes]()
    while ahead:
        one, path = ahead.pop()
        for entry in entries_of(repository, one):
            if not entry.exact:
                yield path + entry.name
            if entry.kind is Kind.FOLDER and entry.id not in seen:
                seen.add(entry.id)
                ahead.append((entry.id, path + entry.name + b"/"))


@dataclass(frozen=True, slots=True)
class Held:
    """An entry of a tree with its object, which is read only when it is asked for."""

    kind: Kind
    id: pygit2.Oid
    object: pygit2.Object


def held_by(tree: pygit2.Tree) -> dict[bytes, Held]:
    """By name, in the tree's order, as git reads it; libgit2 takes 120777 for a file. Raises Permanent as `parsed`."""
    rows = zip(parsed(tree.read_raw()), tree, strict=True)
    return {row.name: Held(row.kind, pygit2.Oid(raw=row.id), one) for row, one in rows}


def written(repository: pygit2.Repository, entries: Mapping[bytes, tuple[Kind, pygit2.Oid]]) -> pygit2.Oid:
    """A tree as git would write it: each mode in its one spelling, folders sorted as if they ended in a slash."""
    ordered = sorted(entries.items(), key=lambda row: row[0] + (b"/" if row[1][0] is Kind.FOLDER else b""))
    raw = b"".join(b"%s %s\0%s" % (kind.value.encode(), name, one.raw) for name, (kind, one) in ordered)
    return repository.odb.write(ObjectType.TREE, raw)


@dataclass
class Touched:
    """What one tree has that none of the trees before it has, and what all of those had. Paths are bytes."""

    written: dict[bytes, Kind] = field(default_factory=dict)
    deleted: set[bytes] = field(default_factory=set)
    odd: set[bytes] = field(default_factory=set)  # new entries that git would not write: odd modes, empty folders
    visited: int = 0

    def __len__(self) -> int:
        return len(self.written) + len(self.deleted) + len(self.odd)


class TooManyError(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(str(count))
        self.count = count


@dataclass
class Comparison:
    """Reads whole trees, folder by folder, and only where they differ. A renamed file is one gone and one written."""

    repository: pygit2.Repository
    most: int  # paths; TooManyError above
    found: Touched = field(default_factory=Touched)
    read: dict[bytes, dict[bytes, Entry]] = field(default_factory=dict)

    def compare(self, after: pygit2.Oid, befores: Sequence[pygit2.Oid]) -> Touched:
        self._folder(after.raw, [before.raw for before in befores], b"", 0)
        return self.found

    def _folder(self, after: bytes | None, befores: Sequence[bytes | None], path: bytes, depth: int) -> None:
        """None: there is no such folder."""
        if depth > MAX_DEPTH:
            raise Permanent(f"a tree lies deeper than {MAX_DEPTH} folders", "Flatten it")
        if after in befores:
            return
        new = self._entries(after)
        olds = [self._entries(before) for before in befores]
        for name, entry in new.items():
            was = [old.get(name) for old in olds]
            if not any(entry.same_as(one) for one in was):
                self._new(entry, was, path + name, depth)
        for name in set.intersection(*(set(old) for old in olds)) if olds else set[bytes]():
            self._gone(new.get(name), [old[name] for old in olds], path + name, depth)
        if len(self.found) > self.most or self.found.visited > MAX_VISITED:
            raise TooManyError(len(self.found))

    def _new(self, entry: Entry, was: Sequence[Entry | None], path: bytes, depth: int) -> None:
        if not entry.exact or entry.id == EMPTY:
            self.found.odd.add(path)
        if entry.kind is Kind.FOLDER:
            inner = [one.id if one is not None and one.kind is Kind.FOLDER else None for one in was]
            self._folder(entry.id, inner, path + b"/", depth + 1)
        else:
            self.found.written[path] = entry.kind

    def _gone(self, now: Entry | None, was: Sequence[Entry], path: bytes, depth: int) -> None:
        """A file that became a folder is gone, and so are the files of a folder that became one."""
        folders = [one.id for one in was if one.kind is Kind.FOLDER]
        if len(folders) < len(was) and (now is None or now.kind is Kind.FOLDER):
            self.found.deleted.add(path)
        if folders and (now is None or now.kind is not Kind.FOLDER):
            self._folder(None, folders, path + b"/", depth + 1)

    def _entries(self, tree: bytes | None) -> dict[bytes, Entry]:
        if tree is None:
            return {}
        if tree not in self.read:
            if len(self.read) >= READ_TREES:
                self.read.clear()
            self.read[tree] = {entry.name: entry for entry in entries_of(self.repository, tree)}
        self.found.visited += len(self.read[tree])
        return self.read[tree]
