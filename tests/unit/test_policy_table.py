from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.policy_hints import HINTS
from controller.adapters.policy_table import MAX_REASON, TABLE, PolicyTable, TableParameters
from controller.domain.benchmark import SlowerBenchmark
from controller.domain.change import (
    BaseVerdict,
    ChangeFacts,
    DependencyChange,
    Executed,
    FileFact,
    FileKind,
    FileStatus,
    Finding,
    MutantFacts,
    OwnedPath,
    Role,
    TestFacts,
)
from controller.domain.ids import Digest
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
from controller.domain.sealed import Sealed
from controller.errors import ConfigError

PARAMETERS = TableParameters(owner="Ada Owner", protected=(".github/**", "**/migrations/**"))


def facts(*files: tuple[str, Role], lines: int = 40, **more: Any) -> ChangeFacts:
    """Of changed files, each with its role; the lines are all in the first."""
    found = tuple(
        FileFact(path=path, status=FileStatus.CHANGED, lines_added=0 if n else lines, roles=(role,))
        for n, (path, role) in enumerate(files)
    )
    return ChangeFacts(files=found, **more)


SMALL = RiskInputs(
    cause="task",
    files=("src/cart.py", "tests/test_cart.py"),
    lines_changed=40,
    tests_passed=True,
    tests_added=True,
    tainted=False,
    rounds=1,
    change=facts(("src/cart.py", Role.SOURCE), ("tests/test_cart.py", Role.TEST)),
)


async def classified(**facts: Any) -> RiskVerdict:
    return await PolicyTable(PARAMETERS).classify(SMALL.model_copy(update=facts))


async def test_a_renamed_test_file_or_an_empty_module_is_green_although_no_line_differs() -> None:
    moved = FileFact(path="tests/test_b.py", was="tests/test_a.py", status=FileStatus.RENAMED, roles=(Role.TEST,))
    empty = FileFact(path="tests/__init__.py", status=FileStatus.ADDED, roles=(Role.TEST,))
    for one in (moved, empty):
        verdict = await classified(files=(one.path,), lines_changed=0, change=ChangeFacts(files=(one,)))
        assert (verdict.colour, verdict.rules) == (Colour.GREEN, ("green/default",))


async def test_a_changed_file_of_which_no_line_is_known_to_differ_asks_for_a_person() -> None:
    moved = FileFact(path="b.md", was="a.md", status=FileStatus.RENAMED)
    same = FileFact(path="c.md", status=FileStatus.CHANGED)
    verdict = await classified(files=("b.md", "c.md"), lines_changed=0, change=ChangeFacts(files=(moved, same)))
    assert verdict.rules[0] == "yellow/facts-missing"


async def test_a_small_tested_change_is_green_and_names_its_owner() -> None:
    verdict = await classified()
    assert (verdict.colour, verdict.rules) == (Colour.GREEN, ("green/default",))
    assert verdict.approver == "Ada Owner"
    assert verdict.reason == "green: tests passed in CI round 1, 40 lines in 2 files"
    assert verdict.policy == PolicyTable(PARAMETERS).digest


