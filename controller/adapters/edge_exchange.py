"""One request and its answer, between a client's connection and an instance's.

Fields that concern one connection only stay behind. Small request bodies are read first, so that the request can be
sent again where that is safe; larger ones stream. An answer streams, framed anew: as chunks for a client that knows
them, else until the connection closes.
"""

from __future__ import annotations

import asyncio
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from dataclasses import dataclass

from controller.adapters.edge_http import (
    CHUNKED,
    HOP_BY_HOP,
    UNTIL_CLOSE,
    BadMessage,
    Head,
    body_length,
    copy_body,
    read_body,
    read_head,
)
from controller.adapters.edge_routes import Link

ANSWER_WITHIN_S = 30  # until the head of an answer, and between two pieces of a body
HELD_BODY_BYTES = 64 << 10
LARGEST_BODY_BYTES = 64 << 20
BODILESS = frozenset({204, 304})
CONTINUE = 100
FIRST_FINAL = 200


class Unanswered(Exception):  # noqa: N818  it is answered by the proxy itself
    """The instance gave no answer, and none of it has reached the client."""

    def __init__(self, status: int, cause: str, *, sent: bool) -> None:
        super().__init__(cause)
        self.status = status
        self.sent = sent  # part of the request may have arrived


class ClientGoneError(Exception):
    """The client does not take its answer, or does not finish its request."""


class CutOffError(Exception):
    """The instance went away in the middle of its answer."""


@dataclass(slots=True)
class Exchange:
    method: bytes
    target: bytes
    head: Head
    length: int
    held: bytes | None  # the whole body; None: it streams and can be sent only once
    reader: StreamReader
    writer: StreamWriter
    keep: bool
    chunks: bool  # the client understands them
    tell: bytes = b""  # a field that its answer gets besides its own. Empty: none

    def request(self) -> bytes:
        """The head to send on, with the body if that is held."""
        named = {name.strip().lower() for value in self.head.all(b"connection") for name in value.split(b",")}
        drop = HOP_BY_HOP | named | {b"expect"}
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target)]
        lines += [b"%b: %b" % field for field in self.head.fields if field[0] not in drop]
        if self.held is None:
            lines.append(
                b"transfer-encoding: chunked" if self.length == CHUNKED else b"content-length: %d" % self.length
            )
        elif self.length:
            lines.append(b"content-length: %d" % len(self.held))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.held or b"")

    async def write(self, piece: bytes) -> None:
        try:
            self.writer.write(piece)
            await self.writer.drain()
        except OSError as error:
            raise ClientGoneError from error


async def read_exchange(reader: StreamReader, writer: StreamWriter, idle_s: float) -> Exchange | None:
    """None: the client is done. Raises `BadMessage`, or whatever reading raises when it goes away."""
    async with asyncio.timeout(idle_s):
        head = await read_head(reader)
    if head is None:
        return None
    try:
        method, target, version = head.first.split(b" ")
    except ValueError as error:
        raise BadMessage(400, "the request line is malformed") from error
    if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not method.isalpha() or target[:1] not in {b"/", b"*"}:
        raise BadMessage(400, "the request line is malformed")
    length = body_length(head, when_absent=0)
    if length > LARGEST_BODY_BYTES:
        raise BadMessage(413, f"the body exceeds {LARGEST_BODY_BYTES} bytes")
    if length and (head.get(b"expect") or b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    modern = version == b"HTTP/1.1"
    keep = modern and (head.get(b"connection") or b"").lower() != b"close"
    held = None if length == CHUNKED or length > HELD_BODY_BYTES else b""
    if length and held is not None:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            held = await read_body(reader, length, HELD_BODY_BYTES)
    return Exchange(method, target, head, length, held, reader, writer, keep=keep, chunks=modern)


async def ask(link: Link, exchange: Exchange) -> Head:
    """Send the request, give the head of the final answer. The link is closed when this fails."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S) as limit:
            link.writer.write(exchange.request())
            if exchange.held is None:
                await _send_on(link, exchange, limit)
            head = await read_head(link.reader)
            while head is not None and _status(head) < FIRST_FINAL:
                head = await read_head(link.reader)
    except TimeoutError as error:
        link.close()
        raise Unanswered(504, "no-answer-in-time", sent=True) from error
    except (OSError, IncompleteReadError, BadMessage) as error:
        link.close()
        raise Unanswered(502, "closed" if isinstance(error, OSError) else "broken-answer", sent=True) from error
    except BaseException:
        link.close()
        raise
    if head is None:
        link.close()
        raise Unanswered(502, "closed", sent=True)
    return head


async def _send_on(link: Link, exchange: Exchange, limit: asyncio.Timeout) -> None:
    left = LARGEST_BODY_BYTES
    now = asyncio.get_running_loop().time

    async def write(piece: bytes) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise ClientGoneError  # a chunked body without end
        link.writer.write(piece)
        await link.writer.drain()
        limit.reschedule(now() + ANSWER_WITHIN_S)

    try:
        await copy_body(exchange.reader, exchange.length, write, frame=exchange.length == CHUNKED)
    except (IncompleteReadError, LimitOverrunError, BadMessage) as error:
        raise ClientGoneError from error  # these come from reading the client


def _status(head: Head) -> int:
    if not head.first.startswith(b"HTTP/1.") or not head.first[9:12].isdigit():
        raise BadMessage(502, "the status line is malformed")
    return int(head.first[9:12])


async def hand_back(link: Link, head: Head, exchange: Exchange) -> tuple[int, bool, bool]:
    """Status, whether the link and whether the client's connection can be used again. Raises `CutOffError`."""
    status = _status(head)
    bare = exchange.method == b"HEAD" or status in BODILESS
    try:
        length = 0 if bare else body_length(head, when_absent=UNTIL_CLOSE)
    except BadMessage as error:
        raise Unanswered(502, "broken-answer", sent=True) from error
    frame = exchange.chunks and length < 0
    keep = exchange.keep and (frame or length >= 0)
    await exchange.write(_answer_head(head, length, exchange.tell, bare=bare, frame=frame, keep=keep))
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S) as limit:

            async def write(piece: bytes) -> None:
                await exchange.write(piece)
                limit.reschedule(now() + ANSWER_WITHIN_S)

            if length:
                await copy_body(link.reader, length, write, frame=frame)
    except (OSError, IncompleteReadError, LimitOverrunError, BadMessage) as error:
        raise CutOffError from error
    lasting = head.first.startswith(b"HTTP/1.1") and (head.get(b"connection") or b"").lower() != b"close"
    return status, lasting and length != UNTIL_CLOSE, keep


def _answer_head(head: Head, length: int, tell: bytes, *, bare: bool, frame: bool, keep: bool) -> bytes:
    lines = [b"HTTP/1.1 " + head.first[9:]]
    lines += [b"%b: %b" % field for field in head.fields if field[0] not in HOP_BY_HOP]
    if tell:
        lines.append(tell)
    told = head.get(b"content-length") if bare else b"%d" % length
    if frame:
        lines.append(b"transfer-encoding: chunked")
    elif told is not None and length >= 0 and head.first[9:12] != b"204":
        lines.append(b"content-length: " + told)
    if not keep:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"
