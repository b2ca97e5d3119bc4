"""The wire to one mounted server: its address and no other, bounded answers, and a secret that goes out only.

A protocol library parses whatever a server sends, and logs what it cannot parse. So all that needs distrust is done
beneath it, in the HTTP transport: the secret is put on a request at the last moment, redirects and unpacking are
refused, answers are cut at a bound, and the secret is taken out of them before the library or its logger sees a byte.

A network failure would end the library's client with every call in it. Here it comes back as an answer instead, marked
by a number that the server cannot know, and says whether the request can have been carried out.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import quote

import httpx2

from controller.errors import ConfigError
from controller.settings import MountSection

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_ANSWER_BYTES = 1024 * 1024  # of one JSON answer, or of one event
MAX_STREAM_BYTES = 8 * MAX_ANSWER_BYTES  # of one stream of events; a standing one is opened again
MAX_STREAM_S = 600.0
MIN_SECRET = 8  # characters: a shorter one could not be taken out of an answer without tearing words apart
CONNECT_S = 5.0
# Far below the idle time after which servers hang up: a request on a dying connection is one whose end nobody knows.
KEEP_ALIVE_S = 2.0
REDIRECT = 3  # hundred
HIDDEN = "[secret]"
MARK = "flyball"  # in the `data` of an error of ours
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_OURS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "last-event-id",
        "origin",
        "transfer-encoding",
    }
)


class Broken(IntEnum):
    """Why there is no answer of the server's own, as a JSON-RPC error code outside the reserved range."""

    NOT_REACHED = 1
    REDIRECTED = 2
    SECRET_REFUSED = 3
    CUT_OFF = 4  # this one and those below: the request was received, and may have been carried out
    TOO_LARGE = 5
    PACKED = 6

    @property
    def nothing_done(self) -> bool:
        return self < Broken.CUT_OFF


@dataclass(frozen=True)
class Endpoint:
    """Where a mounted server is and what opens it. Not printed whole: `secret` is left out."""

    url: str
    header: str
    value: str  # of the header. "": the server needs no secret
    redact: Redactor

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


class Redactor:
    """Takes one secret out of texts, in the spellings that come about without ill will: see `_spellings`."""

    def __init__(self, secret: str) -> None:
        """An empty secret: nothing is taken out."""
        forms = sorted(set(_spellings(secret)), key=len, reverse=True) if secret else []
        pattern = "|".join(re.escape(form) for form in forms)
        self._texts = re.compile(pattern) if forms else None
        self._bytes = re.compile(pattern.encode()) if forms else None

    def text(self, text: str) -> str:
        return self._texts.sub(HIDDEN, text) if self._texts else text

    def raw(self, raw: bytes) -> bytes:
        """Of JSON too: with a backslash in it a text may be spelt in many ways, so it is read and written anew."""
        if self._bytes is None:
            return raw
        if b"\\" in raw:
            with contextlib.suppress(ValueError, RecursionError):  # no JSON: then it is only bytes
                raw = json.dumps(self._walked(json.loads(raw)), separators=(",", ":")).encode()
        return self._bytes.sub(HIDDEN.encode(), raw)

    def _walked(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._walked(inner) for inner in value]
            case dict():
                return {self.text(name): self._walked(inner) for name, inner in value.items()}
            case _:
                return value


def _spellings(secret: str) -> Iterator[str]:
    """As it is, percent-encoded, in hexadecimal, and in base64 wherever in a longer text it begins."""
    raw = secret.encode()
    yield secret
    yield from (quote(secret, safe=""), quote(secret), quote(secret, safe="").lower())
    yield from (raw.hex(), raw.hex().upper())
    for before in range(3):
        begin, end = -(-8 * before // 6), 8 * (before + len(raw)) // 6  # the characters that depend on the secret alone
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + raw).decode()[begin:end]


def endpoint(name: str, section: MountSection, environment: Callable[[str], str | None]) -> Endpoint:
    """The address and the secret of a mount. Raises ConfigError, in which the secret does not appear."""
    where = f"gateway.mounts.{name}"
    _check_url(where, section.url)
    if not section.secret_env:
        return Endpoint(section.url, "", "", Redactor(""))
    if not _HEADER.fullmatch(section.header) or section.header.lower() in _OURS or section.header.lower()[:4] == "mcp-":
        raise ConfigError(f"{where}.header is {section.header!r}", "Name the header that carries the secret")
    secret = environment(section.secret_env)
    if secret is None:
        raise ConfigError(
            f"{where}: the environment variable {section.secret_env} is not set", "Set it for this process alone"
        )
    if (
        len(secret) < MIN_SECRET
        or not (section.prefix + secret).isascii()
        or not (section.prefix + secret).isprintable()
    ):
        raise ConfigError(
            f"{where}: {section.secret_env} is no secret of at least {MIN_SECRET} plain characters",
            "Set it without quotes and line ends",
        )
    return Endpoint(section.url, section.header, section.prefix + secret, Redactor(secret))


