"""The gate's agent side: who a session is, what it may call, and what stays of every call.

A session signs in with its badge and is handed a random token, of which only the hash is kept; where it may work stands
on the badge and never in an argument. Each call is decided in one order: stops and revocations; the tool, where unknown
and forbidden read the same; the arguments, held to one reading; then the grants. A refusal is in the session's stream
before the agent hears of it, and stays a refusal when the log cannot take it. Allowed calls are kept until the turn
that they belong to is recorded.

Refusals move the version of the session's stream: whoever records a turn reads the version after the turn's calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from controller.desk_arguments import Names, Refusal, digest_of_anything, names_in, strict
from controller.desk_refusals import Refusals
from controller.desk_words import FINAL, no_such_tool, words_for
from controller.domain.bounds import Bounds
from controller.domain.control import scopes
from controller.domain.entry import Caller
from controller.domain.events import CallRecord, CallRefused
from controller.domain.ids import Digest, EffectKey, digest_bytes, digest_of
from controller.errors import ConfigError, FlyballError, Unavailable
from controller.ports import Allowed, Badge, Denied, Log, Seals, ToolDefinition, ToolResult
from rbac.decide import Authority
from rbac.model import Request

MAX_SESSIONS = 1_000  # signed in at once
MAX_UNRECORDED = 1_000  # calls of one session that nobody has recorded yet
TOKEN_BYTES = 32
UNKNOWN_TOOL = "(unknown)"  # in the log, where a name that a model made up has no place

# How a call's place in its session travels beside its arguments, and how a refusal is told from an error.
TURN_META, INDEX_META, REFUSED_META = "flyball/turn", "flyball/index", "flyball/refused"

T = TypeVar("T")
ToolClass = Literal["effect", "contained", "read"]


def effect_key(session: str, turn: int, index: int) -> EffectKey:
    """One key per call of a recorded reply: a resumed session replays the reply and so names the same effect."""
    return EffectKey(f"agent/{session}/{turn}/{index}")


@dataclass(slots=True)
class _Kept:
    record: CallRecord
    text: str  # as the model is told it


@dataclass(slots=True)
class _Session:
    token_hash: str
    request: Request  # the badge's facts, as a decision wants them
    tainted: bool
    refusals: Refusals
    calls: dict[tuple[int, int], _Kept] = field(default_factory=dict)


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

    def __init__(self, *, log: Log, seals: Seals, authority: Authority, bounds: Bounds) -> None:
        self._log = log
        self._seals = seals
        self._authority = authority
        self._bounds = bounds
        self._sessions: dict[str, _Session] = {}
        self._badges: dict[str, Badge] = {}  # by the hash of the token
        self._on_belt: dict[tuple[str, str, str], bool] = {}  # (policy digest, role, tool)

    # --- who ---------------------------------------------------------------------------------------------------------

    def sign_in(self, badge: Badge) -> str:
        """Signing in again ends the session's former token. Raises ConfigError for a badge that nothing can rest on."""
        if len(self._sessions) >= MAX_SESSIONS and badge.session not in self._sessions:
            raise Unavailable(f"{MAX_SESSIONS} sessions are signed in already", "Wait until one has ended")
        request = _request_of(badge)
        self.sign_out(badge.session)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[badge.session] = _Session(
            _hash(token), request, badge.tainted, Refusals(self._log, badge.session)
        )
        self._badges[_hash(token)] = badge
        return token

    def badge(self, token: str) -> Badge | None:
        """None: no live session has this token."""
        return self._badges.get(_hash(token))

    def sign_out(self, session: str) -> None:
        """At once, and with everything that was kept of it. A second call does nothing."""
        gone = self._sessions.pop(session, None)
        if gone is not None:
            self._badges.pop(gone.token_hash, None)

    def taint(self, session: str) -> None:
        if session in self._sessions:
            self._sessions[session].tainted = True

    def tainted(self, session: str) -> bool:
        return session in self._sessions and self._sessions[session].tainted

    # --- what may happen ---------------------------------------------------------------------------------------------

    def visible(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        return [tool for tool in tools if self._is_on_belt(badge.role, tool.name)]

    def readable(self, badge: Badge, path: str) -> bool:
        """Whether this session could read that file: for tools that come across files which the call did not name."""
        return self._authority.decide(self._request(badge, "read_file", Names((path,), None, None))).allowed

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
        await self._within_bounds(session)
        tool = call.tool
        if tool is None or not self._is_on_belt(badge.role, tool.name):
            rule = "unknown-tool" if tool is None else "tool-not-granted"
            raise Refusal((rule,), f"{badge.role} has no such tool", no_such_tool(call.name))
        arguments = strict(tool, call.arguments)
        names = names_in(tool, arguments, badge.repository)
        decision = self._authority.decide(self._request(badge, tool.name, names))
        if not decision.allowed:
            told = words_for(badge, tool.name, decision.rules, **asdict(names))
            raise Refusal(decision.rules, decision.reason, told)
        return Allowed(arguments, decision.rules)

    def _signed_in(self, badge: Badge) -> _Session:
        session = self._sessions.get(badge.session)
        if session is None:
            raise Refusal(("signed-out",), "the session is not signed in", "This session has ended.")
        return session

    async def _not_stopped(self, badge: Badge) -> None:
        wanted = {
            *scopes(agent=badge.role, repository=badge.repository, service=None),
            f"session:{badge.session}",
        }
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

    async def _within_bounds(self, session: _Session) -> None:
        refusals = await self._asked(session.refusals.count())
        if refusals >= self._bounds.session_refusals:
            told = "Too many calls of this session have been refused. Finish now: no further call will be allowed."
            raise Refusal(("refused-too-often",), f"{refusals} calls were refused already", told)
        if len(session.calls) >= MAX_UNRECORDED:
            told = "Too many calls of this session wait for their record."
            raise Refusal(("unrecorded-calls",), f"{MAX_UNRECORDED} calls wait for their record", told)

    def _is_on_belt(self, role: str, tool: str) -> bool:
        key = (self._authority.digest, role, tool)
        if key not in self._on_belt:
            if any(known[0] != key[0] for known in self._on_belt):
                self._on_belt.clear()
            self._on_belt[key] = bool(self._authority.visible_tools(role, (tool,)))
        return self._on_belt[key]

    def _request(self, badge: Badge, tool: str, names: Names) -> Request:
        """Not validated again: the badge was at sign-in, and names are in their one spelling."""
        session = self._sessions.get(badge.session)
        return (session.request if session else _request_of(badge)).model_copy(
            update={
                "tool": tool,
                "paths": names.paths,
                "repository": names.repository or badge.repository,
                "branch": names.branch,
                "tainted": session.tainted if session else True,
            }
        )

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
        self._keep(call.badge, call.turn, _Kept(record, told))
        return Denied(told, rules)

    async def _in_the_log(self, call: _Call, no: Refusal, arguments: Digest) -> bool:
        """Calls refused past the session's bound are only in their turn's record."""
        session = self._sessions.get(call.badge.session)
        if session is None or "refused-too-often" in no.rules:
            return session is not None
        event = CallRefused(
            turn=call.turn,
            tool=call.tool.name if call.tool else UNKNOWN_TOOL,
            args=arguments,
            rules=no.rules,
            reason=no.reason[:600],
            count=0,
        )
        by = Caller(f"agent:{call.badge.role}", Digest(self._authority.digest), call.badge.on_behalf_of or None)
        return await session.refusals.record(event, by)

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
        self._keep(badge, turn, _Kept(record, result.text))

    def _keep(self, badge: Badge, turn: int, kept: _Kept) -> None:
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


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _request_of(badge: Badge) -> Request:
    try:
        return Request(
            agent=badge.role,
            tool="",
            repository=badge.repository,
            tainted=badge.tainted,
            delivery=badge.delivery,
            own_repository=badge.repository,
            own_branch=badge.branch,
            task_paths=badge.allowed,
            protected_paths=badge.protected,
        )
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the badge of session {badge.session}: {place}: {first['msg']}", "Correct the pattern"
        ) from wrong
