"""Risk colours from a fixed table: every rule looks at the same facts, all that speak are listed, the worst wins.

Green needs a rule that says so on named positive facts; nothing is green because nothing objected, and a change of
which no facts are known asks for a person. A clean revert brings back a state that has already been released, so the
rules about size, tests and files do not hold it up; one that an agent has asked for waits for a person all the same,
since to take a change back is a decision about it, and so does one that would undo a migration. The digest is over the
table's rules and parameters: consent given under one table is no consent under another.

Red goes back to its author, who can mend it: tests that fail, a secret, a report or a run that proves nothing, tests
that are gone with no word of it in the change. Whatever a person may find right after a look is Yellow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.adapters import policy_rules as facts
from controller.adapters import policy_rules_tests as tests
from controller.adapters.policy_parameters import TableParameters
from controller.adapters.policy_rules import is_clean_revert
from controller.domain.change import FileStatus
from controller.domain.ids import Digest, digest_of
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
from controller.errors import ConfigError, Refused
from rbac.canonical import path
from rbac.patterns import check_pattern, protected_by

__all__ = ["TABLE", "PolicyTable", "Rule", "TableParameters", "classified", "spoken"]

TABLE_VERSION = 3  # raised whenever what a rule means changes, so that the digest changes with it
NAMED_PATTERNS = 3  # in a reason; the inputs beside it hold every file
NAMED_BENCHMARKS = 3
MAX_REASON = 600  # characters; as much as a claim in a decision holds
_WORST_FIRST = (Colour.RED, Colour.YELLOW, Colour.GREEN)


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
        f"{change.lines_changed} changed lines": change.lines_changed < 1 and not _changes_no_line(change),
        f"{change.rounds} rounds of CI": change.rounds < 1,
        "the cause is none of task, revert, fix": change.cause not in {"task", "revert", "fix"},
        "nothing is known of the change but its names": change.change is None,
    }
    found = [words for words, is_so in missing.items() if is_so]
    return f"facts are missing: {', '.join(found)}" if found else None


def _changes_no_line(change: RiskInputs) -> bool:
    """Nothing but renames, modes, and files that are empty or binary: that no line differs is known of them."""
    files = change.change.files if change.change else ()
    return bool(files) and all(one.status is not FileStatus.CHANGED or one.binary for one in files)


def _unusual_path(change: RiskInputs, _: TableParameters) -> str | None:
    strange = sum(not _is_plain(file) for file in change.files)
    return (
        f"{strange} of {len(change.files)} paths are spelt so that no pattern can be trusted on them"
        if strange
        else None
    )


def _protected_path(change: RiskInputs, table: TableParameters) -> str | None:
    if is_clean_revert(change):
        return None
    hits = [pattern for file in change.files if (pattern := protected_by(table.protected, file)) is not None]
    named = sorted(set(hits))[:NAMED_PATTERNS]
    return f"{len(hits)} of {len(change.files)} files are protected ({', '.join(named)})" if hits else None


def _large_change(change: RiskInputs, table: TableParameters) -> str | None:
    if is_clean_revert(change) or (change.lines_changed <= table.max_lines and len(change.files) <= table.max_files):
        return None
    lines, files = (
        f"{change.lines_changed} lines (at most {table.max_lines})",
        f"{len(change.files)} files (at most {table.max_files})",
    )
    return f"{lines} in {files}"


def _tainted(change: RiskInputs, _: TableParameters) -> str | None:
    return "the run has read text by somebody outside" if change.tainted else None


def _asked_by_agent(change: RiskInputs, _: TableParameters) -> str | None:
    return "an agent asked for it, and no person" if change.asked_by_agent else None


def _benchmark_slower(change: RiskInputs, _: TableParameters) -> str | None:
    if is_clean_revert(change) or not change.slower_benchmarks:
        return None
    named = [one.words for one in change.slower_benchmarks[:NAMED_BENCHMARKS]]
    more = len(change.slower_benchmarks) - len(named)
    return "slower than what has landed: " + ", ".join([*named, *([f"and {more} more"] if more else [])])


def _revert(change: RiskInputs, _: TableParameters) -> str | None:
    return "a clean revert with its tests passed" if is_clean_revert(change) else None


def _default(change: RiskInputs, _: TableParameters) -> str | None:
    if change.cause not in {"task", "fix"} or not change.tests_passed:
        return None
    return f"tests passed in CI round {change.rounds}, {change.lines_changed} lines in {len(change.files)} files"


RED, YELLOW, GREEN = Colour.RED, Colour.YELLOW, Colour.GREEN
TABLE = (
    Rule("red/tests-failed", RED, _tests_failed),
    Rule("red/rounds-exceeded", RED, _rounds_exceeded),
    Rule("red/tripwire", RED, tests.tripwire),
    Rule("red/other-copy-tested", RED, tests.other_copy),
    Rule("red/tests-vanished", RED, tests.vanished),
    Rule("red/secret", RED, facts.secret),
    Rule("yellow/facts-missing", YELLOW, _facts_missing),
    Rule("yellow/unread", YELLOW, facts.unread),
    Rule("yellow/unusual-path", YELLOW, _unusual_path),
    Rule("yellow/protected-path", YELLOW, _protected_path),
    Rule("yellow/owned", YELLOW, facts.owners),
    Rule("yellow/tests-weakened", YELLOW, facts.weakened),
    Rule("yellow/fewer-tests", YELLOW, tests.fewer),
    Rule("yellow/newly-skipped", YELLOW, tests.newly_skipped),
    Rule("yellow/base-tests-failed", YELLOW, tests.base_failed),
    Rule("yellow/base-tests-broken", YELLOW, tests.base_broken),
    Rule("yellow/nothing-ran", YELLOW, tests.nothing_ran),
    Rule("yellow/not-executed", YELLOW, tests.not_executed),
    Rule("yellow/not-covered", YELLOW, tests.not_covered),
    Rule("yellow/exit-code-only", YELLOW, tests.exit_code_only),
    Rule("yellow/no-tests", YELLOW, facts.no_tests),
    Rule("yellow/mutants-lived", YELLOW, tests.mutants_lived),
    Rule("yellow/mutants-not-measured", YELLOW, tests.mutants_unmeasured),
    Rule("yellow/test-config", YELLOW, facts.config_of_tests),
    Rule("yellow/ci-file", YELLOW, facts.ci_file),
    Rule("yellow/runs-outside", YELLOW, facts.runs_outside),
    Rule("yellow/settings", YELLOW, facts.settings),
    Rule("yellow/steers-agents", YELLOW, facts.steers_agents),
    Rule("yellow/who-decides", YELLOW, facts.decides),
    Rule("yellow/dependency", YELLOW, facts.dependencies),
    Rule("yellow/irreversible", YELLOW, facts.irreversible),
    Rule("yellow/migration", YELLOW, facts.migration),
    Rule("yellow/perhaps-secret", YELLOW, facts.perhaps_secret),
    Rule("yellow/secrets-file", YELLOW, facts.secrets_file),
    Rule("yellow/interface-removed", YELLOW, facts.interfaces),
    Rule("yellow/odd-kind", YELLOW, facts.odd_kind),
    Rule("yellow/binary", YELLOW, facts.binary),
    Rule("yellow/generated", YELLOW, facts.generated),
    Rule("yellow/invisible-characters", YELLOW, facts.invisible),
    Rule("yellow/lookalike-names", YELLOW, facts.lookalike),
    Rule("yellow/runs-text", YELLOW, facts.runs_text),
    Rule("yellow/asks-if-tested", YELLOW, facts.asks_if_tested),
    Rule("yellow/repository-inside", YELLOW, facts.repository_inside),
    Rule("yellow/ignored-file", YELLOW, facts.ignored),
    Rule("yellow/large-change", YELLOW, _large_change),
    Rule("yellow/tainted", YELLOW, _tainted),
    Rule("yellow/asked-by-an-agent", YELLOW, _asked_by_agent),
    Rule("yellow/benchmark-slower", YELLOW, _benchmark_slower),
    Rule("green/revert", GREEN, _revert),
    Rule("green/default", GREEN, _default),
)


def spoken(inputs: RiskInputs, parameters: TableParameters) -> tuple[tuple[Rule, str], ...]:
    """Every rule that has something to say, with what it says, in the table's order."""
    return tuple((rule, words) for rule in TABLE if (words := rule.speaks(inputs, parameters)) is not None)


def classified(inputs: RiskInputs, parameters: TableParameters, policy: Digest) -> RiskVerdict:
    """The same arguments give the same verdict."""
    said = spoken(inputs, parameters)
    colour = next((worst for worst in _WORST_FIRST if any(rule.colour is worst for rule, _ in said)), Colour.YELLOW)
    deciding = "; ".join(words for rule, words in said if rule.colour is colour)
    return RiskVerdict(
        colour=colour,
        rules=tuple(rule.name for rule, _ in said) or ("yellow/no-rule",),
        reason=f"{colour}: {deciding or 'no rule spoke, and silence is not green'}"[:MAX_REASON],
        approver=parameters.owner,
        policy=policy,
    )


class PolicyTable:
    """`ports.Policy` over the table."""

    def __init__(self, parameters: TableParameters) -> None:
        """Raises ConfigError when a pattern is none."""
        try:
            for pattern in parameters.protected:
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
        return classified(inputs, self._parameters, self._digest)


def _is_plain(file: str) -> bool:
    try:
        path(file)
    except Refused:
        return False
    return True
