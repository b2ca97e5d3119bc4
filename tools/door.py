"""The outer door of the gateway: what is no single, plain, authenticated request never reaches the protocol library.

The library reads the first of two Authorization headers and the last of two JSON keys, so whoever stands before or
behind it may have read another request. Here each of these is refused: headers that decide something stand once, the
body is one JSON object without double keys, and the caller is known by its token. Who has none is told where tokens
come from, and who has one that comes short is told every scope that the call needs (RFC 6750, RFC 9728).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.errors import ConfigError, Unavailable
from controller.ports import Badge, Desk
from rbac.catalogue import SCOPES
from tools.oauth import OAUTH_PATHS, RESOURCE_METADATA, origin_of

PATH = "/mcp"
LOOPBACK = "127.0.0.1"
BADGE = "flyball.badge"  # where in the request's scope the caller stands
CURRENT, PREVIOUS = "2026-07-28", "2025-11-25"
VERSIONS = frozenset({CURRENT, PREVIOUS})
UNSUPPORTED_VERSION = -32022  # MCP 2026-07-28, errors
MAX_VERSION = 40  # characters of a revision's name that are told back
OLD_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18"})
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_BRACKETS = 200_000  # each may open an object, and each object is looked through for double keys: some 60 ms
MAX_AT_ONCE = 64  # requests of one session; a loop's own makes one at a time
MAX_HEADERS = 64
MAX_TOKEN = 16 * 1024  # characters; an external issuer's can be long
RETRY_S = 5
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


class UnknownVersionError(No):
    """The protocol's own answer to a revision that nobody here speaks."""

    def __init__(self, request: dict[str, Any], version: Any) -> None:
        super().__init__(
            400, f"this server speaks MCP {' and '.join(sorted(VERSIONS))}; name it in MCP-Protocol-Version"
        )
        told = version[:MAX_VERSION] if isinstance(version, str) else None
        identity = request.get("id")
        self.answer = {
            "jsonrpc": "2.0",
            "id": identity if isinstance(identity, str | int) and not isinstance(identity, bool) else None,
            "error": {
                "code": UNSUPPORTED_VERSION,
                "message": self.why,
                "data": {"supported": [CURRENT], "requested": told},
            },
        }


class StrictDoor:
    """ASGI. `hosts` are the values of Host that name this server, besides that of `resource`, the URL clients know.

    `oauth=None`: tokens come from nowhere that could be named here.
    """

    def __init__(self, app: ASGIApp, desk: Desk, hosts: frozenset[str], oauth: ASGIApp | None, resource: str) -> None:
        self._app = app
        self._desk = desk
        self._hosts = hosts | {urlsplit(resource).netloc} - {""}
        self._oauth = oauth
        self._resource = resource
        self._under_way: Counter[str] = Counter()  # by session; as many as there are connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        with ExitStack() as room:
            try:
                headers = _once(scope)
                _addressed(headers, self._hosts)
                if self._oauth is not None and scope["path"] in OAUTH_PATHS:
                    await self._oauth(scope, receive, send)
                    return
                _placed(scope)
                badge = await self._caller(headers)
                room.enter_context(self._room(badge.session))
                body = await _body(headers, receive)
                request = one_object(body)
                body = _in_a_known_version(headers, request, body)
                await self._covered(badge, request)
            except UnknownVersionError as unknown:
                await JSONResponse(unknown.answer, unknown.status)(scope, receive, send)
                return
            except No as no:
                await JSONResponse({"error": no.why}, no.status, no.headers)(scope, receive, send)
                return
            except Unavailable as broken:
                answer = JSONResponse({"error": str(broken)}, 503, {"Retry-After": str(RETRY_S)})
                await answer(scope, receive, send)
                return
            await self._app({**scope, BADGE: badge}, _replay(body, receive), send)

    @contextmanager
    def _room(self, session: str) -> Iterator[None]:
        """One session's requests never fill the server: others have sessions too. Raises No."""
        if self._under_way[session] >= MAX_AT_ONCE:
            raise No(429, f"{MAX_AT_ONCE} requests of this session are under way", {"Retry-After": str(RETRY_S)})
        self._under_way[session] += 1
        try:
            yield
        finally:
            self._under_way[session] -= 1
            if not self._under_way[session]:
                del self._under_way[session]

    async def _caller(self, headers: dict[bytes, str]) -> Badge:
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer" and 0 < len(token) <= MAX_TOKEN:
            badge = await self._desk.authenticated(token)
            if badge is not None:
                return badge
        error = {"error": "invalid_token", "error_description": "no live session has this token"} if token else {}
        why = "authenticate with the session's bearer token"
        raise No(401, why, self._challenge(**error, scope=" ".join(SCOPES)))

    async def _covered(self, badge: Badge, request: dict[str, Any]) -> None:
        """A call for which the token comes short is told what it would need, where its client could get it."""
        params = request.get("params")
        name = params.get("name") if isinstance(params, dict) else None
        if request.get("method") != "tools/call" or not isinstance(name, str):
            return
        short = await self._desk.scopes_short(badge, name)
        if short:
            needed = " ".join(short)
            why = f"this token does not cover the call: ask for a token with scope {needed}"
            raise No(403, why, self._challenge(error="insufficient_scope", scope=needed))

    def _challenge(self, **said: str) -> dict[str, str]:
        """RFC 6750, section 3. None of the values has a quote in it."""
        known = {"resource_metadata": origin_of(self._resource) + RESOURCE_METADATA} if self._oauth else {}
        parts = [f'{name}="{value}"' for name, value in {"realm": "flyball", **said, **known}.items()]
        return {"WWW-Authenticate": f"Bearer {', '.join(parts)}"}


