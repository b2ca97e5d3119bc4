"""One mounted MCP server: a client of our own, held open, and a view of its tools that nobody but the pins opens.

A server can change what a tool says of itself after somebody has read and approved it. So a definition counts only
while its digest is the pinned one: the list is taken anew every minute and after every notice of a change, each call
looks at the latest list first, and a tool whose definition has changed is gone until somebody pins it again. Between a
list and the call behind it lies one round trip, in which a server could still change its words; and what it does under
unchanged words no pin can see. The first changes nothing (the model has read the words that were pinned); the second
is why a grant, the gate and the taint stand before and after each call.

The client lives in a task of its own: its connection must be closed by the task that opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from controller.adapters.mount_wire import CONNECT_S, MAX_ANSWER_BYTES, Endpoint, OneServer, words
from controller.domain.ids import Digest, digest_of
from controller.errors import FlyballError, Permanent, Unavailable
from controller.ports import ToolResult
from controller.settings import MountSection

MAX_CALLS = 4  # at one server at once; more wait within their own time
MAX_PAGES, MAX_TOOLS = 20, 500
MAX_PARTS = 100  # of one result
RELIST_S = 60.0
RELIST_FLOOR_S = 0.25  # a server that tells of changes without end is listed no oftener than this
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
CLOSE_S = 3.0
# The server says no to the request itself, and so has carried nothing out.
_DECLINED = {
    types.METHOD_NOT_FOUND: "it knows no such tool",
    types.INVALID_PARAMS: "it does not accept these arguments",
    types.HEADER_MISMATCH: "it expects headers that this gateway did not send",
}

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as its server describes it. `digest` covers every field, as it was received."""

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None  # None: the server says nothing of the form of its results
    annotations: Mapping[str, Any]
    digest: Digest


