"""HTTP/1.1 on raw asyncio streams: heads, bodies, a small server and a small client, all of them bounded.

The proxy moves bytes and must not pay for more than it reads; what it cannot frame beyond doubt (two lengths, folded
fields, a chunked body with a length) it refuses, because two readers who disagree on where a request ends are how
requests are smuggled.
"""

from __future__ import annotations

import asyncio
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

LOOPBACK = "127.0.0.1"
LARGEST_HEAD_BYTES = 32 << 10
MOST_FIELDS = 100
PIECE_BYTES = 64 << 10
LENGTH_DIGITS = 15
CHUNK_DIGITS = 8
LINGER_S = 2.0
LINGER_BYTES = 16 << 20
REFUSALS = frozenset({400, 401, 413, 429, 431, 503})  # given before the whole request was read
HOP_BY_HOP = frozenset(
    (
        b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
        b"upgrade content-length"
    ).split()
)


class BadMessage(Exception):  # noqa: N818  it is answered, and never leaves the server
    """Not to be understood, or too large; `status` is what its sender is told."""

    def __init__(self, status: int, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s  # None: nothing is said about trying again


@dataclass(slots=True)
class Head:
    """First line and fields of a request or an answer; names in lower case."""

    first: bytes
    fields: list[tuple[bytes, bytes]]

    def get(self, name: bytes) -> bytes | None:
        """The first value. None: no such field."""
        for known, value in self.fields:
            if known == name:
                return value
        return None

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]


