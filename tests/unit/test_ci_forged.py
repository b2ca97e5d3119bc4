"""A report that is not believed: what the loop and the queue make of it. And what a landing's run may add."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.domain import events as e
from controller.domain.change import BaseVerdict, TestFacts
from controller.domain.ci import CiResults, TestOutcome
from controller.domain.ids import Commit, Digest, Repository
from controller.domain.sealed import Sealed
from controller.domain.test_paths import configures_alike, is_test_module
from controller.domain.verbs import StartRun, run_key
from controller.ports import CiRun, TestResult
from controller.queue.table import refused_by_facts
from controller.steps.check import results_of, verdict

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import sample  # noqa: E402

NOW = datetime(2026, 11, 30, tzinfo=UTC)
HEAD, BASE = Commit("a" * 40), Commit("b" * 40)
POLICY = Digest("sha256:" + "0" * 64)


def run(*, forged: bool = False, state: str = "passed", skipped: bool = False, facts: TestFacts | None = None) -> CiRun:
    tests = (TestResult("test_a", passed=True, duration_ms=1, skipped=skipped),)
    return CiRun("run-1", HEAD, state, NOW, NOW, tests, "sandbox", facts=facts, forged=forged)


def test_forged_report_is_never_green_and_its_rule_is_named() -> None:
    results = results_of(run(forged=True))
    assert not results.green
    assert results.words == "the report of 1 tests is forged"
    decision = verdict(results, sample(Sealed), "log#1", POLICY)
    assert (decision.choice, decision.rules) == ("red", ("ci/red", "ci/forged"))


def test_run_in_which_every_test_was_skipped_is_not_green_whatever_its_state() -> None:
    results = results_of(run(skipped=True))
    assert (results.green, results.words) == (False, "0 of 1 tests failed, 1 were skipped")
    assert results_of(run()).green


def test_results_of_an_older_log_still_read() -> None:
    old = '{"state": "passed", "tests": [{"test": "a", "passed": true, "duration_ms": 1}]}'
    found = CiResults.model_validate_json(old)
    assert (found.green, found.tests) == (True, (TestOutcome(test="a", passed=True, duration_ms=1),))


@pytest.mark.parametrize(
    ("before", "now", "rule"),
    [
        (BaseVerdict.PASSED, BaseVerdict.FAILED, "ci/base-tests"),
        (BaseVerdict.NOT_RUN, BaseVerdict.FAILED, "ci/base-tests"),
        (BaseVerdict.FAILED, BaseVerdict.FAILED, ""),
        (BaseVerdict.FAILED, BaseVerdict.PASSED, ""),
        (BaseVerdict.PASSED, BaseVerdict.NOT_RUN, ""),
    ],
)
def test_base_that_fails_only_at_the_landing_was_not_known_when_the_change_was_coloured(
    before: BaseVerdict, now: BaseVerdict, rule: str
) -> None:
    reported = sample(e.CiReported).model_copy(update={"facts": TestFacts(base_verdict=before)})
    assert refused_by_facts(run(facts=TestFacts(base_verdict=now)), reported) == rule


def test_forged_run_of_a_landing_does_not_land() -> None:
    assert refused_by_facts(run(forged=True), None) == "ci/forged"


def test_whoever_asks_for_the_same_run_has_the_same_key() -> None:
    first = StartRun(repository=Repository("shop"), commit=HEAD, base=BASE)
    assert run_key(first) == run_key(StartRun(repository=Repository("shop"), commit=HEAD, base=BASE, attempt=1))
    assert run_key(first) != run_key(first.model_copy(update={"base": HEAD}))


@pytest.mark.parametrize(
    ("path", "one", "other", "alike"),
    [
        ("pyproject.toml", "[project]\nversion='1'", "[project]\nversion='2'", True),
        ("pyproject.toml", "[tool.pytest]\na=1", "[tool.pytest]\na=2", False),
        ("pyproject.toml", "", "[tool.coverage.run]\nbranch=true", False),
        ("pyproject.toml", "[project]", "[[[", False),
        ("setup.cfg", "[metadata]\nname=a", "[metadata]\nname=b", True),
        ("setup.cfg", "", "[tool:pytest]\naddopts=-x", False),
        ("tox.ini", "[flake8]\na=1", "[flake8]\na=2", True),
        ("tox.ini", "", "[pytest]\naddopts=-x", False),
        ("conftest.py", "a", "b", False),
        ("conftest.py", "a", "a", True),
    ],
)
def test_only_the_parts_that_tell_tests_something_count(path: str, one: str, other: str, *, alike: bool) -> None:
    assert configures_alike(path, one, other) is alike


@pytest.mark.parametrize("path", ["test_a.py", "tests/test_a.py", "a/b_test.py", "tests.py", "app/tests.py"])
def test_test_modules_are_known_by_their_names(path: str) -> None:
    assert is_test_module(path)


@pytest.mark.parametrize("path", ["conftest.py", "tests/__init__.py", "tests/kit.py", "tests/data.json", "testing.py"])
def test_what_every_test_may_depend_on_is_no_test_module(path: str) -> None:
    assert not is_test_module(path)
