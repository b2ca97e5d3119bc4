"""Erasing, keeping and ageing out sealed text, each an act of a person that stands in the log.

Text is erased by destroying the key that it lies under: the entry says so first, then the key goes, and a key that the
log calls destroyed but is still there (a crash in between) goes with the next act. Leaves hold digests of ciphertexts
only, so every proof stays valid.

All acts are entries of one stream, appended only to the version that they were decided on: a hold that is set while
somebody erases is either seen, or comes after the erasure. A legal hold beats age and wish alike. What article 19 of
the AI Act has kept for six months (agents' text: keys of months and of deliveries, and the one local key of before) is
not destroyed earlier; a person's own words may be, at their wish.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.events import EffectIntended, Event, TaskRequested
from controller.domain.events.privacy import (
    EVERYTHING,
    MINIMUM_DAYS,
    PRIVACY,
    KeyDestroyed,
    LegalHoldLifted,
    LegalHoldSet,
    RetentionApplied,
    sealed_in,
)
from controller.domain.ids import Digest, StreamId, kind_of, rest_of
from controller.errors import ConfigError, Permanent, Refused, Unavailable
from controller.ports import Clock, Log, Rejected

ACT = "privacy"  # as people's standing names it
ATTEMPTS = 10  # at an append whose stream moves on meanwhile
MAX_REASON = 600  # characters
MAX_AT_ONCE = 900  # keys in one act: an append has at most a thousand entries
SEE = "See them: flyball privacy status"


class Standing(Protocol):
    @property
    def digest(self) -> Digest: ...

    def may_person(self, person: str, act: str, repository: str | None) -> bool: ...


class Keys(Protocol):
    """Where the keys lie. A key's id is "<scope>:<hex>"."""

    def held(self) -> list[str]: ...

    def destroy(self, key_id: str) -> bool:
        """False: it was gone already."""
        ...


