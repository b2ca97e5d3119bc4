"""No way to forge Green lands without a person, and honest changes like them stay Green.

A sample runs with every suite, another one for each seed; all of them run with `-m e2e` (`.ci/forged`).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from forged_kit import Case, cases, git, judged

from controller.domain.delivery import Phase

SAMPLE = 8  # ways, each with its twin
ALWAYS = ("the failing test is deleted", "conftest ignores the test", "a dependency is added")
LEAST_WAYS = 60
TWINS_GREEN = 0.9


def way_of(case: Case) -> str:
    return case.name.rpartition(" (")[0]


def sampled() -> list[Case]:
    ways = sorted({way_of(case) for case in cases()} - set(ALWAYS))
    seed = os.environ.get("FLYBALL_SEED") or str(len(os.environ.get("PYTEST_XDIST_TESTRUNUID", "")))
    drawn = {*ALWAYS, *random.Random(seed).sample(ways, SAMPLE - len(ALWAYS))}
    return [case for case in cases() if way_of(case) in drawn]


def parameter(case: Case) -> object:
    marks = [pytest.mark.xfail(strict=True, reason=case.pending)] if case.pending else []
    return pytest.param(case, id=case.name, marks=marks)


async def holds(case: Case, folder: Path) -> None:
    found = await judged(case, folder)
    if case.honest:
        assert (found.colour, found.landed) == ("green", True), found.words
    else:
        assert not found.landed, found.words


@pytest.mark.parametrize("case", [parameter(case) for case in sampled()])
async def test_sampled_ways_to_forge_green_and_their_twins(case: Case, tmp_path: Path) -> None:
    await holds(case, tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize("case", [parameter(case) for case in cases()])
async def test_every_way_to_forge_green_and_its_twin(case: Case, tmp_path: Path) -> None:
    await holds(case, tmp_path)


@pytest.mark.e2e
async def test_an_honest_change_goes_all_the_way_to_main(tmp_path: Path) -> None:
    case = next(case for case in cases() if case.honest and way_of(case) == ALWAYS[1])
    found = await judged(case, tmp_path, to_main=True)
    assert found.delivery.phase in {Phase.MERGED, Phase.CONFIRMED}, found.words
    shown = git(tmp_path / "state" / "forge" / "shop.git", "show", "main:pricing.py")
    assert "DISCOUNT_FROM" in shown


def test_corpus_is_large_enough_every_way_has_its_twin_and_nearly_all_twins_are_held_to_green() -> None:
    counted = Counter(way_of(case) for case in cases())
    assert len(counted) >= LEAST_WAYS
    assert set(counted.values()) == {2}, [way for way, times in counted.items() if times != 2]
    assert set(ALWAYS) <= set(counted)
    honest = [case for case in cases() if case.honest]
    assert sum(not case.pending for case in honest) >= TWINS_GREEN * len(honest)
