"""Three lines about a colour, from what stands in the log."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import entries, sample
from rich.console import Console

from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.domain import events as e
from controller.domain.change import (
    BaseVerdict,
    ChangeFacts,
    DependencyChange,
    Executed,
    FileFact,
    FileStatus,
    Finding,
    MutantFacts,
    Role,
    TestFacts,
)
from controller.domain.ids import Commit, DeliveryId
from controller.domain.risk import RiskInputs
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.terminal.explain import Explanation, evidence_of, explanation_of
from controller.terminal.fact_lines import fact_lines
from controller.terminal.report import table_of

NAME, HEAD = DeliveryId("shop-1a2b3c"), Commit("a" * 40)
SOURCE = FileFact(path="app.py", status=FileStatus.CHANGED, lines_added=2, roles=(Role.SOURCE,))
TEST = FileFact(path="tests/test_app.py", status=FileStatus.DELETED, lines_removed=4, roles=(Role.TEST,))
ADDED = Finding(rule="test/added", path="tests/test_new.py", line=1)
GONE = Finding(rule="weakened/test-removed", path="tests/test_app.py", line=3)
RAN = TestFacts(
    ran=9, skipped=1, base_verdict=BaseVerdict.PASSED, executed=Executed.PROVEN, lines_changed=4, lines_covered=3
)
BEGIN: tuple[Any, ...] = (
    sample(e.TaskRequested, delivery=NAME, root=NAME, depth=0, full=False),
    sample(e.TaskAccepted),
    sample(e.ChangeAuthored, head=HEAD, full=False),
    sample(e.PullRequestOpened, head=HEAD),
    sample(e.CiStarted, head=HEAD),
    sample(e.CiReported, head=HEAD, passed=True),
)


async def explained(change: ChangeFacts, *more: e.Event) -> Explanation:
    inputs = RiskInputs(
        cause="task",
        files=tuple(one.path for one in change.files),
        lines_changed=change.lines_changed,
        tests_passed=True,
        tests_added=change.tests_added,
        tainted=False,
        rounds=1,
        change=change,
        tests=RAN,
    )
    verdict = await PolicyTable(TableParameters(owner="olga", protected=())).classify(inputs)
    risk = sample(e.RiskClassified, inputs=inputs, verdict=verdict)
    return explanation_of(NAME, entries(f"delivery/{NAME}", *BEGIN, risk, *more))


async def test_a_green_change_says_why_on_what_evidence_and_what_would_have_taken_it_from_green() -> None:
    found = await explained(ChangeFacts(files=(SOURCE,), tests_touched=(ADDED,)))
    why, evidence, otherwise = found.lines
    assert why == f"{NAME}: Green by green/default: tests passed in CI round 1, 2 lines in 1 files"
    assert evidence.startswith(
        "evidence: 1 files, 2 lines, CI round 1; 1 changed; tests: 1 added; 9 tests ran, 1 skipped"
    )
    assert "changed files executed: proven; 3 of 4 changed lines run" in evidence
    assert otherwise.startswith("otherwise: Yellow with a test that proves less")


async def test_a_yellow_change_says_what_would_have_made_it_green_for_every_rule_that_objected() -> None:
    found = await explained(ChangeFacts(files=(SOURCE, TEST), weakened=(GONE,)))
    assert found.colour == "yellow"
    assert found.why.startswith("Yellow by yellow/tests-weakened, yellow/no-tests: ")
    assert "green/default" in found.rules
    assert "1 tests prove less than before (test-removed in tests/test_app.py:3)" in found.why
    assert found.otherwise.startswith("Green if the tests proved what they proved before")
    assert "and it brought a test that asserts something new" in found.otherwise


def test_mutants_of_which_none_came_to_an_end_are_said_to_be_measured_by_nothing() -> None:
    hung = MutantFacts(measured=True, possible=8, timed_out=1, budget_ms=20_000)
    inputs = sample(RiskInputs, change=None, tests=None, mutants=hung)
    assert evidence_of(inputs).endswith("mutants: not measured (of 8 none came to an end within 20 s)")


def test_a_narrow_terminal_keeps_what_a_person_copies_in_one_piece() -> None:
    table = table_of(("delivery", "what", "phase", "rounds", "cost", "time"))
    table.add_row(
        "itsdangerous-4271eb", "Let the caller choose what joins the words", "CONFIRMED", "1", "$0.02", "39.0 s"
    )
    drawn = StringIO()
    Console(width=80, file=drawn).print(table)
    assert "\nitsdangerous-4271eb  " in drawn.getvalue()


async def test_a_colour_from_before_it_was_sent_back_says_so() -> None:
    back = e.SentBack(to="ACCEPTED", reason="red: a secret")
    assert "Yellow (before it was sent back)" in (await explained(ChangeFacts(files=(SOURCE,)), back)).why


def test_a_delivery_without_a_colour_says_where_it_stands_and_what_to_do() -> None:
    found = explanation_of(NAME, entries(f"delivery/{NAME}", *BEGIN[:1]))
    assert found.lines == (
        f"{NAME}: no colour, it is NEW",
        "evidence: no change has been authored",
        "otherwise: it begins when a controller runs: flyball serve",
    )
    stuck = explanation_of(NAME, entries(f"delivery/{NAME}", *BEGIN[:4], e.Stuck(reason="CI is gone")))
    assert stuck.why == "no colour, it is STUCK: CI is gone"
    assert stuck.otherwise == f"look at it, then: flyball unstick {NAME}"
    gone = explanation_of(NAME, entries(f"delivery/{NAME}", *BEGIN[:4], e.Abandoned(reason="red tests")))
    assert gone.otherwise == "nothing is left to do"


async def test_the_story_names_each_finding_with_its_place_and_its_words_to_whoever_may_read_them(
    tmp_path: Path,
) -> None:
    seals = LocalSeals(tmp_path / "keys", FileBlobs(tmp_path / "blobs", durable=False))
    change = ChangeFacts(
        files=(SOURCE,),
        weakened=(GONE.model_copy(update={"words": await seals.seal("test_price")}),),
        dependencies=(
            DependencyChange(
                ecosystem="pypi", path="a.txt", what="moved", name=await seals.seal("requests"), asked=True
            ),
        ),
    )
    inputs = sample(RiskInputs, change=change, tests=None, mutants=None)
    lines = await fact_lines(inputs, seals)
    assert lines[0].startswith("facts: ")
    assert lines[1:] == [
        "  weakened/test-removed tests/test_app.py:3: test_price",
        "  a.txt: pypi requests moved (the task names it)",
    ]
