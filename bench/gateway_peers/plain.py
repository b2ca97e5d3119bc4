"""The protocol library's own low-level server with Flyball's tools behind it and nothing in between: no token, no
schema, no decision, no record. What Flyball's gateway takes longer than this is what its checks cost.

`python plain.py <folder>` prints its URL as JSON once it listens. The folder holds the tree that the tools work in.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server

from controller.domain.ids import Branch, Commit, Repository
from controller.ports import Badge
from tools.belt import Call
from tools.door import MAX_BODY_BYTES, PATH
from tools.gateway import HOST, _listener, _Server
from tools.workspace import WorkspaceBelt


def server(root: Path) -> Server[dict[str, Any]]:
    async def no_tests(_: Path, __: str) -> str:
        return ""

    async def tree(_: Badge) -> Path:
        return root

    async def any_file(_: Badge, __: str) -> bool:
        return True

    async def none_ignored(*_: Any) -> frozenset[str]:
        return frozenset()

    belt = WorkspaceBelt(tree, any_file, no_tests, none_ignored)
    tools = {tool.definition.name: tool for tool in belt.tools()}
    badge = Badge("bench/1", "author", "bench", Repository("shop"), Branch("agent/bench/1"), Commit("0"), (), (), "")

    async def call(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        found = await tools[params.name].run(Call(badge, params.arguments or {}, 1, 0))
        return types.CallToolResult(content=[types.TextContent(type="text", text=found.text)], is_error=found.error)

    async def listing(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        known = [tool.definition for tool in tools.values()]
        wire = [types.Tool(name=one.name, input_schema=dict(one.input_schema)) for one in known]
        return types.ListToolsResult(tools=wire, ttl_ms=0, cache_scope="private")

    return Server("plain", on_list_tools=listing, on_call_tool=call, get_tool_input_schema=lambda _: None)


async def main() -> None:
    listener = _listener(0)
    app = server(Path(sys.argv[1])).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        host=HOST,
        max_request_body_size=MAX_BODY_BYTES,
    )
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None, access_log=False)
    running = _Server(config)
    serving = asyncio.create_task(running.serve(sockets=[listener]))
    await running.is_up_or_over(serving)
    print(json.dumps({"url": f"http://{HOST}:{listener.getsockname()[1]}{PATH}"}), flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main())
