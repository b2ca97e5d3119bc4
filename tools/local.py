"""Belts without a wire: the same desk and tools in process. For the simulation, and the twin of belts over MCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.errors import Permanent
from controller.ports import Badge, Desk, ToolResult, ToolSpec
from tools.toolbox import Toolbox


class LocalTools:
    """`ports.Tools`. `badge_for` gives the badge of a session that is about to start or to be taken up."""

    def __init__(self, desk: Desk, toolbox: Toolbox, badge_for: Callable[[str], Awaitable[Badge]]) -> None:
        self._desk = desk
        self._toolbox = toolbox
        self._badge_for = badge_for

    async def belt(self, session: str, role: str) -> LocalBelt:
        badge = await self._badge_for(session)
        if (badge.session, badge.role) != (session, role):
            raise Permanent(f"session {session} has no badge for {role}", "Mend whoever makes badges")
        return LocalBelt(self._desk, self._toolbox, session, self._desk.sign_in(badge))


class LocalBelt:
    def __init__(self, desk: Desk, toolbox: Toolbox, session: str, token: str) -> None:
        self._desk = desk
        self._toolbox = toolbox
        self._session = session
        self._token = token

    async def tools(self) -> list[ToolSpec]:
        visible = await self._toolbox.listed(self._badge())
        return [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in visible]

    async def call(self, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult:
        """Raises Permanent when the session is no longer signed in."""
        return await self._toolbox.call(self._badge(), name, arguments, turn=turn, index=index)

    async def close(self) -> None:
        """Signs the session out; a second call does nothing."""
        if self._desk.badge(self._token) is not None:
            self._desk.sign_out(self._session)

    def _badge(self) -> Badge:
        badge = self._desk.badge(self._token)
        if badge is None:
            raise Permanent(f"session {self._session} is not signed in", "Open its belt again")
        return badge
