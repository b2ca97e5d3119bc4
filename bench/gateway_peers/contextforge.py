"""ContextForge before the plain server, on SQLite: `python contextforge.py <bin folder> <folder> <url>`.

Starts it, registers the plain server as its upstream and one virtual server with its tools, and prints a line of JSON:
where to call it, with which token, the names that it gives to the tools, and the process whose CPU counts. What is set
away from its defaults: loopback upstreams are allowed, the web interface is off, and its rate limits are off.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

READY_S = 90.0
ADMIN = "admin@example.com"


def environment(folder: Path) -> dict[str, str]:
    words = {name: f"Aa1!{secrets.token_urlsafe(48)}" for name in ("JWT_SECRET_KEY", "AUTH_ENCRYPTION_SECRET")}
    passwords = ("PLATFORM_ADMIN_PASSWORD", "BASIC_AUTH_PASSWORD", "DEFAULT_USER_PASSWORD")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **words,
        **{name: f"Aa1!{secrets.token_urlsafe(16)}" for name in passwords},
        "PLATFORM_ADMIN_EMAIL": ADMIN,
        "DATABASE_URL": f"sqlite:///{folder}/contextforge.db",
        "CACHE_TYPE": "memory",
        "LOG_LEVEL": "ERROR",
        "MCPGATEWAY_UI_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMITING_ENABLED": "false",
    }


def asked(url: str, token: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
        return json.load(answer)


def until_ready(base: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            asked(f"{base}/health", "")
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def main() -> None:
    binaries, folder, upstream = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    env = environment(folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(binaries / "mcpgateway"), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "contextforge.log").open("wb") as log:
        gateway = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    until_ready(base)
    maker = ["-m", "mcpgateway.utils.create_jwt_token", "--username", ADMIN, "--admin", "--exp", "600"]
    made = subprocess.run(
        [str(binaries / "python"), *maker, "--secret", env["JWT_SECRET_KEY"]],
        env=env, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = made.stdout.split()[-1]
    asked(f"{base}/gateways", token, {"name": "plain", "url": upstream, "transport": "STREAMABLEHTTP"})
    tools = {tool["originalName"]: tool for tool in asked(f"{base}/tools", token)}
    ids = [tools[name]["id"] for name in ("read_file", "write_file")]
    server = asked(f"{base}/servers", token, {"server": {"name": "bench", "associated_tools": ids}})
    names = {name: tools[name]["name"] for name in ("read_file", "write_file")}
    url = f"{base}/servers/{server['id']}/mcp"
    print(json.dumps({"url": url, "token": token, "names": names, "pid": gateway.pid}), flush=True)
    gateway.wait()


if __name__ == "__main__":
    main()
