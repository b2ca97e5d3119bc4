"""The one way out: every effect on the world passes here, in this order, whoever asks.

Stops and freezes; the agent's grant; the intent with its reasons, durable; all of that once more; the act, within its
deadline; the outcome, durable. A revocation is held against the append of the intent, and looked for right before the
act. An effect is a stream of its own whose first entry is the intent, so a key can be claimed once. A worker that
finds an open intent waits for its deadline (unless its owner is known to be dead), claims it with a higher fence, looks
whether the world has it already, asks whether it is still allowed, and only then acts. What can neither be found nor
repeated is `unknown`, and a person's to settle.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from controller.domain import effect as fx
from controller.domain import events as e
from controller.domain.control import ALL_SCOPE, scopes
from controller.domain.decision import Claim, Decision, at_commit
from controller.domain.entry import Caller, Draft
from controller.domain.guards import ControlRow, Guard, HoldsFence, NotStopped
from controller.domain.ids import (
    Branch,
    Digest,
    EffectKey,
    Repository,
    Service,
    StreamId,
    digest_of,
    effect_stream,
    kind_of,
    session_behind,
)
from controller.domain.verbs import LandCommit, Port, PushBranch, Verb
from controller.errors import PathRefused, Permanent, Refused, Temporary
from controller.history.citing import opened
from controller.off_loop import Inline, Runner
from controller.ports import Blocked, Clock, Done, Failed, Hands, Log, Outcome, Pending, Rejected, Seals, Unknown

REFUSED = "effect/refused: the world refused it, and nothing was changed"
SAID_CHARS = 4_000  # of what the world said
ACT_MARGIN_S = 2  # an act times out this long before its deadline, so that nobody takes over while it may still land


@dataclass(frozen=True, slots=True)
class Grant:
    """What the decision engine said."""

    allowed: bool
    rules: tuple[str, ...]
    reason: str


class Paths(Protocol):
    """What a commit changes, decided before a branch moves to it. Implemented over git and `rbac` by wiring."""

    async def may_change(self, agent: str, verb: Verb, subject: StreamId) -> Grant | None:
        """None: the verb moves no branch. Raises PathRefused with the path and the rule, Unavailable."""
        ...


class NoPaths:
    """Nobody here can tell what a commit changes, so no branch moves."""

    async def may_change(self, agent: str, verb: Verb, subject: StreamId) -> Grant | None:
        del agent, subject
        if isinstance(verb, PushBranch | LandCommit):
            raise PathRefused(f"{verb.name}: nobody here decides paths", "Give the gate `paths`", rules=("no-paths",))
        return None


class Grants(Protocol):
    """Who may do what. Implemented over `rbac` by wiring; unknown means no."""

    @property
    def digest(self) -> Digest: ...

    def may(self, agent: str, verb: Verb, subject: StreamId) -> Grant: ...


async def _at_once(_: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked for, and by whom."""

    agent: str
    verb: Verb
    subject: StreamId
    caller: Caller
    sessions: tuple[StreamId, ...]  # of the session that acts and of its lenders. Empty: no session acts

    @property
    def stops(self) -> tuple[str, ...]:
        """Scopes whose stop stands in the way: of forward verbs every one, of safe ones the sessions' own."""
        own = tuple(f"session:{session_behind(stream)}" for stream in self.sessions)
        if self.verb.direction != "forward":
            return own
        return (*_stops(self.agent, self.verb), *own)


NO_PATHS = NoPaths()


