"""What the desk asks the policy engine, where the engine cannot hold the loop up, and what its silence means: no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from controller.errors import Unavailable
from controller.off_loop import Runner
from controller.ports import Badge, ToolDefinition
from rbac.decide import Authority
from rbac.model import Decision, Request

T = TypeVar("T")
MAX_BELTS = 10_000  # lists of tools that are remembered


class Engine:
    """The authority, asked elsewhere than in the loop. Lists of tools are remembered, decisions are not."""

    def __init__(self, authority: Authority, runner: Runner) -> None:
        self._authority = authority
        self._runner = runner
        self._belts: dict[tuple[str, tuple[str, ...], frozenset[str] | None, tuple[str, ...]], tuple[str, ...]] = {}

    async def answer(self, asked: Request) -> Decision:
        """Never raises. An engine that does not answer in time has said no."""
        try:
            return await self._runner.run(self._authority.decide, asked)
        except Unavailable as late:
            reason = f"the engine failed on {asked.agent} and {asked.tool}: {late.message}"
            return Decision(allowed=False, rules=("engine-error",), reason=reason)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Work that asks many questions at once. Raises what it raises, and Unavailable when it is not done in time."""
        return await self._runner.run(work)

    async def belt(self, badge: Badge, tools: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the tools of which some call by this session, and by all of its chain, could be allowed."""
        key = (self._authority.digest, tuple(link.role for link in badge.chain), scopes_held(badge), tools)
        if key not in self._belts:
            if len(self._belts) >= MAX_BELTS:
                self._belts.clear()
            try:
                seen = await self._runner.run(belt_of, self._authority, badge, tools)
            except Unavailable:
                seen = ()
            if not seen:
                return ()  # an engine that fails shows nothing, and is asked again
            self._belts[key] = seen
        return self._belts[key]

    async def gives(self, role: str, tool: str) -> bool:
        """Whether the grants of this role have such a tool at all, whatever its token says. Raises Unavailable."""
        return bool(await self._runner.run(self._authority.visible_tools, role, (tool,)))


def belt_of(authority: Authority, badge: Badge, tools: tuple[str, ...]) -> tuple[str, ...]:
    lenders = [link.role for link in badge.chain[1:]]
    return authority.visible_tools(badge.role, tools, scopes_held(badge), lenders)


def scopes_held(badge: Badge) -> frozenset[str] | None:
    """Those of all tokens along the chain. None: none of them is narrowed."""
    narrowed = [link.scopes for link in badge.chain if link.scopes is not None]
    return frozenset.intersection(*narrowed) if narrowed else None


def among(tools: Sequence[ToolDefinition], seen: tuple[str, ...]) -> list[ToolDefinition]:
    return [tool for tool in tools if tool.name in {*seen}]
