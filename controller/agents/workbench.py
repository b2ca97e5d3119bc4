"""A session's working copy and its belt of tools, always as the recorded turns left them.

A working copy is never trusted across processes: it is made anew at the base, and the contained calls of the recorded
turns are carried out again. Reads need no second time, and effects must have none: their answers are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.agents.conversation import Call, Turn
from controller.agents.parts import SessionParts
from controller.domain.events import CallRecord, SessionStarted, TurnRecorded
from controller.domain.ids import SessionId
from controller.domain.session import Session
from controller.errors import Permanent
from controller.ports import Belt, Committed, ToolSpec

MAY_DIFFER = frozenset({"run_tests"})  # a run's outcome may change from one time to the next; an edit's may not


@dataclass(slots=True)
class Workbench:
    session: SessionId
    started: SessionStarted
    parts: SessionParts
    in_order: bool = False  # the working copy is what the recorded turns made of the base
    _belt: Belt | None = None  # None: not opened by this run

    async def ready(self, state: Session, turns: Sequence[Turn]) -> None:
        """Raises Permanent when the recorded calls do not give the same answers again."""
        if self.in_order:
            return
        await self.parts.workspaces.create(self.session, self.started.repository, self.started.base)
        await self._open()
        if state.tainted:
            self.parts.desk.taint(self.session)
        for recorded, turn in zip(state.turns, turns, strict=True):
            await self._repeat(recorded, turn)
        self.in_order = True

    async def tools(self) -> list[ToolSpec]:
        """What the belt offers now, and never more than the session began with."""
        offered = await (await self._open()).tools()
        return [tool for tool in offered if tool.name in self.started.tools]

    async def call(self, turn: int, call: Call) -> None:
        """What comes of it is the desk's to record."""
        self.in_order = False
        await (await self._open()).call(call.name, call.arguments, turn=turn, index=call.index)

    async def records(self, turn: int) -> tuple[CallRecord, ...]:
        """What the desk holds of a turn. It forgets it."""
        return await self.parts.desk.turn_records(self.session, turn)

    async def commit(self, message: str, state: Session, turns: Sequence[Turn], at: datetime) -> Committed | None:
        """None: nothing was changed."""
        await self.ready(state, turns)
        return await self.parts.workspaces.commit(self.session, self.started.repository, self.started.base, message, at)

    async def close(self) -> None:
        if self._belt is not None:
            await self._belt.close()
            self._belt = None

    async def _open(self) -> Belt:
        if self._belt is None:
            self._belt = await self.parts.tools.belt(self.session, self.started.role)
        return self._belt

    async def _repeat(self, recorded: TurnRecorded, turn: Turn) -> None:
        calls = {call.index: call for call in turn.reply.calls}
        for record in recorded.calls:
            if record.allowed and record.tool_class == "contained":
                await self._repeat_call(recorded.turn, record, calls[record.index])
        await self.records(recorded.turn)

    async def _repeat_call(self, turn: int, record: CallRecord, call: Call) -> None:
        result = await (await self._open()).call(call.name, call.arguments, turn=turn, index=call.index)
        if record.tool in MAY_DIFFER and not result.refused:
            return
        if result.refused or result.error != record.error:
            raise Permanent(
                f"turn {turn}, call {record.index} ({record.tool}) went differently when it was repeated",
                "Start a new iteration: this working copy cannot be rebuilt",
            )
