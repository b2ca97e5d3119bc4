"""From what the tests said and how their process ended to one verdict, with words for whoever has to act on it. Pure.

`failed` means that the change is to blame as far as anybody can see: a test failed, crashed the process or never
ended. `broken` means that nothing can be said about the change. A pass needs everything to agree: exit code 0, a
session that says it has finished, and a result for every test that it collected; a tree that ends the process early
with code 0 passes nothing.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from controller.domain.benchmark import MOST_BENCHMARKS, Benchmark, benchmark_of

MOST_TESTS = 20_000
BY_SIGNAL = 128
MOST_NAME_CHARS = 500
MOST_MESSAGE_BYTES = 2_048
MOST_REFUSED = 20  # benchmarks, in words
NO_TESTS = "no tests were collected; add one or set `test.command`"
OK, TESTS_FAILED, INTERRUPTED, INTERNAL, USAGE, NONE_COLLECTED = range(6)  # pytest.ExitCode


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"

    @property
    def final(self) -> bool:
        return self in {RunState.PASSED, RunState.FAILED, RunState.BROKEN}


@dataclass(frozen=True)
class TestLine:
    """One finished test, bounded: a name of 500 characters, the last 2 KB of its message."""

    __test__ = False
    test: str
    passed: bool
    duration_ms: int
    message: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def bounded(test: str, *, passed: bool, duration_ms: int = 0, message: str = "") -> TestLine:
    kept = message.encode(errors="replace")[-MOST_MESSAGE_BYTES:].decode(errors="ignore")
    return TestLine(test[:MOST_NAME_CHARS], passed, max(0, duration_ms), kept)


class Results:
    """Collects the plugin's lines. They come from inside the sandbox: what is malformed or too much is only counted."""

    def __init__(self, on_test: Callable[[TestLine], None]) -> None:
        self.on_test = on_test
        self.tests: list[TestLine] = []
        self.running: list[str] = []
        self.finished: tuple[int, int] | None = None  # (exit status, tests collected); None: the session has not ended
        self.unread = 0
        self.benchmarks: dict[str, Benchmark] = {}
        self.refused: list[str] = []  # benchmarks that were not taken, and why

    def add(self, line: bytes) -> None:
        try:
            self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            self.unread += 1

    def _take(self, said: dict[str, object]) -> None:
        match said["kind"]:
            case "started":
                self.running = [*self.running, str(said["test"])[:MOST_NAME_CHARS]][-64:]
            case "finished":
                self.finished = (int(str(said["exit"])), int(str(said["collected"])))
            case "test" if len(self.tests) < MOST_TESTS:
                took, message = int(str(said["duration_ms"])), str(said["message"])
                self.ended(bounded(str(said["test"]), passed=said["passed"] is True, duration_ms=took, message=message))
            case "benchmark":
                samples = said["samples"]
                self._measured(str(said["name"]), samples if isinstance(samples, list) else [])
            case _:
                self.unread += 1

    def _measured(self, name: str, samples: list[object]) -> None:
        try:
            found = benchmark_of(name, [one if isinstance(one, int | float) else math.nan for one in samples])
        except ValueError as wrong:
            self._refuse(str(wrong))
            return
        if name in self.benchmarks:
            self._refuse(f"{name} was recorded by two tests; give each its own name")
        elif len(self.benchmarks) >= MOST_BENCHMARKS:
            self._refuse(f"{name} is one too many; record at most {MOST_BENCHMARKS} in a run")
        else:
            self.benchmarks[name] = found

    def _refuse(self, why: str) -> None:
        self.refused = [*self.refused, f"benchmark not taken: {why}"][:MOST_REFUSED]

    def ended(self, line: TestLine) -> None:
        self.running = [test for test in self.running if test != line.test]
        self.tests.append(line)
        self.on_test(line)

    @property
    def failures(self) -> list[TestLine]:
        return [line for line in self.tests if not line.passed]


