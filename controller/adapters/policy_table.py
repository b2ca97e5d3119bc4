"""Risk colours from a fixed table: every rule looks at the same facts, all that speak are listed, the worst wins.

Green needs a rule that says so on named positive facts; nothing is green because nothing objected. A clean revert
brings back a state that has already been released, so the rules about size, tests and files do not hold it up; one that
an agent has asked for waits for a person all the same, since to take a change back is a decision about it. The digest
is over the table's rules and parameters: consent given under one table is no consent under another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.ids import Digest, digest_of
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
from controller.errors import ConfigError, Refused
from rbac.canonical import path
from rbac.patterns import check_pattern, matches_any, protected_by

TABLE_VERSION = 1  # raised whenever what a rule means changes, so that the digest changes with it
NAMED_PATTERNS = 3  # in a reason; the inputs beside it hold every file
NAMED_BENCHMARKS = 3
MAX_REASON = 600  # characters; as much as a claim in a decision holds
_WORST_FIRST = (Colour.RED, Colour.YELLOW, Colour.GREEN)


class TableParameters(Fact):
    """What a deployment decides about the table. Patterns are those of `rbac.patterns`."""

    owner: str = Field(min_length=1, max_length=200)  # the named person who answers for what this table lets through
    protected: tuple[str, ...]  # a change here lands only with a person's consent
    tests: tuple[str, ...] = (
        "tests/**",
        "test/**",
        "**/tests/**",
        "**/test_*.py",
        "**/*_test.*",
        "**/*.test.*",
        "**/*.spec.*",
    )
    no_source: tuple[str, ...] = (
        "**/*.md",
        "**/*.rst",
        "**/*.txt",
        "docs/**",
        "LICENSE",
        ".gitignore",
    )  # needs no test
    max_lines: int = Field(default=400, ge=1)  # review studies see defect discovery fall beyond 200-400 lines
    max_files: int = Field(default=25, ge=1)  # a wider change is one that nobody overlooks
    max_rounds: int = Field(default=2, ge=1)  # distinct heads on shared CI; `Bounds.ci_rounds`


@dataclass(frozen=True, slots=True)
class Rule:
    """`speaks` gives a sentence with the numbers that it saw. None: the rule has nothing to say about this change."""

    name: str
    colour: Colour
    speaks: Callable[[RiskInputs, TableParameters], str | None]


def _tests_failed(change: RiskInputs, _: TableParameters) -> str | None:
    return None if change.tests_passed else "the tests have not passed"


def _rounds_exceeded(change: RiskInputs, table: TableParameters) -> str | None:
    return f"{change.rounds} rounds of CI (at most {table.max_rounds})" if change.rounds > table.max_rounds else None


def _facts_missing(change: RiskInputs, _: TableParameters) -> str | None:
    missing = {
        "no file is named": not change.files,
        f"{change.lines_changed} changed lines": change.lines_changed < 1,
        f"{change.rounds} rounds of CI": change.rounds < 1,
        "the cause is none of task, revert, fix": change.cause not in {"task", "revert", "fix"},
    }
    found = [words for words, is_so in missing.items() if is_so]
    return f"facts are missing: {', '.join(found)}" if found else None


def _unusual_path(change: RiskInputs, _: TableParameters) -> str | None:
    strange = sum(not _is_plain(file) for file in change.files)
    return (
        f"{strange} of {len(change.files)} paths are spelt so that no pattern can be trusted on them"
        if strange
        else None
    )


def _protected_path(change: RiskInputs, table: TableParameters) -> str | None:
    if _is_clean_revert(change):
        return None
    hits = [pattern for file in change.files if (pattern := protected_by(table.protected, file)) is not None]
    named = sorted(set(hits))[:NAMED_PATTERNS]
    return f"{len(hits)} of {len(change.files)} files are protected ({', '.join(named)})" if hits else None


def _large_change(change: RiskInputs, table: TableParameters) -> str | None:
    if _is_clean_revert(change) or (change.lines_changed <= table.max_lines and len(change.files) <= table.max_files):
        return None
    lines, files = (
        f"{change.lines_changed} lines (at most {table.max_lines})",
        f"{len(change.files)} files (at most {table.max_files})",
    )
    return f"{lines} in {files}"


def _no_tests(change: RiskInputs, table: TableParameters) -> str | None:
    if _is_clean_revert(change) or change.tests_added:
        return None
    source = [file for file in change.files if not matches_any((*table.tests, *table.no_source), file)]
    return f"{len(source)} source files changed and no test added" if source else None


def _tainted(change: RiskInputs, _: TableParameters) -> str | None:
    return "the run has read text by somebody outside" if change.tainted else None


def _asked_by_agent(change: RiskInputs, _: TableParameters) -> str | None:
    return "an agent asked for it, and no person" if change.asked_by_agent else None


def _benchmark_slower(change: RiskInputs, _: TableParameters) -> str | None:
    if _is_clean_revert(change) or not change.slower_benchmarks:
        return None
    named = [one.words for one in change.slower_benchmarks[:NAMED_BENCHMARKS]]
    more = len(change.slower_benchmarks) - len(named)
    return "slower than what has landed: " + ", ".join([*named, *([f"and {more} more"] if more else [])])


def _revert(change: RiskInputs, _: TableParameters) -> str | None:
    return "a clean revert with its tests passed" if _is_clean_revert(change) else None


def _default(change: RiskInputs, _: TableParameters) -> str | None:
    if change.cause not in {"task", "fix"} or not change.tests_passed:
        return None
    return f"tests passed in CI round {change.rounds}, {change.lines_changed} lines in {len(change.files)} files"


TABLE = (
    Rule("red/tests-failed", Colour.RED, _tests_failed),
    Rule("red/rounds-exceeded", Colour.RED, _rounds_exceeded),
    Rule("yellow/facts-missing", Colour.YELLOW, _facts_missing),
    Rule("yellow/unusual-path", Colour.YELLOW, _unusual_path),
    Rule("yellow/protected-path", Colour.YELLOW, _protected_path),
    Rule("yellow/large-change", Colour.YELLOW, _large_change),
    Rule("yellow/no-tests", Colour.YELLOW, _no_tests),
    Rule("yellow/tainted", Colour.YELLOW, _tainted),
    Rule("yellow/asked-by-an-agent", Colour.YELLOW, _asked_by_agent),
    Rule("yellow/benchmark-slower", Colour.YELLOW, _benchmark_slower),
    Rule("green/revert", Colour.GREEN, _revert),
    Rule("green/default", Colour.GREEN, _default),
)


class PolicyTable:
    """`ports.Policy` over the table."""

    def __init__(self, parameters: TableParameters) -> None:
        """Raises ConfigError when a pattern is none."""
        try:
            for pattern in (*parameters.protected, *parameters.tests, *parameters.no_source):
                check_pattern(pattern)
        except ValueError as wrong:
            raise ConfigError(f"risk policy: {wrong}", "Correct the pattern in the settings") from wrong
        self._parameters = parameters
        rules = [[rule.name, rule.colour] for rule in TABLE]
        self._digest = digest_of(
            {"version": TABLE_VERSION, "rules": rules, "parameters": parameters.model_dump(mode="json")}
        )

    @property
    def digest(self) -> Digest:
        return self._digest

    async def classify(self, inputs: RiskInputs) -> RiskVerdict:
        """The same inputs under the same digest give the same verdict."""
        spoken = [(rule, words) for rule in TABLE if (words := rule.speaks(inputs, self._parameters)) is not None]
        colour = next(
            (worst for worst in _WORST_FIRST if any(rule.colour is worst for rule, _ in spoken)), Colour.YELLOW
        )
        deciding = "; ".join(words for rule, words in spoken if rule.colour is colour)
        return RiskVerdict(
            colour=colour,
            rules=tuple(rule.name for rule, _ in spoken) or ("yellow/no-rule",),
            reason=f"{colour}: {deciding or 'no rule spoke, and silence is not green'}"[:MAX_REASON],
            approver=self._parameters.owner,
            policy=self._digest,
        )


def _is_clean_revert(change: RiskInputs) -> bool:
    """Made by the controller alone and tested: nothing in it is new to production."""
    return change.cause == "revert" and change.tests_passed and not change.tainted


def _is_plain(file: str) -> bool:
    try:
        path(file)
    except Refused:
        return False
    return True
