"""A search says nothing of files that the session may not read: not by its hits, their number, or how long it takes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import SESSION, World

from controller.ports import Belt, ToolResult
from tools.local import LocalTools
from tools.search import MAX_HITS

HIDDEN = "total-secret" + "a" * 40 + "!"


@pytest.fixture
async def belt(tmp_path: Path) -> AsyncIterator[Belt]:
    world = World(
        tmp_path,
        files={"config/.env": f"TOKEN={HIDDEN}\n", "deep/keys/id_ecdsa": f"TOKEN={HIDDEN}\n", "a.p12": "\0" * 9},
    )
    await world.begin()
    yield await LocalTools(world.desk, world.toolbox, world.badge_for).belt(SESSION, "author")
    await world.desk.close()


async def searched(belt: Belt, pattern: str, *, regex: bool, index: int) -> ToolResult:
    return await belt.call("search", {"pattern": pattern, "regex": regex}, turn=1, index=index)


async def test_the_bound_on_hits_does_not_tell_what_a_hidden_file_holds(belt: Belt) -> None:
    lines = "zq TOKEN\n" * (MAX_HITS + 50)
    assert not (await belt.call("write_file", {"path": "src/many.py", "content": lines}, turn=1, index=0)).error
    told = {
        pattern: (await searched(belt, pattern, regex=regex, index=index)).text.count("src/many.py")
        for index, (pattern, regex) in enumerate(
            [("TOKEN=total|^zq", True), ("TOKEN=wrong|^zq", True), ("TOKEN", False)], 1
        )
    }
    assert set(told.values()) == {MAX_HITS}, told


async def test_the_time_that_an_expression_takes_does_not_tell_either(belt: Belt) -> None:
    for index, guess in enumerate(("TOKEN=total-secret(a+)+$", "TOKEN=wrong-secret(a+)+$")):
        assert (await searched(belt, guess, regex=True, index=index)).text == "No hits."


async def test_what_was_left_out_does_not_count_hidden_files(belt: Belt) -> None:
    assert (await searched(belt, "not to be found", regex=False, index=0)).text == "No hits."


async def test_the_twin_that_is_readable_is_found_and_makes_an_expression_slow(belt: Belt) -> None:
    content = f"TOKEN={HIDDEN}\n"
    assert not (await belt.call("write_file", {"path": "src/seen.py", "content": content}, turn=1, index=0)).error
    assert "src/seen.py:1" in (await searched(belt, "TOKEN=total", regex=True, index=1)).text
    assert "took longer than" in (await searched(belt, "TOKEN=total-secret(a+)+$", regex=True, index=2)).text
