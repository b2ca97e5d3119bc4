"""What is known of a change, computed by us from both trees and from runs outside the change's reach.

Three kinds of facts, each from its own source, and all of them inputs of the colour:

- `ChangeFacts`: read off the two trees as git has them. Nothing of the change is run.
- `TestFacts`: what CI found, as the parent of the code under test saw it.
- `MutantFacts`: whether the change's tests notice when its lines are broken.

Paths stand in clear. Everything else that the change's author chose (names of tests, of packages, of functions) is
text from outside: it goes sealed, or as a digest where runs are to be compared.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.sealed import Sealed

ADDING = frozenset({"test/added", "test/changed", "test/file-added"})  # rules of tests that prove more than before


class FileStatus(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"
    RENAMED = "renamed"  # content the same, or nearly; `was` names where it came from
    MODE = "mode"  # only the mode differs


class FileKind(StrEnum):
    FILE = "file"
    EXECUTABLE = "executable"
    SYMLINK = "symlink"
    SUBMODULE = "submodule"


class Role(StrEnum):
    """What a file is for, by its language's and its tools' own conventions. A file may have several roles."""

    SOURCE = "source"
    TEST = "test"
    SNAPSHOT = "snapshot"  # what tests compare with
    TEST_CONFIG = "test_config"  # decides which tests run, or how
    CI = "ci"
    DEPENDENCIES = "dependencies"  # a manifest or a lock
    RUNS_OUTSIDE = "runs_outside"  # build, start, or a script that they call: runs where users are
    SETTINGS = "settings"  # what the program reads to know what it may do, and for whom
    MIGRATION = "migration"
    STEERS_AGENTS = "steers_agents"
    HOLDS_SECRETS = "holds_secrets"
    GENERATED = "generated"
    OWNERS = "owners"  # says who must review
    POLICY = "policy"  # Flyball's own configuration, grants and prompts
    DOCS = "docs"


class FileFact(Fact):
    """One file of the change. `path` is where it stands on the head, or stood on the base if it was deleted."""

    path: str
    status: FileStatus
    was: str | None = None  # the former path; None: not renamed
    kind: FileKind = FileKind.FILE
    was_kind: FileKind | None = None  # None: it is new, or its kind is the same
    binary: bool = False
    bytes_after: int = 0  # 0: deleted or empty
    lines_added: int = 0
    lines_removed: int = 0
    roles: tuple[Role, ...] = ()
    removal_asked: bool = False  # nothing came, and nothing went but what the task asks to remove


class Finding(Fact):
    """Something about one place in a change, found by a rule with an id. `words` may hold the author's own text."""

    rule: str  # such as "secret/aws-access-key", "irreversible/drop-column", "weakened/assertion-removed"
    path: str
    line: int | None = None  # on the head, or on the base for what was removed; None: the file as a whole
    words: Sealed | None = None  # None: the rule's id says all
    asked: bool = False  # the task names what this is about
    test: str = ""  # the test's `clear_name` as its runner calls it. "": it is about no test, or about an unknown one


class DependencyChange(Fact):
    ecosystem: str  # pypi, npm, crates, go, maven, rubygems, ...
    path: str
    what: Literal["added", "removed", "moved"]
    name: Sealed
    asked: bool = False  # the task names this package


class OwnedPath(Fact):
    path: str
    owners: tuple[str, ...]  # as CODEOWNERS on the base names them


