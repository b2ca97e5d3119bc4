"""What belts share whose tools reach the world: the way through the gate, and what a session has done there before.

The key of an effect is its call's place in the session, so a resumed session that replays its reply asks for the same
effect again and finds it done. What came before is read from the log alone, by the session's own intents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controller.desk import effect_key
from controller.domain.decision import Decision
from controller.domain.effect import Effect, EffectState, fold
from controller.domain.entry import Entry
from controller.domain.events import EffectIntended
from controller.domain.ids import Commit, EffectKey, effect_stream
from controller.domain.verbs import PushBranch, Verb
from controller.errors import PathRefused, Refused
from controller.ports import Badge, Blocked, Done, Failed, Gate, Log, Outcome, Pending, ToolResult
from controller.requests import Place
from tools.belt import Call, NotPossible

EVIDENCE = "commit "  # how a decision names the commit that it is about, first of its claims
INTENTS = frozenset({EffectIntended.kind()})


def key_of(call: Call) -> EffectKey:
    return effect_key(call.badge.session, call.turn, call.index)


def place_of(call: Call) -> Place:
    return Place(call.badge, key_of(call), call.turn, call.index)


class Effects:
    def __init__(self, gate: Gate, log: Log) -> None:
        self._gate = gate
        self._log = log

    async def act(self, call: Call, verb: Verb, decision: Decision) -> Outcome:
        """Raises NotPossible when the session's role may not, or when its call has meant something else before."""
        badge = call.badge
        try:
            return await self._gate.act(
                badge.role,
                verb,
                key=key_of(call),
                decision=decision,
                subject=badge.stream,
                on_behalf_of=badge.on_behalf_of or None,
                sessions=tuple(link.stream for link in badge.chain),
            )
        except PathRefused as no:
            raise NotPossible(f"{verb.name} was refused: {no.message}") from no
        except Refused as no:
            raise NotPossible(f"{verb.name} was refused") from no

    async def begun(self, badge: Badge) -> list[Entry]:
        """The session's stream. Raises NotPossible when it has no entry yet."""
        entries = await self._log.read(badge.stream)
        if not entries:
            raise NotPossible("this session has not begun")
        return entries

    async def before(self, call: Call, verb: type[Verb]) -> list[Effect]:
        """The effects of this verb that the session has asked for, up to this call, in order."""
        start = (await self.begun(call.badge))[0].index
        keys: list[EffectKey] = []
        async for entry in self._log.scan(start, INTENTS):
            event = entry.event
            if not isinstance(event, EffectIntended) or event.subject != call.badge.stream:
                continue
            if event.key == key_of(call):
                break
            if event.verb == verb.name:
                keys.append(event.key)
        return [fold(key, await self._log.read(effect_stream(key))) for key in keys]

    async def own(self, call: Call) -> Effect:
        """What this very call has asked for before a crash, if anything."""
        return fold(key_of(call), await self._log.read(effect_stream(key_of(call))))

    async def pushed(self, call: Call) -> Commit | None:
        """What the session pushed last, through whichever door. None: nothing yet."""
        done = [one for one in await self.before(call, PushBranch) if one.state is EffectState.DONE]
        return commit_of(done[-1]) if done else None


def commit_of(effect: Effect) -> Commit | None:
    """The commit that an effect's decision is about. None: it names none."""
    evidence = effect.intent.decision.claims[0].evidence if effect.intent else ""
    return Commit(evidence.removeprefix(EVIDENCE)) if evidence.startswith(EVIDENCE) else None


def unless_done(outcome: Outcome, what: str, failed: str) -> ToolResult | None:
    """What an agent is told of an effect that is not done. None: it is."""
    match outcome:
        case Done():
            return None
        case Pending():
            return ToolResult(f"{what} is under way; nothing more is to be done for it.")
        case Blocked():
            return ToolResult(f"{what} is stopped from outside at the moment.", error=True)
        case Failed():
            return ToolResult(f"{what} was not accepted: {failed}.", error=True)
        case _:
            return ToolResult(f"Nobody knows whether this went through: {what}. A person will look.", error=True)


@contextmanager
def in_plain_words() -> Iterator[None]:
    """A refusal of `AgentRequests` is an answer to the agent."""
    try:
        yield
    except Refused as no:
        raise NotPossible(no.message) from no