async def read_head(reader: StreamReader) -> Head | None:
    """None: the peer closed the connection between messages. Raises `BadMessage` and `IncompleteReadError`."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as cut:
        if not cut.partial:
            return None
        raise
    except LimitOverrunError as error:
        raise BadMessage(431, f"the head exceeds {LARGEST_HEAD_BYTES} bytes") from error
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    first, *lines = raw[:-4].split(b"\r\n")
    if len(lines) > MOST_FIELDS:
        raise BadMessage(431, f"more than {MOST_FIELDS} fields")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if (
            not colon
            or not name
            or name[:1] in b" \t"
            or name[-1:] in b" \t"
            or b"\n" in line
            or b"\r" in line
            or b"\0" in line
        ):
            raise BadMessage(400, "a header field is malformed")
        fields.append((name.lower(), value.strip(b" \t")))
    return Head(first, fields)


CHUNKED = -1
UNTIL_CLOSE = -2


def body_length(head: Head, *, when_absent: int) -> int:
    """Bytes of the body, or CHUNKED, or `when_absent`."""
    codings, lengths = head.all(b"transfer-encoding"), set(head.all(b"content-length"))
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadMessage(400, "the body has two lengths, or a transfer coding other than chunked")
        return CHUNKED
    if not lengths:
        return when_absent
    (length, *others) = lengths
    if others or not length.isdigit() or len(length) > LENGTH_DIGITS:
        raise BadMessage(400, "the content length is not one number")
    return int(length)


async def copy_body(
    reader: StreamReader, length: int, write: Callable[[bytes], Awaitable[None]], *, frame: bool
) -> None:
    """Hand a body on piece by piece, as chunks when `frame`. Trailers are read and dropped."""
    if length == CHUNKED:
        while size := await _chunk_size(reader):
            await _copy(reader, size, write, frame=frame)
            if await reader.readexactly(2) != b"\r\n":
                raise BadMessage(400, "a chunk is longer than it says")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif length == UNTIL_CLOSE:
        while piece := await reader.read(PIECE_BYTES):
            await write(_framed(piece) if frame else piece)
    else:
        await _copy(reader, length, write, frame=frame)
    if frame:
        await write(b"0\r\n\r\n")


async def _chunk_size(reader: StreamReader) -> int:
    text = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")[0].strip()
    if not text or len(text) > CHUNK_DIGITS or text.strip(b"0123456789abcdefABCDEF"):
        raise BadMessage(400, "a chunk's size is not a hexadecimal number")
    return int(text, 16)


async def _copy(reader: StreamReader, size: int, write: Callable[[bytes], Awaitable[None]], *, frame: bool) -> None:
    while size:
        piece = await reader.read(min(size, PIECE_BYTES))
        if not piece:
            raise IncompleteReadError(b"", size)
        size -= len(piece)
        await write(_framed(piece) if frame else piece)


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def read_body(reader: StreamReader, length: int, most_bytes: int) -> bytes:
    """The whole body. Raises `BadMessage` 413 beyond `most_bytes`."""
    if length > most_bytes:
        raise BadMessage(413, f"the body exceeds {most_bytes} bytes")
    pieces: list[bytes] = []
    left = most_bytes

    async def take(piece: bytes) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise BadMessage(413, f"the body exceeds {most_bytes} bytes")
        pieces.append(piece)

    await copy_body(reader, length, take, frame=False)
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    head: Head
    body: bytes

    def field(self, name: str) -> str:
        """Empty when absent."""
        return (self.head.get(name.encode()) or b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    retry_after_s: int | None = None  # None: nothing is said about trying again

    def encode(self, *, keep: bool) -> bytes:
        retry = "" if self.retry_after_s is None else f"retry-after: {self.retry_after_s}\r\n"
        first = f"HTTP/1.1 {self.status} {phrase(self.status)}\r\ncontent-type: {self.content_type}\r\n"
        head = f"{first}content-length: {len(self.body)}\r\n{retry}"
        return (head + ("\r\n" if keep else "connection: close\r\n\r\n")).encode() + self.body


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Conversations:
    """The open connections of a server, so that closing it can end them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def one(self, writer: StreamWriter) -> AsyncIterator[None]:
        """Around what is done for a connection, which is closed afterwards. A peer that goes away ends it quietly."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._tasks.add(task)
        try:
            yield
        except (OSError, IncompleteReadError, asyncio.CancelledError):  # gone, too slow, or we are closing
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=LINGER_S)


@dataclass(slots=True)
class SmallServer:
    """Requests that fit in memory, one handler. More at once than `most_at_once` are told to come back.

    `admit` is entered with a request's head before its body is read, and left when it is answered; it may refuse with
    `BadMessage`.
    """

    handler: Callable[[Request], Awaitable[Response]]
    most_body_bytes: int
    most_at_once: int = 64
    read_within_s: float = 30
    admit: Callable[[Head], AbstractContextManager[None]] = lambda _: nullcontext()
    busy: int = 0
    conversations: Conversations = field(default_factory=Conversations)

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._connection, LOOPBACK, port, limit=LARGEST_HEAD_BYTES)

    async def _connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with self.conversations.one(writer):
            while await self._one(reader, writer):
                pass

    async def _one(self, reader: StreamReader, writer: StreamWriter) -> bool:
        """Whether the connection may carry another request."""
        try:
            async with asyncio.timeout(self.read_within_s):
                head = await read_head(reader)
            if head is None:
                return False
            response, keep = await self._answer(head, reader)
        except (BadMessage, LimitOverrunError) as error:
            status, again = (error.status, error.retry_after_s) if isinstance(error, BadMessage) else (400, None)
            response, keep = Response(status, str(error).encode(), "text/plain", again), False
        writer.write(response.encode(keep=keep))
        await writer.drain()
        if not keep and response.status in REFUSALS:
            await linger(reader, writer)
        return keep

    async def _answer(self, head: Head, reader: StreamReader) -> tuple[Response, bool]:
        if self.busy >= self.most_at_once:
            return Response(429, b"busy", "text/plain", retry_after_s=1), False
        self.busy += 1
        try:
            with self.admit(head):
                async with asyncio.timeout(self.read_within_s):
                    body = await read_body(reader, body_length(head, when_absent=0), self.most_body_bytes)
                keep = (head.get(b"connection") or b"").lower() != b"close"
                return await self.handler(_request(head, body)), keep
        finally:
            self.busy -= 1


async def linger(reader: StreamReader, writer: StreamWriter) -> None:
    """Let the peer read a refusal: closing on what it still sends would reset the connection under it."""
    writer.write_eof()
    left = LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (piece := await reader.read(PIECE_BYTES)):
                left -= len(piece)


def _request(head: Head, body: bytes) -> Request:
    try:
        method, target, _ = head.first.decode("ascii").split(" ")
    except ValueError as error:
        raise BadMessage(400, "the request line is malformed") from error
    parts = urlsplit(target)
    return Request(method, parts.path, dict(parse_qsl(parts.query)), head, body)


Connect = Callable[[], Awaitable[tuple[StreamReader, StreamWriter]]]
"""A fresh connection; raises `OSError` when there is none to be had."""


def loopback(port: int) -> Connect:
    return lambda: asyncio.open_connection(LOOPBACK, port, limit=LARGEST_HEAD_BYTES)


async def get_status(
    connect: Connect, host: str, path: str, within_s: float, more: tuple[tuple[str, str], ...] = ()
) -> int | None:
    """The status of a GET. None: no answer in time."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await connect()
            try:
                told = (("host", host), ("connection", "close"), *more)
                fields = "".join(f"{name}: {value}\r\n" for name, value in told)
                writer.write(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
                head = await read_head(reader)
            finally:
                writer.close()
    except (OSError, IncompleteReadError, BadMessage):  # TimeoutError is an OSError
        return None
    return int(head.first[9:12]) if head and head.first[9:12].isdigit() else None