@pytest.mark.parametrize(
    ("facts", "colour", "rule", "words"),
    [
        ({"tests_passed": False}, Colour.RED, "red/tests-failed", "have not passed"),
        ({"rounds": 3}, Colour.RED, "red/rounds-exceeded", "3 rounds of CI (at most 2)"),
        (
            {"files": (".github/workflows/ci.yml",)},
            Colour.YELLOW,
            "yellow/protected-path",
            "1 of 1 files are protected (.github/**)",
        ),
        ({"files": ("src/Migrations/1.sql", "a.md")}, Colour.YELLOW, "yellow/protected-path", "1 of 2 files"),
        ({"lines_changed": 401}, Colour.YELLOW, "yellow/large-change", "401 lines (at most 400)"),
        (
            {"files": tuple(f"docs/{n}.md" for n in range(26))},
            Colour.YELLOW,
            "yellow/large-change",
            "26 files (at most 25)",
        ),
        (
            {"tests_added": False},
            Colour.YELLOW,
            "yellow/no-tests",
            "1 source files changed and no test added that asserts anything new",
        ),
        ({"tainted": True}, Colour.YELLOW, "yellow/tainted", "somebody outside"),
        ({"files": ()}, Colour.YELLOW, "yellow/facts-missing", "no file is named"),
        ({"lines_changed": 0}, Colour.YELLOW, "yellow/facts-missing", "0 changed lines"),
        ({"rounds": 0}, Colour.YELLOW, "yellow/facts-missing", "0 rounds"),
        ({"cause": "whim"}, Colour.YELLOW, "yellow/facts-missing", "the cause is none of"),
        ({"files": ("src/../.github/ci.yml",)}, Colour.YELLOW, "yellow/unusual-path", "1 of 1 paths"),
    ],
)
async def test_each_rule_speaks_with_its_numbers(facts: dict[str, Any], colour: Colour, rule: str, words: str) -> None:
    verdict = await classified(**facts)
    assert verdict.colour is colour
    assert rule in verdict.rules
    assert words in verdict.reason


WORDS = Sealed(key_id="k", digest=Digest("sha256:0"), size=1)
SOURCE = ("src/cart.py", Role.SOURCE)


def one(rule: str, path: str = "a.py", **more: Any) -> Finding:
    return Finding(rule=rule, path=path, line=7, **more)


def package(what: str, *, asked: bool = False) -> DependencyChange:
    return DependencyChange(ecosystem="pypi", path="requirements.txt", what=what, name=WORDS, asked=asked)  # type: ignore[arg-type]


def file(**more: Any) -> ChangeFacts:
    given: dict[str, Any] = {"path": "a", "status": FileStatus.ADDED, "lines_added": 3} | more
    return ChangeFacts(files=(FileFact(**given),))


OF_CHANGES = [
    (
        facts(SOURCE, weakened=(one("weakened/test-removed"),)),
        "tests-weakened",
        "1 tests prove less than before (test-removed in a.py:7)",
    ),
    (facts(SOURCE, secrets=(one("secret/token"),)), "perhaps-secret", "1 values look like secrets (token in a.py:7)"),
    (facts(SOURCE, irreversible=(one("irreversible/drop"),)), "irreversible", "1 steps that no revert takes back"),
    (facts(SOURCE, interfaces_removed=(one("interface/removed"),)), "interface-removed", "1 public interfaces"),
    (
        facts(SOURCE, unread=(one("unread/too-large"),)),
        "unread",
        "1 things could not be looked into (too-large in a.py:7)",
    ),
    (facts(SOURCE, owned=(OwnedPath(path="a", owners=("@b", "@a")),)), "owned", "1 files are owned by @a, @b (a)"),
    (facts(SOURCE, dependencies=(package("added", asked=True), package("moved"))), "dependency", "1 added, 1 moved"),
    (facts(("conftest.py", Role.TEST_CONFIG)), "test-config", "1 files decide which tests run, or how (conftest.py)"),
    (facts(("ci.yml", Role.CI)), "ci-file", "build server"),
    (facts(("build.sh", Role.RUNS_OUTSIDE)), "runs-outside", "installed, built or started"),
    (facts(("1.sql", Role.MIGRATION)), "migration", "1 files migrate stored data"),
    (facts(("CLAUDE.md", Role.STEERS_AGENTS)), "steers-agents", "steer agents"),
    (facts((".env", Role.HOLDS_SECRETS)), "secrets-file", "hold secrets by their name"),
    (facts(("CODEOWNERS", Role.OWNERS)), "who-decides", "who decides"),
    (facts(("a_pb2.py", Role.GENERATED)), "generated", "1 generated"),
    (file(kind=FileKind.SYMLINK), "odd-kind", "1 files change what they are (symlink: a)"),
    (file(kind=FileKind.SUBMODULE), "odd-kind", "submodule"),
    (file(kind=FileKind.EXECUTABLE), "odd-kind", "executable"),
    (file(kind=FileKind.FILE, was_kind=FileKind.EXECUTABLE, status=FileStatus.MODE), "odd-kind", "1 files"),
    (file(binary=True, bytes_after=5), "binary", "1 binary files of 5 bytes (a)"),
]


