"""A pytest plugin that reports every finished test at once, one JSON line each, through an inherited pipe.

It is copied beside the tree and loaded by name (`-p flyball_results`); it imports nothing but the standard library,
because it runs under the tested repository's own interpreter. What it writes is advisory: code under test runs in the
same process and could write the same lines.
"""

from __future__ import annotations

import json
import os
from typing import Any

MOST_MESSAGE_CHARS = 2_000
BENCHMARK = "flyball.benchmark."  # how the name of a recorded property begins
MOST_SAMPLES = 1_000  # read out of one test: a line stays short, and whoever reads it says what is too much


class Reporter:
    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.phases: dict[str, list[Any]] = {}  # reports of tests that have begun and not ended

    def say(self, **line: Any) -> None:
        rest = json.dumps(line).encode() + b"\n"
        while rest:
            rest = rest[os.write(self.pipe, rest) :]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            name = report.nodeid or "collection"
            self.say(kind="test", test=name, passed=False, duration_ms=0, message=tail_of(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.phases[nodeid] = []
        self.say(kind="started", test=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.phases.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        reports = self.phases.pop(nodeid, [])
        final = {
            report.when: report for report in reports
        }.values()  # of a test that was run again, only the last try counts
        failed = [report for report in final if report.failed]
        skipped = [report for report in final if report.skipped]
        message = tail_of(failed[0]) if failed else reason_of(skipped[0]) if skipped else ""
        took = int(sum(report.duration for report in reports) * 1000)
        passed = bool(final) and not failed
        if passed and reports:
            self.say_benchmarks(nodeid, reports[-1].user_properties)
        self.say(kind="test", test=nodeid, passed=passed, duration_ms=took, message=message)

    def say_benchmarks(self, test: str, properties: list[tuple[str, object]]) -> None:
        """What the test recorded; a name recorded several times, or as a list, has several samples."""
        found: dict[str, list[Any]] = {}
        for name, value in properties:
            if str(name).startswith(BENCHMARK):
                many = value if isinstance(value, list | tuple) else [value]
                found.setdefault(str(name)[len(BENCHMARK) :], []).extend(many)
        for name, samples in found.items():
            shown = [number_of(one) for one in samples[:MOST_SAMPLES]]
            self.say(kind="benchmark", test=test, name=name[:MOST_MESSAGE_CHARS], samples=shown)

    def pytest_sessionfinish(self, session: Any, exitstatus: int) -> None:
        self.say(kind="finished", exit=int(exitstatus), collected=int(session.testscollected))


def number_of(value: Any) -> float | str:
    """As a plain number, whichever library's it is. What is none goes as its type's name, for the reader to refuse."""
    try:
        return float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return type(value).__name__


def tail_of(report: Any) -> str:
    return str(report.longreprtext)[-MOST_MESSAGE_CHARS:]


def reason_of(report: Any) -> str:
    why = report.longrepr
    told = why[2] if isinstance(why, tuple) else getattr(report, "wasxfail", "")
    return f"skipped: {told}"[:MOST_MESSAGE_CHARS]


def pytest_configure(config: Any) -> None:
    pipe = os.environ.get("FLYBALL_RESULTS_FD", "")
    if pipe and not hasattr(config, "workerinput"):  # under xdist the main process speaks for its workers
        config.pluginmanager.register(Reporter(int(pipe)), "flyball-reporter")
