"""A test as the analysis sees it, whatever its language: what it asserts, what it names, and what switches it off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assertion:
    text: str  # in one spelling: white space, quotes and comments do not matter
    shape: str  # the text without its literals
    literals: tuple[str, ...]
    line: int
    strength: int = 2  # 0: it holds whatever happens; 1: it holds for much; 2: it compares
    swallowed: bool = False  # its failure is caught in the test


@dataclass(frozen=True, slots=True)
class TestFunction:
    __test__ = False
    name: str  # within its file: "TestCart.test_empty", or the words of a JavaScript test
    line: int
    body: str  # in one spelling, without the name
    assertions: tuple[Assertion, ...]
    names: frozenset[str]  # identifiers that it uses and does not define itself
    off: tuple[str, ...] = ()  # what switches it off: "skip", "xfail", "ignore", ...
    patches: int = 0  # replaced parts of the program: mocks and monkeypatches
    runner_name: str = ""  # as the runner calls it, after the file's path. "": not known here

    @property
    def asserts(self) -> bool:
        return any(one.strength and not one.swallowed for one in self.assertions)


@dataclass(frozen=True, slots=True)
class TestFile:
    __test__ = False
    tests: tuple[TestFunction, ...]
    helpers: tuple[Assertion, ...] = ()  # assertions that stand in no test of its own. Empty: or not known here
    off: tuple[str, ...] = ()  # what switches the whole file off
    ends: tuple[str, ...] = ()  # what ends the run, or decides which tests it has: exits, runners' hooks
    outside: tuple[str, ...] = ()  # lines or functions beside the tests. Empty: or not known here
    only: int = 0  # how often it says that nothing but this runs
    names: frozenset[str] = frozenset()  # what its helpers and fixtures name
    imported: frozenset[str] = frozenset()  # names that it has from the program under test. Empty: or not known here