class EffectGate:
    """`ports.Gate` over a log, the grants, and the hands that act."""

    def __init__(
        self,
        *,
        log: Log,
        clock: Clock,
        grants: Grants,
        hands: Mapping[Port, Hands],
        worker: str,
        gone: Callable[[str], bool] = lambda _: False,
        seals: Seals | None = None,
        covered: Callable[[int], Awaitable[None]] = _at_once,
        runner: Runner | None = None,
        clean: Callable[[str], str] = str,
        paths: Paths = NO_PATHS,
    ) -> None:
        """`gone`: this worker has ended, and nothing that it has asked of these hands can happen unseen any more.

        Only hands on this machine, which know a key that is still under way, can promise that. A request to a distant
        forge may land after its sender has died: there the deadline is waited for. `seals=None`: what the world says
        when it refuses stands in clear. `covered` returns when the intent at that log index is published as far as
        effects must wait for (a signature, a witness), and raises Unavailable when it is not in time; what is safe
        waits for nobody. `runner`: where the grants are asked. None: here, in the loop. `clean` takes secrets out of
        the words of a verb, before anything is made of it; a second time it changes nothing.
        `paths` decides what a commit changes; without it no branch moves.
        """
        self._paths = paths
        self._log = log
        self._clock = clock
        self._grants = grants
        self._hands = hands
        self._worker = worker
        self._gone = gone
        self._seals = seals
        self._covered = covered
        self._runner = runner or Inline()
        self._clean = clean
        self._in_flight: set[EffectKey] = set()

    async def act(
        self,
        agent: str,
        verb: Verb,
        *,
        key: EffectKey,
        decision: Decision,
        subject: StreamId,
        on_behalf_of: str | None = None,
        sessions: tuple[StreamId, ...] = (),
    ) -> Outcome:
        """Decide, record, decide again, act, record.

        Raises Refused when this agent may not, Permanent when the key means something else already.
        """
        if key in self._in_flight:
            return Pending(self._clock.now() + timedelta(seconds=1))
        self._in_flight.add(key)
        verb = verb.cleaned(self._clean)
        try:
            effect = fx.fold(key, await self._log.read(effect_stream(key)))
            _same_intent(effect, verb)
            caller = Caller(_principal(agent, subject), self._grants.digest, on_behalf_of)
            own = (subject,) if session_behind(subject) is not None else ()
            wish = _Wish(agent, verb, subject, caller, tuple(dict.fromkeys((*own, *sessions))))
            match effect.state:
                case fx.EffectState.ABSENT:
                    return await self._intend(wish, effect, decision)
                case fx.EffectState.OPEN:
                    return await self._take_over(wish, effect)
                case _:
                    return await self._settled(verb, effect)
        finally:
            self._in_flight.discard(key)

    async def blocked(
        self,
        agent: str,
        verb: type[Verb],
        *,
        repository: Repository,
        service: Service | None,
        branch: Branch | None = None,
    ) -> Blocked | None:
        if verb.direction == "safe":
            return None
        wanted = scopes(agent=agent, repository=repository, service=service, branch=branch)
        return first_block(await self._log.control(), wanted)

    async def _intend(self, wish: _Wish, effect: fx.Effect, decision: Decision) -> Outcome:
        agent, verb, subject, stops = wish.agent, wish.verb, wish.subject, wish.stops
        guards: tuple[Guard, ...] = (NotStopped(stops),) if stops else ()
        if guards and (block := first_block(await self._log.control(), stops)):
            return block
        grant = await self._granted(agent, verb, subject)
        decided = await self._paths.may_change(agent, verb, subject)
        intent = e.EffectIntended(
            key=effect.key,
            verb=verb.name,
            agent=agent,
            direction=verb.direction,
            single=verb.single,
            args=args_digest(verb),
            subject=subject,
            owner=self._worker,
            fence=1,
            deadline=self._clock.now() + timedelta(seconds=verb.deadline_s),
            decision=_with_paths(decision, verb, decided).under(self._grants.digest),
            allowed_by=tuple(dict.fromkeys((*grant.rules, *(decided.rules if decided else ())))),
        )
        stream = effect_stream(effect.key)
        kept = await self._log.append([Draft(stream, intent)], expect={stream: 0}, by=wish.caller, guards=guards)
        if isinstance(kept, Rejected):
            if isinstance(kept.guard, NotStopped):
                return first_block(await self._log.control(), stops) or Blocked(ALL_SCOPE, kept.reason)
            return Pending(intent.deadline)
        return await self._do(wish, fx.fold(effect.key, await self._log.read(stream)), at=kept.index)

    async def _granted(self, agent: str, verb: Verb, subject: StreamId) -> Grant:
        """Raises Refused, and Unavailable when the engine does not answer in time."""
        grant = await self._runner.run(self._grants.may, agent, verb, subject)
        if not grant.allowed:
            raise Refused(
                f"agent {agent} may not {verb.name}: {grant.reason}",
                "Grant it in rbac/grants, or ask another agent",
                rules=grant.rules,
            )
        return grant

    async def _take_over(self, wish: _Wish, effect: fx.Effect) -> Outcome:
        verb, caller = wish.verb, wish.caller
        now = self._clock.now()
        if effect.deadline is None:
            raise Permanent(f"effect {effect.key} is open without a deadline", "Run `flyball log verify`")
        if now < effect.deadline and not self._gone(effect.owner):
            return Pending(effect.deadline)
        claim = e.EffectClaimed(
            owner=self._worker, fence=effect.fence + 1, deadline=now + timedelta(seconds=verb.deadline_s)
        )
        stream = effect_stream(effect.key)
        kept = await self._log.append([Draft(stream, claim)], expect={stream: effect.version}, by=caller)
        if isinstance(kept, Rejected):
            return Pending(claim.deadline)
        mine = fx.fold(effect.key, await self._log.read(stream))
        if verb.single == "neither":
            reason = "the worker that began it died, and this verb leaves no trace to look for"
            return await self._end(mine, e.EffectUnknown(fence=mine.fence, reason=reason), Unknown(reason), caller)
        try:
            found = await self._bounded(self._hands[verb.port].find(mine.key, verb), verb)
        except (Temporary, TimeoutError):
            return Pending(claim.deadline)  # nobody acts before somebody has looked
        if found is not None:
            return await self._done(mine, found, "found", caller, kept.index)
        return await self._do(wish, mine, at=kept.index)

    async def _still_wanted(self, wish: _Wish, mine: fx.Effect) -> Outcome | None:
        """Authorised again at the last moment, also where the work lay about. None: it may go on.

        A stop leaves the intent open: it goes on when the stop is lifted, or is looked for again. What is over for good
        (a revoked session, a retired program, a grant taken back) ends it, and nothing was done.
        """
        control = await self._log.control()
        over = await self._over(wish.sessions, control)
        if not over and (block := first_block(control, wish.stops)):
            return block
        try:
            await self._granted(wish.agent, wish.verb, wish.subject)
            await self._paths.may_change(wish.agent, wish.verb, wish.subject)
        except Refused as no:
            over = over or no.message
        if not over:
            return None
        reason = f"it had not happened, and is not allowed any more: {over}"
        failed = e.EffectFailed(fence=mine.fence, reason=reason[:600])
        return await self._end(mine, failed, Failed(reason), wish.caller)

    async def _over(self, sessions: tuple[StreamId, ...], control: list[ControlRow]) -> str:
        """Why none of these sessions' chain may act any more. "": it may."""
        named = {f"session:{session_behind(stream)}" for stream in sessions}
        if any(row.scope in named and row.state == "revoked" for row in control):
            return "the session, or one that lent it its authority, has been revoked"
        outside = [stream for stream in sessions if kind_of(stream) == "client"]
        for stream in (*outside, *(StreamId(stream.rpartition("/")[0]) for stream in outside)):
            row = await self._log.stream(stream)
            if row is not None and row.terminal:
                return "the program, or its session, has been retired or has ended"
        return ""

    async def _do(self, wish: _Wish, effect: fx.Effect, *, at: int) -> Outcome:
        verb, caller = wish.verb, wish.caller
        try:
            async with asyncio.timeout(max(1, verb.deadline_s - ACT_MARGIN_S)):
                if verb.direction == "forward":
                    await self._covered(at)
                if (no := await self._still_wanted(wish, effect)) is not None:
                    return no
                result = await self._hands[verb.port].act(effect.key, verb)
        except Permanent as no:
            return await self._end(effect, await self._refused(effect, str(no)), Failed(str(no)), caller)
        except (Temporary, TimeoutError):
            # It may or may not have happened. The intent stays open; after the deadline somebody claims it and looks.
            return Pending(effect.deadline or self._clock.now())
        return await self._done(effect, result, "acted", caller, at)

    async def _refused(self, effect: fx.Effect, said: str) -> e.EffectFailed:
        """A build that failed and an instance that died quote what others wrote: their words go sealed."""
        if self._seals is None:
            return e.EffectFailed(fence=effect.fence, reason=said[:600])
        detail = await self._seals.seal(said[:SAID_CHARS])
        return e.EffectFailed(fence=effect.fence, reason=REFUSED, detail=detail)

    async def _done(self, effect: fx.Effect, result: Any, how: str, caller: Caller, at: int) -> Outcome:
        text = json.dumps(result.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        event = e.EffectDone(fence=effect.fence, how="found" if how == "found" else "acted", result=text)
        return await self._end(effect, event, Done(result, at), caller)

    async def _end(self, effect: fx.Effect, event: e.Event, outcome: Outcome, caller: Caller) -> Outcome:
        stream = effect_stream(effect.key)
        fence = HoldsFence(effect.key, effect.owner, effect.fence)
        kept = await self._log.append(
            [Draft(stream, event)], expect={stream: effect.version}, by=caller, guards=(fence,)
        )
        if isinstance(kept, Rejected):
            return Pending(self._clock.now() + timedelta(seconds=1))  # somebody with a higher fence settles it
        return outcome

    async def _settled(self, verb: Verb, effect: fx.Effect) -> Outcome:
        if effect.state is fx.EffectState.DONE:
            entries = await self._log.read(effect_stream(effect.key))
            return Done(verb.result.model_validate_json(effect.result), entries[0].index)
        if effect.state is fx.EffectState.FAILED:
            last = (await self._log.read(effect_stream(effect.key)))[-1].event
            said = last.detail if isinstance(last, e.EffectFailed) else None
            return Failed(await opened(self._seals, said) if self._seals and said else effect.reason)
        return Unknown(effect.reason)

    async def _bounded(self, act: Any, verb: Verb) -> Any:
        return await asyncio.wait_for(act, max(1, verb.deadline_s - ACT_MARGIN_S))


def _principal(agent: str, subject: StreamId) -> str:
    """A role, and the session that acts if one does: never the person who asked."""
    session = session_behind(subject)
    return f"agent:{agent}" if session is None else f"agent:{agent}/{session}"


def _stops(agent: str, verb: Verb) -> tuple[str, ...]:
    return scopes(agent=agent, repository=verb.repository_scope, service=verb.service_scope, branch=verb.branch_scope)


def _with_paths(decision: Decision, verb: Verb, decided: Grant | None) -> Decision:
    """The decision, and what was found of the commit's paths. None: it moves no branch."""
    if decided is None or not isinstance(verb, PushBranch | LandCommit):
        return decision
    claim = Claim(text=f"decided on git's own trees: {decided.reason}"[:600], evidence=at_commit(verb.commit))
    return decision.model_copy(update={"claims": (*decision.claims, claim)})


def args_digest(verb: Verb) -> Digest:
    return digest_of({"verb": verb.name, "args": verb.model_dump(mode="json")})


def first_block(control: list[ControlRow], wanted: tuple[str, ...]) -> Blocked | None:
    """The first stop or freeze that covers one of these scopes. None: nothing stands in the way."""
    return next((Blocked(row.scope, f"{row.state}: {row.reason}") for row in control if row.scope in wanted), None)


def _same_intent(effect: fx.Effect, verb: Verb) -> None:
    if effect.intent is not None and effect.intent.args != args_digest(verb):
        raise Permanent(
            f"effect {effect.key} was intended as {effect.intent.verb} with other arguments",
            "A key means one effect for ever; this is a defect in the step that made the key",
        )