@pytest.mark.parametrize(("change", "rule", "words"), OF_CHANGES, ids=lambda x: x if isinstance(x, str) else "")
async def test_each_kind_of_fact_asks_for_a_person_with_its_numbers(change: ChangeFacts, rule: str, words: str) -> None:
    verdict = await classified(change=change)
    assert verdict.colour is Colour.YELLOW
    assert f"yellow/{rule}" in verdict.rules
    assert words in verdict.reason


STILL = frozenset({"unread", "perhaps-secret", "irreversible", "migration", "secrets-file", "odd-kind"})


@pytest.mark.parametrize(("change", "rule", "words"), OF_CHANGES, ids=lambda x: x if isinstance(x, str) else "")
async def test_a_clean_revert_is_held_up_by_what_it_cannot_take_back_alone(
    change: ChangeFacts, rule: str, words: str
) -> None:
    verdict = await classified(change=change, cause="revert")
    assert (verdict.colour is Colour.YELLOW) == (rule in STILL), words


@pytest.mark.parametrize(
    "change",
    [
        facts(SOURCE, weakened=(one("weakened/test-removed", asked=True),)),
        facts(SOURCE, interfaces_removed=(one("interface/removed", asked=True),)),
        facts(SOURCE, dependencies=(package("moved", asked=True),)),
        facts(SOURCE, tests_touched=(one("test/moved"), one("test/renamed"))),
        file(binary=True, bytes_after=99_000, roles=(Role.DOCS,)),
    ],
)
async def test_what_the_task_asked_for_and_what_weakens_nothing_is_green(change: ChangeFacts) -> None:
    assert (await classified(change=change)).colour is Colour.GREEN


async def test_a_moved_version_that_was_asked_for_is_green_only_where_the_policy_says_so() -> None:
    table = PolicyTable(PARAMETERS.model_copy(update={"asked_moves_are_green": False}))
    asked = SMALL.model_copy(update={"change": facts(SOURCE, dependencies=(package("moved", asked=True),))})
    assert "yellow/dependency" in (await table.classify(asked)).rules


async def test_a_secret_by_its_own_shape_goes_back_to_its_author_and_is_not_repeated() -> None:
    verdict = await classified(change=facts(SOURCE, secrets=(one("secret/github-token", words=WORDS),)))
    assert (verdict.colour, verdict.rules[0]) == (Colour.RED, "red/secret")
    assert verdict.reason == "red: 1 secrets in the change (github-token in a.py:7)"


RAN: dict[str, Any] = {
    "collected_base": 9,
    "collected": 9,
    "ran": 9,
    "base_verdict": BaseVerdict.PASSED,
    "executed": Executed.PROVEN,
}
MOVED = facts(SOURCE, tests_touched=(one("test/moved", test="test#1"),))
GONE = facts(
    SOURCE,
    tests_touched=(
        one("test/removed-with-feature", test="test#1"),
        one("test/file-removed-with-feature", test="file#1"),
    ),
)