def _check_url(where: str, raw: str) -> None:
    try:
        url = httpx2.URL(raw)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"{where}.url is no URL", "Write https://host/path") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{where}.url is {raw!r}", "Write https://host/path")
    if url.userinfo or url.query or url.fragment:
        raise ConfigError(f"{where}.url has more than host and path", "Name the secret with secret_env")
    if url.scheme == "http" and url.host not in LOOPBACK:
        raise ConfigError(f"{where}.url sends a secret in clear to {url.host}", "Use https; http is for this machine")


class OneServer(httpx2.AsyncBaseTransport):
    """Never raises for what a server does; see `broken`."""

    def __init__(self, to: Endpoint, *, seconds: float, connections: int) -> None:
        self._to = to
        self._url = httpx2.URL(to.url)
        self._seconds = seconds
        self._mark = secrets.token_hex(16)
        limits = httpx2.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_S
        )
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    def broken(self, code: int, data: Any) -> Broken | None:
        """What an error says that this transport made. None: it is the server's own."""
        if not isinstance(data, dict) or data.get(MARK) != self._mark or code not in set(Broken):
            return None
        return Broken(code)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url != self._url:
            return self._no(Broken.REDIRECTED)
        request.headers["accept-encoding"] = "identity"
        if self._to.header:
            request.headers[self._to.header] = self._to.value
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            return self._no(Broken.NOT_REACHED)
        except httpx2.TransportError:
            return self._no(Broken.CUT_OFF)
        try:
            return await self._let_in(response)
        except BaseException:
            await response.aclose()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _let_in(self, response: httpx2.Response) -> httpx2.Response:
        if (why := _wrong_with(response)) is not None:
            await response.aclose()
            return self._no(why)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        headers = self._kept(response.headers, kind)
        if kind == "text/event-stream":
            return httpx2.Response(response.status_code, headers=headers, stream=_Events(response, self._to.redact))
        found = await self._whole(response) if kind == "application/json" else b""
        await response.aclose()
        if isinstance(found, Broken):
            return self._no(found)
        return httpx2.Response(response.status_code, headers=headers, content=self._to.redact.raw(found))

    def _kept(self, headers: httpx2.Headers, kind: str) -> dict[str, str]:
        session = headers.get("mcp-session-id", "")
        kept = {"content-type": kind} if kind in ("application/json", "text/event-stream") else {}
        return kept | ({"mcp-session-id": session} if session and self._to.redact.text(session) == session else {})

    async def _whole(self, response: httpx2.Response) -> bytes | Broken:
        found = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in _chunks(response):
                    found += chunk
                    if len(found) > MAX_ANSWER_BYTES:
                        return Broken.TOO_LARGE
        except (httpx2.TransportError, TimeoutError):
            return Broken.CUT_OFF
        return bytes(found)

    def _no(self, why: Broken) -> httpx2.Response:
        error = {"code": int(why), "message": why.name, "data": {MARK: self._mark}}
        return httpx2.Response(502, json={"jsonrpc": "2.0", "id": None, "error": error})


class _Events(httpx2.AsyncByteStream):
    """A stream of events, line by line, so that no secret hides in the gap between two chunks."""

    def __init__(self, response: httpx2.Response, redact: Redactor) -> None:
        self._response = response
        self._redact = redact

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left, waiting, until = MAX_STREAM_BYTES, b"", asyncio.get_running_loop().time() + MAX_STREAM_S
        async for chunk in _chunks(self._response):
            left -= len(chunk)
            if left < 0 or len(waiting) > MAX_ANSWER_BYTES:
                raise httpx2.ReadError("the stream of events is larger than its bound")
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in lines:
                yield self._clean(line) + b"\n"
            if asyncio.get_running_loop().time() > until:
                return
        yield self._clean(waiting)

    def _clean(self, line: bytes) -> bytes:
        if line.startswith(b"data:"):
            return b"data:" + self._redact.raw(line.removeprefix(b"data:"))
        return self._redact.raw(line)

    async def aclose(self) -> None:
        await self._response.aclose()


def _chunks(response: httpx2.Response) -> AsyncIterator[bytes]:
    stream = response.stream
    if not isinstance(stream, httpx2.AsyncByteStream):
        raise TypeError(f"an asynchronous transport answers with a {type(stream).__name__}")
    return aiter(stream)


def _wrong_with(response: httpx2.Response) -> Broken | None:
    """None: nothing so far."""
    if response.status_code // 100 == REDIRECT:
        return Broken.REDIRECTED
    if response.status_code in (401, 403):
        return Broken.SECRET_REFUSED
    if response.headers.get("content-encoding", "identity") != "identity":
        return Broken.PACKED
    return None


def words(broken: Broken) -> str:
    """For agents and for the log: what happened, without the address."""
    return _WORDS[broken]


_WORDS: dict[Broken, str] = {
    Broken.NOT_REACHED: "it cannot be reached",
    Broken.REDIRECTED: "it points to another address, which is not followed",
    Broken.SECRET_REFUSED: "it does not let this gateway in",
    Broken.CUT_OFF: "the connection broke off before the answer",
    Broken.TOO_LARGE: "its answer is too large and was not read",
    Broken.PACKED: "its answer is compressed, which was not asked for, and was not read",
}
