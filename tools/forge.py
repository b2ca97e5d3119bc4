"""The belt for the forge, writing: offer the session's tree, say something, ask for a change to be taken back.

A push, a pull request and a comment are effects, so they go the way of every effect: the gate claims the key, records
the intent with its reasons, acts, and records the outcome. A revert is asked for and no more: it is a delivery of its
own, made by code, tested, and landed only when a person has consented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from controller.domain.decision import Claim, Decision, at_entry, decide
from controller.domain.entry import Entry
from controller.domain.events import ReplyRecorded
from controller.domain.ids import Branch, Commit, DeliveryId, Repository
from controller.domain.verbs import CommentOnPullRequest, OpenPullRequest, PushBranch
from controller.errors import Permanent
from controller.ports import (
    Allowed,
    Badge,
    Committed,
    Denied,
    Done,
    Gate,
    Log,
    RepositoryConfig,
    ToolDefinition,
    ToolResult,
    Workspaces,
)
from controller.requests import AgentRequests
from tools.belt import Call, NotPossible, Tool, schema, text_schema, whole_schema
from tools.effects import EVIDENCE, Effects, commit_of, in_plain_words, place_of, unless_done

MAX_TITLE = 200
MAX_BODY = 20_000
MAX_COMMENT = 4_000
MAX_REASON = 2_000


class MayCommit(Protocol):
    """The part of `ports.Desk` that a push asks."""

    async def may_commit(self, session: str, files: Sequence[str], *, turn: int, index: int) -> Allowed | Denied: ...


class ForgeBelt:
    """Pushes of one session follow each other: each expects the commit of the last one that its record knows of."""

    def __init__(
        self,
        *,
        gate: Gate,
        desk: MayCommit,
        workspaces: Workspaces,
        log: Log,
        requests: AgentRequests,
        repositories: Mapping[Repository, RepositoryConfig],
    ) -> None:
        self._effects = Effects(gate, log)
        self._desk = desk
        self._workspaces = workspaces
        self._requests = requests
        self._repositories = repositories

    def tools(self) -> list[Tool]:
        return [
            Tool(GIT_PUSH, self.git_push, limit_s=60.0),
            Tool(OPEN_PULL_REQUEST, self.open_pull_request, limit_s=30.0),
            Tool(COMMENT, self.comment, limit_s=30.0),
            Tool(REQUEST_REVERT, self.request_revert),
        ]

    async def git_push(self, call: Call) -> ToolResult:
        badge, branch = call.badge, Branch(call.arguments["branch"])
        message, at = _words(badge), _asked_at(await self._effects.begun(badge), call.turn)
        try:
            made = await self._workspaces.commit(badge.session, badge.repository, badge.base, message, at)
        except Permanent as no:
            raise NotPossible(no.message) from no
        if made is None:
            raise NotPossible("nothing has been changed yet, so there is nothing to push")
        may = await self._desk.may_commit(badge.session, made.files, turn=call.turn, index=call.index)
        if isinstance(may, Denied):
            raise NotPossible(may.reason)
        expect = await self._effects.pushed(call)
        verb = PushBranch(repository=badge.repository, branch=branch, commit=made.head, expect=expect)
        outcome = await self._effects.act(call, verb, _pushing(badge, verb, made))
        told = unless_done(outcome, f"The push to {branch}", f"{branch} is not where it was expected")
        changed = f"{len(made.files)} files, {made.lines_changed} lines"
        ignored = f" Left out, because .gitignore names them: {', '.join(made.left_out)}." if made.left_out else ""
        return told or ToolResult(f"Pushed {made.head[:12]} to {branch} ({changed}).{ignored}")

    async def open_pull_request(self, call: Call) -> ToolResult:
        badge, branch = call.badge, Branch(call.arguments["branch"])
        if branch != badge.branch:
            raise NotPossible(f"this session's own branch is {badge.branch}")
        head = commit_of(await self._effects.own(call)) or await self._effects.pushed(call)
        if head is None:
            raise NotPossible("this session has pushed nothing yet; push first")
        title, body = call.arguments["title"].strip(), call.arguments.get("body", "").strip()
        if not title or "\n" in title:
            raise NotPossible("the title is one line")
        verb = OpenPullRequest(
            repository=badge.repository,
            branch=branch,
            head=head,
            base=self._repositories[badge.repository].branch,
            title=title,
            body=f"{body}\n\n{_signed(badge)}\n".lstrip(),
        )
        outcome = await self._effects.act(call, verb, _proposing(badge, verb))
        why = f"{branch} is not at {head[:12]} any more, or has an open pull request for something else"
        told = unless_done(outcome, f"The pull request of {branch}", why)
        if told is not None or not isinstance(outcome, Done):
            return told or ToolResult("Nothing is known of it.", error=True)
        return ToolResult(
            f"Pull request #{outcome.result.number} proposes {head[:12]} for {verb.base}. Nothing carries it onward by"
            " itself: it is tested and landed when a person asks for a delivery of it."
        )

    async def comment(self, call: Call) -> ToolResult:
        badge, number = call.badge, call.arguments["number"]
        text = call.arguments["text"].strip()
        if not text:
            raise NotPossible("the comment is empty")
        said, at = f"{text}\n\n{_signed(badge)}\n", at_entry((await self._effects.begun(badge))[-1].index)
        verb = CommentOnPullRequest(repository=badge.repository, number=number, text=said)
        outcome = await self._effects.act(call, verb, _commenting(badge, number, len(text), at))
        told = unless_done(outcome, f"The comment on #{number}", "there is no such pull request, or it has too many")
        return told or ToolResult(f"Said on #{number}, under this session's name.")

    async def request_revert(self, call: Call) -> ToolResult:
        delivery, reason = DeliveryId(call.arguments["delivery"]), call.arguments["reason"]
        with in_plain_words():
            undo = await self._requests.revert(place_of(call), delivery, reason)
        return ToolResult(
            f"Asked for: {undo} takes back {delivery}. It is made and tested by code like any change, and lands only"
            " when a person has consented to it."
        )


def _words(badge: Badge) -> str:
    return f"Work in progress\n\nFlyball-Delivery: {badge.delivery}\nAgent-Session: {badge.session}\n"


def _signed(badge: Badge) -> str:
    """So that nobody takes an agent's words for a person's."""
    return f"Agent-Role: {badge.role}\nAgent-Session: {badge.session}"


def _asked_at(entries: Sequence[Entry], turn: int) -> datetime:
    """When the turn's reply was recorded: a repeated call makes the same commit."""
    replies = [entry for entry in entries if isinstance(entry.event, ReplyRecorded) and entry.event.turn <= turn]
    return (replies or entries[:1])[-1].time