@pytest.mark.parametrize(
    ("tests", "change", "rule"),
    [
        ({}, None, None),
        ({"tripwire": True, "skipped": 2}, None, None),
        ({"tripwire": False}, None, "red/tripwire"),
        ({"executed": Executed.OTHER_COPY}, None, "red/other-copy-tested"),
        ({"vanished": ("test#1",)}, None, "red/tests-vanished"),
        ({"vanished": ("test#1",)}, MOVED, None),
        ({"vanished": ("r1", "r2", "r3"), "vanished_tests": ("test#1",)}, GONE, None),
        ({"vanished": ("r1", "r2", "r3"), "vanished_tests": ("test#1",)}, MOVED, "yellow/fewer-tests"),
        ({"vanished": ("r1", "r2", "r3"), "vanished_tests": ("test#1", "test#2")}, GONE, "yellow/fewer-tests"),
        ({"vanished": ("r",) * 200, "vanished_tests": ("test#1",)}, GONE, "yellow/fewer-tests"),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("file#1",)}, GONE, None),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("file#2",)}, GONE, "yellow/base-tests-failed"),
        ({"vanished": ("test#1", "test#2"), "added": ("test#3",)}, MOVED, None),
        ({"vanished": ("test#1", "test#2", "test#3"), "added": ("test#4",)}, MOVED, "yellow/fewer-tests"),
        ({"newly_skipped": ("test#1",)}, None, "yellow/newly-skipped"),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("test#1",)}, None, "yellow/base-tests-failed"),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("test#1",)}, MOVED, None),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("test#1", "test#2")}, MOVED, "yellow/base-tests-failed"),
        ({"base_verdict": BaseVerdict.FAILED}, MOVED, "yellow/base-tests-failed"),
        ({"base_verdict": BaseVerdict.FAILED, "base_failed": ("test#1",) * 200}, MOVED, "yellow/base-tests-failed"),
        ({"base_verdict": BaseVerdict.BROKEN}, MOVED, "yellow/base-tests-broken"),
        ({"ran": 0}, None, "yellow/nothing-ran"),
        ({"executed": Executed.NOT_EXECUTED, "not_executed": ("a.py",)}, None, "yellow/not-executed"),
        ({"lines_changed": 4, "lines_covered": 0}, None, "yellow/not-covered"),
        ({"lines_changed": 4, "lines_covered": 1}, None, None),
        ({"lines_changed": 0, "lines_covered": 0}, None, None),
        ({"lines_changed": None, "lines_covered": None}, None, None),
    ],
)
async def test_what_ci_found_of_the_tests_speaks(
    tests: dict[str, Any], change: ChangeFacts | None, rule: str | None
) -> None:
    more = {} if change is None else {"change": change}
    verdict = await classified(tests=TestFacts(**(RAN | tests)), **more)
    assert verdict.rules == ((rule, "green/default") if rule else ("green/default",))


@pytest.mark.parametrize(
    ("role", "accepted", "rule"),
    [
        (Role.SOURCE, False, "yellow/exit-code-only"),
        (Role.TEST, False, "yellow/exit-code-only"),
        (Role.DOCS, False, None),
        (Role.SOURCE, True, None),
    ],
)
async def test_an_exit_code_alone_makes_nothing_green_but_what_nobody_runs(
    role: Role, accepted: bool, rule: str | None
) -> None:
    table = PolicyTable(PARAMETERS.model_copy(update={"exit_code_is_green": accepted}))
    inputs = SMALL.model_copy(update={"tests": TestFacts(ran=1), "change": facts(("a", role))})
    verdict = await table.classify(inputs)
    assert verdict.rules == ((rule, "green/default") if rule else ("green/default",))


async def test_a_page_that_also_steers_or_runs_is_more_than_a_page_and_needs_tests() -> None:
    both = FileFact(path="docs/a", status=FileStatus.CHANGED, lines_added=1, roles=(Role.DOCS, Role.SOURCE))
    inputs = {"tests": TestFacts(ran=1), "change": ChangeFacts(files=(both,))}
    assert "yellow/exit-code-only" in (await classified(**inputs)).rules


