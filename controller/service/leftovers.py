"""Effects that somebody began and nobody will ask for again.

The loop asks for its own effects until they have an outcome, and a session that is taken up again replays its calls.
But a session that has ended asks for nothing any more, a program outside never asks twice under one key, and a page is
sent once for what a canary showed then. What such a one leaves open when its worker dies would stay open for ever. So
it is claimed here with a higher fence and ended as unknown, for nobody here can tell what it did: its arguments are in
the log by digest only. Whoever is on call is told of every unknown effect, whoever found it, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.domain import effect as fx
from controller.domain import events as e
from controller.domain.decision import Claim, Decision, at_entry, decide
from controller.domain.entry import Draft, Entry
from controller.domain.guards import EffectRow
from controller.domain.ids import EffectKey, effect_stream, kind_of, rest_of
from controller.domain.verbs import Tell
from controller.ports import Pending, Ports

AGENT = "observer"
ON_CALL = "on-call"
LEFT_AFTER = timedelta(minutes=10)  # an act times out before its deadline, so nothing of it is still under way then
REASON = "effect/left-over: it was begun, has no outcome, and nobody asked for it again"


@dataclass
class Leftovers:
    """What is remembered here may be lost: it only costs ten minutes."""

    ports: Ports
    seen: dict[EffectKey, tuple[int, datetime]] = field(default_factory=dict)  # fence, and since when it has stood
    untold: dict[EffectKey, int] = field(default_factory=dict)  # unknown effects by the log index that says so

    def hear(self, entry: Entry) -> None:
        """Of every new entry. Hearing the same one again costs a look."""
        if isinstance(entry.event, e.EffectUnknown):
            self.untold[EffectKey(rest_of(entry.stream))] = entry.index

    async def look(self) -> None:
        """End what was left, and tell of what is unknown. Raises Temporary when the log does not answer."""
        rows, now = await self.ports.log.open_effects(), self.ports.clock.now()
        before, self.seen = self.seen, {}
        for row in rows:
            fence, since = before.get(row.key, (row.fence, now))
            self.seen[row.key] = (row.fence, since if fence == row.fence else now)
            if now >= row.deadline + LEFT_AFTER:
                await self._end_if_left(row, stood=now - self.seen[row.key][1])
        for key, at in list(self.untold.items()):
            if await self._told(key, at):
                del self.untold[key]

    async def _end_if_left(self, row: EffectRow, stood: timedelta) -> None:
        stream = effect_stream(row.key)
        effect = fx.fold(row.key, await self.ports.log.read(stream))
        intent = effect.intent
        if intent is None or effect.state is not fx.EffectState.OPEN or not await self._is_left(intent, stood):
            return
        fence = effect.fence + 1
        claim = e.EffectClaimed(owner=self.ports.worker, fence=fence, deadline=self.ports.clock.now())
        drafts = [Draft(stream, claim), Draft(stream, e.EffectUnknown(fence=fence, reason=REASON))]
        # Somebody who asks for it after all has moved its version, and is left alone.
        await self.ports.log.append(drafts, expect={stream: effect.version}, by=self.ports.caller)

    async def _is_left(self, intent: e.EffectIntended, stood: timedelta) -> bool:
        """Nobody will ask for it again.

        A stop keeps forward verbs of streams under way open for as long as it lasts; a safe one is never kept, so one
        that has stood untouched while this process watched has been forgotten.
        """
        kind = kind_of(intent.subject)
        if kind == "effect":
            return False  # a message about an unknown effect: asked for until it is told
        row = await self.ports.log.stream(intent.subject)
        if row is None or row.terminal or kind == "client":
            return True
        return kind != "session" and intent.direction == "safe" and stood >= LEFT_AFTER

    async def _told(self, key: EffectKey, at: int) -> bool:
        """False: not settled yet, look again."""
        intent = (await self.ports.log.read(effect_stream(key)))[0]
        if not isinstance(intent.event, e.EffectIntended):
            raise TypeError(intent)
        what, subject = intent.event.verb, intent.event.subject
        words = (
            f"Nobody can tell whether {what} for {subject} happened ({key}). It is never tried again: look at the "
            f"world, and settle it by hand. It was intended at log#{intent.index} and given up at log#{at}."
        )
        outcome = await self.ports.gate.act(
            AGENT,
            Tell(to=ON_CALL, thread=rest_of(subject), text=words),
            key=EffectKey(f"unknown/{key}"),
            decision=_telling(what, at).under(self.ports.caller.policy),
            subject=effect_stream(key),
        )
        return not isinstance(outcome, Pending)


def _telling(verb: str, at: int) -> Decision:
    return decide(
        f"Tell whoever is on call of an unknown {verb}?",
        "tell",
        over={"stay silent": "only a person can find out what it did"},
        because=(Claim(text="it may or may not have happened", evidence=at_entry(at)),),
        would_change="nothing: telling is always allowed",
        fallback="the same words stand in the log",
        rules=("tell/always", "effect/unknown-is-a-persons"),
    )
