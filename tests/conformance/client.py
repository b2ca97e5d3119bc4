"""Our own client of the wire, as the suite's client under test: the belt that a session works with.

The suite appends the URL of its server to the command. What is called is what the suite asks for in
MCP_CONFORMANCE_CONTEXT, and otherwise every tool that the server lists, once, with arguments made from its schema.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import SESSION, World

from controller.adapters.mcp_client import McpBelt
from controller.errors import Unavailable
from controller.ports import ToolSpec

CALL_S = 10.0
PLAIN: dict[str, Any] = {"number": 2.5, "integer": 2, "boolean": True, "array": [], "null": None}


async def play(url: str, folder: Path) -> None:
    world = World(folder)
    token = world.desk.sign_in(await world.begin())
    belt = McpBelt(world.desk, SESSION, token, url, CALL_S)
    await belt.open()
    try:
        for index, (name, arguments) in enumerate(wanted(await belt.tools())):
            sys.stdout.write(f"{name}: {await told(belt, name, arguments, index)}\n")
    finally:
        await belt.close()


async def told(belt: McpBelt, name: str, arguments: Mapping[str, Any], index: int) -> str:
    """What came of a call. A server that cannot answer one is left alone with it, as a session does."""
    try:
        return (await belt.call(name, arguments, turn=0, index=index)).text
    except Unavailable as why:
        return str(why)


def wanted(tools: Sequence[ToolSpec]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    asked = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}").get("toolCalls")
    if asked is not None:
        yield from ((call["name"], call["arguments"]) for call in asked)
        return
    for tool in tools:
        yield tool.name, {name: _value(name, kind, tools) for name, kind in _required(tool)}


def _required(tool: ToolSpec) -> list[tuple[str, Mapping[str, Any]]]:
    properties = tool.input_schema.get("properties", {})
    return [(name, properties.get(name, {})) for name in tool.input_schema.get("required", [])]


def _value(name: str, kind: Mapping[str, Any], tools: Sequence[ToolSpec]) -> Any:
    """An object named `schema` is the first tool's own schema: a scenario compares what has come back of it."""
    if kind.get("type") == "object":
        return dict(tools[0].input_schema) if name == "schema" else {}
    return PLAIN.get(str(kind.get("type")), "some words")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="flyball-conformance-") as root:
        asyncio.run(asyncio.wait_for(play(sys.argv[-1], Path(root)), 25))
