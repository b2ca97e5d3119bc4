"""Checkpoints to witnesses over HTTP. What they mean is no business of this file: bytes out, status and bytes back."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx2

from controller.errors import ConfigError, Unavailable

WITHIN_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class WitnessClient:
    """One for all witnesses of a log: connections are kept alive between checkpoints."""

    def __init__(self) -> None:
        self._http = httpx2.AsyncClient(timeout=WITHIN_S, follow_redirects=False, trust_env=False)

    async def add_checkpoint(self, url: str, body: bytes) -> tuple[int, bytes]:
        """Status and body. `url`: the witness's submission prefix. Raises Unavailable when no answer came in time."""
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                self._http.stream("POST", f"{url}/add-checkpoint", content=body) as answer,
            ):
                return answer.status_code, await _bounded(answer, url)
        except (TimeoutError, httpx2.TransportError) as error:
            raise Unavailable(
                f"the witness at {url} did not answer within {WITHIN_S:g} s ({type(error).__name__})",
                "See whether it runs and can be reached; it is tried again",
            ) from error

    async def close(self) -> None:
        await self._http.aclose()


def check_url(url: str) -> str:
    """Raises ConfigError for what is no address of a witness.

    Cosignatures need no secrecy, but over a network in clear anybody could keep them from arriving: https only there.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK):
        raise ConfigError(f"{url!r} is no address of a witness", "Give an https URL, or http on this machine")
    return url


async def _bounded(answer: httpx2.Response, url: str) -> bytes:
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Unavailable(f"the witness at {url} answered with more than {MAX_ANSWER_BYTES} bytes", "Look at it")
    return body
