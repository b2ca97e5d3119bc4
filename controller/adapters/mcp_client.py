"""A session's belt over MCP: one client per session, kept open, because opening one costs more than a call.

The client lives in a task of its own from `open` to `close`: its connection must be closed by the task that opened it,
and steps of a session run in tasks that come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from controller.desk import INDEX_META, REFUSED_META, TURN_META
from controller.errors import Permanent, Unavailable
from controller.ports import Badge, Desk, ToolResult, ToolSpec

WIRE = "2026-07-28"
CALL_S = 660.0  # a little above the slowest tool, a run of all tests
CONNECT_S = 5.0


class McpTools:
    """`ports.Tools`. `badge_for` gives the badge of a session to be started."""

    def __init__(
        self,
        url: str,
        desk: Desk,
        badge_for: Callable[[str], Awaitable[Badge]],
        *,
        call_s: float = CALL_S,
    ) -> None:
        self._desk = desk
        self._url = url
        self._badge_for = badge_for
        self._call_s = call_s

    async def belt(self, session: str, role: str) -> McpBelt:
        badge = await self._badge_for(session)
        if (badge.session, badge.role) != (session, role):
            raise Permanent(f"session {session} has no badge for {role}", "Mend whoever makes badges")
        token = self._desk.sign_in(badge)
        belt = McpBelt(self._desk, session, token, self._url, self._call_s)
        try:
            await belt.open()
        except BaseException:
            self._desk.sign_out(session)
            raise
        return belt


class McpBelt:
    def __init__(self, desk: Desk, session: str, token: str, url: str, call_s: float) -> None:
        self._desk = desk
        self._session = session
        self._token = token
        self._url = url
        self._call_s = call_s
        self._client: Client | None = None  # None: not open
        self._done = asyncio.Event()
        self._holding: asyncio.Task[None] | None = None

    async def open(self) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holding = asyncio.create_task(self._hold(ready), name=f"belt-{self._session}")
        await ready

    async def tools(self) -> list[ToolSpec]:
        listed = await self._asked(self._open_client().list_tools())
        return [ToolSpec(tool.name, tool.description or "", tool.input_schema) for tool in listed.tools]

    async def call(self, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult:
        """Raises Unavailable when no answer comes in time, Permanent when the session is no longer signed in."""
        meta: Any = {TURN_META: turn, INDEX_META: index}
        result = await self._asked(self._open_client().call_tool(name, dict(arguments), meta=meta))
        return _result_of(result)

    async def close(self) -> None:
        """Signs the session out; a second call does nothing."""
        if self._desk.badge(self._token) is not None:
            self._desk.sign_out(self._session)
        self._done.set()
        if self._holding is not None:
            await asyncio.wait({self._holding})

    async def _hold(self, ready: asyncio.Future[None]) -> None:
        try:
            async with (
                httpx2.AsyncClient(
                    headers={"Authorization": f"Bearer {self._token}"},
                    timeout=httpx2.Timeout(self._call_s, connect=CONNECT_S),
                    trust_env=False,
                ) as http,
                Client(
                    streamable_http_client(self._url, http_client=http),
                    mode=WIRE,
                    cache=None,
                    read_timeout_seconds=self._call_s,
                ) as self._client,
            ):
                ready.set_result(None)
                await self._done.wait()
        except Exception as error:  # noqa: BLE001 - whoever opens the belt is told
            if not ready.done():
                ready.set_exception(Unavailable(f"the tool gateway cannot be reached: {error}", "Is it running?"))
        finally:
            self._client = None

    def _open_client(self) -> Client:
        if self._client is None or self._desk.badge(self._token) is None:
            raise Permanent(f"session {self._session} is not signed in", "Open its belt again")
        return self._client

    async def _asked(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except MCPError as error:
            raise Unavailable(f"the tool gateway did not answer: {error}", "Is it running?") from error
        except ValidationError as error:
            raise Permanent(
                "the tool gateway's answer is none", "Client and gateway are of different versions"
            ) from error


def _result_of(result: types.CallToolResult) -> ToolResult:
    text = "\n".join(part.text for part in result.content if isinstance(part, types.TextContent))
    return ToolResult(text, result.is_error, refused=bool((result.meta or {}).get(REFUSED_META)))