def _about(head: Commit, words: str) -> tuple[Claim, ...]:
    return (Claim(text=f"{head[:12]}: {words}", evidence=f"{EVIDENCE}{head}"),)


def _pushing(badge: Badge, verb: PushBranch, made: Committed) -> Decision:
    changed = f"{len(made.files)} files and {made.lines_changed} lines changed since {badge.base[:12]}"
    return decide(
        f"Push the tree of session {badge.session} to {verb.branch}?",
        "push",
        over={"keep it in the sandbox": "the session asked for it, and the branch is its own"},
        because=_about(verb.commit, changed),
        would_change="another branch, or a tree without a change",
        fallback=f"delete {verb.branch}; nothing lands from it without the merge queue",
        rules=("author/own-branch",),
    )


def _proposing(badge: Badge, verb: OpenPullRequest) -> Decision:
    return decide(
        f"Open a pull request for the branch of session {badge.session}?",
        "open",
        over={"leave it a branch": "the session asked for it, and pushed this commit itself"},
        because=_about(verb.head, f"what the session pushed last to {verb.branch}"),
        would_change="another branch, or one that somebody else has moved",
        fallback="close the pull request; nothing has merged, and no delivery carries it",
        rules=("author/own-branch", "author/one-pull-request-per-branch"),
    )


def _commenting(badge: Badge, number: int, characters: int, at: str) -> Decision:
    said = f"session {badge.session} has {characters} characters to say"
    return decide(
        f"Comment on pull request #{number}?",
        "comment",
        over={"stay silent": "people who look at the change must not have to look elsewhere"},
        because=(Claim(text=said, evidence=at),),
        would_change="a run that has read text from outside after confidential results",
        fallback="a comment changes nothing",
        rules=("tell/always",),
    )


_REPOSITORY = text_schema(minLength=1, maxLength=100)
_BRANCH = text_schema(minLength=1, maxLength=200)
GIT_PUSH = ToolDefinition(
    "git_push",
    "Push the workspace as it is, as one commit, to this session's own branch.",
    schema(("branch",), branch=_BRANCH, repository=_REPOSITORY),
    tool_class="effect",
    repository_argument="repository",
    branch_argument="branch",
)
OPEN_PULL_REQUEST = ToolDefinition(
    "open_pull_request",
    "Open a pull request for what this session pushed last. Nothing carries it onward until a person asks for it.",
    schema(
        ("branch", "title"),
        branch=_BRANCH,
        title=text_schema(minLength=1, maxLength=MAX_TITLE),
        body=text_schema(maxLength=MAX_BODY),
        repository=_REPOSITORY,
    ),
    tool_class="effect",
    repository_argument="repository",
    branch_argument="branch",
)
COMMENT = ToolDefinition(
    "comment",
    "Say something on a pull request, under this session's name.",
    schema(
        ("number", "text"),
        number=whole_schema("Of the pull request", minimum=1, maximum=10_000_000),
        text=text_schema(minLength=1, maxLength=MAX_COMMENT),
        repository=_REPOSITORY,
    ),
    tool_class="effect",
    repository_argument="repository",
)
REQUEST_REVERT = ToolDefinition(
    "request_revert",
    "Ask for a merged delivery to be taken back. Code makes the revert and tests it; it lands when a person consents.",
    schema(
        ("delivery", "reason"),
        delivery=text_schema(minLength=1, maxLength=120),
        reason=text_schema(minLength=1, maxLength=MAX_REASON),
        repository=_REPOSITORY,
    ),
    tool_class="effect",
    repository_argument="repository",
)
