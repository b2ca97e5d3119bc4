"""The rules of the table that look at what CI found of the tests, and at the mutants that the tests let live."""

from __future__ import annotations

from controller.adapters.policy_parameters import TableParameters
from controller.adapters.policy_rules import is_clean_revert
from controller.domain.change import BaseVerdict, Executed, FileStatus, Role, TestFacts
from controller.domain.risk import RiskInputs

EXPLAINING = frozenset(  # a static reason why a test of the base is not on the head under its name, or may fail there
    {
        "test/moved",
        "test/renamed",
        "test/removed-with-feature",
        "test/expectation-asked",
        "test/subject-renamed",
        "test/assertion-removed-with-feature",
    }
)
EXPLAINING_FILES = EXPLAINING | {"test/file-removed-with-feature"}  # whose tests cannot be imported any more
MOST_EXPLAINED = 200  # failures of the base's tests: a list of so many has been cut, and explains nothing
CHANGING = EXPLAINING | {"test/changed", "test/edited", "test/removed"}

EVADED = ("mutants/controls", "mutants/ended")  # the tests know their own source, fail by chance, or end the measuring


def _tests(change: RiskInputs) -> TestFacts | None:
    """None: nothing is known, or what it brings back has been tested before."""
    return None if is_clean_revert(change) else change.tests


def tripwire(change: RiskInputs, _: TableParameters) -> str | None:
    """Also of a revert: a report that cannot say no says nothing."""
    silent = change.tests is not None and change.tests.tripwire is False
    return "a test that must fail was reported as passed, so the report proves nothing" if silent else None


def other_copy(change: RiskInputs, _: TableParameters) -> str | None:
    if change.tests is None or change.tests.executed is not Executed.OTHER_COPY:
        return None
    return f"the tests ran another copy of {len(change.tests.not_executed) or 'the'} changed files"


def nothing_ran(change: RiskInputs, _: TableParameters) -> str | None:
    tests = change.tests
    if tests is None or tests.ran:
        return None
    return f"no test ran ({tests.skipped} were skipped)"


def vanished(change: RiskInputs, _: TableParameters) -> str | None:
    """Without anything in the change that says where they went: switched off from elsewhere."""
    tests = _tests(change)
    if tests is None or not tests.vanished or _has_reason(change):
        return None
    base = f" of {tests.collected_base}" if tests.collected_base is not None else ""
    return f"{len(tests.vanished)}{base} tests of the base are gone, and nothing in the change says why"


def fewer(change: RiskInputs, _: TableParameters) -> str | None:
    """Gone with more than moves and renames to show for it."""
    tests = _tests(change)
    if tests is None or not tests.vanished or not _has_reason(change):
        return None
    if tests.vanished_tests and len(tests.vanished) < MOST_EXPLAINED and set(tests.vanished_tests) <= _went(change):
        return None
    lost = len(tests.vanished) - len(tests.added)
    if lost <= _explained(change, EXPLAINING):
        return None
    return f"{len(tests.vanished)} tests of the base are gone, {len(tests.added)} came"


def newly_skipped(change: RiskInputs, _: TableParameters) -> str | None:
    tests = _tests(change)
    return f"{len(tests.newly_skipped)} tests of the base are skipped now" if tests and tests.newly_skipped else None


def base_failed(change: RiskInputs, _: TableParameters) -> str | None:
    """Unless each of them is a test whose change the task itself states."""
    tests = _tests(change)
    if tests is None or tests.base_verdict is not BaseVerdict.FAILED:
        return None
    facts = change.change
    explained = (
        {one.test for one in facts.tests_touched if one.rule in EXPLAINING_FILES and one.test} if facts else set()
    )
    left = [name for name in tests.base_failed if name not in explained]
    if tests.base_failed and not left and len(tests.base_failed) < MOST_EXPLAINED:
        return None
    return f"{len(left) or 'some'} of the base's own tests fail on the changed code"


def base_broken(change: RiskInputs, _: TableParameters) -> str | None:
    tests = _tests(change)
    broken = tests is not None and tests.base_verdict is BaseVerdict.BROKEN
    return "the base's own tests could not be run on the changed code" if broken else None


def not_executed(change: RiskInputs, _: TableParameters) -> str | None:
    tests = _tests(change)
    if tests is None or tests.executed is not Executed.NOT_EXECUTED:
        return None
    left = [path for path in tests.not_executed if path not in _nothing_new_in(change)]
    if tests.not_executed and not left:
        return None
    return f"no test ran {len(left) or 'some'} of the changed files ({', '.join(left[:3])})"


def not_covered(change: RiskInputs, _: TableParameters) -> str | None:
    tests = _tests(change)
    if tests is None or not tests.lines_changed or tests.lines_covered is None or tests.lines_covered > 0:
        return None
    if change.change is not None and change.change.nothing_new:
        return None
    return f"no test ran any of the {tests.lines_changed} changed lines"


def exit_code_only(change: RiskInputs, table: TableParameters) -> str | None:
    """Of a command that is not pytest only the exit code is seen, and whatever the command starts can choose that."""
    tests, facts = _tests(change), change.change
    seen = tests is None or tests.executed is not Executed.NOT_MEASURED
    if seen or facts is None or table.exit_code_is_green:
        return None
    if all(set(one.roles) == {Role.DOCS} for one in facts.files):
        return None
    return "CI saw an exit code and no test: nothing shows that the change was tested"


def mutants_lived(change: RiskInputs, table: TableParameters) -> str | None:
    mutants = change.mutants
    share = mutants.share_killed if mutants else None
    if mutants is None or share is None or share * 100 >= table.mutants_killed_percent:
        return None
    ended = mutants.killed + mutants.survived
    return (
        f"the tests notice {mutants.killed} of {ended} mutants ({share:.0%}, at least {table.mutants_killed_percent} %)"
    )


def mutants_unmeasured(change: RiskInputs, table: TableParameters) -> str | None:
    """Where the policy asks for a measurement of every change, and where it is the tests that made one impossible."""
    mutants = change.mutants
    if mutants is None or mutants.share_killed is not None:
        return None
    if not table.mutants_required and not mutants.why_not.startswith(EVADED):
        return None
    return f"no mutants were measured: {mutants.why_not or 'none came to an end'}"


def _nothing_new_in(change: RiskInputs) -> set[str]:
    """Source in which nothing is new: a comment needs nobody who runs it."""
    facts = change.change
    return {one.path for one in facts.with_role(Role.SOURCE)} if facts is not None and facts.nothing_new else set()


def _has_reason(change: RiskInputs) -> bool:
    """The change itself says where tests went: it touches them, or renames the file in which they stand."""
    files = change.change.files if change.change else ()
    renamed = any(one.status is FileStatus.RENAMED and Role.TEST in one.roles for one in files)
    return renamed or bool(_explained(change, CHANGING))


def _went(change: RiskInputs) -> set[str]:
    """Tests that went with what the task asks to remove."""
    touched = change.change.tests_touched if change.change else ()
    return {one.test for one in touched if one.rule == "test/removed-with-feature" and one.test}


def _explained(change: RiskInputs, rules: frozenset[str]) -> int:
    return sum(one.rule in rules for one in change.change.tests_touched) if change.change else 0
