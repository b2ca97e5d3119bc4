"""What the parent of the tests lets a session say, and when: the session that goes on behind the base's tests."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from controller.adapters.ci_answers import ForgedError, Results, Session

TEST = "test_shop.py::test_price"
BASES, HEAD = "the base's tests", "head"


class Parent:
    """A session whose child speaks by hand, and what CI heard of it."""

    def __init__(self, then: str) -> None:
        self.read, self.write = os.pipe()
        self.channel, self.child = socket.socketpair()
        self.results = Results(self.write)
        self.session = Session(self.results, self.channel, "secret", then)

    def close(self) -> None:
        for one in (self.channel, self.child):
            one.close()
        for pipe in (self.read, self.write):
            os.close(pipe)

    def hears(self, kind: str, **line: Any) -> None:
        self.session.hear(json.dumps({"secret": "secret", "kind": kind, **line}).encode())

    def runs(self, test: str, outcome: str = "passed") -> None:
        self.hears("collected", ids=[test])
        self.hears("ordered", tests=[test])
        self.hears("ready")
        self.hears("start", number=0)
        if self.session.asked == "w":
            self.hears("wire", number=0, outcome="failed")
            self.hears("go", number=0)
        self.hears("end", number=0, turned="", benchmarks=[], outcome=outcome, message="", seen=[])

    def said(self) -> list[tuple[str, str]]:
        os.set_blocking(self.read, False)
        try:
            lines = [json.loads(line) for line in os.read(self.read, 1 << 20).splitlines()]
        except BlockingIOError:
            return []
        return [(line["kind"], line.get("test") or line.get("name") or "") for line in lines]


@pytest.fixture
def parent(request: pytest.FixtureRequest) -> Iterator[Parent]:
    one = Parent(getattr(request, "param", HEAD))
    yield one
    one.close()


def test_second_session_is_heard_of_once_it_is_settled(parent: Parent) -> None:
    parent.runs(TEST)
    parent.hears("finished", exit=0)
    parent.hears("next")
    assert parent.said()[-3:] == [("test", TEST), ("finished", ""), ("ended", "")]
    parent.runs("test_new.py::test_new")
    parent.hears("finished", exit=0)
    assert parent.said() == []
    parent.results.settle(keep=True)
    heard = parent.said()
    assert heard[0] == ("session", HEAD)
    assert ("test", "test_new.py::test_new") in heard


def test_second_session_that_is_to_be_repeated_is_not_heard_of(parent: Parent) -> None:
    parent.runs(TEST)
    parent.hears("finished", exit=0)
    parent.hears("next")
    parent.runs("test_new.py::test_new", "failed")
    parent.said()
    parent.results.settle(keep=False)
    assert parent.said() == []
    parent.results.say("note", text="")
    assert parent.said() == [("note", "")]


@pytest.mark.parametrize(
    ("parent", "case"),
    [
        (HEAD, "at once"),
        (HEAD, "before its end"),
        (HEAD, "after a failure"),
        (HEAD, "with a red exit"),
        (HEAD, "twice"),
        ("", "alone"),
    ],
    indirect=["parent"],
)
def test_session_goes_on_only_when_all_of_it_has_passed_and_one_is_to_follow(parent: Parent, case: str) -> None:
    if case != "at once":
        parent.runs(TEST, "failed" if case == "after a failure" else "passed")
    if case not in {"at once", "before its end"}:
        parent.hears("finished", exit=1 if case == "with a red exit" else 0)
    if case == "twice":
        parent.hears("next")
    with pytest.raises(ForgedError):
        parent.hears("next")


def test_nothing_of_the_bases_session_can_be_said_once_it_is_over(parent: Parent) -> None:
    parent.runs(TEST)
    parent.hears("finished", exit=0)
    parent.hears("next")
    with pytest.raises(ForgedError):
        parent.hears("start", number=0)


PASSED = {"outcome": "passed", "message": "", "seen": []}


def begun(parent: Parent, asked: str) -> None:
    """Two tests are to run, and the first is running with this asked of it."""
    parent.hears("collected", ids=[TEST, "test_other.py::test_other"])
    parent.hears("ordered", tests=[TEST, "test_other.py::test_other"])
    parent.hears("ready")
    parent.session.letters[0] = asked
    parent.hears("start", number=0)


def test_tests_that_were_not_collected_are_not_run(parent: Parent) -> None:
    parent.hears("collected", ids=[TEST])
    with pytest.raises(ForgedError):
        parent.hears("ordered", tests=[TEST, "test_made.py::test_up"])


def test_a_line_of_nobody_who_knows_the_secret_is_forged(parent: Parent) -> None:
    with pytest.raises(ForgedError, match="without this session's secret"):
        parent.session.hear(json.dumps({"secret": "another", "kind": "collected", "ids": [TEST]}).encode())


@pytest.mark.parametrize(
    ("asked", "kind", "line"),
    [
        ("w", "end", {"number": 0, "turned": "", "benchmarks": [], **PASSED}),
        ("g", "end", {"number": 1, "turned": "", "benchmarks": [], **PASSED}),
        ("g", "end", {"number": 0, "turned": "conftest.py", "benchmarks": [], **PASSED}),
        ("g", "go", {"number": 0}),
        ("w", "go", {"number": 1}),
        ("g", "wire", {"number": 0, "outcome": "failed"}),
        ("w", "wire", {"number": 1, "outcome": "failed"}),
        ("w", "wire", {"number": 0, "outcome": "passed"}),
        ("g", "start", {"number": 1}),
        ("g", "finished", {"exit": 0}),
        ("g", "collected", {"ids": []}),
    ],
)
def test_an_answer_that_is_not_due_ends_the_session(parent: Parent, asked: str, kind: str, line: Any) -> None:
    begun(parent, asked)
    with pytest.raises(ForgedError):
        parent.hears(kind, **line)


def test_a_test_runs_once_and_its_tripwire_answers_once(parent: Parent) -> None:
    begun(parent, "w")
    parent.hears("wire", number=0, outcome="failed")
    with pytest.raises(ForgedError):
        parent.hears("wire", number=0, outcome="failed")
    parent.hears("go", number=0)
    parent.hears("end", number=0, turned="", benchmarks=[], **PASSED)
    with pytest.raises(ForgedError):
        parent.hears("start", number=0)


def test_a_session_ends_once(parent: Parent) -> None:
    parent.runs(TEST)
    parent.hears("finished", exit=0)
    with pytest.raises(ForgedError):
        parent.hears("finished", exit=0)
