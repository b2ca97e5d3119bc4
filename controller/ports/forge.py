"""The forge, as steps may look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from controller.domain.ids import Branch, Commit, Repository


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit made in memory: no ref points at it. The same inputs give the same commit id."""

    commit: Commit
    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    files: tuple[str, ...]  # repository-relative paths touched between two commits
    lines_changed: int


@dataclass(frozen=True, slots=True)
class Touched:
    """Every path in which a commit differs from what it stands on, at its end or on the way there."""

    written: tuple[str, ...]  # added, changed, or of another mode; what is not UTF-8 comes with surrogates
    deleted: tuple[str, ...]  # the former end of a renaming among them
    faults: Mapping[str, int] = field(default_factory=dict)  # what no change may bring, by kind, with how many
    twins: tuple[str, ...] = ()  # new names that look like another in the same folder


class Forge(Protocol):
    async def tip(self, repository: Repository, branch: Branch) -> Commit | None:
        """None: there is no such branch."""
        ...

    async def tree(self, repository: Repository, commit: Commit) -> str:
        """The id of the tree that a commit holds."""
        ...

    async def contains(self, repository: Repository, commit: Commit, ancestor: Commit) -> bool:
        """`commit` is `ancestor` or descends from it."""
        ...

    async def behind(self, repository: Repository, base: Commit, tip: Commit) -> int:
        """First-parent commits on the way from `base` to `tip`."""
        ...

    async def change(self, repository: Repository, base: Commit, head: Commit) -> Change: ...

    async def touched(self, repository: Repository, base: Commit, head: Commit) -> Touched:
        """What `head` and every commit of it that `base` has not changes, from where the two have parted."""
        ...

    async def diff(self, repository: Repository, base: Commit, head: Commit, limit_bytes: int) -> str: ...

    async def merge(
        self, repository: Repository, base: Commit, head: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        """`head` merged onto `base`, two parents (base first), identity and dates fixed by the arguments."""
        ...

    async def rebase(
        self, repository: Repository, base: Commit, head: Commit, onto: Commit, at: datetime
    ) -> Candidate | Conflict:
        """The change base..head as one commit on `onto`."""
        ...

    async def revert(
        self, repository: Repository, bad: Commit, onto: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        """Undo merge (or plain) commit `bad` on top of `onto`."""
        ...

    async def pull_request_of(self, repository: Repository, branch: Branch) -> int | None:
        """The open pull request of a head branch. None: there is none."""
        ...
