"""git is a door too: fetches and pushes pass the same desk and the same gate as calls over MCP.

A clone hands out whole histories, so it is decided as reading every path that the branches shown have ever had. A push
is decided three times: as a move of one ref, before its pack is read; by what its objects are and by every path that
its commits touch, while they lie in quarantine; and by the gate, which alone moves the ref, from exactly the commit
that the client saw. Nothing is decided by git, and nothing of git is done here: `GitPlumbing` does it.

Refusals are told in git's own words: `ng <ref> <why>` for a push, `ERR <why>` for a fetch.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from controller.domain.decision import Decision
from controller.domain.ids import EffectKey, Repository
from controller.domain.verbs import PushBranch
from controller.errors import Refused
from controller.ports import Allowed, Badge, Denied, Desk, Gate, Outcome, ToolDefinition, ToolResult, Touched
from controller.provenance.identity import identity_of
from tools.git_answers import NEVER_CACHED, drained, one, said, streamed
from tools.git_asked import CHALLENGE, Asked, No, Service, asked, body, whole
from tools.git_calls import (
    FAULTS,
    GIT_FETCH,
    GIT_PUSH,
    NOT_THERE,
    PATHS_AT_ONCE,
    READ_FILES,
    WHICH,
    WITHOUT_EFFECT,
    WRITE_FILES,
    decision_on,
    told,
)
from tools.git_places import ORDINARY, DoorLimits, Places
from tools.git_plumbing import GitPlumbing, Offer, PushRequest, RefCommand, Tips

PATH = "/git/"
GIT_TURN = -2  # git counts no turns; its calls are counted here, apart from those of programs that count none over MCP
MAX_FETCH_BYTES = 4 * 1024 * 1024  # of a request: 80,000 commits that the client has
MAX_CLEARED = 64  # sessions whose readable paths are remembered
MAX_TRIES = 20  # of one and the same push, undone in between
BRANCHES = "refs/heads/"


class _RefusedError(Exception):
    """Said no to; it is in the log."""

    def __init__(self, words: str, rules: tuple[str, ...]) -> None:
        super().__init__(words)
        self.rules = rules
        self.words = f"{words} (rule {', '.join(rules)})"


@dataclass(frozen=True, slots=True)
class _Call:
    """An allowed call, and its place."""

    arguments: Mapping[str, Any]
    allowed: Allowed
    index: int


@dataclass(frozen=True, slots=True)
class _View:
    """What a session sees of its repository."""

    repository: Repository
    visible: tuple[str, ...]
    tips: Tips


class GitDoor:
    """ASGI, for paths beneath /git/. Lives in one event loop."""

    def __init__(
        self,
        desk: Desk,
        gate: Gate,
        store: GitPlumbing,
        authority_digest: Callable[[], str],
        hosts: frozenset[str],
        *,
        limits: DoorLimits = ORDINARY,
    ) -> None:
        """`authority_digest`: of the rules in force. `hosts`: values of Host that name this server."""
        self._desk = desk
        self._gate = gate
        self._store = store
        self._authority_digest = authority_digest
        self._hosts = hosts
        self._index = itertools.count()
        self._limits = limits
        self.places = Places(limits)
        self._cleared: OrderedDict[tuple[Badge, str, bool], frozenset[str]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wish = asked(scope, self._hosts)
            badge = await said(self._caller(wish.token))
            with self.places.taken(badge.session):
                await self._served(wish, badge, scope, receive, send)
        except No as no:
            await PlainTextResponse(f"{no.why}\n", no.status, {**NEVER_CACHED, **no.headers})(scope, receive, send)

    async def _caller(self, token: str) -> Badge:
        badge = await self._desk.authenticated(token)
        if badge is None:
            raise No(401, "no live session has this token", CHALLENGE)
        return badge

    async def _served(self, wish: Asked, badge: Badge, scope: Scope, receive: Receive, send: Send) -> None:
        shape = "advertisement" if wish.advertise else "result"
        media = f"application/x-{wish.service}-{shape}"
        if wish.service is Service.FETCH:
            chunks = await said(self._fetch(wish, badge, receive))
            await streamed(chunks, media, receive, send, limits=self._limits)
            return
        coming = body(receive, gzipped=wish.gzipped, idle_s=self._limits.idle_s)
        async with aclosing(coming):
            answer = await said(self._push_shown(wish, badge) if wish.advertise else self._push(wish, badge, coming))
        await Response(answer, media_type=media, headers=NEVER_CACHED)(scope, receive, send)

    # --- fetch -------------------------------------------------------------------------------------------------------

    async def _fetch(self, wish: Asked, badge: Badge, receive: Receive) -> AsyncGenerator[bytes]:
        """What is to be sent. Raises No; a fetch that is refused is answered so that the client says why."""
        request = b"" if wish.advertise else await self._request(wish, receive)
        wants = self._store.fetch_request(request).wants
        await self._covered(badge, GIT_FETCH, READ_FILES)
        try:
            call = await self._decide(badge, GIT_FETCH, {"repository": wish.repository})
            view = await self._view(badge)
            await self._may_read_all(badge, await self._store.paths(view.repository, view.tips))
        except _RefusedError as no:
            if wish.advertise:
                raise No(403, no.words) from no
            return one(self._store.fetch_refused(no.words))
        if unknown := await self._store.unreached(view.repository, view.tips.values(), wants):
            return one(
                self._store.fetch_refused(f"there is no {unknown[0]} in the branches that are shown; fetch again")
            )
        self._completed(badge, GIT_FETCH, call, f"{len(view.tips)} branches shown; sent: {', '.join(wants) or 'none'}")
        if wish.advertise:
            return self._store.advertised(view.repository, view.visible, view.tips, wish.version)
        return self._store.fetched(view.repository, view.visible, view.tips, wish.version, request)

    async def _request(self, wish: Asked, receive: Receive) -> bytes:
        async with asyncio.timeout(self._limits.read_s):
            return await whole(body(receive, gzipped=wish.gzipped, idle_s=self._limits.idle_s), MAX_FETCH_BYTES)

    async def _view(self, badge: Badge) -> _View:
        """The protected branch and those of the session's own delivery; there is nothing else to be seen."""
        names = (self._store.protected(badge.repository), badge.branch, f"agent/{badge.delivery}")
        visible = tuple(dict.fromkeys(f"{BRANCHES}{name}" for name in names))
        return _View(badge.repository, visible, await self._store.tips(badge.repository, visible))

    async def _may_read_all(self, badge: Badge, paths: frozenset[str]) -> None:
        """Decided once per session, path and rules in force. Raises _RefusedError, which names no path."""
        key = (badge, self._authority_digest(), self._desk.tainted(badge.session))
        left = sorted(paths - self._cleared.get(key, frozenset()))
        for batch in _batches(left, PATHS_AT_ONCE):
            try:
                await self._decide(badge, READ_FILES, dict(zip(WHICH, batch, strict=False)))
            except _RefusedError as no:
                if not any(rule.startswith("path") for rule in no.rules):
                    raise
                words = f"these branches hold, or have held, a file that {badge.role} may not read"
                raise _RefusedError(words, no.rules) from no
        self._cleared[key] = paths
        self._cleared.move_to_end(key)
        if len(self._cleared) > MAX_CLEARED:
            self._cleared.popitem(last=False)

    # --- push --------------------------------------------------------------------------------------------------------

    async def _push_shown(self, wish: Asked, badge: Badge) -> bytes:
        await self._covered(badge, GIT_PUSH, WRITE_FILES)
        try:
            call = await self._decide(badge, GIT_PUSH, {"repository": wish.repository, "branch": badge.branch})
        except _RefusedError as no:
            raise No(403, no.words) from no
        view = await self._view(badge)
        self._completed(badge, WITHOUT_EFFECT, call, f"{len(view.tips)} branches shown")
        return self._store.push_advertised(view.tips)

    async def _push(self, wish: Asked, badge: Badge, coming: AsyncIterator[bytes]) -> bytes:
        """The report. A client that only tries its credentials sends no command and is told nothing."""
        await self._covered(badge, GIT_PUSH, WRITE_FILES)
        async with asyncio.timeout(self._limits.read_s):
            push: PushRequest = await self._store.push_request(coming)
        if not push.commands:
            return b""
        try:
            words = await self._let_in(wish, badge, push)
        except _RefusedError as no:
            words = no.words
        async with asyncio.timeout(self._limits.push_s):
            await drained(push.pack)
        return self._store.push_answered(push.commands, words)

    async def _let_in(self, wish: Asked, badge: Badge, push: PushRequest) -> str:
        """Why nothing was done, for a push that is no longer what the branch is at; "": it is done."""
        command = push.commands[0]
        faults = {
            "other_refs": len(push.commands) - 1,
            "deletions": sum(one.new is None for one in push.commands),
            "shallow_commits": push.shallow,
        }
        target = {"repository": wish.repository, "branch": command.ref.removeprefix(BRANCHES)}
        await self._sound(badge, target, faults, "")
        view = await self._view(badge)
        by = identity_of(badge.role, badge.session)
        received = self._store.received(view.repository, view.tips, push, by)
        async with asyncio.timeout(self._limits.push_s) as limit, received as offer:
            limit.reschedule(None)  # from here on it ends by itself, and a move of a ref is not to be cut off
            call = await self._sound(badge, target, offer.faults, offer.complaint)
            rules = await self._touched(badge, offer)
            at = (await self._view(badge)).tips.get(command.ref)
            if at not in {command.old, command.new}:
                words = f"it is at {at or 'no commit'}, not at {command.old or 'no commit'}; fetch first"
                self._completed(badge, WITHOUT_EFFECT, call, words)
                return words
            await offer.keep()
            try:
                return await self._moved(badge, target["branch"], command, offer, (*call.allowed.rules, *rules))
            except _RefusedError as no:
                self._completed(badge, WITHOUT_EFFECT, call, no.words)
                raise

    async def _sound(self, badge: Badge, target: Mapping[str, str], faults: Mapping[str, int], complaint: str) -> _Call:
        """The move of this ref, by a push with these faults. Raises _RefusedError."""
        found = {fault: count for fault, count in faults.items() if count}
        try:
            return await self._decide(badge, GIT_PUSH, {**target, **found})
        except _RefusedError as no:
            if not found or no.rules != ("arguments/schema",):
                raise
            by = identity_of(badge.role, badge.session)
            named = {"name": by.name, "email": by.email}
            words = "; ".join(FAULTS[fault].format(count=count, **named) for fault, count in found.items())
            raise _RefusedError(f"{words}: {complaint}" if complaint else words, no.rules) from no

    async def _touched(self, badge: Badge, offer: Offer) -> tuple[str, ...]:
        """The rules by which every path was allowed. Raises _RefusedError."""
        touched = Touched(offer.written, offer.deleted)
        decided = await self._desk.may_push(badge, touched, turn=GIT_TURN, index=next(self._index))
        if isinstance(decided, Denied):
            raise _RefusedError(decided.reason, decided.rules)
        return decided.rules

    async def _moved(self, badge: Badge, branch: str, command: RefCommand, offer: Offer, rules: tuple[str, ...]) -> str:
        """Why the gate did not move the ref; "": it did, now or when the same push came before.

        A push that is the same to the byte is another one if the branch has been put back to where it began.
        """
        verb = PushBranch.model_validate(
            {"repository": badge.repository, "branch": branch, "commit": command.new, "expect": command.old}
        )
        words = "it was pushed and put back too often"
        for tried in range(MAX_TRIES):
            key = EffectKey(f"agent/{badge.session}/git/{offer.request}" + (f".{tried}" if tried else ""))
            words = told(await self._acted(badge, verb, key, decision_on(badge, verb, offer, rules)))
            at = (await self._view(badge)).tips.get(command.ref)
            if at == command.new or at != command.old or words not in {"", NOT_THERE}:
                break
        return words

    async def _acted(self, badge: Badge, verb: PushBranch, key: EffectKey, decision: Decision) -> Outcome:
        try:
            return await self._gate.act(
                badge.role,
                verb,
                key=key,
                decision=decision,
                subject=badge.stream,
                on_behalf_of=badge.on_behalf_of or None,
                sessions=tuple(link.stream for link in badge.chain),
            )
        except Refused as no:
            raise _RefusedError("the gate refused the move", no.rules) from no

    # --- the desk ----------------------------------------------------------------------------------------------------

    async def _covered(self, badge: Badge, *tools: ToolDefinition) -> None:
        """Raises No when the token lacks a scope that it could have."""
        for tool in tools:
            if needed := await self._desk.scopes_short(badge, tool.name):
                scope = " ".join(needed)
                challenge = f'Bearer realm="flyball", error="insufficient_scope", scope="{scope}"'
                raise No(
                    403, f"the token does not cover {tool.name}; it needs: {scope}", {"WWW-Authenticate": challenge}
                )

    async def _decide(self, badge: Badge, tool: ToolDefinition, arguments: Mapping[str, Any]) -> _Call:
        index = next(self._index)
        decided = await self._desk.decide(badge, tool, tool.name, arguments, turn=GIT_TURN, index=index)
        if isinstance(decided, Denied):
            raise _RefusedError(decided.reason, decided.rules)
        return _Call(arguments, decided, index)

    def _completed(self, badge: Badge, tool: ToolDefinition, call: _Call, words: str) -> None:
        result = ToolResult(words)
        self._desk.completed(badge, tool, call.arguments, call.allowed, result, turn=GIT_TURN, index=call.index)


def _batches(paths: Sequence[str], size: int) -> list[Sequence[str]]:
    return [paths[at : at + size] for at in range(0, len(paths), size)]
