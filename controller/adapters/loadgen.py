"""Bounded HTTP load on a service of this machine, so that a rollout has traffic to be judged by.

The load is open-loop: requests are due at the arrivals of a Poisson process whatever the service does, and a request's
latency runs from the moment it was due, so that a service which stalls cannot hide it. Connections are kept alive and
bounded in number; a request that finds all of them busy is counted as dropped, never queued. The target must be
loopback, and the run ends at its seconds, its requests or SIGTERM, whichever comes first.

    python -m controller.adapters.loadgen --url http://127.0.0.1:8000 --rps 200 --seconds 120 --max-requests 24000
        --seed 7 --profile traffic.yaml --stats-file stats.json
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import socket
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from controller.adapters.loadgen_stats import LoadStats, Outcome
from controller.adapters.loadgen_traffic import Arrival, Profile, arrivals, load_profile
from controller.errors import ConfigError

MOST_CONNECTIONS = 64
MOST_SECONDS = 3_600
MOST_RPS = 2_000
ANSWER_WITHIN_S = 10
FINISH_WITHIN_S = 2  # for what is in flight when the run ends
STATS_EVERY_S = 0.5
LARGEST_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """A loopback address that was looked up once; `host` is what the Host header says."""

    address: str
    port: int
    host: str


def target_of(url: str) -> Target:
    """Raises `ConfigError` unless every address of the host is loopback."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        raise ConfigError(f"url {url!r} is not http://HOST:PORT", "Give scheme, host and port only")
    port = parts.port or 80
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise ConfigError(f"url {url!r}: host not found ({error})", "Give a loopback address") from error
    strangers = [address for address in found if not ipaddress.ip_address(address).is_loopback]
    if strangers:
        raise ConfigError(
            f"url {url!r} points at {strangers[0]}, which is not this machine",
            "Load is only ever sent to loopback: give 127.0.0.1, ::1 or localhost",
        )
    return Target(found[0], port, parts.netloc)


@dataclass(frozen=True)
class LoadPlan:
    """What to send where, and the bounds at which it ends."""

    target: Target
    profile: Profile
    rps: float
    seconds: float
    max_requests: int
    seed: int
    trace_ratio: float = 0.1
    connections: int = MOST_CONNECTIONS

    def __post_init__(self) -> None:
        for name, most in (("rps", MOST_RPS), ("seconds", MOST_SECONDS), ("connections", MOST_CONNECTIONS)):
            if not 0 < getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}", f"Give a number above 0 and up to {most}")
        if self.max_requests < 1 or not 0 <= self.trace_ratio <= 1:
            raise ConfigError("max_requests or trace_ratio is out of range", "Give at least 1, and 0 to 1")


class UnreadableAnswerError(ConfigError):
    """The target answers, and not in HTTP/1.1 as it is understood here."""