class ChangeFacts(Fact):
    """What both trees tell. Lists are bounded. `unread` says what was not looked into, which asks for a person."""

    files: tuple[FileFact, ...] = ()
    dependencies: tuple[DependencyChange, ...] = ()
    irreversible: tuple[Finding, ...] = ()
    secrets: tuple[Finding, ...] = ()
    interfaces_removed: tuple[Finding, ...] = ()
    weakened: tuple[Finding, ...] = ()  # assertions removed, expectations changed with the code, tests switched off
    tests_touched: tuple[Finding, ...] = ()  # test functions added, changed, removed: rules "test/added", ...
    nothing_new: bool = False  # all changed source is Python that the base has, moved, described or formatted otherwise
    owned: tuple[OwnedPath, ...] = ()
    suspicious: tuple[Finding, ...] = ()  # what hides: rules "invisible/...", "lookalike/...", "runs-text/...", ...
    unread: tuple[Finding, ...] = ()

    @property
    def lines_changed(self) -> int:
        return sum(one.lines_added + one.lines_removed for one in self.files)

    @property
    def tests_added(self) -> bool:
        """At least one test asserts something that none asserted before. A test that went, or only moved, is none."""
        return any(one.rule in ADDING for one in self.tests_touched)

    def with_role(self, *roles: Role) -> tuple[FileFact, ...]:
        return tuple(one for one in self.files if any(role in one.roles for role in roles))


class BaseVerdict(StrEnum):
    """What the base's own tests and test configuration say of the head's code."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"  # they could not be run against it
    NOT_RUN = "not_run"  # nothing of the tests differs, or CI was not asked to


class Executed(StrEnum):
    """Whether the changed files were the ones that the tests ran."""

    PROVEN = "proven"
    NOT_EXECUTED = "not_executed"  # proven that at least one changed file that could have run did not
    OTHER_COPY = "other_copy"  # the tests ran another copy of a changed file: an installed one, for example
    NOTHING_TO_RUN = "nothing_to_run"  # the change has no file of a language that we can watch
    NOT_MEASURED = "not_measured"  # CI cannot tell for this language or command


class TestFacts(Fact):
    """A finished run as the parent of the code under test saw it. Names of tests are `clear_name`s."""

    __test__ = False
    collected_base: int | None = Field(default=None, ge=0)  # None: the base's tests were not listed
    collected: int | None = Field(default=None, ge=0)  # on the head, listed by a process apart; None: not listed
    ran: int = Field(default=0, ge=0)  # neither skipped nor missing
    skipped: int = Field(default=0, ge=0)
    vanished: tuple[str, ...] = ()  # on the base and not on the head
    vanished_tests: tuple[str, ...] = ()  # the same without the rows of a `parametrize`
    newly_skipped: tuple[str, ...] = ()  # ran on the base, skipped on the head
    added: tuple[str, ...] = ()  # on the head and not on the base
    names: Sealed | None = None  # JSON object from `clear_name` to name, of those above; None: nothing to name
    base_verdict: BaseVerdict = BaseVerdict.NOT_RUN
    base_failed: tuple[str, ...] = ()  # of the base's tests, against the head
    executed: Executed = Executed.NOT_MEASURED
    not_executed: tuple[str, ...] = ()  # paths of changed files that no test ran
    lines_changed: int | None = None  # executable changed lines; None: not measured
    lines_covered: int | None = None
    tripwire: bool | None = None  # a test that must fail did fail; False: it was reported as passed; None: none ran


class MutantSurvived(Fact):
    path: str
    line: int = Field(ge=1)
    operator: str  # such as "compare/swap", "return/none"


class MutantFacts(Fact):
    """Mutants of the changed lines, run against the change's tests. `killed / (killed + survived)` is the share."""

    measured: bool
    why_not: str = ""  # "": measured. A rule id and plain words, such as "mutants/language: no mutator for .go"
    possible: int = Field(default=0, ge=0)  # mutants of the changed lines before sampling
    killed: int = Field(default=0, ge=0)
    survived: int = Field(default=0, ge=0)
    timed_out: int = Field(default=0, ge=0)  # counted as killed by nobody: neither in the share nor survivors
    survivors: tuple[MutantSurvived, ...] = ()  # bounded
    seed: int = 0
    budget_ms: int = Field(default=0, ge=0)
    took_ms: int = Field(default=0, ge=0)

    @property
    def share_killed(self) -> float | None:
        """0 to 1. None: not measured, or no mutant came to an end."""
        ended = self.killed + self.survived
        return self.killed / ended if self.measured and ended else None
