from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.policy_table import MAX_REASON, TABLE, PolicyTable, TableParameters
from controller.domain.benchmark import SlowerBenchmark
from controller.domain.change import ChangeFacts, FileFact, FileStatus, MutantFacts, Role
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
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


async def test_a_clean_revert_is_green_whatever_its_size_and_place() -> None:
    verdict = await classified(
        cause="revert", files=(".github/ci.yml", "src/a.py"), lines_changed=9_000, tests_added=False
    )
    assert (verdict.colour, verdict.rules) == (Colour.GREEN, ("green/revert",))


async def test_a_revert_that_breaks_tests_goes_back_and_a_tainted_one_waits() -> None:
    assert (await classified(cause="revert", tests_passed=False)).colour is Colour.RED
    assert (await classified(cause="revert", tainted=True)).colour is Colour.YELLOW


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
