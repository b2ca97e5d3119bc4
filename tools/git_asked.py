"""What an HTTP request asks of the git door, held to one reading before anybody looks who asks.

git's clients send a handful of plain requests (gitprotocol-http(5)). Whatever is not one of them, has a header twice,
names another host, or carries a token anywhere but in its Authorization header is sent away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from starlette.types import Message, Receive, Scope

MAX_HEADERS = 64
MAX_TOKEN = 4_096  # characters
INFLATED_AT_ONCE = 64 * 1024
VERSIONS = {"": 0, "version=0": 0, "version=1": 1, "version=2": 2}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="flyball", charset="UTF-8"'}

_PATH = re.compile(r"/git/([^/%]{1,120})\.git/(info/refs|git-upload-pack|git-receive-pack)")


class Service(StrEnum):
    FETCH = "git-upload-pack"
    PUSH = "git-receive-pack"


class No(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Asked:
    repository: str  # as it was spelt
    service: Service
    advertise: bool  # the refs, before anything is fetched or pushed
    version: int  # of git's protocol
    token: str
    gzipped: bool


def asked(scope: Scope, hosts: frozenset[str]) -> Asked:
    """`hosts` are the values of Host that name this server. Raises No."""
    headers = _headers(scope)
    _addressed(headers, hosts)
    found = _PATH.fullmatch(scope["path"])
    if found is None or scope.get("raw_path", b"").partition(b"?")[0] != scope["path"].encode():
        raise No(404, "there is nothing here")
    repository, place = found.groups()
    service = _service(scope, headers, place)
    return Asked(
        repository,
        service,
        place == "info/refs",
        VERSIONS.get(headers.get("git-protocol", ""), 0),
        _token(headers.get("authorization", "")),
        _gzipped(headers.get("content-encoding", "identity")),
    )


def _headers(scope: Scope) -> dict[str, str]:
    if scope["type"] != "http":
        raise No(400, "this server speaks HTTP")
    if len(scope["headers"]) > MAX_HEADERS:
        raise No(431, f"more than {MAX_HEADERS} headers")
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found:
            raise No(400, f"header {name} stands twice")
        found[name] = value.decode("latin-1").strip()
    return found


def _addressed(headers: dict[str, str], hosts: frozenset[str]) -> None:
    """A page in a browser that was lured here names another host or origin (DNS rebinding)."""
    if headers.get("host", "") not in hosts:
        raise No(421, "this server is not the host that was asked for")
    if "origin" in headers and headers["origin"].partition("://")[2] not in hosts:
        raise No(403, "requests from other origins are not accepted")


def _service(scope: Scope, headers: dict[str, str], place: str) -> Service:
    """A browser cannot send these content types to another origin without asking first."""
    query = scope["query_string"].decode("latin-1")
    if place == "info/refs":
        name = query.removeprefix("service=")
        if scope["method"] != "GET" or query == name or name not in set(Service):
            raise No(400, "ask for info/refs?service=git-upload-pack or =git-receive-pack; there is no dumb protocol")
        return Service(name)
    if scope["method"] != "POST":
        raise No(405, "this is asked by POST", {"Allow": "POST"})
    if query or headers.get("content-type") != f"application/x-{place}-request":
        raise No(415, f"the request has no query, and is of type application/x-{place}-request")
    return Service(place)


def _token(authorization: str) -> str:
    """As the password of any user, which git's credential helpers can give, or as a bearer. Raises No."""
    kind, _, value = authorization.partition(" ")
    token = value if kind.lower() == "bearer" else ""
    if kind.lower() == "basic":
        try:
            token = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise No(401, "the credentials cannot be read", CHALLENGE) from None
    if not token or len(token) > MAX_TOKEN:
        raise No(401, "authenticate with the session's token as the password", CHALLENGE)
    return token


def _gzipped(encoding: str) -> bool:
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise No(415, "the body is sent plain or gzipped")
    return encoding != "identity"


async def body(receive: Receive, *, gzipped: bool, idle_s: float) -> AsyncGenerator[bytes]:
    """The body in small pieces, inflated. Whoever reads it bounds it. Raises No when it breaks off or stalls."""
    inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if gzipped else None
    more = True
    while more:
        message = await _piece(receive, idle_s)
        if message["type"] != "http.request":
            raise No(400, "the request was cut off")
        more = message.get("more_body", False)
        raw = message.get("body", b"")
        pieces: Iterable[bytes] = (raw,) if inflating is None else _inflated(inflating, raw)
        for chunk in pieces:
            if chunk:
                yield chunk
    if inflating is not None and not inflating.eof:
        raise No(400, "the gzipped body is cut off")


async def _piece(receive: Receive, idle_s: float) -> Message:
    try:
        async with asyncio.timeout(idle_s):
            return await receive()
    except TimeoutError:
        raise No(408, f"nothing came for {idle_s:g} s") from None


def _inflated(inflating: zlib._Decompress, raw: bytes) -> Iterator[bytes]:
    try:
        yield inflating.decompress(raw, INFLATED_AT_ONCE)
        while inflating.unconsumed_tail:
            yield inflating.decompress(inflating.unconsumed_tail, INFLATED_AT_ONCE)
    except zlib.error:
        raise No(400, "the body is not gzipped") from None
    if inflating.unused_data:
        raise No(400, "something follows the gzipped body")


async def whole(chunks: AsyncIterator[bytes], limit_bytes: int) -> bytes:
    found = bytearray()
    async for chunk in chunks:
        found += chunk
        if len(found) > limit_bytes:
            raise No(413, f"the request is larger than {limit_bytes} bytes")
    return bytes(found)