@pytest.mark.parametrize(
    ("finding", "rule"),
    [
        ("invisible/direction", "yellow/invisible-characters"),
        ("lookalike/name", "yellow/lookalike-names"),
        ("runs-text/code", "yellow/runs-text"),
        ("asks-if-tested/environment", "yellow/asks-if-tested"),
        ("repository-inside/head", "yellow/repository-inside"),
        ("ignored/file", "yellow/ignored-file"),
    ],
)
async def test_what_hides_in_a_change_asks_for_a_person(finding: str, rule: str) -> None:
    verdict = await classified(change=facts(SOURCE, suspicious=(one(finding),)))
    assert verdict.rules == (rule, "green/default")


async def test_a_removal_that_was_asked_for_needs_no_new_test_and_another_does() -> None:
    gone = FileFact(path="gift.py", status=FileStatus.DELETED, lines_removed=4, roles=(Role.SOURCE,))
    for asked, rules in ((True, ("green/default",)), (False, ("yellow/no-tests", "green/default"))):
        change = ChangeFacts(files=(gone.model_copy(update={"removal_asked": asked}),))
        assert (await classified(tests_added=False, change=change)).rules == rules


@pytest.mark.parametrize(
    ("mutants", "required", "rule"),
    [
        ({"measured": True, "killed": 6, "survived": 4}, False, None),
        ({"measured": True, "killed": 59, "survived": 41}, False, "yellow/mutants-lived"),
        ({"measured": False, "why_not": "mutants/language: no mutator for .go"}, False, None),
        ({"measured": False, "why_not": "mutants/language: no mutator for .go"}, True, "yellow/mutants-not-measured"),
        ({"measured": True}, True, "yellow/mutants-not-measured"),
    ],
)
async def test_mutants_that_live_ask_for_a_person(mutants: dict[str, Any], required: bool, rule: str | None) -> None:
    table = PolicyTable(PARAMETERS.model_copy(update={"mutants_required": required}))
    verdict = await table.classify(SMALL.model_copy(update={"mutants": MutantFacts(**mutants)}))
    assert verdict.rules == ((rule, "green/default") if rule else ("green/default",))


@pytest.mark.parametrize(
    ("status", "rule"),
    [(FileStatus.CHANGED, "yellow/settings"), (FileStatus.DELETED, "yellow/settings"), (FileStatus.ADDED, None)],
)
async def test_settings_that_change_ask_for_a_person(status: FileStatus, rule: str | None) -> None:
    file = FileFact(path="config/a.json", status=status, roles=(Role.SETTINGS, Role.SOURCE))
    verdict = await classified(change=ChangeFacts(files=(file,)))
    assert verdict.rules == ((rule, "green/default") if rule else ("green/default",))


def test_every_rule_has_words_for_what_would_silence_it() -> None:
    assert {rule.name for rule in TABLE if rule.colour is not Colour.GREEN} | {"yellow/no-rule"} == set(HINTS)


SLOWER = SlowerBenchmark(
    name="pricing_ms", before_micro=14_200_000, after_micro=19_800_000, p_log10_milli=-5_699, landings=60
)


async def test_a_slower_benchmark_waits_for_a_person_with_its_numbers_in_the_reason() -> None:
    verdict = await classified(slower_benchmarks=(SLOWER,))
    assert (verdict.colour, verdict.rules) == (Colour.YELLOW, ("yellow/benchmark-slower", "green/default"))
    said = "yellow: slower than what has landed: pricing_ms 14.2 -> 19.8 (+39 %, p 2e-6, n=60)"
    assert verdict.reason == said


async def test_many_slower_benchmarks_are_counted_and_the_worst_are_named() -> None:
    many = tuple(SLOWER.model_copy(update={"name": f"case{n}_ms"}) for n in range(64))
    verdict = await classified(slower_benchmarks=many)
    assert "case2_ms" in verdict.reason
    assert verdict.reason.endswith(", and 61 more")


async def test_a_slower_benchmark_makes_no_red_better_and_holds_up_no_clean_revert() -> None:
    assert (await classified(slower_benchmarks=(SLOWER,), tests_passed=False)).colour is Colour.RED
    assert (await classified(slower_benchmarks=(SLOWER,), cause="revert")).colour is Colour.GREEN


