"""The one way out: every effect on the world passes here, in this order, whoever asks.

Stops and freezes; the agent's grant; the intent with its reasons, durable; the act, within its deadline; the outcome,
durable. An effect is a stream of its own whose first entry is the intent, so a key can be claimed once. A worker that
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
from controller.domain.decision import Decision
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
    session_behind,
)
from controller.domain.verbs import Port, Verb
from controller.errors import Permanent, Refused, Temporary
from controller.history.citing import opened
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


class Grants(Protocol):
    """Who may do what. Implemented over `rbac` by wiring; unknown means no."""

    @property
    def digest(self) -> Digest: ...

    def may(self, agent: str, verb: Verb, subject: StreamId) -> Grant: ...


async def _at_once(_: int) -> None: ...


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
    ) -> None:
        """`gone`: this worker has ended, and nothing that it has asked of these hands can happen unseen any more.

        Only hands on this machine, which know a key that is still under way, can promise that. A request to a distant
        forge may land after its sender has died: there the deadline is waited for. `seals=None`: what the world says
        when it refuses stands in clear. `covered` returns when the intent at that log index is published as far as
        effects must wait for (a signature, a witness), and raises Unavailable when it is not in time; what is safe
        waits for nobody.
        """
        self._log = log
        self._clock = clock
        self._grants = grants
        self._hands = hands
        self._worker = worker
        self._gone = gone
        self._seals = seals
        self._covered = covered
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
    ) -> Outcome:
        """Decide, record, act, record.

        Raises Refused when this agent may not, Permanent when the key means something else already.
        """
        if key in self._in_flight:
            return Pending(self._clock.now() + timedelta(seconds=1))
        self._in_flight.add(key)
        try:
            effect = fx.fold(key, await self._log.read(effect_stream(key)))
            _same_intent(effect, verb)
            caller = Caller(_principal(agent, subject), self._grants.digest, on_behalf_of)
            match effect.state:
                case fx.EffectState.ABSENT:
                    return await self._intend(agent, verb, effect, decision, subject=subject, caller=caller)
                case fx.EffectState.OPEN:
                    return await self._take_over(agent, verb, effect, subject=subject, caller=caller)
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

    async def _intend(
        self, agent: str, verb: Verb, effect: fx.Effect, decision: Decision, *, subject: StreamId, caller: Caller
    ) -> Outcome:
        stops = _stops(agent, verb)
        guards: tuple[Guard, ...] = (NotStopped(stops),) if verb.direction == "forward" else ()
        if guards and (block := first_block(await self._log.control(), stops)):
            return block
        grant = self._granted(agent, verb, subject)
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
            decision=decision.under(self._grants.digest),
            allowed_by=grant.rules,
        )
        stream = effect_stream(effect.key)
        kept = await self._log.append([Draft(stream, intent)], expect={stream: 0}, by=caller, guards=guards)
        if isinstance(kept, Rejected):
            if isinstance(kept.guard, NotStopped):
                return first_block(await self._log.control(), stops) or Blocked(ALL_SCOPE, kept.reason)
            return Pending(intent.deadline)
        return await self._do(
            verb, fx.fold(effect.key, await self._log.read(stream)), caller, how="acted", at=kept.index
        )

    def _granted(self, agent: str, verb: Verb, subject: StreamId) -> Grant:
        """Raises Refused."""
        grant = self._grants.may(agent, verb, subject)
        if not grant.allowed:
            raise Refused(
                f"agent {agent} may not {verb.name}: {grant.reason}",
                "Grant it in rbac/grants, or ask another agent",
                rules=grant.rules,
            )
        return grant

    async def _take_over(
        self, agent: str, verb: Verb, effect: fx.Effect, *, subject: StreamId, caller: Caller
    ) -> Outcome:
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
        return await self._still_wanted(agent, verb, mine, subject, caller) or await self._do(
            verb, mine, caller, how="acted", at=kept.index
        )

    async def _still_wanted(
        self, agent: str, verb: Verb, mine: fx.Effect, subject: StreamId, caller: Caller
    ) -> Outcome | None:
        """Work that lay about is authorised again when it runs. None: it may go on; else it ends, and nothing was done.

        A stop leaves it open: it goes on when the stop is lifted, or is looked for again.
        """
        stops = _stops(agent, verb)
        if verb.direction == "forward" and (block := first_block(await self._log.control(), stops)):
            return block
        try:
            self._granted(agent, verb, subject)
        except Refused as no:
            reason = f"it had not happened, and is not allowed any more: {no.message}"
            return await self._end(mine, e.EffectFailed(fence=mine.fence, reason=reason[:600]), Failed(reason), caller)
        return None

    async def _do(self, verb: Verb, effect: fx.Effect, caller: Caller, *, how: str, at: int) -> Outcome:
        try:
            result = await self._bounded(self._published_and_acted(verb, effect.key, at), verb)
        except Permanent as no:
            return await self._end(effect, await self._refused(effect, str(no)), Failed(str(no)), caller)
        except (Temporary, TimeoutError):
            # It may or may not have happened. The intent stays open; after the deadline somebody claims it and looks.
            return Pending(effect.deadline or self._clock.now())
        return await self._done(effect, result, how, caller, at)

    async def _published_and_acted(self, verb: Verb, key: EffectKey, at: int) -> Any:
        if verb.direction == "forward":
            await self._covered(at)
        return await self._hands[verb.port].act(key, verb)

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
