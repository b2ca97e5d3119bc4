"""`flyball demo`, killed ten times without a word and started again: it comes to what an undisturbed one comes to.

Only the demo's own process dies. Its edge, the CI workers and the users who keep clicking live on, as in earnest.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import (
    Demo,
    Entry,
    State,
    begun,
    ended_afterwards,
    ended_on_failure,
    every_effect_is_accounted_for,
    facts,
    kill,
    until,
    verified,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

LONGEST_WAIT_S = 120  # for the next moment
Moment = Callable[[Entry], bool]


def intended(verb: str) -> Moment:
    return kind("EffectIntended", verb=verb)


def kind(name: str, **fields: object) -> Moment:
    return lambda entry: entry.kind == name and all(entry.body.get(key) == value for key, value in fields.items())


def in_session(part: str, name: str, turn: int) -> Moment:
    return lambda entry: entry.kind == name and part in entry.stream and entry.body["turn"] == turn


# In the order in which they come: each is looked for after the one before it, and the process dies when it is written.
MOMENTS: dict[str, Moment] = {
    "the first build is intended": intended("platform.build"),
    "the first agent is in its third turn": in_session("session/", "TurnRecorded", 1),
    "a pull request is about to be opened": intended("forge.open_pull_request"),
    "CI runs": kind("CiStarted"),
    "a change has landed": kind("Landed", landing=1),
    "a good canary has just got 25 %": kind("StepStarted", release=2, weight_percent=25),
    "a bad change is about to land": intended("forge.land"),
    "a regression was found": kind("RegressionFound"),
    "the revert is on its way through CI": lambda e: e.kind == "CiStarted" and e.stream.endswith("-revert"),
    "the fixer waits for its model": in_session("-fix/", "ModelCallReserved", 2),
}


class Lives:
    """A demo that is started again and again on one state folder."""

    def __init__(self, state: State, out: Path) -> None:
        self.state = state
        self._out = out
        self._read = 0
        self.lives = 0

    def begin(self) -> subprocess.Popen[bytes]:
        self.lives += 1
        return begun("demo", "--json", "--dir", self.state.folder, cwd=self.state.folder.parent, out=self._out)

    def until_just_after(self, moment: Moment, what: str, process: subprocess.Popen[bytes]) -> None:
        def come() -> bool:
            assert process.poll() is None, f"the demo ended before {what}: {self._out.read_text()[-2000:]}"
            fresh = self.state.entries(self._read)
            for entry in fresh:
                self._read = entry.index + 1
                if moment(entry):
                    return True
            return False

        until(come, LONGEST_WAIT_S, what)


def test_demo_that_is_killed_ten_times_ends_as_if_it_had_not_been(demo: Demo, tmp_path: Path) -> None:
    lives = Lives(State(tmp_path / "state"), tmp_path / "said.jsonl")
    for what, moment in MOMENTS.items():
        process = lives.begin()
        with ended_on_failure(lives.state, process):
            lives.until_just_after(moment, what, process)
        kill(process)
    last = lives.begin()
    with ended_afterwards(lives.state, last):
        last.wait(300)
    assert last.returncode == 0
    same_as(demo, lives.state)


def test_demo_that_is_killed_whenever_chance_will_have_it_ends_the_same(demo: Demo, tmp_path: Path) -> None:
    """Seconds after its start instead of entries of the log: also while it starts, and while nothing is written."""
    chance, lives = random.Random(11), Lives(State(tmp_path / "state"), tmp_path / "said.jsonl")
    for _ in range(4):
        process = lives.begin()
        with ended_on_failure(lives.state, process):
            wait_s, began = chance.choice((0.5, 2, 8, 20)) + chance.random(), time.monotonic()
            until(lambda at=began + wait_s: time.monotonic() >= at, 60, "its time has come")  # type: ignore[misc]
        kill(process)
    last = lives.begin()
    with ended_afterwards(lives.state, last):
        last.wait(300)
    assert last.returncode == 0
    same_as(demo, lives.state)


def same_as(demo: Demo, state: State) -> None:
    expected, found = facts(demo), facts(state)
    for name, fact in expected.items():
        assert found[name] == fact, name
    every_effect_is_accounted_for(state, "shop")
    verified(state.folder)
