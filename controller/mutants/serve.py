"""Measures a change: finds its mutants, draws a sample, runs the tests on each, and says what became of them.

    python <folder>/flyball_mutants plan.json

It runs in the sandbox and nothing of the tested repository runs in it. The results pipe is its own: the process that
loads pytest and the children that run tests do not inherit it and cannot open it (`session.dumpable`). One line of
JSON for each run that counts, and one at the end; without the last nothing was measured.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from contextlib import suppress
from itertools import islice
from typing import Any

from .baseline import LEAST_S, Baseline
from .child import Child, EndedError
from .edits import Mutant, Source
from .find import mutants_of
from .lines import changed_files, is_source, python_files, read
from .sample import CONTROL, compiles, controls_of, mixed, sampled
from .session import dumpable

CONTROLS = 2
BASELINE_SHARE = 0.5  # of the budget, for the tests without a mutant
MOST_CHANGED = 200  # Python files; a change of more is not sampled, it is somebody else's question
SURVIVED, NONE_RAN = 0, 5  # pytest.ExitCode


class NotMeasuredError(Exception):
    """A rule id and plain words; nothing that the change's author wrote."""


class Measure:
    """One change in one tree, which is the working directory."""

    def __init__(self, plan: dict[str, Any], results: int) -> None:
        self.plan, self.results = plan, results
        self.began = time.monotonic()
        self.draw = random.Random(plan["seed"])  # noqa: S311 - a sample that can be drawn again
        self.sources: dict[str, Source] = {}
        self.lines: dict[str, set[int]] = {}
        self.mtime = int(time.time())
        self.start_s = 0.0

    def say(self, **words: Any) -> None:
        os.write(self.results, json.dumps(words).encode() + b"\n")

    def left_s(self) -> float:
        return float(self.plan["budget_s"]) - (time.monotonic() - self.began)

    # --- what may be broken ------------------------------------------------------------------------------------------

    def find(self) -> list[Mutant]:
        changed = changed_files(".", self.plan["base"])
        if len(changed) > MOST_CHANGED:
            raise NotMeasuredError(f"mutants/too-many-files: {len(changed)} Python files, the bound is {MOST_CHANGED}")
        self.changed_tests = {path for path in changed if not is_source(path)}
        self.lines = {path: lines for path, lines in changed.items() if is_source(path) and lines}
        found: list[Mutant] = []
        for path, lines in sorted(self.lines.items()):
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                self.sources[path] = Source(path, read(".", path))
                found += mutants_of(self.sources[path], lines)
        if not found:
            raise NotMeasuredError("mutants/nothing: no changed line of Python has anything to break")
        return found

    # --- without a mutant --------------------------------------------------------------------------------------------

    def baseline(self, child: Child) -> Baseline:
        """Every test once, the change's own first, for at most half of the budget."""
        real = os.path.realpath
        within_s = self.left_s() * BASELINE_SHARE
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "hits.json")
            order = {
                "trace": {real(path): path for path in self.sources},
                "first": [real(path) for path in [*self.changed_tests, *self._mentioning()]],
                "until": time.time() + within_s,
                "report": report,
            }
            if child.tests(order, self.left_s()) is None:
                raise NotMeasuredError("mutants/slow: the first test did not end within the budget; allow more")
            try:
                found = Baseline.read(report)
            except (OSError, ValueError):
                raise NotMeasuredError("mutants/baseline: the tests did not come to their end") from None
        if found.failed:
            raise NotMeasuredError(f"mutants/baseline: {found.failed} failures without any mutant")
        if not found.ran:
            raise NotMeasuredError("mutants/baseline: no test ran")
        return found

    def _mentioning(self) -> list[str]:
        """Tests in which a changed module is named."""
        names = {path.rsplit("/", 1)[-1][:-3].encode() for path in self.sources} - {b"__init__", b"__main__"}
        tests = [path for path in python_files(".") if not is_source(path)]
        return [path for path in tests if any(name in read(".", path) for name in names)]

    def child(self) -> Child:
        child = Child(self.plan["arguments"], self.left_s(), src=self.plan["src"])
        if child.early:
            child.close()
            raise NotMeasuredError("mutants/early-import: pytest loads code of the repository before its tests")
        return child

    def warmed(self, child: Child, found: Baseline) -> Child:
        """With everything foreign imported once, if the tests pass like that; else every run imports for itself."""
        tests = found.touched(set(self.sources))
        if not tests:
            return child
        child.preload(found.modules)
        if self._passes(child, found, tests):
            return child
        child.close()
        child = self.child()
        if not self._passes(child, found, tests):
            raise NotMeasuredError("mutants/baseline: tests that touch the change fail without the others, or at times")
        return child

    def _passes(self, child: Child, found: Baseline, tests: list[int]) -> bool:
        began = time.monotonic()
        code = child.tests(found.order(tests), max(1.0, self.left_s()))
        spent = sum(found.took_ms[test] for test in tests) / 1000
        self.start_s = max(0.0, time.monotonic() - began - spent)
        return code == SURVIVED

    # --- with one ----------------------------------------------------------------------------------------------------

    def runs(self, mutants: list[Mutant], found: Baseline) -> list[Mutant]:
        chosen = [
            one for one in sampled(mutants, self.plan["most"], self.draw) if compiles(self.sources[one.path], one)
        ]
        return mixed(chosen, self._controls(found), self.draw)

    def _controls(self, found: Baseline) -> list[Mutant]:
        possible: list[Mutant] = []
        for path, source in sorted(self.sources.items()):
            lines = {line for line in self.lines[path] if found.touching(path, line)}
            possible += controls_of(source, lines, self.draw)
        sound = (one for one in possible if compiles(self.sources[one.path], one))
        return list(islice(sound, CONTROLS))

    def outcome(self, child: Child, found: Baseline, one: Mutant) -> str:
        tests = found.touching(one.path, one.line)
        if not tests:
            return "survived"  # nothing would notice, whatever stood there
        self._write(one.path, one.edit.apply(self.sources[one.path].data))
        try:
            code = child.tests(found.order(tests), self._limit_s(found, tests, one))
        finally:
            self._write(one.path, self.sources[one.path].data)
        if code is None:
            return "timed-out"
        return "survived" if code in (SURVIVED, NONE_RAN) else "killed"

    def _limit_s(self, found: Baseline, tests: list[int], one: Mutant) -> float:
        limit_s = found.limit_s(tests, self.start_s)
        return limit_s if one.operator == CONTROL else min(limit_s, max(LEAST_S, self.left_s()))

    def _write(self, path: str, data: bytes) -> None:
        """With a time of its own: compiled code that somebody keeps for one content is never taken for another's."""
        self.mtime -= 10
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, (self.mtime, self.mtime))

    def measure(self) -> tuple[int, int]:
        """How many mutants there are, and how many controls ran."""
        mutants = self.find()
        child = self.child()
        found = self.baseline(child)
        child = self.warmed(child, found)
        controls = 0
        for one in self.runs(mutants, found):
            if self.left_s() <= 0 and one.operator != CONTROL:
                continue
            outcome = self.outcome(child, found, one)
            if one.operator == CONTROL:
                controls += 1
                self._judge_control(outcome)
                continue
            self.say(kind="mutant", path=one.path, line=one.line, operator=one.operator, outcome=outcome)
        child.close()
        return len(mutants), controls

    def _judge_control(self, outcome: str) -> None:
        if outcome == "timed-out":
            raise NotMeasuredError("mutants/slow: tests without a mutant took four times what they took before")
        if outcome != "survived":
            raise NotMeasuredError("mutants/controls: the tests fail on code that means the same, or at random")


def main(plan_path: str) -> None:
    dumpable(yes=False)
    with open(plan_path, encoding="utf-8") as file:
        plan = json.load(file)
    results = int(os.environ.pop("FLYBALL_RESULTS_FD"))
    os.set_inheritable(results, False)
    measure = Measure(plan, results)
    possible, controls, why = 0, 0, ""
    try:
        possible, controls = measure.measure()
    except NotMeasuredError as no:
        why = str(no)
    except EndedError as ended:
        why = f"mutants/ended: {ended}"
    took_ms = int((time.monotonic() - measure.began) * 1000)
    measure.say(kind="ended", why=why, possible=possible, controls=controls, took_ms=took_ms)