@dataclass(frozen=True)
class Ending:
    """How the process of the tests ended."""

    exit_code: int
    timed_out: bool
    output: str
    wall_s: float
    memory_bytes: int

    @property
    def words(self) -> str:
        if self.timed_out:
            return f"was still running at its limit of {self.wall_s:g} s (`test.wall_s`)"
        ended_by = self.exit_code - BY_SIGNAL
        if ended_by == signal.SIGKILL:
            memory = f"{self.memory_bytes >> 20} MiB a process, `test.memory_bytes`"
            return f"was killed, most likely out of memory (limit {memory})"
        if ended_by in set(signal.Signals):
            return f"ended by {signal.Signals(ended_by).name}"
        return f"ended with exit code {self.exit_code}"

    @property
    def last_words(self) -> str:
        lines = self.output.strip().splitlines()
        telling = [line for line in lines if "error" in line.lower()] or lines
        return telling[-1].strip()[-300:] if telling else "it printed nothing"


@dataclass(frozen=True)
class Verdict:
    state: RunState
    reason: str = ""


def judge_command(command: tuple[str, ...], ending: Ending, results: Results) -> Verdict:
    """Any command but pytest: one test, named after it, that passes with exit code 0."""
    if ending.exit_code in {126, 127} and not ending.timed_out:
        return Verdict(
            RunState.BROKEN, f"`{command[0]}` cannot be run ({ending.last_words}); install it or set `test.command`"
        )
    passed = ending.exit_code == OK and not ending.timed_out
    message = "" if passed else f"{ending.output}\n{ending.words}"
    results.ended(bounded(shlex.join(command), passed=passed, message=message))
    return Verdict(RunState.PASSED) if passed else Verdict(RunState.FAILED, f"`{shlex.join(command)}` {ending.words}")


def judge_pytest(python: str, ending: Ending, results: Results) -> Verdict:
    if ending.timed_out or results.finished is None:
        return _cut_short(python, ending, results)
    said, collected = results.finished
    code = ending.exit_code or said  # a tree may turn a red session's exit code to 0, never the other way round
    if code == NONE_COLLECTED or (code == OK and not results.tests):
        return Verdict(RunState.BROKEN, NO_TESTS)
    if results.failures and code in {OK, TESTS_FAILED, INTERRUPTED}:
        return Verdict(RunState.FAILED, f"{len(results.failures)} of {len(results.tests)} tests failed")
    return _without_failures(code, collected, ending, results)


def _without_failures(code: int, collected: int, ending: Ending, results: Results) -> Verdict:
    if code == TESTS_FAILED:
        results.ended(bounded("pytest", passed=False, message=ending.output))
        return Verdict(RunState.FAILED, f"pytest failed without a failing test: {ending.last_words}")
    if code != OK:
        return Verdict(RunState.BROKEN, f"pytest {_meaning(code, ending)}: {ending.last_words}")
    if collected > len(results.tests):
        missing = f"{collected} tests were collected and {len(results.tests)} reported"
        return Verdict(RunState.BROKEN, f"{missing}; make every collected test report a result")
    return Verdict(RunState.PASSED)


def _cut_short(python: str, ending: Ending, results: Results) -> Verdict:
    if results.running:
        for test in tuple(results.running):
            results.ended(
                bounded(
                    test, passed=False, message=f"{ending.output}\nthis test was running when pytest {ending.words}"
                )
            )
        return Verdict(RunState.FAILED, f"pytest {ending.words} during {results.tests[-1].test}")
    if results.failures:
        return Verdict(RunState.FAILED, f"{len(results.failures)} tests failed, and pytest {ending.words}")
    if "No module named pytest" in ending.output:
        return Verdict(RunState.BROKEN, f"pytest is not installed for {python}; install it there or set `test.python`")
    if ending.exit_code == OK and not ending.timed_out:
        return Verdict(
            RunState.BROKEN,
            "pytest ended with exit code 0 before its session did; find what in the tree ends the process",
        )
    return Verdict(RunState.BROKEN, f"pytest {ending.words} before any test ran: {ending.last_words}")


def _meaning(code: int, ending: Ending) -> str:
    known = {
        INTERRUPTED: "was interrupted",
        INTERNAL: "had an internal error",
        USAGE: "did not understand its arguments",
    }
    return known.get(code, ending.words)
