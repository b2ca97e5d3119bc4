"""A session's stream, as one run of it reads and writes it.

The stream has one writer at a time besides the gate, which adds refusals whenever it refuses. A run that finds anything
else it did not write knows that another worker has taken the session up, and leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.agents.conversation import Answer, Reply, Turn, read_reply
from controller.agents.course import Times
from controller.agents.thinking import joined
from controller.domain.entry import Caller, Draft, Entry, UnknownEvent
from controller.domain.events import (
    CallRecord,
    CallRefused,
    Event,
    ReasoningRecorded,
    ReplyRecorded,
    SessionResumed,
    SessionStarted,
    TurnRecorded,
)
from controller.domain.guards import Guard
from controller.domain.ids import digest_bytes, session_stream
from controller.domain.session import Session, evolve
from controller.errors import Permanent, Unavailable
from controller.ports import Log, Receipt, Rejected, Seals

APPEND_ATTEMPTS = 20  # each lost to a refusal that the gate recorded in between


@dataclass(slots=True)
class Notebook:
    state: Session
    log: Log
    seals: Seals
    caller: Caller
    turns: list[Turn] = field(default_factory=list)  # the recorded ones, opened
    needs_newer: bool = False  # it holds an entry of a kind that this version does not know
    inexact: bool = False  # a recorded reply held a secret, which was taken out: what it did cannot be done again
    _since: datetime | None = None  # None: nothing read yet
    _worked_at: datetime | None = None  # None: nothing read yet
    _resumed: int = 0
    _reply: Reply | None = None  # None: not opened, or no reply waits

    @property
    def started(self) -> SessionStarted:
        """Raises Permanent for a session that nobody has started."""
        if self.state.started is None:
            raise Permanent(f"session/{self.state.id} has no SessionStarted", "Let the author step start it")
        return self.state.started

    @property
    def turn(self) -> int:
        return len(self.state.turns)

    @property
    def times(self) -> Times:
        return Times(_read(self._since), self._resumed)

    @property
    def worked_at(self) -> datetime:
        """Time of the newest recorded turn, or of the start: the date that a commit of these turns bears."""
        return _read(self._worked_at)

    @property
    def waiting(self) -> ReplyRecorded | None:
        """The paid reply that has not been acted on. None: there is none."""
        return self.state.replies[-1] if len(self.state.replies) > len(self.state.turns) else None

    async def read(self) -> None:
        """Everything there is, whoever wrote it."""
        for entry in await self._new_entries():
            await self._take(entry)

    async def catch_up(self) -> bool:
        """Take in what the gate has added. False: another worker has the session."""
        return await self._take_added(await self._new_entries())

    async def append(self, event: Event, guards: Sequence[Guard] = ()) -> Rejected | None:
        """Durable when it returns. None: it is recorded. Rejected without a guard: another worker has the session."""
        stream = session_stream(self.state.id)
        for _ in range(APPEND_ATTEMPTS):
            expect = {stream: self.state.version}
            answer = await self.log.append([Draft(stream, event)], expect=expect, by=self.caller, guards=guards)
            if isinstance(answer, Receipt):
                own, *added = await self._new_entries()
                await self._take(own)
                await self._take_added(added)
                return None
            if answer.guard is not None or not await self.catch_up():
                return answer
        raise Unavailable(f"{stream} moved on {APPEND_ATTEMPTS} times while {event.kind()} was appended")

    def heard(self, reply: Reply) -> None:
        """The waiting reply as it came: what is sealed of it has no secrets any more, and may so be another one."""
        if self.waiting is not None:
            self._reply = reply

    async def reply(self) -> Reply:
        """The waiting reply, opened."""
        if self.waiting is None:
            raise Permanent(f"session/{self.state.id} has no reply that waits to be acted on")
        if self._reply is None:
            text = await self.seals.open(self.waiting.reply_sealed)
            self.inexact = self.inexact or digest_bytes(text.encode()) != self.waiting.reply
            self._reply = await self._with_thinking(read_reply(text), self.waiting)
        return self._reply

    async def _with_thinking(self, said: Reply, recorded: ReplyRecorded) -> Reply:
        """What was erased is left out: a supplement is needed by nothing."""
        if recorded.thinking_sealed is None:
            return said
        try:
            return joined(said, await self.seals.open(recorded.thinking_sealed))
        except Permanent:
            return said

    async def _new_entries(self) -> list[Entry]:
        return await self.log.read(session_stream(self.state.id), self.state.version)

    async def _take_added(self, entries: list[Entry]) -> bool:
        if not all(isinstance(entry.event, CallRefused | ReasoningRecorded) for entry in entries):
            return False
        for entry in entries:
            await self._take(entry)
        return True

    async def _take(self, entry: Entry) -> None:
        match entry.event:
            case SessionStarted():
                self._since = self._worked_at = entry.time
            case SessionResumed():
                self._since, self._resumed = entry.time, self._resumed + 1
            case TurnRecorded() as recorded:
                self.turns.append(Turn(await self.reply(), await self._answers(recorded)))
                self._worked_at, self._resumed, self._reply = entry.time, 0, None
            case UnknownEvent():
                self.needs_newer = True
        self.state = evolve(self.state, entry)

    async def _answers(self, recorded: TurnRecorded) -> tuple[Answer, ...]:
        return tuple([await self._answer(call) for call in sorted(recorded.calls, key=lambda call: call.index)])

    async def _answer(self, call: CallRecord) -> Answer:
        if call.result_sealed is not None:
            return Answer(await self.seals.open(call.result_sealed), error=call.error or not call.allowed)
        words = "" if call.allowed else f"Refused, and nothing was changed (rules {', '.join(call.rules)})."
        return Answer(words, error=call.error or not call.allowed)


def _read(time: datetime | None) -> datetime:
    if time is None:
        raise Permanent("the session's stream has not been read")
    return time