async def test_inputs_of_an_older_log_have_no_slower_benchmarks() -> None:
    old = SMALL.model_dump(mode="json", exclude={"slower_benchmarks", "change", "tests", "mutants"})
    assert RiskInputs.model_validate(old, strict=False) == SMALL.model_copy(update={"change": None})


async def test_a_change_that_is_known_by_its_names_alone_asks_for_a_person() -> None:
    verdict = await classified(change=None)
    assert (verdict.colour, verdict.rules) == (Colour.YELLOW, ("yellow/facts-missing", "green/default"))
    assert "nothing is known of the change but its names" in verdict.reason


async def test_the_worst_colour_wins_and_everything_that_spoke_is_listed() -> None:
    verdict = await classified(tests_passed=False, tests_added=False, tainted=True)
    assert verdict.colour is Colour.RED
    assert verdict.rules == ("red/tests-failed", "yellow/no-tests", "yellow/tainted")


async def test_a_clean_revert_is_green_unless_an_agent_asked_for_it() -> None:
    revert = {"cause": "revert", "tests_added": False}
    assert (await classified(**revert)).colour is Colour.GREEN
    asked = await classified(**revert, asked_by_agent=True)
    assert (asked.colour, asked.rules) == (Colour.YELLOW, ("yellow/asked-by-an-agent", "green/revert"))
    assert asked.reason == "yellow: an agent asked for it, and no person"


async def test_what_an_agent_asks_for_is_never_green_and_no_better_for_it() -> None:
    assert (await classified(asked_by_agent=True)).colour is Colour.YELLOW
    assert (await classified(asked_by_agent=True, tests_passed=False)).colour is Colour.RED


async def test_documentation_needs_no_test() -> None:
    docs = facts(("docs/a.md", Role.DOCS), ("README.md", Role.DOCS))
    assert (await classified(files=("docs/a.md", "README.md"), change=docs, tests_added=False)).colour is Colour.GREEN


async def test_source_that_says_nothing_new_needs_no_new_test() -> None:
    moved = facts(("src/cart.py", Role.SOURCE))
    asked = {"files": ("src/cart.py",), "tests_added": False}
    assert (await classified(**asked, change=moved)).rules[0] == "yellow/no-tests"
    moved = moved.model_copy(update={"nothing_new": True})
    assert (await classified(**asked, change=moved)).colour is Colour.GREEN
    unrun = TestFacts(
        ran=3, executed=Executed.NOT_EXECUTED, not_executed=("src/cart.py",), lines_changed=1, lines_covered=0
    )
    assert (await classified(**asked, change=moved, tests=unrun)).colour is Colour.GREEN
    beside = unrun.model_copy(update={"not_executed": ("src/cart.py", "tests/test_cart.py")})
    assert (await classified(**asked, change=moved, tests=beside)).rules[0] == "yellow/not-executed"


async def test_a_clean_revert_is_green_whatever_its_size_and_place() -> None:
    verdict = await classified(
        cause="revert", files=(".github/ci.yml", "src/a.py"), lines_changed=9_000, tests_added=False
    )
    assert (verdict.colour, verdict.rules) == (Colour.GREEN, ("green/revert",))


async def test_a_revert_that_breaks_tests_goes_back_and_a_tainted_one_waits() -> None:
    assert (await classified(cause="revert", tests_passed=False)).colour is Colour.RED
    assert (await classified(cause="revert", tainted=True)).colour is Colour.YELLOW


async def test_a_tainted_revert_is_held_to_every_rule_like_any_other_change() -> None:
    change = facts(SOURCE, weakened=(one("weakened/test-removed"),))
    verdict = await classified(cause="revert", tainted=True, change=change)
    assert verdict.rules == ("yellow/tests-weakened", "yellow/tainted")


async def test_a_fix_is_judged_like_any_other_change() -> None:
    assert (await classified(cause="fix")).colour is Colour.GREEN
    assert (await classified(cause="fix", tests_added=False)).colour is Colour.YELLOW


