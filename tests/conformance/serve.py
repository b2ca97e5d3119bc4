"""The real gateway, as the suite's server under test: real desk, log, grants and workspace.

Prints one line of JSON when it is up, ends when its standard input does, and then prints which of the suite's own
fixture tools have run how often.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import belt_kit
from belt_kit import OWN, SESSION, World
from fixture_tools import FIXTURES, authority, carried_out
from shim import shim

from controller.domain.bounds import Bounds
from rbac.model import Served
from tools.gateway import Gateway
from tools.toolbox import Toolbox

REFUSALS = 100  # far more than the suite's bad requests: a session that it has ended would answer nothing else


def world_with_fixtures(folder: Path) -> World:
    rules = authority(folder / "rbac", (Served(repository="shop", branch="main"),))
    belt_kit._authority = lambda: rules  # type: ignore[assignment]
    return World(folder, bounds=Bounds(session_refusals=REFUSALS))


async def serve(folder: Path) -> None:
    world = world_with_fixtures(folder)
    badge = await world.begin()
    tools = [*world.toolbox._tools.values(), *FIXTURES]
    gateway = Gateway(world.desk, Toolbox(world.desk, tools, result_bytes=world.bounds.tool_result_bytes))
    url = await gateway.start()
    token = world.desk.sign_in(badge)
    try:
        async with shim(int(url.split(":")[2].split("/")[0]), token) as port:
            tell({"gateway": url, "token": token, "shim": f"http://127.0.0.1:{port}/mcp", "branch": OWN})
            await asyncio.to_thread(sys.stdin.read)
    finally:
        await gateway.stop()
    refused = [event.tool for event in await world.refusals(SESSION)]
    tell({"carried_out": carried_out, "refused": refused})


def tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="flyball-conformance-") as root:
        asyncio.run(serve(Path(root)))
