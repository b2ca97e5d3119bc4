"""A witness's two doors over HTTP: POST /add-checkpoint and GET /<origin hash>/checkpoint.

It speaks plain HTTP; where it stands elsewhere, a proxy in front of it speaks TLS. What is asked and what is answered
is the witness's; deciding waits for a disk, so it happens in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from controller.adapters.edge_http import LARGEST_HEAD_BYTES, Request, Response, SmallServer

MAX_BODY_BYTES = 256 * 1024
MOST_AT_ONCE = 32
READ_WITHIN_S = 10.0
TEXT = "text/plain; charset=utf-8"
NOT_FOUND, WRONG_METHOD = 404, 405
_CHECKPOINT = re.compile(r"/([0-9a-f]{64})/checkpoint")

Said = tuple[int, bytes, str]  # status, body, content type


@dataclass(frozen=True, slots=True)
class WitnessDoors:
    """What stands behind the doors."""

    add_checkpoint: Callable[[bytes], Said]
    checkpoint: Callable[[str], Said]  # of the log with this origin hash

    async def answer(self, request: Request) -> Response:
        found = _CHECKPOINT.fullmatch(request.path)
        if request.path == "/add-checkpoint":
            if request.method != "POST":
                return Response(WRONG_METHOD, b"POST only\n", TEXT)
            return _response(await asyncio.to_thread(self.add_checkpoint, request.body))
        if found is None:
            return Response(NOT_FOUND, b"a witness has /add-checkpoint and /<origin hash>/checkpoint\n", TEXT)
        if request.method != "GET":
            return Response(WRONG_METHOD, b"GET only\n", TEXT)
        return _response(await asyncio.to_thread(self.checkpoint, found[1]))


class WitnessServer(SmallServer):
    """Listens where it is told to, which need not be loopback."""

    async def listen_at(self, host: str, port: int) -> asyncio.Server:
        """`port` 0: any free one. Raises OSError when it cannot be had."""
        return await asyncio.start_server(self._connection, host, port, limit=LARGEST_HEAD_BYTES)


def witness_server(doors: WitnessDoors) -> WitnessServer:
    return WitnessServer(doors.answer, MAX_BODY_BYTES, most_at_once=MOST_AT_ONCE, read_within_s=READ_WITHIN_S)


def _response(said: Said) -> Response:
    status, body, content_type = said
    return Response(status, body, content_type)
