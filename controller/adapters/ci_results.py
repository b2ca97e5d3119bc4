"""From what the parent of the tests said and how they ended to one verdict, with words for who has to act. Pure.

`failed` means that the change is to blame as far as anybody can see: a test failed, crashed the process or never
ended. `broken` means that nothing can be said about the change, or that its report is forged. A pass needs everything
to agree: exit code 0, a session that says it has finished, a result for every test that it collected, one that was not
skipped, and a tripwire that failed; a tree that ends the process early with code 0 passes nothing.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from controller.domain.benchmark import MOST_BENCHMARKS, Benchmark, benchmark_of

MOST_TESTS = 20_000
BY_SIGNAL = 128
MOST_NAME_CHARS = 500
MOST_MESSAGE_BYTES = 2_048
MOST_REFUSED = 20  # benchmarks, in words
NO_TESTS = "no tests were collected; add one or set `test.command`"
FORGED = "ci/forged"
WHOLE = "pytest"  # what a failure is called that is no single test's
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
    skipped: bool = False  # it did not run, or was expected to fail: it proves nothing

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def bounded(test: str, *, passed: bool, duration_ms: int = 0, message: str = "", skipped: bool = False) -> TestLine:
    kept = message.encode(errors="replace")[-MOST_MESSAGE_BYTES:].decode(errors="ignore")
    return TestLine(test[:MOST_NAME_CHARS], passed, max(0, duration_ms), kept, skipped)


@dataclass
class Session:
    """What the parent said of one session of tests."""

    name: str = "head"
    listed: list[str] = field(default_factory=list)
    tests: list[TestLine] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    ordered: int = 0  # tests that were to run
    finished: int | None = None  # pytest's exit status; None: the session has not ended
    exit_code: int | None = None  # of its process, as the kernel tells it; None: it has not ended
    timed_out: bool = False
    left: bool = False  # processes that could not be ended
    forged: str = ""  # why its report is not believed; "": nothing speaks against it
    wires_failed: int = 0  # tests that must fail and did
    wires_passed: int = 0
    covered: dict[str, set[int]] = field(default_factory=dict)  # changed file to the changed lines that were executed
    imported: set[str] = field(default_factory=set)  # changed files
    others: set[str] = field(default_factory=set)  # changed files of which another copy was imported
    touching: list[str] = field(default_factory=list)  # tests that executed a changed line

    @property
    def failures(self) -> list[TestLine]:
        return [line for line in self.tests if not line.passed]

    @property
    def skipped(self) -> list[str]:
        return [line.test for line in self.tests if line.skipped]

    @property
    def tripwire(self) -> bool | None:
        """None: no test that must fail came to an end."""
        if self.wires_passed:
            return False
        return True if self.wires_failed else None

    def ended(self, line: TestLine) -> None:
        self.running = [test for test in self.running if test != line.test]
        self.tests.append(line)


class Results:
    """Collects the parent's lines. What is malformed or too much is only counted."""

    def __init__(self, on_test: Callable[[str, TestLine], None] = lambda _session, _line: None) -> None:
        self.on_test = on_test
        self.sessions: list[Session] = []
        self.unread = 0
        self.benchmarks: dict[str, Benchmark] = {}
        self.notes: list[str] = []  # benchmarks that were not taken, and whatever else is to be read
        self.whole = False  # the parent came to its own end

    def begin(self, name: str) -> None:
        self.sessions.append(Session(name))

    @property
    def now(self) -> Session:
        if not self.sessions:
            self.begin("head")
        return self.sessions[-1]

    def session(self, name: str) -> Session | None:
        """None: it has not begun."""
        return next((one for one in self.sessions if one.name == name), None)

    def add(self, line: bytes) -> None:
        try:
            self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            self.unread += 1

    def _take(self, said: dict[str, Any]) -> None:
        match said["kind"]:
            case "session":
                self.begin(str(said["name"]))
            case "collected":
                self.now.listed += [str(one) for one in said["ids"]][: MOST_TESTS - len(self.now.listed)]
            case "ordered":
                self.now.ordered = int(said["count"])
            case "started":
                self.now.running = [*self.now.running, str(said["test"])[:MOST_NAME_CHARS]][-64:]
            case "test" if len(self.now.tests) < MOST_TESTS:
                self._tested(said)
            case "benchmark":
                samples = said["samples"]
                self._measured(str(said["name"]), samples if isinstance(samples, list) else [])
            case _:
                self._take_of_session(said)

    def _take_of_session(self, said: dict[str, Any]) -> None:
        match said["kind"]:
            case "loaded":
                self._loaded(said)
            case "finished":
                self.now.finished = int(said["exit"])
                self.now.wires_failed, self.now.wires_passed = said["wires"]["failed"], said["wires"]["passed"]
            case "forged":
                self.now.forged = str(said["why"])[:MOST_NAME_CHARS]
                self.now.wires_failed, self.now.wires_passed = said["wires"]["failed"], said["wires"]["passed"]
            case "ended":
                self.now.exit_code, self.now.left = int(said["code"]), said["left"] is True
                self.now.timed_out = said["timed_out"] is True
            case "note":
                self.notes = [*self.notes, str(said["text"])[:MOST_NAME_CHARS]][:MOST_REFUSED]
            case "driver":
                self.whole = said["ok"] is True
            case _:
                self.unread += 1

    def _tested(self, said: dict[str, Any]) -> None:
        outcome, message = str(said["outcome"]), str(said["message"])
        if outcome == "not called":
            outcome, message = "skipped", "skipped: it was set up and never called"
        line = bounded(
            str(said["test"]),
            passed=outcome in {"passed", "skipped"},
            duration_ms=int(said["duration_ms"]),
            message=message,
            skipped=outcome == "skipped",
        )
        self.ended(line)
        if said.get("seen"):
            self.now.touching.append(line.test)

    def _loaded(self, said: dict[str, Any]) -> None:
        self.now.covered = {str(path): {int(line) for line in lines} for path, lines in said["lines"].items()}
        self.now.imported = {str(path) for path in said["imported"]}
        self.now.others = {str(path) for path in said["others"]}
        if said["equal"]:
            self.now.forged = f"{str(said['equal'][0])[:300]} says that it equals whatever it is compared with"

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
        self.notes = [*self.notes, f"benchmark not taken: {why}"][:MOST_REFUSED]

    def ended(self, line: TestLine) -> None:
        self.now.ended(line)
        self.on_test(self.now.name, line)


