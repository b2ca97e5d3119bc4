"""The outer door of the gateway: what is no single, plain, authenticated request never reaches the protocol library.

The library reads the first of two Authorization headers and the last of two JSON keys, so whoever stands before or
behind it may have read another request. Here each of these is refused: headers that decide something stand once, the
body is one JSON object without double keys, and the caller is known by its token.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.ports import Badge

PATH = "/mcp"
BADGE = "flyball.badge"  # where in the request's scope the caller stands
VERSIONS = frozenset({"2026-07-28", "2025-11-25"})
OLD_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18"})
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_HEADERS = 64
BODY_TYPE = b"application/json"
ONCE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
        b"origin",
        b"transfer-encoding",
    }
)


class No(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers or {}


class StrictDoor:
    """ASGI. `badge_of` knows tokens; `hosts` are the values of Host that name this server."""

    def __init__(self, app: ASGIApp, badge_of: Callable[[str], Badge | None], hosts: frozenset[str]) -> None:
        self._app = app
        self._badge_of = badge_of
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            headers = _once(scope)
            _addressed(scope, headers, self._hosts)
            badge = self._caller(headers)
            body = await _body(headers, receive)
            _version(headers, one_object(body))
        except No as no:
            await JSONResponse({"error": no.why}, no.status, no.headers)(scope, receive, send)
            return
        await self._app({**scope, BADGE: badge}, _replay(body, receive), send)

    def _caller(self, headers: dict[bytes, str]) -> Badge:
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer" and token and (badge := self._badge_of(token)) is not None:
            return badge
        challenge = 'Bearer realm="flyball"'
        if token:
            challenge += ', error="invalid_token", error_description="no live session has this token"'
        raise No(401, "authenticate with the session's bearer token", {"WWW-Authenticate": challenge})


def one_object(body: bytes) -> dict[str, Any]:
    """The body as the one JSON object that it can be read as. Raises No."""
    try:
        decoded = json.loads(body.decode(), object_pairs_hook=_no_double_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise No(400, "the body is not one JSON object in UTF-8") from None
    if not isinstance(decoded, dict):
        raise No(400, "the body is not one JSON object; batches are not accepted")
    return decoded


def _no_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise No(400, "a JSON object in the body has the same key twice")
    return found


def _no_constant(name: str) -> None:
    raise No(400, f"{name} is no JSON number")


def _once(scope: Scope) -> dict[bytes, str]:
    """The headers that decide something, each of which stands once."""
    if scope["type"] != "http":
        raise No(400, "this server speaks HTTP")
    if len(scope["headers"]) > MAX_HEADERS:
        raise No(431, f"more than {MAX_HEADERS} headers")
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in found:
            raise No(400, f"header {name.decode('latin-1')} stands twice")
        if name in ONCE:
            found[name] = value.decode("latin-1").strip()
    return found


def _addressed(scope: Scope, headers: dict[bytes, str], hosts: frozenset[str]) -> None:
    """A page in a browser that was lured here names another host or origin (DNS rebinding)."""
    if headers.get(b"host", "") not in hosts:
        raise No(421, "this server is not the host that was asked for")
    origin = headers.get(b"origin")
    if origin is not None and origin.removeprefix("http://") not in hosts:
        raise No(403, "requests from other origins are not accepted")
    if scope["path"] != PATH:
        raise No(404, "there is nothing here")
    if scope["method"] != "POST":
        raise No(405, "requests are sent by POST", {"Allow": "POST"})


async def _body(headers: dict[bytes, str], receive: Receive) -> bytes:
    if headers.get(b"content-encoding", "identity") != "identity":
        raise No(415, "the body is sent without an encoding")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise No(400, "the request was cut off")
        body.extend(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            raise No(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _version(headers: dict[bytes, str], request: dict[str, Any]) -> None:
    """2026-07-28 and 2025-11-25. An initialize of the older one comes before any header could name it."""
    version = headers.get(b"mcp-protocol-version")
    if version is None and request.get("method") == "initialize":
        params = request.get("params")
        version = params.get("protocolVersion") if isinstance(params, dict) else None
        if version in OLD_VERSIONS:
            raise No(400, f"this server speaks MCP {' and '.join(sorted(VERSIONS))}")
    elif version not in VERSIONS:
        raise No(400, f"this server speaks MCP {' and '.join(sorted(VERSIONS))}; name it in MCP-Protocol-Version")


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return unread.pop() if unread else await receive()

    return again
