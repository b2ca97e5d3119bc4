"""The belt for the forge: one tool, which pushes the session's tree to the session's own branch.

The push is an effect, so it goes the way of every effect: the gate claims its key, records the intent with its reasons, acts, records the outcome. The key
is the call's place in the session, so a resumed session that replays its reply asks for the same effect again and finds it done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from controller.desk import effect_key
from controller.domain.decision import Claim, Decision, decide
from controller.domain.ids import Branch, Commit, SessionId, session_stream
from controller.domain.verbs import PushBranch
from controller.errors import Refused
from controller.ports import (
    Badge,
    Blocked,
    Committed,
    Done,
    Failed,
    Gate,
    Outcome,
    Pending,
    ToolDefinition,
    ToolResult,
    Unknown,
    Workspaces,
)
from tools.belt import Call, NotPossible, Tool, schema, text_schema

MAX_PUSHED = 1_000  # sessions whose last push is remembered

CommitWords = Callable[[Badge], Awaitable[tuple[str, datetime]]]  # message and date; the same ones give the same commit


class ForgeBelt:
    """`words` gives message and date of a session's commit. Pushes of one session follow each other: each expects the last."""

    def __init__(self, *, gate: Gate, workspaces: Workspaces, words: CommitWords) -> None:
        self._gate = gate
        self._workspaces = workspaces
        self._words = words
        self._pushed: dict[str, Commit] = {}  # by session; replaying a session's calls fills it again

    def tools(self) -> list[Tool]:
        return [Tool(GIT_PUSH, self.git_push, limit_s=60.0)]

    async def git_push(self, call: Call) -> ToolResult:
        badge, branch = call.badge, Branch(call.arguments["branch"])
        message, at = await self._words(badge)
        made = await self._workspaces.commit(badge.session, badge.repository, badge.base, message, at)
        if made is None:
            raise NotPossible("nothing has been changed yet, so there is nothing to push")
        verb = PushBranch(
            repository=badge.repository, branch=branch, commit=made.head, expect=self._pushed.get(badge.session)
        )
        outcome = await self._act(call, verb, made)
        if isinstance(outcome, Done):
            self._remember(badge.session, made.head)
        return _told(outcome, verb, made)

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

    def _remember(self, session: str, head: Commit) -> None:
        self._pushed.pop(session, None)
        self._pushed[session] = head
        if len(self._pushed) > MAX_PUSHED:
            del self._pushed[next(iter(self._pushed))]


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
        because=(Claim(text=f"{verb.commit[:12]}: {changed}", evidence=f"commit {verb.commit}"),),
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
