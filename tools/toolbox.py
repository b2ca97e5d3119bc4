"""Every call of every belt, over the wire or in process: decided, carried out as allowed, bounded, kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from controller.errors import ConfigError
from controller.ports import Badge, Denied, Desk, ToolDefinition, ToolResult
from prompts.seen import visible
from tools.belt import Call, NotPossible, Tool, bounded

logger = logging.getLogger(__name__)


class Toolbox:
    def __init__(
        self, desk: Desk, tools: Iterable[Tool], *, result_bytes: int, mounted: Callable[[], Sequence[Tool]] = tuple
    ) -> None:
        """`result_bytes` bounds what one call may tell a model. `mounted`: other servers' tools, as of this moment.

        Raises ConfigError when two tools have one name.
        """
        self._desk = desk
        self._result_bytes = result_bytes
        self._mounted = mounted
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.definition.name in self._tools:
                raise ConfigError(f"two tools are named {tool.definition.name}", "Leave one of them out")
            self._tools[tool.definition.name] = tool

    def visible(self, badge: Badge) -> list[ToolDefinition]:
        """By name, so that a session always sees one order."""
        known = self._known()
        return self._desk.visible(badge, [known[name].definition for name in sorted(known)])

    async def listed(self, badge: Badge) -> list[ToolDefinition]:
        """As `visible`; nothing for a session that has been revoked. Raises Unavailable when nobody can tell."""
        known = self._known()
        return await self._desk.listed(badge, [known[name].definition for name in sorted(known)])

    def _known(self) -> dict[str, Tool]:
        """Ours outrank any other server's: a name of theirs that is one of ours never stands for it."""
        return {tool.definition.name: tool for tool in self._mounted()} | self._tools

    async def call(self, badge: Badge, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult:
        """Never raises for anything that a tool does: the agent hears of it in words that name nothing here."""
        tool = self._tools.get(name) or self._known().get(name)
        definition = tool.definition if tool else None
        decided = await self._desk.decide(badge, definition, name, arguments, turn=turn, index=index)
        if tool is None or isinstance(decided, Denied):
            return ToolResult(decided.reason if isinstance(decided, Denied) else "", error=True, refused=True)
        found = await _carried_out(tool, Call(badge, decided.arguments, turn, index))
        result = ToolResult(bounded(visible(found.text), self._result_bytes), found.error)
        self._desk.completed(badge, tool.definition, decided.arguments, decided, result, turn=turn, index=index)
        return result


async def _carried_out(tool: Tool, call: Call) -> ToolResult:
    try:
        return await asyncio.wait_for(tool.run(call), tool.limit_s)
    except NotPossible as why:
        return ToolResult(f"Not done: {why.message}.", error=True)
    except TimeoutError:
        return ToolResult(f"Given up after {tool.limit_s:g} s; it may have been done in part.", error=True)
    except Exception:  # whatever broke is for the operator to read, not for a model
        logger.exception("%s failed in session %s", tool.definition.name, call.badge.session)
        return ToolResult("The tool itself failed, which is no fault of the call. It may work later.", error=True)
