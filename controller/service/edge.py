"""The edge: the embedded platform and telemetry as a process of its own, so that traffic outlives the controller.

    python -m controller.service.edge --dir STATE/edge --config FILE

One asyncio process holds the public ports with their weighted proxies, the instances behind them, the OTLP receiver and
the admin API. It holds a lock on its folder; where it can be reached stands in `ports.json`, and what it must remember
in `state.json`. gRPC comes last, as it takes long to import: it is added to `ports.json` when it
listens. The edge ends on SIGTERM, when told to, and when nobody has asked it anything for `orphan_seconds`; its
instances end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import importlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from controller.adapters.edge_admin import Admin
from controller.adapters.edge_config import EdgeConfig, SandboxSettings, load_config
from controller.adapters.edge_effects import Effects
from controller.adapters.edge_http import LOOPBACK
from controller.adapters.edge_release import OtlpAddress
from controller.adapters.edge_service import EdgeService
from controller.adapters.edge_sources import Counts
from controller.adapters.edge_start import READ_TOKEN, TOKEN, token_in
from controller.adapters.edge_state import StateKeeper, replace_file
from controller.adapters.otlp import otlp_server
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_intake import Bearer, Intake
from controller.adapters.otlp_points import Ingest
from controller.adapters.sandbox import Sandbox
from controller.errors import ConfigError, FlyballError

SHORTEST_TOKEN = 16
USABLE_TOKEN = re.compile(rf"[A-Za-z0-9_.-]{{{SHORTEST_TOKEN},200}}")
log = logging.getLogger("flyball.edge")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Edge:
    """One run, from ports opened to instances ended."""

    def __init__(self, folder: Path, config: EdgeConfig) -> None:
        self._folder = folder
        self._config = config
        self._ending = asyncio.Event()
        self._keeper = StateKeeper(folder / "state.json")
        self._services: dict[str, EdgeService] = {}
        self._servers: list[asyncio.Server] = []
        self._ports: dict[str, Any] = {"pid": os.getpid(), "otlp_token_file": str(self._otlp_token_file)}

    async def run(self) -> None:
        """Returns when it was told to end and everything that it started has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ending.set)
        token = self._token(self._otlp_token_file, mine=self._config.otlp_token_file is None)
        intake, bearer = Intake(Ingest(self._watched, now_ms, self._called)), Bearer(token)
        grpc: asyncio.Task[None] | None = None
        sandbox = asyncio.create_task(_sandbox(self._config.sandbox), name="sandbox")
        try:
            otlp_port = await self._listen("otlp_port", self._config.otlp_port, otlp_server(intake, bearer).listen)
            await self._open_services(OtlpAddress(f"http://{LOOPBACK}:{otlp_port}", token), await sandbox)
            admin = self._admin(intake)
            admin_port = await self._listen("the admin port", 0, admin.server().listen)
            check_free("otlp_grpc_port", self._config.otlp_grpc_port)
            self._announce(admin=admin_port, otlp=otlp_port)
            grpc = asyncio.create_task(self._grpc(intake, bearer), name="OTLP over gRPC")
            grpc.add_done_callback(lambda _: self._ending.set())
            await self._until_told(admin)
            if grpc.done():
                await grpc  # it does not end by itself: what went wrong ends the edge
        finally:
            await _ended(sandbox)
            await _ended(grpc)
            self._path("ports.json").unlink(missing_ok=True)
            await asyncio.gather(*(service.close() for service in self._services.values()))
            for server in self._servers:
                server.close()

    async def _grpc(self, intake: Intake, bearer: Bearer) -> None:
        """Serves until it is cancelled."""
        adapter = await asyncio.to_thread(importlib.import_module, "controller.adapters.otlp_grpc")
        server = adapter.GrpcReceiver(intake, bearer)
        try:
            port = await server.start(self._config.otlp_grpc_port)
        except OSError as error:
            raise port_taken("otlp_grpc_port", self._config.otlp_grpc_port, error) from error
        self._announce(otlp_grpc=port)
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()

    async def _open_services(self, otlp: OtlpAddress, sandbox: Sandbox) -> None:
        log.info("builds and instances run in %s", sandbox.isolation)
        for settings in self._config.services:
            service = EdgeService(settings, self._keeper, self._folder, otlp, now_ms, sandbox=sandbox)
            self._services[settings.name] = service
            try:
                await service.open()
            except OSError as error:
                raise port_taken(f"services, {settings.name}, port", settings.port, error) from error

    async def _listen(self, setting: str, port: int, listen: Callable[[int], Awaitable[asyncio.Server]]) -> int:
        try:
            server = await listen(port)
        except OSError as error:
            raise port_taken(setting, port, error) from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _admin(self, intake: Intake) -> Admin:
        effects = Effects(self._services, self._keeper)
        counts = Counts(self._services, lambda: self._config.hold_ms, now_ms, intake.left_out)
        full, read_only = (self._token(self._path(name), mine=True) for name in (TOKEN, READ_TOKEN))
        return Admin(
            full,
            read_only,
            self._services,
            effects,
            counts,
            configure=self._configure,
            shut_down=self._ending.set,
        )

    @property
    def _otlp_token_file(self) -> Path:
        return self._config.otlp_token_file or self._path("otlp-token")

    @staticmethod
    def _token(path: Path, *, mine: bool) -> str:
        """The same in every run, so that a client survives a restart of the edge. Made where it is `mine`."""
        if mine and not path.exists():
            replace_file(path, secrets.token_hex(32).encode())
        try:
            token = token_in(path)
        except OSError as error:
            raise ConfigError(f"otlp_token_file: {path} cannot be read ({error.strerror})", "Write a token") from error
        if not USABLE_TOKEN.fullmatch(token):
            raise ConfigError(
                f"otlp_token_file: {path} holds no token of {SHORTEST_TOKEN} to 200 letters, digits, '-', '_' and '.'",
                "Write one, for example with: openssl rand -hex 32",
            )
        return token

    def _announce(self, **ports: int) -> None:
        """Where it can be reached, as far as it is known by now."""
        self._ports |= ports | {"services": {name: service.port for name, service in self._services.items()}}
        replace_file(self._path("ports.json"), json.dumps(self._ports).encode())
        log.info("listening: %s", self._ports)

    async def _until_told(self, admin: Admin) -> None:
        while not self._ending.is_set():
            limit = self._config.orphan_seconds
            left = None if limit is None else admin.asked_at + limit - time.monotonic()
            if left is not None and left <= 0:
                log.warning("nobody has asked for %g s: ending", limit)
                return
            try:
                async with asyncio.timeout(60 if left is None else min(left, 60)):
                    await self._ending.wait()
            except TimeoutError:
                continue

    def _configure(self, new: EdgeConfig) -> None:
        refused = self._config.unchangeable(new)
        if refused:
            raise ConfigError(
                f"the running edge cannot take over {'; '.join(refused)}", "Stop it (POST /shutdown) and start it again"
            )
        self._config = new
        for settings in new.services:
            self._services[settings.name].configure(settings)

    def _watched(self, service: str) -> ServiceCounts | None:
        found = self._services.get(service)
        return found.told_by_otlp if found else None

    def _called(self, service: str) -> ServiceCounts | None:
        found = self._services.get(service)
        return found.told_by_callers if found else None

    def _path(self, name: str) -> Path:
        return self._folder / name


