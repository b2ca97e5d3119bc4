"""What the tests did without any mutant: which of them to run for which line, and how long they may take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Set, Tuple

SLOWER = 4.0  # times what the tests took, and
LEAST_S = 2.0  # at least, and
START_S = 1.0  # for collecting them: a run that takes longer than all of this has hung


@dataclass
class Baseline:
    tests: List[str]
    files: List[str]  # of each test
    took_ms: List[int]
    failed: int
    ran: int
    by_line: Dict[Tuple[str, int], List[int]]
    shared: Set[Tuple[str, int]]
    modules: List[str]

    @classmethod
    def read(cls, path: str) -> "Baseline":
        """Raises OSError or ValueError: the session has not come to its end."""
        with open(path, encoding="utf-8") as file:
            found: Dict[str, Any] = json.load(file)
        by_line = {(name, line): tests for name, line, tests in found["lines"]}
        shared = {(name, line) for name, line in found["shared"]}
        simple = {name: found[name] for name in ("tests", "files", "took_ms", "failed", "ran", "modules")}
        return cls(by_line=by_line, shared=shared, **simple)

    def touching(self, path: str, line: int) -> List[int]:
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

    def touched(self, paths: Set[str]) -> List[int]:
        """Tests that ran anything in these files."""
        return sorted({test for (name, _), tests in self.by_line.items() if name in paths for test in tests})

    def order(self, tests: List[int]) -> Dict[str, Any]:
        names = [self.tests[test] for test in tests]
        return {"tests": names, "files": sorted({self.files[test] for test in tests})}

    def limit_s(self, tests: List[int], start_s: float) -> float:
        """`start_s`: what a run took beyond its tests."""
        return max(LEAST_S, SLOWER * (sum(self.took_ms[test] for test in tests) / 1000 + start_s + START_S))
