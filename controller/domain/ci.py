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
    passed: bool
    duration_ms: int


class CiResults(Fact):
    """A finished run, test by test. Kept sealed: the same results give the same verdict."""

    state: Literal["passed", "failed", "broken"]
    tests: tuple[TestOutcome, ...]

    @property
    def failed(self) -> int:
        return sum(not test.passed for test in self.tests)

    @property
    def green(self) -> bool:
        """The run came to its end, and nothing in it failed."""
        return self.state == "passed" and not self.failed

    @property
    def words(self) -> str:
        """In clear: numbers only."""
        broke = ", and the run itself broke" if self.state == "broken" else ""
        return f"{self.failed} of {len(self.tests)} tests failed{broke}"


def clear_name(test: str) -> str:
    """What a test is called where its name may not stand. The same name gives the same one."""
    return PREFIX + hashlib.sha256(test.encode(errors="replace")).hexdigest()[:12]
