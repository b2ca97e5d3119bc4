"""Which files the new commits of a push touch, commit by commit, and what is in them that no push may bring."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus, FileMode, SortMode

from controller.domain.ids import Commit
from controller.provenance.trailers import faults_of_agent_commit

MODULES = b".gitmodules"


@dataclass(frozen=True, slots=True)
class Changes:
    faults: Mapping[str, int] = field(default_factory=dict)
    written: tuple[str, ...] = ()  # names that are not UTF-8 come with surrogates
    deleted: tuple[str, ...] = ()
    commits: int = 0


@dataclass(frozen=True, slots=True)
class _Delta:
    path: bytes
    mode: int  # 0: the file is gone


class _TooMuchError(Exception):
    def __init__(self, fault: str, count: int) -> None:
        super().__init__(fault)
        self.faults = {fault: count}


def changes_of(
    bare: Path, quarantine: Path, new: Commit, trunk: Commit, *, max_commits: int, max_files: int
) -> Changes:
    """Of every commit that `new` has and the protected branch `trunk` has not, and of all of them together.

    All together is from where `new` left the trunk: a merge that drops what others have landed shows only there.
    """
    repository = pygit2.Repository(str(bare))
    repository.odb.add_disk_alternate(str(quarantine))
    base = repository.merge_base(new, trunk)
    if base is None:
        return Changes({"unrelated_commits": 1})
    try:
        commits = _new_commits(repository, new, trunk, max_commits)
        touched = _between(_tree(repository, base), _tree(repository, new))
        for commit in commits:
            touched |= _own_changes(commit)
            _within("excess_files", len(touched), max_files)
    except _TooMuchError as no:
        return Changes(no.faults)
    return _as_changes(touched, commits)


def _new_commits(repository: pygit2.Repository, new: Commit, trunk: Commit, limit: int) -> list[pygit2.Commit]:
    walk = repository.walk(pygit2.Oid(hex=new), SortMode.NONE)
    walk.hide(pygit2.Oid(hex=trunk))
    found: list[pygit2.Commit] = []
    for commit in walk:
        found.append(commit)
        _within("excess_commits", len(found), limit)
    return found


def _within(fault: str, count: int, limit: int) -> None:
    if count > limit:
        raise _TooMuchError(fault, count)


def _own_changes(commit: pygit2.Commit) -> set[_Delta]:
    """A merge's own are those that none of its parents has."""
    if not commit.parents:
        return set()  # a second beginning is a fault of its own
    of_each = [_between(parent.tree, commit.tree) for parent in commit.parents]
    return set.intersection(*of_each)


def _between(before: pygit2.Tree, after: pygit2.Tree) -> set[_Delta]:
    found: set[_Delta] = set()
    for delta in before.diff_to_tree(after).deltas:
        if delta.status == DeltaStatus.DELETED:
            found.add(_Delta(delta.old_file.raw_path, 0))
        else:
            found.add(_Delta(delta.new_file.raw_path, int(delta.new_file.mode)))
    return found


def _as_changes(touched: Iterable[_Delta], commits: list[pygit2.Commit]) -> Changes:
    written = {delta.path: delta for delta in touched if delta.mode}
    modes = [delta.mode for delta in touched]
    faults = {
        "links": modes.count(FileMode.LINK),
        "submodules": modes.count(FileMode.COMMIT) + sum(_names_modules(path) for path in written),
        "unrelated_commits": sum(not commit.parents for commit in commits),
        "signed_off": sum("signed_off" in faults_of_agent_commit(commit.message) for commit in commits),
    }
    return Changes(
        {fault: count for fault, count in faults.items() if count},
        _names(written),
        _names(delta.path for delta in touched if not delta.mode),
        len(commits),
    )


def _names_modules(path: bytes) -> bool:
    return path.rpartition(b"/")[2].lower() == MODULES


def _names(paths: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(os.fsdecode(path) for path in paths))


def _tree(repository: pygit2.Repository, commit: pygit2.Oid | Commit) -> pygit2.Tree:
    return repository[commit].peel(pygit2.Tree)
