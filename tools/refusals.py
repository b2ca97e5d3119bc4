"""What the doors turned away before anybody could be asked for it: counted by kind, and told once in a window.

A campaign of guessing tokens or of smuggling requests must leave a trace, and must not be able to fill the log with it.
So a refusal adds one to a count, and nothing of what was sent is kept; the counts of a minute are one entry. A minute
with many refusals of a kind begins a campaign, of which whoever is on call hears once, until it has been quiet for a
while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from controller.domain.decision import Claim, Decision, at_entry, decide
from controller.domain.entry import Caller, Draft
from controller.domain.events import DoorCount, DoorKind, DoorRefusals
from controller.domain.ids import DOOR, EffectKey
from controller.domain.verbs import Tell
from controller.errors import FlyballError, Unavailable
from controller.ports import Clock, Gate, Log, Receipt

WINDOW_S = 60
CAMPAIGN = 30  # refusals of one kind in one window; an honest client with an old token asks a few times
QUIET = timedelta(minutes=10)  # after so long without a campaign's window, the next is another campaign
ATTEMPTS = 10  # at an append beside other controllers

ON_CALL, AGENT = "on-call", "observer"

TellOnCall = Callable[[int, str], Awaitable[None]]  # the entry of the campaign's first window, and the words

logger = logging.getLogger(__name__)


class Refusals:
    """Counts of one process. `note` costs an addition, so that nobody is slowed down by being refused."""

    def __init__(self, log: Log, clock: Clock, by: Caller, tell: TellOnCall | None = None) -> None:
        """`tell=None`: nobody is on call here; the counts are in the log all the same."""
        self._log = log
        self._clock = clock
        self._by = by
        self._tell = tell
        self._counts: Counter[DoorKind] = Counter()
        self._since: datetime | None = None  # None: nothing has been refused since the last entry
        self._campaigns: dict[DoorKind, datetime] = {}  # the last window in which it went on
        self._some = asyncio.Event()

    def note(self, kind: DoorKind) -> None:
        if self._since is None:
            self._since = self._clock.now()
        self._counts[kind] += 1
        self._some.set()

    async def run(self) -> None:
        """Until cancelled: an entry for each window in which something was refused."""
        while True:
            await self._some.wait()
            await self._clock.sleep(WINDOW_S)
            await self.write_down()

    async def write_down(self) -> None:
        """What was counted so far. Counts that the log does not take are kept for the next time."""
        if self._since is None:
            return
        counts, since = self._counts, self._since
        self._counts, self._since = Counter(), None
        self._some.clear()
        seconds = max(1, round((self._clock.now() - since).total_seconds()))
        fresh = self._fresh_campaigns(counts)
        fact = DoorRefusals(since=since, seconds=seconds, counts=_counted(counts), campaigns=fresh)
        try:
            at = await self._kept(fact)
        except FlyballError as broken:
            logger.warning("%d refusals of the doors are not in the log yet: %s", counts.total(), broken)
            self._counts.update(counts)
            self._since = since
            self._some.set()
            return
        for kind in counts:
            if counts[kind] >= CAMPAIGN:
                self._campaigns[kind] = self._clock.now()
        if fresh and self._tell is not None:
            await self._told(self._tell, at, fact)

    def _fresh_campaigns(self, counts: Counter[DoorKind]) -> tuple[DoorKind, ...]:
        now = self._clock.now()
        many = [kind for kind, count in counts.items() if count >= CAMPAIGN and kind is not DoorKind.NO_TOKEN]
        return tuple(sorted(kind for kind in many if now - self._campaigns.get(kind, now - QUIET) >= QUIET))

    async def _kept(self, fact: DoorRefusals) -> int:
        """Where in the log it stands. Raises Unavailable when the log does not take it."""
        for _ in range(ATTEMPTS):
            row = await self._log.stream(DOOR)
            expect = {DOOR: row.version if row else 0}
            kept = await self._log.append([Draft(DOOR, fact)], expect=expect, by=self._by)
            if isinstance(kept, Receipt):
                return kept.index
        raise Unavailable("the log is too busy to write to", "It is tried again in a minute")

    async def _told(self, tell: TellOnCall, at: int, fact: DoorRefusals) -> None:
        found = {one.kind: one.count for one in fact.counts}
        kinds = " and ".join(f"{found[kind]} requests ({kind.value})" for kind in fact.campaigns)
        words = (
            f"The tool gateway has refused {kinds} within {fact.seconds} s. Nothing was done for them."
            " You are told once a campaign; what follows is counted in the log: flyball status."
        )
        try:
            await tell(at, words)
        except FlyballError as broken:
            logger.warning("whoever is on call could not be told of refused requests: %s", broken)


def _counted(counts: Counter[DoorKind]) -> tuple[DoorCount, ...]:
    return tuple(DoorCount(kind=kind, count=counts[kind]) for kind in sorted(counts))


def telling(gate: Gate) -> TellOnCall:
    """By a message that goes the way of every effect, once for each campaign."""

    async def tell(at: int, words: str) -> None:
        verb = Tell(to=ON_CALL, thread="door", text=words)
        await gate.act(AGENT, verb, key=EffectKey(f"door/{at}"), decision=_why(at, words), subject=DOOR)

    return tell


def _why(at: int, words: str) -> Decision:
    return decide(
        "Tell whoever is on call of a campaign against the tool gateway?",
        "tell",
        over={"stay silent": "nobody else sees who knocks at this door"},
        because=(Claim(text=words[:300], evidence=at_entry(at)),),
        would_change=f"fewer than {CAMPAIGN} requests of a kind in {WINDOW_S} s, or a campaign told less than"
        f" {QUIET.seconds // 60} minutes ago",
        fallback="the same counts stand in the log",
        rules=("tell/always", "door/campaign"),
    )
