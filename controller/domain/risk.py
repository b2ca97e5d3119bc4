"""Risk colours: what a change may do without a person."""

from __future__ import annotations

from enum import StrEnum

from controller.domain.base import Fact
from controller.domain.benchmark import SlowerBenchmark
from controller.domain.change import ChangeFacts, MutantFacts, TestFacts
from controller.domain.ids import Digest


class Colour(StrEnum):
    GREEN = "green"  # lands by itself
    YELLOW = "yellow"  # lands after a person's consent
    RED = "red"  # goes back to its author


class RiskInputs(Fact):
    """Everything the colour depends on; the same inputs under the same policy give the same colour."""

    cause: str  # task | revert | fix
    files: tuple[str, ...]
    lines_changed: int
    tests_passed: bool
    tests_added: bool
    tainted: bool
    rounds: int
    asked_by_agent: bool = False  # and by no person
    slower_benchmarks: tuple[SlowerBenchmark, ...] = ()  # than what has landed; empty: none, or nothing to judge by
    change: ChangeFacts | None = None  # None: an older log, from when a change was known by its names
    tests: TestFacts | None = None  # None: an older log
    mutants: MutantFacts | None = None  # None: not asked for, since the change is not Green anyway


class RiskVerdict(Fact):
    colour: Colour
    rules: tuple[str, ...]  # ids of every rule that spoke
    reason: str
    approver: str  # the named owner of the policy that decided
    policy: Digest
