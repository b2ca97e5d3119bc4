"""The belt for the forge: one tool, which pushes the session's tree to the session's own branch.

The push is an effect, so it goes the way of every effect: the gate claims its key, records the intent with its reasons,
acts, and records the outcome. The key is the call's place in the session, so a resumed session that replays its reply
asks for the same effect again and finds it done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controller.desk import effect_key
from controller.domain.decision import Claim, Decision, decide
from controller.domain.effect import EffectState, fold
from controller.domain.entry import Entry
from controller.domain.events import ReplyRecorded, TurnRecorded
from controller.domain.ids import Branch, Commit, SessionId, effect_stream, session_stream
from controller.domain.verbs import PushBranch
from controller.errors import Refused
from controller.ports import (
    Badge,
    Blocked,
    Committed,
    Done,
    Failed,
    Gate,
    Log,
    Outcome,
    Pending,
    ToolDefinition,
    ToolResult,
    Unknown,
    Workspaces,
)
from tools.belt import Call, NotPossible, Tool, schema, text_schema

EVIDENCE = "commit "


class ForgeBelt:
    """Pushes of one session follow each other: each expects the commit of the last one that its record knows of."""

    def __init__(self, *, gate: Gate, workspaces: Workspaces, log: Log) -> None:
        self._gate = gate
        self._workspaces = workspaces
        self._log = log

    def tools(self) -> list[Tool]:
        return [Tool(GIT_PUSH, self.git_push, limit_s=60.0)]

    async def git_push(self, call: Call) -> ToolResult:
        badge, branch = call.badge, Branch(call.arguments["branch"])
        entries = await self._log.read(session_stream(SessionId(badge.session)))
        message, at = _words(badge), _asked_at(entries, call.turn)
        made = await self._workspaces.commit(badge.session, badge.repository, badge.base, message, at)
        if made is None:
            raise NotPossible("nothing has been changed yet, so there is nothing to push")
        expect = await self._pushed_before(call, entries)
        verb = PushBranch(repository=badge.repository, branch=branch, commit=made.head, expect=expect)
        return _told(await self._act(call, verb, made), verb, made)

    async def _pushed_before(self, call: Call, entries: Sequence[Entry]) -> Commit | None:
        """What this session pushed last, by the log alone: a repeated call asks for the same. None: nothing yet."""
        turns = [entry.event for entry in entries if isinstance(entry.event, TurnRecorded)]
        keys = [one.effect for turn in turns if turn.turn < call.turn for one in turn.calls if one.effect]
        keys += [effect_key(call.badge.session, call.turn, index) for index in range(call.index)]
        for key in reversed(keys):
            effect = fold(key, await self._log.read(effect_stream(key)))
            if effect.state is EffectState.DONE and effect.intent is not None and effect.intent.verb == PushBranch.name:
                return Commit(effect.intent.decision.claims[0].evidence.removeprefix(EVIDENCE))
        return None

    async def _act(self, call: Call, verb: PushBranch, made: Committed) -> Outcome:
        badge = call.badge
        try:
            return await self._gate.act(
                badge.role,
                verb,
                key=effect_key(badge.session, call.turn, call.index),
                decision=_decision(badge, verb, made),
                subject=session_stream(SessionId(badge.session)),
                on_behalf_of=badge.on_behalf_of,
            )
        except Refused as no:
            raise NotPossible(f"the push to {verb.branch} was refused") from no


def _words(badge: Badge) -> str:
    trailers = (f"Flyball-Delivery: {badge.delivery}", f"Agent-Session: {badge.session}")
    return "Work in progress\n\n" + "\n".join(trailers) + "\n"


def _asked_at(entries: Sequence[Entry], turn: int) -> datetime:
    """When the turn's reply was recorded: a repeated call makes the same commit."""
    if not entries:
        raise NotPossible("this session has not begun")
    replies = [entry for entry in entries if isinstance(entry.event, ReplyRecorded) and entry.event.turn <= turn]
    return (replies or entries[:1])[-1].time


def _told(outcome: Outcome, verb: PushBranch, made: Committed) -> ToolResult:
    match outcome:
        case Done():
            changed = f"{len(made.files)} files, {made.lines_changed} lines"
            return ToolResult(f"Pushed {made.head[:12]} to {verb.branch} ({changed}).")
        case Pending():
            return ToolResult(f"The push to {verb.branch} is under way; nothing more is to be done for it.")
        case Blocked():
            return ToolResult("Pushing is stopped from outside at the moment.", error=True)
        case Failed():
            return ToolResult(f"The push was not accepted: {verb.branch} is not where it was expected.", error=True)
        case Unknown():
            return ToolResult("Nobody knows whether the push went through; a person will look.", error=True)


def _decision(badge: Badge, verb: PushBranch, made: Committed) -> Decision:
    changed = f"{len(made.files)} files and {made.lines_changed} lines changed since {badge.base[:12]}"
    return decide(
        f"Push the tree of session {badge.session} to {verb.branch}?",
        "push",
        over={"keep it in the sandbox": "the session asked for it, and the branch is its own"},
        because=(Claim(text=f"{verb.commit[:12]}: {changed}", evidence=f"{EVIDENCE}{verb.commit}"),),
        would_change="another branch, or a tree without a change",
        fallback=f"delete {verb.branch}; nothing lands from it without the merge queue",
        rules=("author/own-branch",),
    )


GIT_PUSH = ToolDefinition(
    "git_push",
    "Push the workspace as it is, as one commit, to this session's own branch.",
    schema(
        ("branch",),
        branch=text_schema(minLength=1, maxLength=200),
        repository=text_schema(minLength=1, maxLength=100),
    ),
    tool_class="effect",
    repository_argument="repository",
    branch_argument="branch",
)
