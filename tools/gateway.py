"""The belts over MCP: one server on loopback, which each session reaches under a token of its own.

Nothing is decided here. The door lets in single, plain, authenticated requests; the protocol library takes them apart;
the toolbox asks the desk and runs the tool. Both revisions of the wire are served without sessions of their own: a
request stands alone, and who asks is in its token. Beside it, under the same identities, stand the token endpoint and
git's own door.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from starlette.types import ASGIApp, Receive, Scope, Send

from controller import VERSION
from controller.desk import INDEX_META, REFUSED_META, TURN_META
from controller.domain.events import DoorKind
from controller.errors import Unavailable
from controller.ports import Badge, Desk, ToolDefinition, ToolResult
from tools.belt import digest_of_definition
from tools.door import BADGE, MAX_BODY_BYTES, PATH, StrictDoor, resource_of
from tools.oauth import TOKEN
from tools.refusals import Refusals
from tools.toolbox import Toolbox
from tools.wire import House, Note, Watched, protocol_of

HOST = "127.0.0.1"
BACKLOG = 128
MAX_CONNECTIONS = 1_000  # as many as sessions can be signed in; one more is answered 503
STOP_S = 5
KEEP_ALIVE_S = 60  # far above the 5 s after which clients drop idle connections, so that none is closed in their hands
MAX_COUNTED = 1_000  # such callers
MAX_PLACE = 2**31 - 1
GIT_PATH = "/git/"
DIGEST_META = "flyball/digest"  # of a tool's definition

Context = ServerRequestContext[dict[str, Any], Any]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is reached."""

    local: str  # "http://127.0.0.1:<port>"
    public: str  # what clients outside know it by; the local one unless a proxy stands before it
    hosts: frozenset[str]  # values of Host that name it

    @property
    def resource(self) -> str:
        """What tokens are made for (RFC 8707)."""
        return self.public + PATH


@dataclass(frozen=True, slots=True)
class Listening:
    """A port that is taken, so that whoever gives out tokens knows the address before the gateway is up."""

    socket: socket.socket
    address: Address


def listen(port: int = 0, public_url: str = "") -> Listening:
    """`port` 0: any free one. Raises Unavailable when it is taken, ConfigError for a public URL that is none."""
    public = resource_of(public_url, port).removesuffix(PATH) if public_url else ""
    listener = _listener(port)
    port = listener.getsockname()[1]
    local = f"http://{HOST}:{port}"
    return Listening(listener, Address(local, public or local, frozenset({f"{HOST}:{port}", f"localhost:{port}"})))