INPUTS = st.builds(
    RiskInputs,
    cause=st.sampled_from(["task", "revert", "fix", "whim", ""]),
    files=st.lists(
        st.sampled_from(["src/a.py", "tests/test_a.py", "a.md", ".github/x", "../x", "é", "db/migrations/1"]),
        max_size=30,
    ).map(tuple),
    lines_changed=st.integers(-1, 500),
    tests_passed=st.booleans(),
    tests_added=st.booleans(),
    tainted=st.booleans(),
    rounds=st.integers(-1, 4),
    change=st.sampled_from([None, ChangeFacts(), facts(("src/a.py", Role.SOURCE)), facts(("a.sql", Role.MIGRATION))]),
)


@given(inputs=INPUTS)
async def test_green_rests_on_named_facts_and_never_on_silence(inputs: RiskInputs) -> None:
    verdict = await PolicyTable(PARAMETERS).classify(inputs)
    colours = {rule.name: rule.colour for rule in TABLE}
    assert verdict.rules
    assert len(verdict.reason) <= MAX_REASON
    if verdict.colour is Colour.GREEN:
        assert all(colours[rule] is Colour.GREEN for rule in verdict.rules)
        assert inputs.tests_passed
        assert not inputs.tainted
        assert inputs.files
        assert inputs.change is not None
        assert inputs.lines_changed > 0
        assert 1 <= inputs.rounds <= 2
    if not inputs.tests_passed or inputs.rounds > 2:
        assert verdict.colour is Colour.RED


@given(inputs=INPUTS)
async def test_taint_never_makes_a_colour_better(inputs: RiskInputs) -> None:
    order = [Colour.GREEN, Colour.YELLOW, Colour.RED]
    table = PolicyTable(PARAMETERS)
    clean = await table.classify(inputs.model_copy(update={"tainted": False}))
    tainted = await table.classify(inputs.model_copy(update={"tainted": True}))
    assert order.index(tainted.colour) >= order.index(clean.colour)


@given(inputs=INPUTS)
async def test_a_slower_benchmark_never_makes_a_colour_better(inputs: RiskInputs) -> None:
    order = [Colour.GREEN, Colour.YELLOW, Colour.RED]
    table = PolicyTable(PARAMETERS)
    slower = await table.classify(inputs.model_copy(update={"slower_benchmarks": (SLOWER,)}))
    assert order.index(slower.colour) >= order.index((await table.classify(inputs)).colour)


def test_another_parameter_is_another_policy() -> None:
    digests = {PolicyTable(PARAMETERS).digest}
    for change in ({"owner": "Bo"}, {"max_lines": 399}, {"protected": ()}, {"max_rounds": 3}):
        digests.add(PolicyTable(PARAMETERS.model_copy(update=change)).digest)
    assert len(digests) == 5
    assert PolicyTable(PARAMETERS).digest in digests


def test_a_pattern_that_is_none_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"\.\./x"):
        PolicyTable(TableParameters(owner="Ada", protected=("../x",)))


@pytest.mark.parametrize(
    ("why", "required", "yellow"),
    [
        ("mutants/controls: the tests fail on code that means the same, or at random", False, True),
        ("mutants/ended: it has ended", False, True),
        ("mutants/language: no mutator for .go", False, False),
        ("mutants/language: no mutator for .go", True, True),
        ("mutants/broken: the run ended without a result", False, False),
    ],
)
async def test_a_measurement_that_the_tests_made_impossible_asks_for_a_person(
    why: str, required: bool, yellow: bool
) -> None:
    table = PolicyTable(TableParameters(owner="olga", protected=(), mutants_required=required))
    inputs = SMALL.model_copy(update={"mutants": MutantFacts(measured=False, why_not=why)})
    found = await table.classify(inputs)
    assert ("yellow/mutants-not-measured" in found.rules) is yellow