class Connection:
    """One kept-alive HTTP/1.1 connection with one request at a time."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True

    @property
    def closed_by_peer(self) -> bool:
        return self._reader.at_eof()

    async def ask(self, request: bytes) -> int:
        """The status. Raises `IncompleteReadError` or `OSError` when the peer goes away."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1."):
            raise UnreadableAnswerError(f"the target answered {head[:20]!r}", "Point --url at an HTTP/1.1 service")
        fields = dict(line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        self.reusable = fields.get(b"connection", b"").strip() != b"close"
        await self._skip_body(fields)
        return int(head[9:12])

    async def _skip_body(self, fields: dict[bytes, bytes]) -> None:
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._skip(size + 2)
            await self._reader.readuntil(b"\r\n")
        elif b"content-length" in fields:
            await self._skip(int(fields[b"content-length"]))

    async def _skip(self, size: int) -> None:
        if size > LARGEST_ANSWER_BYTES:
            raise UnreadableAnswerError(
                f"the target answers with {size} bytes", f"At most {LARGEST_ANSWER_BYTES} are read"
            )
        await self._reader.readexactly(size)

    def close(self) -> None:
        self._writer.close()


class LoadGenerator:
    """One run of a plan. `stats` may be read while it runs."""

    def __init__(self, plan: LoadPlan) -> None:
        self.stats = LoadStats()
        self._plan = plan
        self._idle: list[Connection] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pacing: asyncio.Task[None] | None = None  # None: not started

    async def run(self, stats_file: Path) -> None:
        """Returns when the plan's bounds are reached or `stop` was called, and what was in flight has ended."""
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(self._report(stats_file))
            self._pacing = group.create_task(self._pace(group))
            await asyncio.wait({self._pacing})
            _, late = await asyncio.wait(self._in_flight, timeout=FINISH_WITHIN_S) if self._in_flight else ((), ())
            for task in (*late, reporting):
                task.cancel()
        for connection in self._idle:
            connection.close()
        self.stats.running = False
        self.stats.write(stats_file)

    def stop(self) -> None:
        """No further request is sent."""
        if self._pacing is not None:
            self._pacing.cancel()

    async def _report(self, stats_file: Path) -> None:
        while True:
            self.stats.write(stats_file)
            await asyncio.sleep(STATS_EVERY_S)

    async def _pace(self, group: asyncio.TaskGroup) -> None:
        plan = self._plan
        endless = arrivals(plan.profile, plan.rps, plan.seed, plan.trace_ratio)
        started = perf_counter()
        for arrival in takewhile(lambda one: one.due_s <= plan.seconds, islice(endless, plan.max_requests)):
            due = started + arrival.due_s
            # Also when it is late: the requests before it must get a turn.
            await asyncio.sleep(max(0.0, due - perf_counter()))
            if len(self._in_flight) >= plan.connections:
                self.stats.dropped += 1
                continue
            task = group.create_task(self._send(arrival, due))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _send(self, arrival: Arrival, due: float) -> None:
        outcome = Outcome.ERROR
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                outcome = Outcome.of(await self._ask(arrival.request(self._plan.target.host)))
        except (OSError, IncompleteReadError, LimitOverrunError):  # TimeoutError is an OSError
            pass  # counted below, as is a request that the end of the run cut off
        finally:
            self.stats.count(arrival.name, outcome, perf_counter() - due)

    async def _ask(self, request: bytes) -> int:
        """A kept connection may be closed by the peer just as it is used: then the next is tried, at last a new one."""
        while True:
            connection, is_new = await self._connection()
            try:
                status = await connection.ask(request)
            except IncompleteReadError as gone:
                connection.close()
                if is_new or gone.partial:
                    raise
            except ConnectionError:
                connection.close()
                if is_new:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                self._keep(connection)
                return status

    async def _connection(self) -> tuple[Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed_by_peer:
                return connection, False
            connection.close()
        target = self._plan.target
        return Connection(*await asyncio.open_connection(target.address, target.port)), True

    def _keep(self, connection: Connection) -> None:
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()


def plan_of(arguments: argparse.Namespace) -> LoadPlan:
    return LoadPlan(
        target=target_of(arguments.url),
        profile=load_profile(arguments.profile),
        rps=arguments.rps,
        seconds=arguments.seconds,
        max_requests=arguments.max_requests,
        seed=arguments.seed,
        trace_ratio=arguments.trace_ratio,
        connections=arguments.connections,
    )


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="loadgen", description="Bounded HTTP load on a service of this machine.")
    options.add_argument("--url", required=True, help="http://HOST:PORT, loopback only")
    options.add_argument("--profile", required=True, type=Path, help="YAML file with the traffic mix")
    options.add_argument("--stats-file", required=True, type=Path, help="JSON file, replaced twice a second")
    options.add_argument("--rps", required=True, type=float, help=f"mean requests per second, up to {MOST_RPS}")
    options.add_argument("--seconds", required=True, type=float, help=f"up to {MOST_SECONDS}")
    options.add_argument("--max-requests", required=True, type=int)
    options.add_argument("--seed", required=True, type=int)
    options.add_argument("--trace-ratio", default=0.1, type=float, help="share of requests whose trace is sampled")
    options.add_argument("--connections", default=MOST_CONNECTIONS, type=int, help=f"up to {MOST_CONNECTIONS}")
    return options


async def run_until_signal(plan: LoadPlan, stats_file: Path) -> None:
    generator = LoadGenerator(plan)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, generator.stop)
    await generator.run(stats_file)


def main(words: Sequence[str] | None = None) -> None:
    """Runs a plan from the command line; `words` None means `sys.argv`. Exit code 2: the plan is unusable."""
    options = parser()
    arguments = options.parse_args(words)
    try:
        plan = plan_of(arguments)
    except ConfigError as error:
        options.error(str(error))
    asyncio.run(run_until_signal(plan, arguments.stats_file))


if __name__ == "__main__":
    main()
