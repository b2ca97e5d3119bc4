"""Servers and the client of the gateway bench: each a process of its own, with its CPU time and a bounded life."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = ROOT / ".bench-peers"
MAX_CALLS = 1_000_000  # of one burst
READY_S, ANSWER_S, INSTALL_S = 120.0, 120.0, 900.0
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class NotRunning(Exception):  # noqa: N818 - an answer: the table says so and goes on
    """A peer that cannot be measured here, and why."""


def environment(name: str, requirements: str) -> Path:
    """The Python of an environment under .bench-peers, made and filled if it is not there. Raises NotRunning."""
    folder = PEERS / name
    python = folder / "bin" / "python"
    wanted = (HERE / requirements).read_text()
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {name} under {folder.relative_to(ROOT)}, once", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / requirements)]
        ran = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
        if ran.returncode:
            raise NotRunning(f"pip says: {(ran.stderr.strip().splitlines() or ['nothing'])[-1][:200]}")
        done.write_text(wanted)
    return python


@dataclass
class Peer:
    """A server that is up. `names`: how it calls a tool that it renames; `pid`: the process that does the work."""

    name: str
    url: str
    token: str
    pid: int
    names: Mapping[str, str] = field(default_factory=dict)
    legacy: bool = False  # speaks 2025-11-25 only
    spare: tuple[str, ...] = ()  # tokens of sessions that have done nothing yet
    outside: str = ""  # the token of a program outside, where there are such

    def request(self, tool: str, arguments: Mapping[str, Any]) -> bytes:
        name = self.names.get(tool, tool)
        return self._bytes("tools/call", {"name": name, "arguments": arguments}, name)

    def listing(self) -> bytes:
        return self._bytes("tools/list", {}, None)

    def _bytes(self, method: str, params: Mapping[str, Any], name: str | None) -> bytes:
        meta = {} if self.legacy else {"_meta": META}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, **meta}})
        place = urlsplit(self.url)
        headers = {
            "Host": place.netloc,
            "Authorization": f"Bearer {self.token or 'none'}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-11-25" if self.legacy else "2026-07-28",
            "Content-Length": str(len(body.encode())),
        }
        if not self.legacy:
            headers |= {"Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        return f"POST {place.path} HTTP/1.1\r\n{head}\r\n{body}".encode()

    def cpu_s(self) -> float:
        """User and system seconds so far."""
        stat = Path(f"/proc/{self.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        told = subprocess.run(["ps", "-o", "time=", "-p", str(self.pid)], capture_output=True, text=True, check=True)
        minutes, _, seconds = told.stdout.strip().rpartition(":")
        return 60 * float(minutes or 0) + float(seconds)


class Processes:
    """Everything that was started, and ends with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def peer(self, name: str, python: Path, program: str, *arguments: str, legacy: bool = False) -> Peer:
        """Raises NotRunning when it does not say where it listens in time."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        process = self._start([str(python), str(HERE / program), *arguments], log)
        said = _line(process, READY_S)
        if not said:
            raise NotRunning(f"{name} did not start: {log.read_text()[-300:]}")
        told = json.loads(said)
        return Peer(
            name,
            told["url"],
            told.get("token", ""),
            told.get("pid", process.pid),
            told.get("names", {}),
            legacy,
            tuple(told.get("spare", ())),
            told.get("outside", ""),
        )

    def load(self) -> Load:
        return Load(self._start([sys.executable, str(HERE / "load.py")], self._folder / "load.log"), self._folder)

    def _start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(ROOT) if command[0] == sys.executable else ""}
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, start_new_session=True
            )
        self._running.append(process)
        return process


class Load:
    """The one client: one burst at a time."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._log = folder / "load.log"

    def burst(self, url: str, request: bytes, expect: str, seconds: float, calls: int = MAX_CALLS) -> list[float]:
        """In microseconds, of at most `calls`. Raises NotRunning for an answer that was not to be measured."""
        place = urlsplit(url)
        job = {
            "host": place.hostname,
            "port": place.port,
            "request": base64.b64encode(request).decode(),
            "expect": expect,
            "seconds": seconds,
            "calls": calls,
        }
        stdin: IO[bytes] | None = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(job).encode() + b"\n")
        stdin.flush()
        said = _line(self._process, ANSWER_S)
        if not said:
            raise NotRunning(f"{self._log.read_text()[-600:]}")
        latencies: list[float] = json.loads(said)["latencies_us"]
        return latencies


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line that it prints; empty when it ends or says nothing in time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""
