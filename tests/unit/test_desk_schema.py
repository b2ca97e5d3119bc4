"""Arguments are held against another server's schema without holding everybody else up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from controller.desk_arguments import MAX_VALUES, Refusal, strict
from controller.desk_schema import MAX_CHECKS_HERE, parts_of
from controller.ports import ToolDefinition

ALTERNATIVES: dict[str, Any] = {"type": "array", "items": {"anyOf": [{"const": f"c{at}"} for at in range(900)]}}


def tool(name: str, **properties: Any) -> ToolDefinition:
    return ToolDefinition(name, "A tool.", {"type": "object", "properties": properties}, tool_class="read")


@pytest.mark.parametrize("items", [3, 300])
async def test_a_check_in_a_child_answers_as_one_made_here(items: int) -> None:
    alternatives = tool("tracker__list", values=ALTERNATIVES)
    parts = parts_of(alternatives.input_schema)
    assert (parts * items > MAX_CHECKS_HERE) is (items == 300)
    fitting = {"values": ["c7"] * items}
    assert await strict(alternatives, fitting) == fitting
    with pytest.raises(Refusal) as no:
        await strict(alternatives, {"values": [*["c7"] * items, "no such"]})
    assert no.value.rules == ("arguments/schema",)
    assert no.value.reason == f"arguments of tracker__list break anyOf at $.values[{items}]"
    assert "'no such' is not valid" in no.value.told


async def test_a_check_without_end_is_refused_and_the_loop_goes_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.desk_schema.CHECKED_WITHIN_S", 2.0)
    checking = asyncio.create_task(strict(tool("tracker__all", values=ALTERNATIVES), {"values": ["c899"] * 9_000}))
    longest, last = 0.0, time.monotonic()
    while not checking.done():
        await asyncio.sleep(0)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    with pytest.raises(Refusal, match="cannot be checked: the parser ran out of its 2 s"):
        await checking
    assert longest < 1.0  # the check itself takes half a minute; the rest is what a busy machine may do


async def test_values_have_a_bound() -> None:
    anything = tool("list_files", values={"type": "array"})
    assert await strict(anything, {"values": [1] * (MAX_VALUES - 2)})
    with pytest.raises(Refusal, match=f"more than {MAX_VALUES} values"):
        await strict(anything, {"values": [1] * (MAX_VALUES - 1)})