class Names(Protocol):
    def pseudonym(self, person: str) -> str: ...

    def forget(self, pseudonym: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Acts:
    """The stream `privacy`, folded."""

    version: int = 0
    holds: dict[str, LegalHoldSet] = field(default_factory=dict)  # by scope
    destroyed: frozenset[str] = frozenset()  # ids of keys
    told: frozenset[str] = frozenset()  # event ids


@dataclass(frozen=True, slots=True)
class Status:
    holds: tuple[LegalHoldSet, ...]
    keys: tuple[tuple[str, datetime | None], ...]  # id, and when retention takes it; None: not by the calendar
    unfinished: tuple[str, ...]  # destroyed in the log and still on disk: the next act removes them
    days: int


@dataclass
class Uses:
    """Which keys the log's entries name: since when no more, and which of them for a held delivery."""

    last: dict[str, datetime] = field(default_factory=dict)  # by scope
    of_delivery: dict[str, set[str]] = field(default_factory=dict)  # scopes, by held delivery


class Privacy:
    """`reasoning_days`: how long text that nobody erases is kept; at least `MINIMUM_DAYS`."""

    def __init__(
        self, *, log: Log, keys: Keys, names: Names, standing: Standing, clock: Clock, reasoning_days: int
    ) -> None:
        if reasoning_days < MINIMUM_DAYS:
            raise ConfigError(
                f"privacy.reasoning_days is {reasoning_days}, the least is {MINIMUM_DAYS}",
                "Article 19 of the AI Act asks that logs be kept for six months at least",
            )
        self._log = log
        self._keys = keys
        self._names = names
        self._standing = standing
        self._clock = clock
        self._days = reasoning_days

    async def erase(
        self, person: str, scope: str, reason: str, *, event_id: str, although_live: bool = False
    ) -> tuple[str, ...]:
        """Destroy the keys of a scope: what lies under them cannot be read again. The ids of those destroyed.

        Raises Refused under a legal hold, for what must be kept longer, and while a delivery that needs the text is
        under way, unless `although_live`. The same `event_id` is one act, which is finished if it had not been.
        """
        by = self._may(person)
        for _ in range(ATTEMPTS):
            acts = await self._acts()
            if event_id in acts.told:
                return self._finish(acts)
            found = [key for key in self._keys.held() if scope_of(key) == scope and key not in acts.destroyed]
            if not found:
                raise Refused(f"there is no key of {scope!r}", SEE)
            await self._erasable(scope, acts, although_live=although_live)
            said = [
                KeyDestroyed(key_id=key, why="erasure", by=by.principal, reason=_short(reason), event_id=event_id)
                for key in found
            ]
            if await self._kept(said, acts, by):
                return self._finish(await self._acts(), found)
        raise _busy()

    async def hold(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        """Keep everything in a scope ("all", or that of a key) until it is lifted. A second time is once."""
        by = self._may(person)
        if scope != EVERYTHING and not all(scope.partition("/")):
            raise Refused(f"{scope!r} is no scope", f"Use {EVERYTHING}, month/YYYY-MM, person/PSEUDONYM or delivery/ID")
        for _ in range(ATTEMPTS):
            acts = await self._acts()
            if scope in acts.holds or event_id in acts.told:
                return
            held = LegalHoldSet(scope=scope, by=by.principal, reason=_short(reason), event_id=event_id)
            if await self._kept([held], acts, by):
                return
        raise _busy()

    async def lift(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        by = self._may(person)
        for _ in range(ATTEMPTS):
            acts = await self._acts()
            if event_id in acts.told:
                return
            if scope not in acts.holds:
                raise Refused(f"{scope!r} is under no legal hold", SEE)
            lifted = LegalHoldLifted(scope=scope, by=by.principal, reason=_short(reason), event_id=event_id)
            if await self._kept([lifted], acts, by):
                return
        raise _busy()

    async def apply_retention(self, person: str, *, event_id: str) -> RetentionApplied | None:
        """Destroy what has been kept long enough and no hold covers. None: nothing was that old, and nothing is said.

        A month counts from its end; the key of a delivery, and the local one, from the last entry that names it.
        """
        by = self._may(person)
        for _ in range(ATTEMPTS):
            acts = await self._acts()
            self._finish(acts)
            if event_id in acts.told:
                return None
            uses = await self._uses(acts.holds)
            old = [key for key in self._keys.held() if self._is_over(scope_of(key), uses, self._days)][:MAX_AT_ONCE]
            if not old:
                return None
            applied = self._applied(old, acts, uses, by, event_id)
            if await self._kept([*_aged_out(applied), applied], acts, by):
                self._finish(await self._acts(), applied.destroyed)
                return applied
        raise _busy()

    async def status(self) -> Status:
        acts, held = await self._acts(), self._keys.held()
        due = [(key, month_end(scope_of(key))) for key in held]
        return Status(
            holds=tuple(acts.holds.values()),
            keys=tuple((key, end and end + timedelta(days=self._days)) for key, end in due),
            unfinished=tuple(key for key in held if key in acts.destroyed),
            days=self._days,
        )

    # --- what may go --------------------------------------------------------------------------------------------------

    async def _erasable(self, scope: str, acts: Acts, *, although_live: bool) -> None:
        calendar = scope.startswith("person/") or month_end(scope) is not None
        nothing_held = not any(hold.startswith("delivery/") for hold in acts.holds)
        uses = Uses() if calendar and nothing_held else await self._uses(acts.holds)
        if covering := covered_by(scope, acts.holds, uses):
            raise Refused(
                f"{scope} is under legal hold ({', '.join(covering)})", "Lift it: flyball privacy release-hold"
            )
        if not scope.startswith("person/") and not self._is_over(scope, uses, MINIMUM_DAYS):
            raise Refused(
                f"{scope} holds agents' text that is younger than {MINIMUM_DAYS} days",
                "Article 19 of the AI Act asks that it be kept for six months: erase it then",
                rules=("privacy/article-19",),
            )
        live = [] if although_live else await self._live_under(scope)
        if live:
            raise Refused(
                f"{', '.join(live)} still needs this text",
                "Let it end or reject it first, or say --although-live: it will be stuck then",
            )

    async def _live_under(self, scope: str) -> list[str]:
        rows = await self._log.live("delivery/")
        if not scope.startswith("person/"):
            return [str(row.stream) for row in rows if row.stream == scope]
        asked_by = scope.replace("/", ":", 1)
        found: list[str] = []
        for row in rows:
            first = (await self._log.read(row.stream))[0].event
            if isinstance(first, TaskRequested) and first.asked_by == asked_by:
                found.append(row.stream)
        return found

    def _is_over(self, scope: str, uses: Uses, days: int) -> bool:
        """Whether text under this scope was last written `days` ago. A person's key has no such day."""
        if scope.startswith("person/"):
            return False
        end = month_end(scope) or uses.last.get(scope)
        return end is not None and end + timedelta(days=days) <= self._clock.now()

    async def _uses(self, holds: Iterable[str]) -> Uses:
        """One pass over the whole log: seconds for a hundred thousand entries, and asked for by people only."""
        uses = Uses(of_delivery={hold: set() for hold in holds if hold.startswith("delivery/")})
        effects: dict[StreamId, str] = {}
        async for entry in self._log.scan():
            if isinstance(entry.event, EffectIntended):
                effects[entry.stream] = _delivery_of(entry.event.subject)
            about = uses.of_delivery.get(effects.get(entry.stream) or _delivery_of(entry.stream))
            for sealed in sealed_in(entry.event):
                uses.last[scope_of(sealed.key_id)] = entry.time
                if about is not None:
                    about.add(scope_of(sealed.key_id))
        return uses

    # --- writing ------------------------------------------------------------------------------------------------------

    def _applied(self, old: Sequence[str], acts: Acts, uses: Uses, by: Caller, event_id: str) -> RetentionApplied:
        held = tuple(key for key in old if covered_by(scope_of(key), acts.holds, uses))
        return RetentionApplied(
            days=self._days,
            destroyed=tuple(key for key in old if key not in held),
            held=held,
            by=by.principal,
            event_id=event_id,
        )

    async def _acts(self) -> Acts:
        return fold_acts(await self._log.read(PRIVACY))

    async def _kept(self, events: Sequence[Event], acts: Acts, by: Caller) -> bool:
        """False: somebody acted meanwhile, and the decision must be taken anew."""
        drafts = [Draft(PRIVACY, event) for event in events]
        return not isinstance(await self._log.append(drafts, expect={PRIVACY: acts.version}, by=by), Rejected)

    def _finish(self, acts: Acts, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """Destroy every key that the log calls destroyed; `wanted` also where a file of theirs is half gone."""
        for key in {*wanted, *(key for key in self._keys.held() if key in acts.destroyed)}:
            self._keys.destroy(key)
            if scope_of(key).startswith("person/"):
                self._names.forget(scope_of(key).replace("/", ":", 1))
        return tuple(wanted)

    def _may(self, person: str) -> Caller:
        if not person:
            raise Permanent("nobody is signed in", "The door that lets people in must say who they are")
        if not self._standing.may_person(person, ACT, None):
            raise Refused(
                f"{person} may not say what is kept and what is erased",
                "Ask whoever owns the policy (policy.people)",
                rules=("people/default-deny",),
            )
        return Caller(self._names.pseudonym(person), self._standing.digest)


def fold_acts(entries: Iterable[Entry]) -> Acts:
    acts = Acts()
    for entry in entries:
        event = entry.event
        acts = replace(acts, version=entry.version, told=acts.told | {getattr(event, "event_id", "")})
        match event:
            case LegalHoldSet():
                acts = replace(acts, holds=acts.holds | {event.scope: event})
            case LegalHoldLifted():
                acts = replace(acts, holds={scope: one for scope, one in acts.holds.items() if scope != event.scope})
            case KeyDestroyed():
                acts = replace(acts, destroyed=acts.destroyed | {event.key_id})
    return acts


def covered_by(scope: str, holds: Iterable[str], uses: Uses) -> list[str]:
    """The holds that keep the keys of a scope: that of a delivery also those that its entries lie under."""
    return [hold for hold in holds if hold in (EVERYTHING, scope) or scope in uses.of_delivery.get(hold, ())]


def scope_of(key_id: str) -> str:
    return key_id.rpartition(":")[0]


def month_end(scope: str) -> datetime | None:
    """None: it is the scope of no month."""
    kind, _, month = scope.partition("/")
    if kind != "month":
        return None
    return (datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC) + timedelta(days=31)).replace(day=1)


def _aged_out(applied: RetentionApplied) -> list[Event]:
    reason = f"kept for more than {applied.days} days (rule privacy/retention)"
    return [
        KeyDestroyed(key_id=key, why="retention", by=applied.by, reason=reason, event_id=applied.event_id)
        for key in applied.destroyed
    ]


def _delivery_of(stream: StreamId) -> str:
    """The scope of the delivery that a stream is about; "" where it is about none."""
    about = kind_of(stream) in ("delivery", "people", "session")
    return f"delivery/{rest_of(stream).partition('/')[0]}" if about else ""


def _short(reason: str) -> str:
    return reason.strip()[:MAX_REASON] or "no reason given"


def _busy() -> Unavailable:
    return Unavailable(f"{PRIVACY} is too busy to write to", "Try again")
