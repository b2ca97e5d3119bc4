"""The git door's answers on the wire: streamed, given up with the client, and errors in HTTP's words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from starlette.types import Message, Receive, Send

from controller.errors import Permanent, Temporary
from tools.git_asked import No
from tools.git_places import DoorLimits

T = TypeVar("T")
DRAINED_BYTES = 256 * 1024 * 1024  # of a refused push, thrown away unread: a client listens only when it has sent all
NEVER_CACHED = {"Cache-Control": "no-cache, no-store", "X-Content-Type-Options": "nosniff"}

logger = logging.getLogger(__name__)


async def said(answer: Awaitable[T]) -> T:
    """Errors in HTTP's words, as long as nothing has been sent. Raises No."""
    try:
        return await answer
    except TimeoutError as late:
        raise No(408, "this took too long; send it faster, or less at once") from late
    except Temporary as later:
        logger.warning("a git request cannot be answered: %s", later)
        raise No(503, "nothing can be decided or served at the moment; try again", {"Retry-After": "5"}) from later
    except Permanent as no:
        logger.warning("a git request was not understood: %s", no)
        raise No(400, no.message) from no


async def one(chunk: bytes) -> AsyncGenerator[bytes]:
    yield chunk


async def drained(rest: AsyncIterator[bytes]) -> None:
    thrown_away = 0
    async for chunk in rest:
        thrown_away += len(chunk)
        if thrown_away > DRAINED_BYTES:
            return


async def streamed(
    chunks: AsyncGenerator[bytes], media: str, receive: Receive, send: Send, *, limits: DoorLimits
) -> None:
    """Sends until it is all sent, the client has gone or takes nothing, or the time is over; ends what makes chunks."""
    async with aclosing(chunks):
        sending = asyncio.create_task(_sent(chunks, media, _in_time(send, limits.idle_s)))
        gone = asyncio.create_task(_hung_up(receive))
        try:
            await asyncio.wait({sending, gone}, timeout=limits.fetch_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in (sending, gone) if not task.done()]
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
        if sending in ended or isinstance(sending.exception(), TimeoutError):
            logger.warning("a fetch was given up: its client has gone, takes nothing, or took too long")
        else:
            sending.result()


def _in_time(send: Send, idle_s: float) -> Send:
    """A client that does not take what is sent to it keeps nobody waiting."""

    async def sent(message: Message) -> None:
        async with asyncio.timeout(idle_s):
            await send(message)

    return sent


async def _sent(chunks: AsyncGenerator[bytes], media: str, send: Send) -> None:
    headers = {"content-type": media, **{name.lower(): value for name, value in NEVER_CACHED.items()}}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