class Mount:
    """Runs in one event loop. `now`: seconds that only grow."""

    def __init__(
        self,
        name: str,
        section: MountSection,
        endpoint: Endpoint,
        *,
        now: Callable[[], float] = time.monotonic,
        backoff_s: tuple[float, ...] = BACKOFF_S,
    ) -> None:
        self.name = name
        self.section = section
        self._endpoint = endpoint
        self._now = now
        self._backoff_s = backoff_s
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._one_listing = asyncio.Lock()
        self._client: Client | None = None  # None: not connected
        self._wire: OneServer | None = None  # None: never connected yet
        self._definitions: dict[str, Definition] = {}
        self._listed_at: float | None = None  # None: not since it was connected, or a change has been told of
        self._last_listing = float("-inf")
        self._told: dict[str, str] = {}  # by what it is about: why, as the log was told last
        self._wake, self._tried = asyncio.Event(), asyncio.Event()
        self._idle = asyncio.Event()  # no call is under way
        self._idle.set()
        self._under_way = 0
        self._closing = self._lost = False
        self._failures = 0  # in a row
        self._holding: asyncio.Task[None] | None = None  # None: not opened

    # --- open and close ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Returns when the server was listed, could not be, or let its seconds pass; it is tried on until closed."""
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold(), name=f"mount-{self.name}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), self.section.seconds)

    async def close(self) -> None:
        """A second call does nothing."""
        self._closing = True
        self._wake.set()
        if self._holding is not None:
            _, late = await asyncio.wait({self._holding}, timeout=CLOSE_S)
            for task in late:  # the server does not let go
                task.cancel()
                await asyncio.wait({task})

    async def _hold(self) -> None:
        while not self._closing:
            self._lost = False
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - a group of whatever the library and the server made of it
                why = self._reason(error)
                self._tell("connection", why, why)
            self._tried.set()
            pause = self._backoff_s[min(self._failures, len(self._backoff_s) - 1)]
            self._failures, self._lost = self._failures + 1, False
            self._wake.clear()
            await self._pause(pause)

    async def _connected(self) -> None:
        """Until the connection is lost or somebody closes. Raises whatever the library raises."""
        try:
            async with self._opened() as self._client:
                await self._fresh()
                self._failures = 0
                self._told.pop("connection", None)
                self._tried.set()
                listening = asyncio.create_task(self._listen(self._client), name=f"mount-{self.name}-changes")
                try:
                    await self._kept_fresh()
                finally:
                    self._lost = True  # nobody begins a call on it any more
                    await self._drained()
                    listening.cancel()
                    await asyncio.wait({listening})
        finally:
            self._client = self._listed_at = None

    async def _kept_fresh(self) -> None:
        while not (self._closing or self._lost):
            await self._pause(RELIST_S)
            if not (self._closing or self._lost):
                await self._asked(self._fresh())

    async def _drained(self) -> None:
        """Closing cuts off every call: one that is under way would end with nobody knowing whether it was done."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.section.seconds)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        seconds = self.section.seconds
        self._wire = OneServer(self._endpoint, seconds=seconds, connections=MAX_CALLS + 2)
        timeout = httpx2.Timeout(seconds, connect=CONNECT_S, read=None)  # calls and answers have bounds of their own
        async with (
            httpx2.AsyncClient(transport=self._wire, timeout=timeout, trust_env=False) as http,
            Client(
                streamable_http_client(self._endpoint.url, http_client=http, max_sse_event_size=MAX_ANSWER_BYTES),
                cache=None,
                read_timeout_seconds=seconds + CONNECT_S,
                message_handler=self._heard,
            ) as client,
        ):
            yield client

    async def _pause(self, seconds: float) -> None:
        """Shorter when something has happened, now or since the last pause."""
        if not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    # --- which tools there are ---------------------------------------------------------------------------------------

    def pinned(self) -> tuple[Definition, ...]:
        """The tools that exist for agents: of the latest list, those that are still what was pinned."""
        return tuple(tool for tool in self._definitions.values() if self._why_withdrawn(tool.name) is None)

    @property
    def usable(self) -> bool:
        """A call would be sent at this moment."""
        return self._client is not None and not self._lost

    async def definitions(self) -> tuple[Definition, ...]:
        """All that the server offers now. Raises Permanent, Unavailable."""
        async with self._one_listing:
            await self._asked(self._list())
        return tuple(self._definitions.values())

    async def _fresh(self) -> None:
        """See to it that the list is younger than a minute and than the latest notice of a change."""
        async with self._one_listing:
            if self._listed_at is None or self._now() - self._listed_at >= RELIST_S:
                await asyncio.sleep(max(0.0, self._last_listing + RELIST_FLOOR_S - time.monotonic()))
                await self._list()

    async def _list(self) -> None:
        client, begun = self._open_client(), self._now()
        self._last_listing, self._listed_at = time.monotonic(), begun
        try:
            found = await _all_tools(client)
        except BaseException:
            self._listed_at = None
            raise
        counted = Counter(tool.name for tool in found)
        self._definitions = {tool.name: tool for tool in found if counted[tool.name] == 1}
        for name, pin in self.section.tools.items():
            if (why := self._why_withdrawn(name, counted[name])) is not None:
                now = self._definitions[name].digest if name in self._definitions else "nothing"
                look = f"look at it with `flyball rbac pin {self.name}`"
                self._tell(name, why, f"{name} is withdrawn, {why}: pinned {pin.digest}, now {now}; {look}")
            else:
                self._told.pop(name, None)

    def _why_withdrawn(self, tool: str, offered: int = 1) -> str | None:
        """None: it is there, and is what was pinned."""
        pin, found = self.section.tools.get(tool), self._definitions.get(tool)
        if pin is None:
            return "nobody has pinned it"
        if found is None:
            return "the server offers two of that name" if offered > 1 else "the server does not offer it"
        return None if found.digest == pin.digest else "its definition has changed since it was pinned"

    async def _heard(self, message: Any) -> None:
        """Servers of the former revision tell of changes unasked."""
        if isinstance(message, types.ToolListChangedNotification):
            self._changed()

    async def _listen(self, client: Client) -> None:
        """Servers of the current revision tell of changes when asked. Without it, a list is a minute old at most."""
        heard = True
        while heard:
            heard = False
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    heard = True
                    self._changed()  # of what happened between the last list and now, nobody was told
                    async for _ in changes:
                        self._changed()
            except Exception as error:  # noqa: BLE001 - whatever it is, listing every minute stays
                logger.debug("mount %s tells of no changes: %s", self.name, type(error).__name__)
            if heard:
                self._changed()
                await asyncio.sleep(RELIST_S)

    def _changed(self) -> None:
        self._listed_at = None
        self._wake.set()

    # --- calling one -------------------------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Once, whatever comes of it. The text is the server's own, without the secret and the address.

        Raises Permanent when nothing can have been carried out, Unavailable when it may have been; both speak our
        words only.
        """
        sent = False
        try:
            async with asyncio.timeout(self.section.seconds), self._slots:
                await self._ready(tool)
                request = types.CallToolRequest(
                    params=types.CallToolRequestParams(name=tool, arguments=dict(arguments))
                )
                # Below the library's own `call_tool`, which lists, sends again, and runs the server's output schema.
                question, sent = self._open_client().session.send_request(request, types.CallToolResult), True
                answer: types.CallToolResult = await self._counted(self._asked(question))
        except TimeoutError:
            how = f"{self.name} did not answer within {self.section.seconds} s"
            raise (Unavailable(how) if sent else Permanent(how)) from None
        return ToolResult(self._readable(answer), answer.is_error)

    async def _ready(self, tool: str) -> None:
        """Raises Permanent: whatever is wrong here is wrong before anything was sent."""
        try:
            await self._asked(self._fresh())
        except Unavailable as error:
            raise Permanent(error.message, "Try again in a minute") from None
        if (why := self._why_withdrawn(tool)) is not None:
            raise Permanent(f"{tool} of {self.name} is withdrawn, {why}", "A person must look at it")

    async def _counted(self, question: Awaitable[T]) -> T:
        self._under_way += 1
        self._idle.clear()
        try:
            return await question
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _open_client(self) -> Client:
        if self._client is None or not self.usable:
            raise Permanent(f"{self.name} cannot be reached at the moment", "Try again in a minute")
        return self._client

    async def _asked(self, question: Awaitable[T]) -> T:
        """Errors in words of ours: what the library and the server say is for nobody's log and nobody's model."""
        try:
            return await question
        except FlyballError:
            raise
        except MCPError as error:
            raise self._meant(error) from None
        except Exception as error:  # noqa: BLE001 - what a server's answer made the library raise
            self._lose()
            raise Unavailable(f"{self.name} failed: its answer is none ({type(error).__name__})") from None

    def _meant(self, error: MCPError) -> FlyballError:
        broken = self._wire.broken(error.code, error.error.data) if self._wire else None
        if broken is not None:
            self._listed_at = None  # a server that comes back may be another one
            kind = Permanent if broken.nothing_done else Unavailable
            return kind(f"{self.name} failed: {words(broken)}")
        if error.code in _DECLINED:
            return Permanent(f"{self.name} failed: {_DECLINED[error.code]}")
        if error.code in (types.CONNECTION_CLOSED, types.INVALID_REQUEST):
            self._lose()
        return Unavailable(f"{self.name} failed with error {error.code}")

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, BaseExceptionGroup):
            return ", ".join(sorted({self._reason(inner) for inner in error.exceptions}))
        if isinstance(error, MCPError):
            error = self._meant(error)
        return error.message if isinstance(error, FlyballError) else f"{self.name} failed: {type(error).__name__}"

    def _lose(self) -> None:
        self._lost = True
        self._wake.set()

    def _readable(self, answer: types.CallToolResult) -> str:
        said = [
            part.text if isinstance(part, types.TextContent) else f"[{part.type} left out]"
            for part in answer.content[:MAX_PARTS]
        ]
        if len(answer.content) > MAX_PARTS:
            said.append(f"[{len(answer.content) - MAX_PARTS} further parts left out]")
        if not said and answer.structured_content is not None:
            said.append(json.dumps(answer.structured_content, ensure_ascii=False))
        text = self._endpoint.redact.text("\n".join(said))
        return text.replace(self._endpoint.url, "[address]")

    def _tell(self, about: str, why: str, line: str) -> None:
        """The operator, once for each reason in turn. Names are those of the settings, never a server's."""
        if self._told.get(about) != why:
            self._told[about] = why
            logger.warning("mount %s: %s", self.name, line)


def definition_digest(tool: types.Tool) -> Digest:
    """Of all that a model or a reviewer is shown: name, title, description, both schemas, annotations.

    Raises ValueError for a definition that has no one spelling in JSON.
    """
    return digest_of(_fields(tool))


def _fields(tool: types.Tool) -> dict[str, Any]:
    annotations = tool.annotations.model_dump(mode="json", by_alias=True, exclude_none=True) if tool.annotations else {}
    return {
        "name": tool.name,
        "title": tool.title or "",
        "description": tool.description or "",
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "annotations": annotations,
    }


async def _all_tools(client: Client) -> list[Definition]:
    found: list[Definition] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
        found += [Definition(**_fields(tool), digest=definition_digest(tool)) for tool in page.tools]
        cursor = page.next_cursor
        if cursor is None or len(found) > MAX_TOOLS:
            break
    if cursor is not None or len(found) > MAX_TOOLS:
        raise ValueError(f"more than {MAX_TOOLS} tools or {MAX_PAGES} pages of them")
    return found
