"""The doors of a sandbox with a network of its own: what it may reach, and how it is reached.

Its loopback is private. For each place that a command may reach, something listens inside, at an address of its own
(127.1.0.N, and /etc/hosts inside gives it the place's name) or at 127.0.0.1 for what is on this machine; whatever
connects there is joined here, outside, to that place and to no other. The names are resolved outside. Into the sandbox
we connect with sockets that were made there (see `sandbox_enter.doorkeeper`), so a request is not copied on its way.
TCP only.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import re
import socket
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from controller.errors import ConfigError, Unavailable

PLACE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
MOST_PLACES = 64
MOST_JOINED = 256  # connections through the doors of one sandbox at a time
READY = 8  # sockets kept at hand
OPEN_WITHIN_S = 10.0
CONNECT_WITHIN_S = 10.0
PIECE_BYTES = 64 << 10
LOOPBACK = "127.0.0.1"
HERE = frozenset({"localhost", LOOPBACK})


@dataclass(frozen=True, slots=True)
class Place:
    """A TCP service that a command may reach, as `host:port`."""

    host: str
    port: int


class DoorkeeperGone(Unavailable):
    """The sandbox has ended, or never began."""

    def __init__(self) -> None:
        super().__init__("the sandbox's doorkeeper ended", "Look at what the sandbox says")


def place_of(text: str) -> Place:
    """Raises ValueError with the reason."""
    found = PLACE.fullmatch(text)
    if found is None or not 0 < int(found[2]) <= 65_535:  # noqa: PLR2004
        raise ValueError(f"{text!r} is not host:port, such as db.internal:5432")
    return Place(found[1].lower(), int(found[2]))


def addresses(places: Sequence[Place]) -> tuple[dict[str, str], tuple[tuple[str, int], ...]]:
    """Names and their addresses inside, and where each place is listened for. Raises ConfigError."""
    if len(places) > MOST_PLACES:
        raise ConfigError(f"{len(places)} places to reach, the bound is {MOST_PLACES}", "Name fewer of them")
    names = dict.fromkeys(place.host for place in places if place.host not in HERE)
    at = {name: f"127.1.0.{number}" for number, name in enumerate(names, 1)}
    return at, tuple((at.get(place.host, LOOPBACK), place.port) for place in places)


def hosts_file(names: dict[str, str]) -> str:
    own = [f"{LOOPBACK} localhost", "::1 localhost"]
    return "\n".join([*own, *(f"{address} {name}" for name, address in names.items())]) + "\n"


class Doors:
    """Opened once the sandbox starts, closed when it has ended."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self.names, self.inside = addresses(places)
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ready: deque[socket.socket] = deque()
        self._arrived = asyncio.Event()
        self._gone = False
        self._servers: list[asyncio.Server] = []
        self._joined: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises `Unavailable` when the doorkeeper could not open one of them, and `DoorkeeperGone`."""
        self.theirs.close()
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                for place in self.places:
                    listening = await self._received()
                    self._servers.append(await asyncio.start_server(self._through(place), sock=listening))
                for _ in range(READY):
                    self._ours.send(b"s")
                self._ready.append(await self._received())
        except TimeoutError as error:
            raise Unavailable(f"no door of the sandbox opened within {OPEN_WITHIN_S:g} s", "Try again") from error
        except ConnectionError as error:
            raise DoorkeeperGone from error
        asyncio.get_running_loop().add_reader(self._ours, self._take)

    async def _received(self) -> socket.socket:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        while True:
            try:
                return self._one()
            except BlockingIOError:
                readable.clear()
                loop.add_reader(self._ours, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._ours)

    def _one(self) -> socket.socket:
        """Raises BlockingIOError: none is there yet."""
        said, given, _, _ = self._ours.recvmsg(512, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        for level, kind, data in given:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        if not numbers:
            if not said:
                raise DoorkeeperGone
            words = said.decode(errors="replace")
            raise Unavailable(f"a door of the sandbox did not open: {words}", "Name each place once")
        one = socket.socket(fileno=numbers[0])
        one.setblocking(False)
        return one

    def _take(self) -> None:
        try:
            while True:
                self._ready.append(self._one())
                self._arrived.set()
        except BlockingIOError:
            return
        except (OSError, Unavailable):
            self._gone = True
            self._arrived.set()
            asyncio.get_running_loop().remove_reader(self._ours)

    async def connect(self, port: int, most_line_bytes: int) -> tuple[StreamReader, StreamWriter]:
        """A connection to what listens on the sandbox's loopback. Raises `OSError`."""
        while not self._ready:
            if self._gone:
                raise ConnectionRefusedError("the sandbox has ended")
            self._arrived.clear()
            await self._arrived.wait()
        made = self._ready.popleft()
        with contextlib.suppress(OSError):  # the next one finds out that the doorkeeper has gone
            self._ours.send(b"s")
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(made, (LOOPBACK, port))
            return await asyncio.open_connection(sock=made, limit=most_line_bytes)
        except BaseException:
            made.close()
            raise

    def _through(self, place: Place) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
        async def joined(reader: StreamReader, writer: StreamWriter) -> None:
            task = asyncio.current_task()
            if task is None or len(self._joined) >= MOST_JOINED:
                writer.close()
                return
            self._joined.add(task)
            try:
                await _join(place, reader, writer)
            finally:
                self._joined.discard(task)

        return joined

    async def close(self) -> None:
        """Once the sandbox has ended: nothing passes afterwards."""
        if not self._gone and self._ours.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._ours)
        self._gone = True
        self._arrived.set()
        for server in self._servers:
            server.close()
        for task in self._joined:
            task.cancel()
        if self._joined:
            await asyncio.wait(tuple(self._joined), timeout=2)
        for one in (*self._ready, self._ours, self.theirs):
            one.close()


async def _join(place: Place, reader: StreamReader, writer: StreamWriter) -> None:
    """Bytes both ways until both have said all, or one is gone."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            there_reader, there_writer = await asyncio.open_connection(place.host, place.port)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
    except (OSError, asyncio.CancelledError):  # a peer went away, or the sandbox has ended
        pass
    finally:
        writer.close()
        there_writer.close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
