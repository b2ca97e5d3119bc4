"""What CI saw, and what follows from it.

Test names and messages are text from outside: they go sealed. In clear a test has a name of its own, the same in every
run, so that runs can be compared by somebody who may not read them.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from controller.domain.base import Fact

PREFIX = "test#"


class TestOutcome(Fact):
    __test__ = False
    test: str
    passed: bool  # it did not fail
    duration_ms: int
    skipped: bool = False  # it did not run, so it proves nothing


class CiResults(Fact):
    """A finished run, test by test. Kept sealed: the same results give the same verdict."""

    state: Literal["passed", "failed", "broken"]
    tests: tuple[TestOutcome, ...]
    forged: bool = False  # the tests' report is not believed

    @property
    def failed(self) -> int:
        return sum(not test.passed for test in self.tests)

    @property
    def skipped(self) -> int:
        return sum(test.skipped for test in self.tests)

    @property
    def nothing_ran(self) -> bool:
        return bool(self.tests) and self.skipped == len(self.tests)

    @property
    def green(self) -> bool:
        """The run came to its end, something ran, nothing failed, and its report is believed."""
        return self.state == "passed" and not self.failed and not self.nothing_ran and not self.forged

    @property
    def words(self) -> str:
        """In clear: numbers only."""
        if self.forged:
            return f"the report of {len(self.tests)} tests is forged"
        broke = ", and the run itself broke" if self.state == "broken" else ""
        skipped = f", {self.skipped} were skipped" if self.skipped else ""
        return f"{self.failed} of {len(self.tests)} tests failed{skipped}{broke}"


def clear_name(test: str) -> str:
    """What a test is called where its name may not stand. The same name gives the same one."""
    return PREFIX + hashlib.sha256(test.encode(errors="replace")).hexdigest()[:12]
