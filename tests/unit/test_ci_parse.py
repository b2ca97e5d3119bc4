"""How results and endings become a verdict, and how what comes out of a sandbox is kept in bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.ci_execute import CiConfig, Pytest, as_pytest
from controller.adapters.ci_results import (
    MOST_MESSAGE_BYTES,
    MOST_TESTS,
    Ending,
    Results,
    RunState,
    TestLine,
    Verdict,
    judge_command,
    judge_session,
)
from controller.adapters.sandbox_io import Clipped, LineSplitter


def heard(*lines: dict[str, Any]) -> Results:
    results = Results()
    for line in lines:
        results.add(json.dumps(line).encode())
    return results


def line_of(test: str, *, passed: bool = True, message: str = "") -> dict[str, Any]:
    outcome = "passed" if passed else "failed"
    return {"kind": "test", "test": test, "outcome": outcome, "duration_ms": 3, "message": message}


def skipped(test: str) -> dict[str, Any]:
    return {"kind": "test", "test": test, "outcome": "skipped", "duration_ms": 0, "message": "skipped: later"}


def ordered(count: int) -> dict[str, Any]:
    return {"kind": "ordered", "count": count}


def finished(status: int) -> dict[str, Any]:
    return {"kind": "finished", "exit": status, "wires": {"failed": 1, "passed": 0, "none": 0}}


def ending(exit_code: int = 0, *, timed_out: bool = False, output: str = "") -> Ending:
    return Ending(exit_code, timed_out, output, wall_s=60, memory_bytes=1 << 30)


def verdict(results: Results, end: Ending) -> Verdict:
    return judge_session("/opt/python", end, results.now)


def test_session_that_ends_with_every_collected_test_reported_passes() -> None:
    assert verdict(heard(ordered(2), line_of("a"), line_of("b"), finished(0)), ending()) == Verdict(RunState.PASSED)


def test_failing_test_fails_the_run_with_its_message() -> None:
    results = heard(ordered(2), line_of("a"), line_of("b", passed=False, message="assert 1 == 2"), finished(1))
    assert verdict(results, ending(1)) == Verdict(RunState.FAILED, "1 of 2 tests failed")
    assert results.now.failures == [TestLine("b", passed=False, duration_ms=3, message="assert 1 == 2")]


def test_exit_code_zero_cannot_hide_a_failing_test() -> None:
    assert verdict(heard(ordered(1), line_of("a", passed=False), finished(0)), ending(0)).state is RunState.FAILED


def test_exit_code_zero_cannot_hide_a_red_session() -> None:
    assert verdict(heard(ordered(1), line_of("a"), finished(1)), ending(0)).state is RunState.FAILED


def test_process_that_ends_with_zero_before_its_session_passes_nothing() -> None:
    told = verdict(heard(line_of("a")), ending(0))
    assert told.state is RunState.BROKEN
    assert "before its session did" in told.reason


def test_collected_test_that_never_reported_is_missed() -> None:
    told = verdict(heard(ordered(2), line_of("a"), finished(0)), ending(0))
    assert (told.state, "2 tests were collected and 1 reported" in told.reason) == (RunState.BROKEN, True)


@pytest.mark.parametrize("code", [0, 5])
def test_no_tests_is_broken_and_names_the_way_out(code: int) -> None:
    told = verdict(heard(ordered(0), finished(code)), ending(code))
    assert told == Verdict(RunState.BROKEN, "no tests were collected; add one or set `test.command`")


def test_missing_pytest_is_broken_and_names_the_interpreter() -> None:
    told = verdict(heard(), ending(1, output="/opt/python: No module named pytest\n"))
    assert told.state is RunState.BROKEN
    assert "not installed for /opt/python" in told.reason


def test_test_that_hangs_is_named_as_the_one_that_failed() -> None:
    results = heard(line_of("a"), {"kind": "started", "test": "b"})
    told = verdict(results, ending(137, timed_out=True, output="waiting"))
    assert told == Verdict(RunState.FAILED, "pytest was still running at its limit of 60 s (`test.wall_s`) during b")
    assert results.now.failures[0].test == "b"


def test_collection_that_hangs_is_broken() -> None:
    assert verdict(heard(), ending(137, timed_out=True)).state is RunState.BROKEN


def test_crash_is_blamed_on_the_test_that_was_running() -> None:
    results = heard({"kind": "started", "test": "b"})
    told = verdict(results, ending(139))
    assert told == Verdict(RunState.FAILED, "pytest ended by SIGSEGV during b")


def test_what_the_sandbox_ended_is_explained_by_what_it_outgrew() -> None:
    over = "it had made folders more than 200 deep or 3,000 bytes long"
    told = verdict(heard(ordered(1)), replace(ending(137), over=over))
    assert f"was ended by the sandbox: {over}" in told.reason


def test_kill_is_explained_as_memory() -> None:
    told = verdict(heard(), ending(137))
    assert told.state is RunState.BROKEN
    assert "out of memory (limit 1024 MiB a process, `test.memory_bytes`)" in told.reason


def test_collection_error_is_the_changes_fault() -> None:
    results = heard(ordered(0), line_of("test_a.py", passed=False, message="ImportError"), finished(2))
    assert verdict(results, ending(2)).state is RunState.FAILED


@pytest.mark.parametrize(("code", "words"), [(2, "interrupted"), (3, "internal error"), (4, "arguments")])
def test_pytests_own_troubles_are_broken(code: int, words: str) -> None:
    told = verdict(heard(ordered(1), line_of("a"), finished(code)), ending(code, output="why\n"))
    assert told.state is RunState.BROKEN
    assert words in told.reason


def test_red_session_without_a_failing_test_still_names_something() -> None:
    results = heard(ordered(1), line_of("a"), finished(1))
    told = verdict(results, ending(1, output="coverage 10 % is under 80 %\n"))
    assert told == Verdict(RunState.FAILED, "pytest failed without a failing test: coverage 10 % is under 80 %")
    assert len(results.now.failures) == 1


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (ending(0), RunState.PASSED),
        (ending(1, output="no"), RunState.FAILED),
        (ending(137, timed_out=True), RunState.FAILED),
        (ending(127, output="make: not found"), RunState.BROKEN),
    ],
)
def test_other_command_is_one_test_by_its_exit_code(end: Ending, state: RunState) -> None:
    results = Results()
    assert judge_command(("make", "check it"), end, results).state is state
    assert [line.test for line in results.now.tests] == ([] if state is RunState.BROKEN else ["make 'check it'"])


def test_skipped_test_is_no_failure_and_no_pass() -> None:
    results = heard(ordered(2), line_of("a"), skipped("b"), finished(0))
    assert verdict(results, ending(0)) == Verdict(RunState.PASSED)
    assert [(line.passed, line.skipped) for line in results.now.tests] == [(True, False), (True, True)]


def test_run_in_which_nothing_ran_is_no_pass() -> None:
    told = verdict(heard(ordered(2), skipped("a"), skipped("b"), finished(0)), ending(0))
    assert told.state is RunState.BROKEN
    assert told.reason.startswith("nothing ran: 2 of 2 tests were skipped")


def test_test_that_was_set_up_and_never_called_did_not_run() -> None:
    told = verdict(heard(ordered(1), line_of("a") | {"outcome": "not called"}, finished(0)), ending(0))
    assert (told.state, "nothing ran" in told.reason) == (RunState.BROKEN, True)


def test_forged_report_is_broken_whatever_it_says() -> None:
    wires = {"failed": 3, "passed": 0, "none": 0}
    forged = {"kind": "forged", "why": "a result that nobody asked for", "wires": wires}
    told = verdict(heard(ordered(1), line_of("a"), finished(0), forged), ending(0))
    assert told.state is RunState.BROKEN
    assert told.reason.startswith("ci/forged: a result that nobody asked for")


def test_pytest_is_recognised_whichever_way_it_is_called() -> None:
    assert as_pytest(CiConfig(python="/opt/python")) == Pytest("/opt/python", ())
    assert as_pytest(CiConfig(("pytest", "-x"), python="/opt/python")) == Pytest("/opt/python", ("-x",))
    assert as_pytest(CiConfig(("/usr/bin/python3", "-m", "pytest", "tests"))) == Pytest("/usr/bin/python3", ("tests",))
    assert as_pytest(CiConfig(("make", "pytest"))) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b'"text"',
        b"{}",
        b'{"kind": "test"}',
        b'{"kind": "finished", "exit": {}, "wires": 1}',
        b"[" * 50_000,
        b'{"kind": "other"}',
        b"\xff\xfe",
    ],
)
def test_malformed_line_is_counted_and_changes_nothing(line: bytes) -> None:
    results = Results()
    results.add(line)
    assert (results.unread, results.now.tests, results.now.finished) == (1, [], None)


def test_flood_of_results_meets_its_bounds() -> None:
    results = heard(line_of("t" * 10_000, passed=False, message="€" * 10_000))
    assert len(results.now.tests[0].test) == 500
    assert len(results.now.tests[0].message.encode()) <= MOST_MESSAGE_BYTES
    line = json.dumps(line_of("a")).encode()
    for _ in range(MOST_TESTS + 5):
        results.add(line)
    assert len(results.now.tests) == MOST_TESTS


@given(st.binary(max_size=400), st.lists(st.integers(1, 30), max_size=40), st.integers(2, 60))
def test_clipped_output_keeps_both_ends_and_counts_the_rest(content: bytes, cuts: list[int], most: int) -> None:
    clipped = Clipped(most)
    rest = content
    for cut in [*cuts, len(content)]:
        clipped.add(rest[:cut])
        rest = rest[cut:]
    clipped.add(rest)
    half = most // 2
    assert bytes(clipped.head) == content[:half]
    kept = b"".join(clipped.tail)
    assert len(kept) <= half
    assert content.endswith(kept)
    assert len(clipped.head) + clipped.cut + len(kept) == len(content)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=10), st.integers(1, 7))
def test_lines_arrive_whole_however_they_are_cut(lines: list[bytes], width: int) -> None:
    taken: list[bytes] = []
    splitter = LineSplitter(taken.append)
    content = b"".join(line + b"\n" for line in lines)
    for start in range(0, len(content), width):
        splitter.add(content[start : start + width])
    assert taken == lines
