"""What the tests did without any mutant: which of them to run for which line, and how long they may take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SLOWER = 4.0  # times what the tests took, and
LEAST_S = 1.0  # at least, and
START_S = 0.3  # for collecting them: a run that takes longer than all of this has hung


@dataclass
class Baseline:
    tests: list[str]
    files: list[str]  # of each test
    took_ms: list[int]
    failed: int
    ran: int
    by_line: dict[tuple[str, int], list[int]]
    shared: set[tuple[str, int]]
    modules: list[str]

    @classmethod
    def read(cls, path: str) -> Baseline:
        """Raises OSError or ValueError: the session has not come to its end."""
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
        by_line = {(name, line): tests for name, line, tests in found["lines"]}
        shared = {(name, line) for name, line in found["shared"]}
        simple = {name: found[name] for name in ("tests", "files", "took_ms", "failed", "ran", "modules")}
        return cls(by_line=by_line, shared=shared, **simple)

    def touching(self, path: str, line: int) -> list[int]:
        """Tests that could notice something wrong in this line, likeliest first. Empty: none runs it.

        A line that ran while something was imported or in a fixture may matter to every test.
        """
        place = (path, line)
        own = self.by_line.get(place, [])
        if place not in self.shared:
            return own
        same_file = {test for (name, _), tests in self.by_line.items() if name == path for test in tests}
        likely = [*own, *sorted(same_file - set(own))]
        return [*likely, *sorted(set(range(len(self.tests))) - set(likely))]

    def touched(self, paths: set[str]) -> list[int]:
        """Tests that ran anything in these files."""
        return sorted({test for (name, _), tests in self.by_line.items() if name in paths for test in tests})

    def order(self, tests: list[int]) -> dict[str, Any]:
        names = [self.tests[test] for test in tests]
        return {"tests": names, "files": sorted({self.files[test] for test in tests})}

    def limit_s(self, tests: list[int], start_s: float) -> float:
        """`start_s`: what a run took beyond its tests."""
        return max(LEAST_S, SLOWER * (sum(self.took_ms[test] for test in tests) / 1000 + start_s + START_S))
