"""Which files the new commits of a push touch, commit by commit, and what is in them that no push may bring."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import SortMode

from controller.adapters.git_commits import faults_of
from controller.adapters.git_trees import Comparison, Kind, TooManyError, Touched
from controller.domain.ids import Commit
from controller.provenance.identity import GitIdentity
from controller.provenance.trailers import SIGNED_OFF, claimed_keys

MODULES = b".gitmodules"


@dataclass(frozen=True, slots=True)
class Changes:
    faults: Mapping[str, int] = field(default_factory=dict)
    written: tuple[str, ...] = ()  # names that are not UTF-8 come with surrogates
    deleted: tuple[str, ...] = ()
    commits: int = 0


class _TooMuchError(Exception):
    def __init__(self, fault: str, count: int) -> None:
        super().__init__(fault)
        self.faults = {fault: count}


@dataclass(frozen=True, slots=True)
class Pushed:
    """Commits that somebody brings."""

    objects: Path  # where they lie until they are let in
    came: frozenset[bytes]  # ids in hex of what was not here before
    by: GitIdentity  # whom they are to name


def changes_of(
    bare: Path, new: Commit, trunk: Commit, *, max_commits: int, max_files: int, pushed: Pushed | None = None
) -> Changes:
    """Of every commit that `new` has and the protected branch `trunk` has not, and of all of them together.

    All together is from where `new` left the trunk: a merge that drops what others have landed shows only there.
    `pushed=None`: the commits are in the repository, and made by ourselves.
    """
    repository = pygit2.Repository(str(bare))
    if pushed is not None:
        repository.odb.add_disk_alternate(str(pushed.objects))
    base = repository.merge_base(new, trunk)
    if base is None:
        return Changes({"unrelated_commits": 1})
    try:
        commits = _new_commits(repository, new, trunk, max_commits)
        comparison = Comparison(repository, max_files)
        comparison.compare(_tree(repository, new), [_tree(repository, base)])
        for commit in commits:
            if commit.parents:  # a second beginning is a fault of its own
                comparison.compare(commit.tree_id, [parent.tree_id for parent in commit.parents])
    except TooManyError as no:
        return Changes({"excess_files": no.count})
    except _TooMuchError as no:
        return Changes(no.faults)
    said = _signed_off(commits) if pushed is None else _said(commits, pushed)
    return _as_changes(comparison.found, commits, said)


def _new_commits(repository: pygit2.Repository, new: Commit, trunk: Commit, limit: int) -> list[pygit2.Commit]:
    walk = repository.walk(pygit2.Oid(hex=new), SortMode.NONE)
    walk.hide(pygit2.Oid(hex=trunk))
    found: list[pygit2.Commit] = []
    for commit in walk:
        found.append(commit)
        if len(found) > limit:
            raise _TooMuchError("excess_commits", len(found))
    return found


def _said(commits: Iterable[pygit2.Commit], pushed: Pushed) -> Counter[str]:
    """What they say that is not theirs to say. Commits of others, in branches that are shown, have been let in."""
    now = time.time()
    came = [commit.read_raw() for commit in commits if str(commit.id).encode() in pushed.came]
    return Counter(fault for raw in came for fault in faults_of(raw, pushed.by, now))


def _signed_off(commits: Iterable[pygit2.Commit]) -> Counter[str]:
    """A sign-off is a person's word, whoever of us wrote the message."""
    return Counter("signed_off" for commit in commits if SIGNED_OFF in claimed_keys(commit.message))


def _as_changes(touched: Touched, commits: list[pygit2.Commit], said: Mapping[str, int]) -> Changes:
    kinds = Counter(touched.written.values())
    faults = {
        "odd_modes": len(touched.odd),
        "links": kinds[Kind.LINK],
        "submodules": kinds[Kind.SUBMODULE] + sum(_names_modules(path) for path in touched.written),
        "unrelated_commits": sum(not commit.parents for commit in commits),
        **said,
    }
    return Changes(
        {fault: count for fault, count in faults.items() if count},
        _names(touched.written),
        _names(touched.deleted),
        len(commits),
    )


def _names_modules(path: bytes) -> bool:
    return path.rpartition(b"/")[2].lower() == MODULES


def _names(paths: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(os.fsdecode(path) for path in paths))


def _tree(repository: pygit2.Repository, commit: pygit2.Oid | Commit) -> pygit2.Oid:
    return repository[commit].peel(pygit2.Commit).tree_id
