"""FastMCP's own server with the same two tools, by default without any check: `python fastmcp_native.py <folder>`."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import uvicorn
from fastmcp import FastMCP

ROOT = Path(sys.argv[1])
mcp = FastMCP("native")


@mcp.tool
def read_file(path: str) -> str:
    lines = (ROOT / path).read_text().splitlines()
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, 1))


@mcp.tool
def write_file(path: str, content: str) -> str:
    (ROOT / path).write_text(content)
    return f"Wrote {path}."


async def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    app = mcp.http_app(path="/mcp", json_response=True, stateless_http=True)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None, access_log=False)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}), flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