def resource_of(public_url: str, port: int) -> str:
    """The URL that clients know the gateway by, and that tokens are good for. "": nobody can know it beforehand.

    Raises ConfigError for a public URL that is not at the root of a host, or over which tokens would travel in clear.
    """
    if not public_url:
        return f"http://{LOOPBACK}:{port}{PATH}" if port else ""
    parts = urlsplit(public_url)
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    local = parts.scheme == "http" and parts.hostname in (LOOPBACK, "localhost")
    if not (plain and parts.netloc and (parts.scheme == "https" or local)):
        raise ConfigError(
            f"gateway.public_url is {public_url!r}", "Give the address of a host, as https://flyball.example.org"
        )
    return f"{parts.scheme}://{parts.netloc}{PATH}"


def one_object(body: bytes) -> dict[str, Any]:
    """The body as the one JSON object that it can be read as. Raises No."""
    if body.count(b"{") + body.count(b"[") > MAX_BRACKETS:
        raise No(400, f"the body has more than {MAX_BRACKETS} opening brackets")
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


def _addressed(headers: dict[bytes, str], hosts: frozenset[str]) -> None:
    """A page in a browser that was lured here names another host or origin (DNS rebinding)."""
    if headers.get(b"host", "") not in hosts:
        raise No(421, "this server is not the host that was asked for")
    origin = headers.get(b"origin")
    if origin is not None and origin.removeprefix("https://").removeprefix("http://") not in hosts:
        raise No(403, "requests from other origins are not accepted")


def _placed(scope: Scope) -> None:
    """One path, one method, and nothing in the query: whatever stands in a URL is logged by somebody."""
    if scope["path"] != PATH:
        raise No(404, "there is nothing here")
    if scope["method"] != "POST":
        raise No(405, "requests are sent by POST", {"Allow": "POST"})
    if scope["query_string"]:
        raise No(400, "nothing is asked in the URL, and least of all with a token in it")


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


def _in_a_known_version(headers: dict[bytes, str], request: dict[str, Any], body: bytes) -> bytes:
    """The body as it goes on. Raises UnknownVersionError.

    An `initialize` of the older revision comes before any header could name it. One that proposes a revision older
    still is answered with the oldest that is spoken here, for the client to take or leave (MCP 2025-11-25, lifecycle).
    """
    version = headers.get(b"mcp-protocol-version")
    if version is None and request.get("method") == "initialize":
        params = request.get("params")
        proposed = params.get("protocolVersion") if isinstance(params, dict) else None
        if isinstance(params, dict) and proposed in OLD_VERSIONS:
            return json.dumps({**request, "params": {**params, "protocolVersion": PREVIOUS}}).encode()
        return body
    if version not in VERSIONS:
        raise UnknownVersionError(request, version)
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return unread.pop() if unread else await receive()

    return again
