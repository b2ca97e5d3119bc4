"""One run of a session in one process: what its nodes share. It dies with the process, and nothing in it is missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from controller.agents.conversation import messages
from controller.agents.course import Act, Ask, Course, End, Over, course_of
from controller.agents.notebook import Notebook
from controller.agents.parts import Left, SessionParts, SessionProgress
from controller.agents.prompt import Prompt, read_prompt
from controller.agents.spending import revocation_of, scopes_that_stop
from controller.agents.workbench import Workbench
from controller.domain.guards import NotStopped, Under
from controller.domain.ids import MicroUsd
from controller.domain.money import usd
from controller.ports import ModelReply, ModelRequest, Rejected

Stop = Literal["ask", "act", "finish", "leave"]


class Place(TypedDict):
    """All that a checkpoint holds."""

    turn: int
    reply: str  # blob of the sealed reply that waits to be acted on; "" when none does


@dataclass(slots=True)
class Run:
    parts: SessionParts
    notebook: Notebook
    bench: Workbench
    ending: End | None = None  # None: nothing beside the log ends it
    left: Left | None = None  # None: under way
    prompt: Prompt | None = None  # None: not opened
    unrecorded: tuple[ModelReply, MicroUsd] | None = None  # a paid reply whose recording failed; None: there is none

    def place(self) -> Place:
        waiting = self.notebook.waiting
        return Place(turn=self.notebook.turn, reply=waiting.reply_sealed.digest if waiting else "")

    def course(self) -> Course:
        if self.ending is not None:
            return self.ending
        book, parts = self.notebook, self.parts
        return course_of(book.state, book.turns, parts.bounds, book.times, parts.clock.now())

    def next_stop(self) -> Stop:
        if self.left is not None:
            return "leave"
        match self.course():
            case Ask():
                return "ask"
            case Act():
                return "act"
            case End():
                return "finish"
            case Over():
                return "leave"

    async def is_due(self, step: type[Ask | Act]) -> bool:
        """The log, read now, says that this is what comes next, and nothing stands in the way."""
        if not await self.notebook.catch_up():
            self.left = Left.LOST
            return False
        return isinstance(self.course(), step) and await self.may_go_on()

    async def may_go_on(self) -> bool:
        """False: it is stopped (and parked), or revoked (and ends)."""
        session, started = self.notebook.state.id, self.notebook.started
        wanted = scopes_that_stop(session, started)
        standing = {row.scope: row for row in await self.parts.log.control() if row.scope in wanted}
        revoked = standing.get(revocation_of(session))
        if revoked is not None:
            self.ending = End("revoked", f"the session was revoked at log#{revoked.since}")
        elif standing:
            self.left = Left.PARKED
        return not standing

    async def accept(self, rejected: Rejected) -> None:
        """What a rejected append means for this run."""
        guard = rejected.guard
        if isinstance(guard, Under):
            words = f"{usd(guard.amount)} more does not fit under {usd(guard.limit)} of {guard.scope} ({guard.window})"
            self.ending = End("budget", words)
        elif isinstance(guard, NotStopped):
            if await self.may_go_on():  # lifted in between; the next wake finds the way clear
                self.left = Left.PARKED
        else:
            self.left = Left.LOST

    async def request(self) -> ModelRequest:
        book, started, bounds = self.notebook, self.notebook.started, self.parts.bounds
        if self.prompt is None:
            self.prompt = read_prompt(await self.parts.seals.open(started.prompt))
        return ModelRequest(
            model=started.model,
            system=self.prompt.system,
            messages=messages(self.prompt.user, book.turns, bounds.tool_result_bytes),
            tools=await self.bench.tools(),
            max_tokens=bounds.reply_max_tokens,
            session=book.state.id,
            turn=book.turn,
        )

    def tell(self, doing: Literal["asking", "acting", "ended"], tools: tuple[str, ...] = (), outcome: str = "") -> None:
        state = self.notebook.state
        self.parts.on_progress(
            SessionProgress(state.id, self.notebook.turn, doing, tools, state.cost_micro_usd, outcome)
        )