@dataclass(frozen=True)
class Ending:
    """How the process of the tests ended."""

    exit_code: int
    timed_out: bool
    output: str
    wall_s: float
    memory_bytes: int
    over: str = ""  # what it outgrew, and was ended for. Empty: nothing

    @property
    def words(self) -> str:
        if self.timed_out:
            return f"was still running at its limit of {self.wall_s:g} s (`test.wall_s`)"
        if self.over:
            return f"was ended by the sandbox: {self.over}"
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


def judge_session(python: str, ending: Ending, session: Session) -> Verdict:
    """One session of pytest. `ending` is its process's, as the parent and the kernel saw it."""
    if session.forged:
        return Verdict(RunState.BROKEN, f"{FORGED}: {session.forged}; the report of these tests is not believed")
    if ending.timed_out or session.finished is None:
        return _cut_short(python, ending, session)
    code = ending.exit_code or session.finished  # a tree may turn a red session's exit code to 0, never back
    if code == NONE_COLLECTED or (code == OK and not session.tests and not session.ordered):
        return Verdict(RunState.BROKEN, NO_TESTS)
    if session.failures and code in {OK, TESTS_FAILED, INTERRUPTED}:
        return Verdict(RunState.FAILED, f"{len(session.failures)} of {len(session.tests)} tests failed")
    return _without_failures(code, ending, session)


def fails_as_a_whole(ending: Ending, session: Session) -> bool:
    """No test failed and pytest did: a plugin asks something of the whole run, such as a share of covered lines."""
    code = ending.exit_code or session.finished
    return code == TESTS_FAILED and not session.failures and not session.forged and not ending.timed_out


def _without_failures(code: int, ending: Ending, session: Session) -> Verdict:
    if code == TESTS_FAILED:
        session.ended(bounded(WHOLE, passed=False, message=ending.output))
        return Verdict(RunState.FAILED, f"pytest failed without a failing test: {ending.last_words}")
    if code != OK:
        return Verdict(RunState.BROKEN, f"pytest {_meaning(code, ending)}: {ending.last_words}")
    if session.ordered > len(session.tests):
        missing = f"{session.ordered} tests were collected and {len(session.tests)} reported"
        return Verdict(RunState.BROKEN, f"{missing}; make every collected test report a result")
    if len(session.skipped) == len(session.tests):
        return Verdict(RunState.BROKEN, nothing_ran(len(session.tests)))
    return Verdict(RunState.PASSED)


def nothing_ran(tests: int) -> str:
    return f"nothing ran: {tests} of {tests} tests were skipped; a skipped test proves nothing, so make one run"


def _cut_short(python: str, ending: Ending, session: Session) -> Verdict:
    if session.running:
        for test in tuple(session.running):
            told = f"{ending.output}\nthis test was running when pytest {ending.words}"
            session.ended(bounded(test, passed=False, message=told))
        return Verdict(RunState.FAILED, f"pytest {ending.words} during {session.tests[-1].test}")
    if session.failures:
        return Verdict(RunState.FAILED, f"{len(session.failures)} tests failed, and pytest {ending.words}")
    if "No module named pytest" in ending.output:
        return Verdict(RunState.BROKEN, f"pytest is not installed for {python}; install it there or set `test.python`")
    if ending.exit_code == OK and not ending.timed_out:
        return Verdict(
            RunState.BROKEN,
            "pytest ended with exit code 0 before its session did; find what in the tree ends the process",
        )
    whose = "pytest" if session.exit_code is not None or ending.timed_out else "the process that orders the tests"
    return Verdict(RunState.BROKEN, f"{whose} {ending.words} before any test ran: {ending.last_words}")


def _meaning(code: int, ending: Ending) -> str:
    known = {
        INTERRUPTED: "was interrupted",
        INTERNAL: "had an internal error",
        USAGE: "did not understand its arguments",
    }
    return known.get(code, ending.words)
