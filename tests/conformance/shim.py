"""Adds a bearer token to every request: the suite calls a server as nobody, and the gateway answers nobody.

Bytes pass as they came, but for three things in a request's head: the token is added, the shim's own address becomes
the gateway's, and the connection is for one request, so that there is only one head to look for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

HOST = "127.0.0.1"
MAX_HEAD_BYTES = 64 * 1024
HEAD_S = 10.0
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Shim:
    """`port` is its own; the gateway's stands in `gateway_port`."""

    port: int
    gateway_port: int
    token: str

    def rewritten(self, head: bytes) -> bytes:
        """A request's head, without the empty line at its end, as the gateway is to see it."""
        ours, theirs = f":{self.port}".encode(), f":{self.gateway_port}".encode()
        first, *lines = head.split(b"\r\n")
        kept = [_addressed(line, ours, theirs) for line in lines if not line.lower().startswith(b"connection:")]
        return b"\r\n".join([first, *kept, b"Connection: close", b"Authorization: Bearer " + self.token.encode()])


def _addressed(line: bytes, ours: bytes, theirs: bytes) -> bytes:
    return line.replace(ours, theirs) if line.lower().startswith((b"host:", b"origin:")) else line


@contextlib.asynccontextmanager
async def shim(gateway_port: int, token: str) -> AsyncIterator[int]:
    """The port of a shim before the gateway at `gateway_port`, as long as the block lasts."""
    own: asyncio.Future[Shim] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await _pass(await own, reader, writer)

    server = await asyncio.start_server(accept, HOST, 0, limit=MAX_HEAD_BYTES)
    port = server.sockets[0].getsockname()[1]
    own.set_result(Shim(port, gateway_port, token))
    try:
        yield port
    finally:
        server.close()


async def _pass(own: Shim, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
    to_read, to_write = await asyncio.open_connection(HOST, own.gateway_port)
    with contextlib.closing(to_write):
        to_write.write(own.rewritten(head.removesuffix(b"\r\n\r\n")) + b"\r\n\r\n")
        forth = asyncio.create_task(_copy(reader, to_write))
        try:
            await _copy(to_read, writer)
        finally:
            forth.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