async def _sandbox(wanted: SandboxSettings) -> Sandbox:
    return await Sandbox.chosen(wanted.rung, accept_plain=wanted.unsafe_accept_plain)


async def _ended(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def check_free(setting: str, port: int) -> None:
    """Of a port that is bound only after the edge has said that it is ready."""
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((LOOPBACK, port))
        except OSError as error:
            raise port_taken(setting, port, error) from error


def port_taken(setting: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"{setting}: port {port} on {LOOPBACK} cannot be had ({error.strerror})",
        "Free it, or set another one; 0 takes any free port",
    )


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 2: it could not start, and the last line on stderr says why. `words=None`: `sys.argv`."""
    options = argparse.ArgumentParser(prog="flyball-edge", description="Weighted proxy, instances, OTLP receiver.")
    options.add_argument("--dir", required=True, type=Path)
    options.add_argument("--config", required=True, type=Path)
    arguments = options.parse_args(words)
    sys.setswitchinterval(0.001)  # users wait for a thread that reads JSON no longer than for a slice of counting
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    arguments.dir.mkdir(parents=True, exist_ok=True)
    with (arguments.dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asyncio.run(Edge(arguments.dir, load_config(arguments.config)).run())
        except BlockingIOError:
            log.error("another edge holds %s", arguments.dir)  # noqa: TRY400  the sentence is all there is
            return 2
        except FlyballError as error:
            log.error("%s", error)  # noqa: TRY400  the message carries the way out
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