class Gateway:
    """Runs in the event loop that starts it."""

    def __init__(
        self,
        desk: Desk,
        toolbox: Toolbox,
        *,
        name: str = "flyball",
        listening: Listening | None = None,
        oauth: ASGIApp | None = None,
        git: ASGIApp | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """`listening=None`: any free port. `oauth=None`: gives out no tokens. `git=None`: serves no repository.

        `refusals=None`: nobody counts what is turned away.
        """
        self._desk = desk
        self._toolbox = toolbox
        self._listening = listening or listen()
        self._oauth = oauth
        self._git = git
        self._refusals = refusals
        self._counting: asyncio.Task[None] | None = None  # None: not running, or nobody counts
        self.address = self._listening.address
        self.turn = -1 - secrets.randbelow(MAX_PLACE)  # of callers that count no turns: no two processes share one
        self._counted: OrderedDict[str, int] = OrderedDict()
        self._wires: dict[str, tuple[ToolDefinition, types.Tool]] = {}  # as many as there are tools
        self._mcp: Server[dict[str, Any]] = Server(
            name,
            version=VERSION,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            get_tool_input_schema=lambda _: (
                None
            ),  # no tool mirrors arguments into headers, so there is nothing to look up
        )
        self._server: _Server | None = None  # None: not running
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """The URL at which this machine reaches it."""
        address = self.address
        inner = self._mcp.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            host=HOST,
            max_request_body_size=MAX_BODY_BYTES,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the door does it
        )
        door: ASGIApp = StrictDoor(inner, self._desk, address.hosts, self._oauth, address.resource)
        if self._git is not None:
            door = _Doors(door, self._git)
        note: Note = self._refusals.note if self._refusals is not None else _unnoted
        # h11 refuses what the other parser lets through in header values
        config = uvicorn.Config(
            Watched(door, note, frozenset({TOKEN})),
            http=protocol_of(House(note, MAX_CONNECTIONS - 1, (GIT_PATH,))),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        serving = self._server.serve(sockets=[self._listening.socket])
        self._serving = asyncio.create_task(serving, name="mcp-gateway")
        await self._server.is_up_or_over(self._serving)
        if self._refusals is not None:
            self._counting = asyncio.create_task(self._refusals.run(), name="door-refusals")
        return address.local + PATH

    async def stop(self) -> None:
        """Calls that are under way get `STOP_S` seconds. A second call does nothing."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._listening.socket.close()
        self._server = self._serving = None
        if self._counting is not None and self._refusals is not None:
            self._counting.cancel()
            await asyncio.wait({self._counting})
            self._counting = None
            await self._refusals.write_down()

    async def _list_tools(self, ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            listed = await self._toolbox.listed(_caller(ctx))
        except Unavailable as broken:
            raise MCPError(types.INTERNAL_ERROR, broken.message) from broken
        tools = [self._wired(tool) for tool in listed]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    def _wired(self, tool: ToolDefinition) -> types.Tool:
        """As it goes over the wire, made once for a definition."""
        known = self._wires.get(tool.name)
        if known is None or known[0] is not tool:
            known = self._wires[tool.name] = (tool, _wire(tool))
        return known[1]

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        badge = _caller(ctx)
        turn, index = self._place(badge, params.meta)
        result = await self._toolbox.call(badge, params.name, params.arguments or {}, turn=turn, index=index)
        return _answer(result)

    def _place(self, badge: Badge, meta: Any) -> tuple[int, int]:
        """Where in its session a call stands: as the caller says, or counted here for a caller that says nothing."""
        turn, index = ((meta or {}).get(name) for name in (TURN_META, INDEX_META))
        if turn is None and index is None:
            return self.turn, self._counted_for(badge.session)
        if not (_counts(turn) and _counts(index)):
            raise MCPError(types.INVALID_PARAMS, f"{TURN_META} and {INDEX_META} are both whole numbers from 0")
        return cast("int", turn), cast("int", index)

    def _counted_for(self, session: str) -> int:
        index = self._counted.pop(session, 0)
        self._counted[session] = index + 1
        if len(self._counted) > MAX_COUNTED:
            self._counted.popitem(last=False)
        return index


class _Doors:
    """ASGI. Git's own requests to git's door, all others to the door for MCP, which also sees starts and stops."""

    def __init__(self, mcp: ASGIApp, git: ASGIApp) -> None:
        self._mcp = mcp
        self._git = git

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_git = scope["type"] == "http" and scope["path"].startswith(GIT_PATH)
        await (self._git if is_git else self._mcp)(scope, receive, send)


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever owns the process, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._up.set()

    async def is_up_or_over(self, serving: asyncio.Task[None]) -> None:
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({up, serving}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if serving.done():
            raise Unavailable("the tool gateway could not be started", "Look at the log above this line") from (
                serving.exception()
            )


def _listener(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where a socket names its protocol; with it on, an answer takes 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    except OSError as error:
        listener.close()
        raise Unavailable(f"port {port} of {HOST} cannot be used: {error}", "Choose another, or 0 for any") from error
    return listener


def _unnoted(_: DoorKind) -> None: ...


def _counts(number: Any) -> bool:
    return type(number) is int and 0 <= number <= MAX_PLACE


def _caller(ctx: Context) -> Badge:
    if ctx.request is None:
        raise MCPError(types.INVALID_REQUEST, "this server is reached over HTTP")
    badge: Badge = ctx.request.scope[BADGE]
    return badge


def _wire(tool: ToolDefinition) -> types.Tool:
    """With the digest of what a model is told, so that whoever has pinned it notices a change."""
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=dict(tool.input_schema),
        _meta={DIGEST_META: digest_of_definition(tool)},
    )


def _answer(result: ToolResult) -> types.CallToolResult:
    text = types.TextContent(type="text", text=result.text)
    meta = {REFUSED_META: True} if result.refused else None
    return types.CallToolResult(content=[text], is_error=result.error, _meta=meta)
