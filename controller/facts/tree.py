"""What the analysis is given and what it gives back. Both cross into and out of a confined process as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.change import FileKind, FileStatus, Role


class ChangedFile(Fact):
    """One file, with its text on both sides and the numbers of the lines that differ (from 1)."""

    path: str
    status: FileStatus
    was: str | None = None  # None: not renamed
    kind: FileKind = FileKind.FILE
    was_kind: FileKind | None = None  # None: it is new, or its kind is the same
    binary: bool = False
    bytes_after: int = 0
    before: str | None = None  # None: it is new, or its text was not read
    after: str | None = None  # None: it is gone, or its text was not read
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0
    unread: str = ""  # the rule that says why its text was not read. "": it was, or there is none

    @property
    def former(self) -> str:
        """Where it stood on the base."""
        return self.was or self.path


class PassingText(Fact):
    """Lines that an earlier commit of the branch added and a later one took away: they land in the history."""

    path: str
    text: str


class ChangedTree(Fact):
    task: str = ""
    files: tuple[ChangedFile, ...] = ()
    passing: tuple[PassingText, ...] = ()
    ignored: tuple[str, ...] = ()  # new paths that the base's own .gitignore names
    outside: tuple[str, ...] = ()  # paths that the build and start commands reach
    commanded: tuple[str, ...] = ()  # paths that the test command reaches: scripts that say what is tested
    compared: tuple[str, ...] = ()  # files of data outside the tests that a test of the base names
    doctests: bool = False  # whether the test command or configuration of the base speaks of doctests
    second_verdict: bool = True  # whether CI runs the base's own tests against the head
    public: bool = True  # whether the languages' own interfaces have users outside this repository
    owners: str = ""  # CODEOWNERS as it stands on the base. "": there is none


class Noted(Fact):
    """A `Finding` whose words are not sealed yet."""

    rule: str
    path: str
    line: int | None = None  # None: the file as a whole
    words: str = ""
    asked: bool = False
    test: str = ""


class NotedDependency(Fact):
    ecosystem: str
    path: str
    what: Literal["added", "removed", "moved"]
    name: str
    asked: bool = False


class NotedOwners(Fact):
    path: str
    owners: tuple[str, ...]


class Analysis(Fact):
    roles: dict[str, tuple[Role, ...]] = Field(default_factory=dict)
    dependencies: tuple[NotedDependency, ...] = ()
    irreversible: tuple[Noted, ...] = ()
    secrets: tuple[Noted, ...] = ()
    interfaces_removed: tuple[Noted, ...] = ()
    weakened: tuple[Noted, ...] = ()
    tests_touched: tuple[Noted, ...] = ()
    nothing_new: bool = False
    owned: tuple[NotedOwners, ...] = ()
    removals: tuple[str, ...] = ()  # files from which only that went which the task asks to remove
    suspicious: tuple[Noted, ...] = ()
    unread: tuple[Noted, ...] = ()
