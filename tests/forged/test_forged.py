"""No way to forge Green lands without a person, and honest changes like them stay Green.

A sample runs with every suite, another one for each seed; `.ci/forged` runs them all and holds the share of the twins.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from forged_kit import TWINS_GREEN, Case, cases, git, judged
from run_all import Row, is_held, summary

from controller.domain.delivery import Phase

SAMPLE = 4  # ways, each with its twin: some seconds a case
ALWAYS = ("the failing test is deleted", "conftest ignores the test", "a dependency is added")
LEAST_WAYS = 60
LEAST_TO_MAIN = 8


def way_of(case: Case) -> str:
    return case.name.rpartition(" (")[0]


def sampled() -> list[Case]:
    ways = sorted({way_of(case) for case in cases()} - set(ALWAYS))
    seed = os.environ.get("FLYBALL_SEED") or str(len(os.environ.get("PYTEST_XDIST_TESTRUNUID", "")))
    drawn = {*ALWAYS, *random.Random(seed).sample(ways, SAMPLE - len(ALWAYS))}
    return [case for case in cases() if way_of(case) in drawn]


@pytest.mark.parametrize("case", sampled(), ids=lambda case: case.name)
async def test_sampled_ways_to_forge_green_and_their_twins(case: Case, tmp_path: Path) -> None:
    found = await judged(case, tmp_path)
    if not case.honest:
        assert not found.landed, found.words
        return
    wanted = ("yellow", False) if case.asks else ("green", True)
    assert (found.colour, found.landed) == wanted, found.words
    if case.to_main:
        assert found.delivery.phase in {Phase.MERGED, Phase.CONFIRMED}, found.words
        assert found.main == after(case, tmp_path / "shop")


def after(case: Case, repo: Path) -> dict[str, str]:
    """The tree that the change wanted: path to blob."""
    listed = (line.split(None, 3) for line in git(repo, "ls-tree", "-r", "HEAD").splitlines())
    return {path: blob for _, _, blob, path in listed}


def test_corpus_is_large_enough_and_every_way_has_its_twin() -> None:
    counted = Counter(way_of(case) for case in cases())
    assert len(counted) >= LEAST_WAYS
    assert set(counted.values()) == {2}, [way for way, times in counted.items() if times != 2]
    assert set(ALWAYS) <= set(counted)
    assert len({way_of(case) for case in cases() if case.to_main}) >= LEAST_TO_MAIN
    asking = sum(bool(case.asks) for case in cases())
    assert asking <= (1 - TWINS_GREEN) * len(counted)


def row(*, honest: bool, landed: bool, error: str = "") -> Row:
    case = next(case for case in cases() if case.honest is honest)
    return Row(case, landed=landed, ended="", rules=(), seconds=1.0, error=error)


def test_whole_run_fails_for_one_forged_change_that_lands_a_tenth_of_twins_held_or_a_case_without_an_end() -> None:
    good = [row(honest=False, landed=False)] * 10 + [row(honest=True, landed=True)] * 9
    assert is_held([*good, row(honest=True, landed=False)])
    assert not is_held([*good, row(honest=True, landed=False), row(honest=True, landed=False)])
    assert not is_held([*good, row(honest=False, landed=True)])
    assert not is_held([*good, row(honest=False, landed=False, error="no end")])
    assert "10 ways: 0 landed without a person; 9 of 9 twins Green (100.0%" in summary(good)
