"""FastMCP's proxy as it comes, before the plain server: `python fastmcp_proxy.py <url>`."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import uvicorn
from fastmcp.server import create_proxy


async def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    app = create_proxy(sys.argv[1]).http_app(path="/mcp", json_response=True, stateless_http=True)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None, access_log=False)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}), flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
