"""Find the running edge of a folder, or start it detached: whoever comes second finds the first one's.

The folder tells everything: `lock` is held by a living edge, `ports.json` says where it listens, `token` lets its owner
in, `token.read` lets somebody look, `edge.log` holds what it said. A running edge takes over a changed configuration
where it can, and is left alone where it cannot.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

import controller
from controller.adapters.edge_config import EdgeConfig
from controller.adapters.edge_environment import plain_environment
from controller.adapters.edge_http import LOOPBACK
from controller.adapters.edge_state import replace_file
from controller.domain.ids import Service
from controller.errors import ConfigError, Unavailable

READY_WITHIN_S = 20.0
LOOK_EVERY_S = 0.05
TAIL_BYTES = 2_000
LARGEST_LOG_BYTES = 8 << 20
OK = 200
TOKEN, READ_TOKEN = "token", "token.read"  # in the edge's folder: of who may do everything, and of who may only look
UNUSABLE = 2  # the edge's exit code when it could not start, and said why


@dataclass(frozen=True, slots=True)
class EdgeHandle:
    """Where a ready edge is reached."""

    pid: int
    admin_url: str
    otlp_url: str
    otlp_grpc: str  # host and port. Empty: not listening yet
    services: dict[Service, int]  # public ports
    token: str
    otlp_token_file: Path  # read only when somebody wants to send

    def url(self, service: Service) -> str:
        return f"http://{LOOPBACK}:{self.services[service]}"

    @property
    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @property
    def otlp_authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {token_in(self.otlp_token_file)}"}


async def ensure_edge(folder: Path, config: EdgeConfig) -> EdgeHandle:
    """Ready when it returns.

    Raises `Unavailable` with the log's tail, and `ConfigError` when the running edge cannot take `config` over.
    """
    folder = await asyncio.to_thread(_made, folder)
    with _one_starter(folder) as mine:
        found = await running(folder)
        if found is not None:
            await _configured(found, config)
            return found
        if not mine:
            return await _ready(folder, None)
        if (former := handle_of(folder)) is not None:
            _ended(former.pid)  # if it was a child of this process, its exit is taken note of
        replace_file(folder / "config.json", config.model_dump_json().encode())
        return await _ready(folder, _spawn(folder))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextmanager
def _one_starter(folder: Path) -> Iterator[bool]:
    """Whether this process may start one. Otherwise somebody else is starting it."""
    with (folder / "starting").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _spawn(folder: Path) -> int:
    """The process id. Detached: it lives on when this process ends."""
    path = folder / "edge.log"
    if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
        path.replace(folder / "edge.log.old")
    config = str(folder / "config.json")
    words = [sys.executable, "-P", "-m", "controller.service.edge", "--dir", str(folder), "--config", config]
    home = str(Path(controller.__file__ or ".").resolve().parent.parent)
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    environment = {**plain_environment(), "PYTHONPATH": home}
    return os.posix_spawn(sys.executable, words, environment, file_actions=streams, setsid=True)


def _ended(pid: int) -> int | None:
    """Exit code of a child. None: it lives, or somebody else has asked."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


async def _ready(folder: Path, child: int | None) -> EdgeHandle:
    """`child=None`: another process has started it."""
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while asyncio.get_running_loop().time() < deadline:
        found = await running(folder)
        if found is not None:
            return found
        code = None if child is None else _ended(child)
        if code == UNUSABLE:
            raise ConfigError(f"the service's proxy cannot start: {last_words(folder)}")
        if code is not None:
            raise Unavailable(
                f"the edge ended with exit code {code} before it was ready: {tail(folder)}", "Read its log"
            )
        await asyncio.sleep(LOOK_EVERY_S)
    if child is not None:
        os.kill(child, signal.SIGKILL)
    raise Unavailable(
        f"the edge in {folder} was not ready within {READY_WITHIN_S:g} s: {tail(folder)}", "Read edge.log there"
    )


def last_words(folder: Path) -> str:
    """The last line that the edge has logged, without its time and level."""
    return tail(folder).splitlines()[-1].partition(" ERROR ")[2] or tail(folder)


def tail(folder: Path) -> str:
    path = folder / "edge.log"
    if not path.exists():
        return "it has said nothing"
    with path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
        return log.read().decode(errors="replace").strip()


def token_in(path: Path) -> str:
    return path.read_text().strip()


def handle_of(folder: Path, *, read_only: bool = False) -> EdgeHandle | None:
    """As the files tell, whether or not somebody listens. None: no edge has said that it is ready.

    `read_only`: with the token that only looks; the other one is not even opened.
    """
    try:
        ports = json.loads((folder / "ports.json").read_text())
        token = (folder / (READ_TOKEN if read_only else TOKEN)).read_text()
    except FileNotFoundError:
        return None
    admin, otlp = (f"http://{LOOPBACK}:{ports[name]}" for name in ("admin", "otlp"))
    grpc = f"{LOOPBACK}:{ports['otlp_grpc']}" if ports.get("otlp_grpc") else ""
    return EdgeHandle(ports["pid"], admin, otlp, grpc, ports["services"], token, Path(ports.get("otlp_token_file", "")))


async def running(folder: Path) -> EdgeHandle | None:
    """None: no edge answers there."""
    found = handle_of(folder)
    if found is None:
        return None
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
            answer = await client.get(f"{found.admin_url}/health", headers=found.authorization)
    except httpx2.TransportError:
        return None
    return found if answer.status_code == OK else None


async def _configured(found: EdgeHandle, config: EdgeConfig) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as client:
        content = config.model_dump_json().encode()
        answer = await client.post(f"{found.admin_url}/config", headers=found.authorization, content=content)
    if answer.status_code != OK:
        said = answer.json()
        raise ConfigError(
            f"the service's proxy, which runs as process {found.pid}, refused the configuration: {said['message']}",
            f"End it with: kill {found.pid}, and start again",
        )
