"""The gate's agent side: what a session may call, and what stays of every call.

Each call is decided in one order: signed in; stops and revocations; bounds and rates; the tool, where unknown and
forbidden read the same; the arguments, held to one reading; then the grants, for the session and for everyone whose
authority it was lent. A refusal is in the session's stream before the agent hears of it, and stays a refusal when the
log cannot take it. Allowed calls are kept until the turn that they belong to is recorded; those of a program outside,
which counts no turns, are written down soon after, and always before it has an effect.

Refusals move the version of the session's stream: whoever records a turn reads the version after the turn's calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast

from controller.commit_paths import Ask, decide_commit, refused_among
from controller.desk_arguments import Names, Refusal, digest_of_anything, names_in, strict
from controller.desk_engine import Engine, among, belt_of
from controller.desk_record import Kept
from controller.desk_sessions import Session, Sessions, facts_of
from controller.desk_words import FINAL, no_such_tool, words_for
from controller.domain.bounds import Bounds
from controller.domain.control import scopes
from controller.domain.entry import Caller
from controller.domain.events import CallRecord, CallRefused
from controller.domain.ids import CLIENTS, Digest, EffectKey, digest_bytes, digest_of
from controller.errors import FlyballError, PathRefused
from controller.off_loop import Inline, Runner
from controller.ports import (
    Allowed,
    Badge,
    Clock,
    Denied,
    Limits,
    Log,
    Seals,
    ToolDefinition,
    ToolResult,
    Touched,
    Visitors,
)
from rbac.catalogue import Sensitivity
from rbac.decide import Authority
from rbac.model import Decision, Request
from rbac.path_classes import PathClass, is_in

MAX_UNRECORDED = 1_000  # calls of one session that nobody has recorded yet
RECORDED_AT_ONCE = 50  # calls of a program outside that wait for their record; the next one has them written
RECORDED_AFTER_S = 1.0
RATE_WINDOW_S = 60
SECRETS = (PathClass.HOLDS_SECRETS,)
UNKNOWN_TOOL = "(unknown)"  # in the log, where a name that a model made up has no place
NO_PLACE = -1  # turn and index of a call that was refused before anybody counted it

# How a call's place in its session travels beside its arguments, and how a refusal is told from an error.
TURN_META, INDEX_META, REFUSED_META = "flyball/turn", "flyball/index", "flyball/refused"

T = TypeVar("T")
_WRITING = ToolDefinition("write_file", "A path of a commit.", {}, "contained")
_DELETING = ToolDefinition("delete_file", "A path of a commit.", {}, "contained")
ToolClass = Literal["effect", "contained", "read"]
logger = logging.getLogger(__name__)


def effect_key(session: str, turn: int, index: int) -> EffectKey:
    """One key per call of a recorded reply: a resumed session replays the reply and so names the same effect."""
    return EffectKey(f"agent/{session}/{turn}/{index}")


@dataclass(frozen=True, slots=True)
class _Call:
    badge: Badge
    tool: ToolDefinition | None  # None: there is no such tool
    name: str
    arguments: Mapping[str, Any]
    turn: int
    index: int


class SessionDesk:
    """`ports.Desk` over the grants, the log and the seals. Lives in one event loop."""

    def __init__(
        self,
        *,
        log: Log,
        seals: Seals,
        authority: Authority,
        bounds: Bounds,
        clock: Clock,
        limits: Limits,
        visitors: Visitors | None = None,
        resource: Callable[[], str] = str,
        runner: Runner | None = None,
    ) -> None:
        """`visitors=None`: no program outside is let in. `resource`: the audience that their tokens must name.

        `runner`: where decisions are made. None: here, in the loop.
        """
        self._log = log
        self._seals = seals
        self._authority = authority
        self._bounds = bounds
        self._limits = limits
        self._engine = Engine(authority, runner or Inline())
        self._sessions = Sessions(log, clock, visitors, resource, 2 * bounds.session_seconds)
        self._writing: dict[str, asyncio.Task[None]] = {}

    # --- who ---------------------------------------------------------------------------------------------------------

    def sign_in(self, badge: Badge, *, seconds: int | None = None) -> str:
        return self._sessions.sign_in(badge, seconds)

    def badge(self, token: str) -> Badge | None:
        return self._sessions.badge(token)

    async def authenticated(self, token: str) -> Badge | None:
        return await self._sessions.authenticated(token)

    def sign_out(self, session: str) -> None:
        """At once, and with everything that was kept of it. A second call does nothing."""
        self._sessions.sign_out(session)

    def taint(self, session: str) -> None:
        if (found := self._sessions.get(session)) is not None:
            found.tainted = True

    def tainted(self, session: str) -> bool:
        found = self._sessions.get(session)
        return found is not None and (found.tainted or found.record.tainted)

    # --- what may happen ---------------------------------------------------------------------------------------------

    def visible(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        return among(tools, belt_of(self._authority, badge, tuple(tool.name for tool in tools)))

    async def listed(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        if self._sessions.get(badge.session) is None:
            return []
        gone = {f"session:{link.session}" for link in badge.chain}
        if any(row.state == "revoked" and row.scope in gone for row in await self._log.control()):
            return []
        return among(tools, await self._engine.belt(badge, tuple(tool.name for tool in tools)))

    async def readable(self, badge: Badge, path: str) -> bool:
        """Whether this session could read that file: for tools that come across files which the call did not name."""
        asked = self._request(badge, "read_file", Names((path,), None, None, None))
        return (await self._engine.answer(asked)).allowed

    async def may_commit(self, session: str, files: Sequence[str], *, turn: int, index: int) -> Allowed | Denied:
        badge = self._sessions.badge_of(session)
        if badge is None:
            return Denied("This session has ended.", ("signed-out",))
        written = Touched(tuple(files), ())
        return await self._commit(badge, written, _as_written, turn=turn, index=index)

    async def may_push(self, badge: Badge, touched: Touched, *, turn: int, index: int) -> Allowed | Denied:
        return await self._commit(badge, touched, lambda request: request, turn=turn, index=index)

    async def _commit(
        self, badge: Badge, touched: Touched, as_of: Callable[[Request], Request], *, turn: int, index: int
    ) -> Allowed | Denied:
        def ask(tool: str) -> Ask:
            return lambda some: self._authority.decide(
                as_of(self._request(badge, tool, Names(tuple(some), None, None, None)))
            )

        try:
            decided = await self._engine.elsewhere(
                lambda: decide_commit(touched, ask("write_file"), ask("delete_file"))
            )
            return Allowed({}, decided)
        except PathRefused as no:
            tool = _DELETING if no.deletes else _WRITING
            names = asdict(Names((no.path,) if no.path else (), None, None, None))
            told = words_for(badge, tool.name, no.rules, **names) if no.path else f"{no.message}."
            call = _Call(badge, tool, tool.name, {"path": no.path}, turn, index)
            return await self._refused(call, Refusal(no.rules, no.message, told))

    async def unreadable(self, badge: Badge, paths: Sequence[str]) -> frozenset[str]:
        """Those that this session could not read. One in no accepted spelling counts by what its name holds alone."""

        def asked(some: Sequence[str]) -> Decision:
            return self._authority.decide(self._request(badge, "read_file", Names(tuple(some), None, None, None)))

        refused = await self._engine.elsewhere(lambda: list(refused_among(paths, asked)))
        return frozenset(path for path, no in refused if not _only_spelling(no) or is_in(path, SECRETS))

    async def scopes_short(self, badge: Badge, tool: str) -> tuple[str, ...]:
        if badge.scopes is None or self.tainted(badge.session):
            return ()
        known = self._authority.catalogue.get(tool)
        wanted = known.scope if known else ""
        if not wanted or wanted in badge.scopes:
            return ()
        if not await self._engine.gives(badge.role, tool):
            return ()
        short = Refusal(("insufficient-scope",), f"{tool} needs scope {wanted}", "This token does not cover that tool.")
        await self._refused(_Call(badge, None, tool, {}, NO_PLACE, NO_PLACE), short)
        return tuple(sorted(badge.scopes | {wanted}))

    async def decide(
        self,
        badge: Badge,
        tool: ToolDefinition | None,
        name: str,
        arguments: Mapping[str, Any],
        *,
        turn: int,
        index: int,
    ) -> Allowed | Denied:
        call = _Call(badge, tool, name, arguments, turn, index)
        try:
            return await self._decided(call)
        except Refusal as no:
            return await self._refused(call, no)

    async def _decided(self, call: _Call) -> Allowed:
        badge = call.badge
        session = self._signed_in(badge)
        await self._not_stopped(badge)
        await self._within_bounds(badge, session)
        tool = call.tool
        if tool is None or not await self._engine.belt(badge, (tool.name,)):
            rule = "unknown-tool" if tool is None else "tool-not-granted"
            raise Refusal((rule,), f"{badge.role} has no such tool", no_such_tool(call.name))
        arguments = await strict(tool, call.arguments)
        names = names_in(tool, arguments, badge.repository)
        decision = await self._engine.answer(self._request(badge, tool.name, names))
        if not decision.allowed:
            told = words_for(badge, tool.name, decision.rules, **asdict(names))
            raise Refusal(decision.rules, decision.reason, told)
        if tool.tool_class == "effect":
            await self._written_down(badge, session)
        return Allowed(arguments, decision.rules)

    def _signed_in(self, badge: Badge) -> Session:
        session = self._sessions.get(badge.session)
        if session is None:
            raise Refusal(("signed-out",), "the session is not signed in", "This session has ended.")
        return session

    async def _not_stopped(self, badge: Badge) -> None:
        wanted = {scope for link in badge.chain for scope in _scopes_of(link)}
        rows = await self._asked(self._log.control())
        row = next((row for row in rows if row.scope in wanted), None)
        if row is not None:
            told = "This session has been stopped from outside. Finish now: no further call will be allowed."
            raise Refusal((f"control/{row.state}",), f"{row.scope} is {row.state} since log#{row.since}", told)

    async def _asked(self, question: Awaitable[T]) -> T:
        """What the log answers; without an answer there is no decision, and so no call."""
        try:
            return await question
        except FlyballError as broken:
            told = "Nothing can be decided at the moment, so nothing is allowed."
            raise Refusal(("log-unavailable",), "the log cannot be read", told) from broken

    async def _within_bounds(self, badge: Badge, session: Session) -> None:
        await self._asked(session.record.catch_up(again=_is_outside(badge)))
        if session.record.refusals >= self._bounds.session_refusals:
            told = "Too many calls of this session have been refused. Finish now: no further call will be allowed."
            raise Refusal(("refused-too-often",), f"{session.record.refusals} calls were refused already", told)
        if len(session.calls) >= MAX_UNRECORDED:
            told = "Too many calls of this session wait for their record."
            raise Refusal(("unrecorded-calls",), f"{MAX_UNRECORDED} calls wait for their record", told)
        await self._within_rate(session, f"session/{badge.session}", self._bounds.session_calls_per_minute)
        await self._within_rate(session, f"role/{badge.role}", self._bounds.role_calls_per_minute)

    async def _within_rate(self, session: Session, who: str, limit: int) -> None:
        now = self._sessions.now()
        if session.waits_until is not None and now < session.waits_until:
            raise _too_fast((session.waits_until - now).total_seconds(), repeated=True)
        try:
            wait_s = await self._limits.take(who, limit=limit, window_s=RATE_WINDOW_S)
        except FlyballError as broken:
            told = "Nobody can tell how many calls there have been, so none is allowed."
            raise Refusal(("limits-unavailable",), "the shared count of calls cannot be reached", told) from broken
        session.waits_until = now + timedelta(seconds=wait_s) if wait_s > 0 else None
        if wait_s > 0:
            raise _too_fast(wait_s, repeated=False)

    def _request(self, badge: Badge, tool: str, names: Names) -> Request:
        """Not validated again: the badge was at sign-in, and names are in their one spelling."""
        nearest, *others = (self._link(link, tool, names, badge.repository) for link in badge.chain)
        tainted = nearest.tainted or any(link.tainted for link in others)
        return nearest.model_copy(update={"chain": tuple(others), "tainted": tainted})

    def _link(self, badge: Badge, tool: str, names: Names, repository: str) -> Request:
        session = self._sessions.get(badge.session)
        used = session.record.tools_used if session is not None else set[str]()
        return _facts_of(badge).model_copy(
            update={
                "tool": tool,
                "paths": names.paths,
                "repository": names.repository or repository,
                "branch": names.branch,
                "environment": names.environment,
                "tainted": self.tainted(badge.session) if session else badge.tainted,
                "read_confidential": any(self._is_confidential(tool) for tool in used),
            }
        )

    def _is_confidential(self, tool: str) -> bool:
        """A tool that is not configured any more may have been."""
        known = self._authority.catalogue.get(tool)
        return known is None or known.sensitivity >= Sensitivity.CONFIDENTIAL

    # --- what stays --------------------------------------------------------------------------------------------------

    async def _refused(self, call: _Call, no: Refusal) -> Denied:
        told = f"{no.told} {FINAL}"
        arguments = digest_of_anything(call.arguments)
        recorded = await self._in_the_log(call, no, arguments)
        rules = no.rules if recorded else (*no.rules, "not-in-the-log")
        tool = call.tool
        record = CallRecord(
            index=call.index,
            tool=tool.name if tool else UNKNOWN_TOOL,
            tool_class=cast("ToolClass", tool.tool_class) if tool else "read",
            args=arguments,
            allowed=False,
            rules=rules,
            result=None,
            error=True,
        )
        if not _is_outside(call.badge):
            self._keep(call.badge, call.turn, Kept(record, told))
        return Denied(told, rules)

    async def _in_the_log(self, call: _Call, no: Refusal, arguments: Digest) -> bool:
        """Calls refused past a bound that is in the log already are only counted, in their turn's record."""
        session = self._sessions.get(call.badge.session)
        if session is None or "refused-too-often" in no.rules or no.repeated:
            return session is not None
        event = CallRefused(
            turn=call.turn,
            tool=call.tool.name if call.tool else UNKNOWN_TOOL,
            args=arguments,
            rules=no.rules,
            reason=no.reason[:600],
            count=0,
        )
        return await session.record.refuse(event, self._by(call.badge), counts="rate-limit" not in no.rules)

    def _by(self, badge: Badge) -> Caller:
        return Caller(badge.principal, Digest(self._authority.digest), badge.on_behalf_of or None)

    def completed(
        self,
        badge: Badge,
        tool: ToolDefinition,
        arguments: Mapping[str, Any],  # noqa: ARG002 - what counts is what was allowed
        allowed: Allowed,
        result: ToolResult,
        *,
        turn: int,
        index: int,
    ) -> None:
        """`result` is what the model is told, already cut to its bound."""
        record = CallRecord(
            index=index,
            tool=tool.name,
            tool_class=cast("ToolClass", tool.tool_class),
            args=digest_of(allowed.arguments),
            allowed=True,
            rules=allowed.rules,
            result=digest_bytes(result.text.encode()),
            error=result.error,
            effect=effect_key(badge.session, turn, index) if tool.tool_class == "effect" else None,
        )
        known = self._authority.catalogue.get(tool.name)
        if (session := self._sessions.get(badge.session)) is not None:
            session.record.tools_used.add(tool.name)
            session.tainted = session.tainted or known is None or known.taints
        self._keep(badge, turn, Kept(record, result.text))
        if _is_outside(badge):
            self._soon(badge)

    def _keep(self, badge: Badge, turn: int, kept: Kept) -> None:
        session = self._sessions.get(badge.session)
        if session is not None and (kept.record.allowed or len(session.calls) < MAX_UNRECORDED):
            session.calls[turn, kept.record.index] = kept

    async def turn_records(self, session: str, turn: int) -> tuple[CallRecord, ...]:
        """Also refused calls carry what the agent was told, sealed: a resumed session must hear the same."""
        signed_in = self._sessions.get(session)
        if signed_in is None:
            return ()
        keys = sorted(key for key in signed_in.calls if key[0] == turn)
        kept = [signed_in.calls[key] for key in keys]
        sealed = await asyncio.gather(*(self._seals.seal(one.text) for one in kept))
        for key in keys:
            signed_in.calls.pop(key, None)
        both = zip(kept, sealed, strict=True)
        return tuple(one.record.model_copy(update={"result_sealed": text}) for one, text in both)

    # --- programs outside, which count no turns ----------------------------------------------------------------------

    def _soon(self, badge: Badge) -> None:
        """Have the calls written down within `RECORDED_AFTER_S`, or now if there are many."""
        session = self._sessions.get(badge.session)
        if session is None:
            return
        if len(session.calls) >= RECORDED_AT_ONCE:
            session.crowded.set()
        if (waiting := self._writing.get(badge.session)) is not None and not waiting.done():
            return
        writing = asyncio.create_task(self._later(badge, session, RECORDED_AFTER_S))
        self._writing[badge.session] = writing
        writing.add_done_callback(lambda _: self._writing.pop(badge.session, None))

    async def _later(self, badge: Badge, session: Session, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(session.crowded.wait(), seconds)
        session.crowded.clear()
        with suppress(Refusal):  # it is in the program's log; the calls stay, and their bound ends the session's calls
            await self._written_down(badge, session)

    async def _written_down(self, badge: Badge, session: Session) -> None:
        """Raises Refusal when the log does not take them: then nothing more is allowed."""
        if not _is_outside(badge) or not session.calls:
            return
        async with session.one_writer:
            while some := list(session.calls)[:RECORDED_AT_ONCE]:
                records = [session.calls[key].record for key in some]
                if not await session.record.record(records, self._by(badge), tainted=self.tainted(badge.session)):
                    told = "What was done so far cannot be recorded at the moment, so nothing more is allowed."
                    raise Refusal(("log-unavailable",), f"{len(records)} calls cannot be recorded", told)
                for key in some:
                    session.calls.pop(key, None)

    async def close(self) -> None:
        """Have every call written down that still waits. The desk can be used again afterwards."""
        for waiting in list(self._writing.values()):
            waiting.cancel()
        for badge, session in self._sessions.visitors():
            with suppress(Refusal):
                await self._written_down(badge, session)


def _scopes_of(badge: Badge) -> tuple[str, ...]:
    return (*scopes(agent=badge.role, repository=badge.repository, service=None), f"session:{badge.session}")


def _as_written(request: Request) -> Request:
    """What a tool wrote was decided by what the run had read by then, so what it has read since does not count."""
    chain = tuple(link.model_copy(update={"tainted": False}) for link in request.chain)
    return request.model_copy(update={"tainted": False, "chain": chain})


def _only_spelling(no: Decision) -> bool:
    return all(rule.startswith(("path/", "chain/")) for rule in no.rules) and no.rules[-1].startswith("path/")


def _is_outside(badge: Badge) -> bool:
    return badge.session.startswith(CLIENTS)


def _too_fast(wait_s: float, *, repeated: bool) -> Refusal:
    told = f"Too many calls at once: the next one may come in {wait_s:.0f} s."
    return Refusal(("rate-limit",), f"over the rate, for {wait_s:.0f} s more", told, repeated=repeated)


_facts_of = lru_cache(maxsize=4_096)(facts_of)
