"""The one way in for agents: what they say, written down, and nothing more.

An agent may slow things down and ask. It holds a delivery, stops a service, asks for a revert, proposes a rule, says
why; and it takes back what its own role has said. Nothing here acts on the world and nothing speeds anything up: steps
read these entries as they read those of people, and decide by numbers.

Every act is known by its event id, the key of the call that made it: a call that is repeated after a crash finds its
act standing and says it again. Whether an agent may act at all has been decided before it gets here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.control import AGENT, family_of, fold_people, service_scope, undo_of
from controller.domain.decision import Decision
from controller.domain.delivery import Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import NotStopped
from controller.domain.ids import (
    CONTROL,
    DeliveryId,
    Digest,
    EffectKey,
    Service,
    SessionId,
    StreamId,
    canonical,
    delivery_stream,
    people_stream,
)
from controller.errors import Refused, Unavailable
from controller.ports import Badge, Log, Receipt, Rejected, Seals
from controller.provenance.trailers import title_of

ATTEMPTS = 10  # at an append whose streams move on meanwhile
MOST_REASONINGS = 100  # of one session
TAKEN_BACK_ALREADY = (Phase.REGRESSED, Phase.ROLLED_BACK, Phase.HANDED_OVER)

Versions = Mapping[StreamId, int]
Plan = Callable[[], Awaitable[tuple[Sequence[Draft], Versions]]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its session an agent says something. `key` is the event id of what it says."""

    badge: Badge
    key: EffectKey
    turn: int
    index: int


class AgentRequests:
    """`policy` gives the digest of the rules in force when an entry is written."""

    def __init__(self, *, log: Log, seals: Seals, policy: Callable[[], Digest], bounds: Bounds) -> None:
        self._log = log
        self._seals = seals
        self._policy = policy
        self._bounds = bounds

    # --- holds and stops ---------------------------------------------------------------------------------------------

    async def hold(self, place: Place, deliveries: Sequence[DeliveryId], words: str, decision: Decision) -> None:
        """All of them or none. Holding what this role holds already says it again."""
        await self._say(place, deliveries, await self._acted(place, "hold", words, decision))

    async def release(self, place: Place, deliveries: Sequence[DeliveryId], decision: Decision) -> Sequence[DeliveryId]:
        """Take back the holds of this role on these deliveries, and no other's. Gives those that it held."""
        mine = [one for one in deliveries if await self._held_by_role(one, place) or await self._said(one, place)]
        await self._say(place, mine, await self._acted(place, "release", "it takes back its own hold", decision))
        return mine

    async def stop(self, place: Place, service: Service, why: Decision) -> bool:
        """Stop a service; its canary goes to the confirmed release first. False: somebody has stopped it already.

        `why` holds the agent's words and goes sealed into its own stream, in the same append.
        """
        scope, badge = service_scope(service), place.badge
        event = e.Stopped(
            scope=scope, by=badge.principal, reason=f"asked for by session {badge.session}", event_id=place.key
        )
        reasoning = await self._reasoned(place, why)
        stopped = False

        async def plan() -> tuple[Sequence[Draft], Versions]:
            nonlocal stopped
            control, own = await self._log.read(CONTROL), await self._own_entries(place)
            stands = _stands(control, place.key)
            stopped = stands or not standing(control, scope)
            if stands or not stopped:
                return (), {}
            return (Draft(CONTROL, event), Draft(badge.stream, reasoning)), _versions(
                {CONTROL: control, badge.stream: own}
            )

        await self._keep(place, plan)
        return stopped

    async def resume(self, place: Place, service: Service) -> Sequence[str]:
        """Take back this role's own stop of a service. Gives who else stops it: while anybody does, nothing is lifted.

        Empty: nothing stops it now.
        """
        scope, badge = service_scope(service), place.badge
        event = e.Resumed(scope=scope, by=badge.principal, reason="it takes back its own stop", event_id=place.key)
        others: Sequence[str] = ()

        async def plan() -> tuple[Sequence[Draft], Versions]:
            nonlocal others
            control = await self._log.read(CONTROL)
            who = standing(control, scope)
            others = [one for one in who if not one.startswith(f"{AGENT}{badge.role}/")]
            if not who or others or _stands(control, place.key):
                return (), {}
            return (Draft(CONTROL, event),), _versions({CONTROL: control})

        await self._keep(place, plan)
        return others

    # --- asking ------------------------------------------------------------------------------------------------------

    async def revert(self, place: Place, delivery: DeliveryId, reason: str) -> DeliveryId:
        """Ask for a merged change to be taken back, as a delivery of its own that a person must consent to.

        Raises Refused when there is nothing to revert, or when it has been asked for already.
        """
        undo, merged = undo_of(delivery), await self._delivery(delivery, place)
        if await self._is_asked(undo, place):
            return undo
        await self._may_be_taken_back(merged)
        title = title_of(await self._seals.open(merged.task))
        asked = e.TaskRequested(
            delivery=undo,
            repository=merged.repository,
            branch=merged.branch,
            task=await self._seals.seal(f"Revert: {title}\n\n{reason}"),
            asked_by=place.badge.principal,
            source="api",
            event_id=place.key,
            feature=merged.asked.feature,
            cause=e.Cause.REVERT,
            caused_by=merged.id,
            root=merged.asked.root,
            depth=merged.asked.depth + 1,
            bad_commit=merged.merged.commit if merged.merged else None,
        )

        async def plan() -> tuple[Sequence[Draft], Versions]:
            known = await self._is_asked(undo, place)
            return ((), {}) if known else ((Draft(delivery_stream(undo), asked),), {delivery_stream(undo): 0})

        await self._keep(place, plan)
        return undo

    async def propose(self, place: Place, stream: StreamId, proposed: e.PolicyProposed) -> bool:
        """Write a proposal down. False: the very same rules have been proposed already."""
        entries = await self._log.read(stream)
        if not entries:
            kept = await self._log.append(
                [Draft(stream, proposed)],
                expect={stream: 0},
                by=self._caller(place.badge),
                guards=_unrevoked(place.badge),
            )
            if isinstance(kept, Rejected):
                _unless_revoked(kept)
                entries = await self._log.read(stream)
        return not entries or _stands(entries, place.key)

    async def reason(self, place: Place, why: Decision) -> None:
        """Write down why, in the session's own stream. Raises Refused past the bound of a session."""
        event = await self._reasoned(place, why)

        async def plan() -> tuple[Sequence[Draft], Versions]:
            own = await self._own_entries(place)
            before = [one.event for one in own if isinstance(one.event, e.ReasoningRecorded)]
            if any((one.turn, one.index) == (place.turn, place.index) for one in before):
                return (), {}
            if len(before) >= MOST_REASONINGS:
                raise Refused(f"this session has given {MOST_REASONINGS} reasons already, which is the bound")
            return (Draft(place.badge.stream, event),), _versions({place.badge.stream: own})

        await self._keep(place, plan)

    # --- how ---------------------------------------------------------------------------------------------------------

    async def _keep(self, place: Place, plan: Plan) -> None:
        """Append what the plan says, planned anew whenever a stream has moved on. An empty plan: it stands already."""
        for _ in range(ATTEMPTS):
            drafts, expect = await plan()
            if not drafts:
                return
            kept = await self._log.append(
                drafts, expect=expect, by=self._caller(place.badge), guards=_unrevoked(place.badge)
            )
            if isinstance(kept, Receipt):
                return
            _unless_revoked(kept)
        raise Unavailable("the log is too busy to write to", "Try again")

    async def _say(self, place: Place, deliveries: Sequence[DeliveryId], event: e.AgentActed) -> None:
        async def plan() -> tuple[Sequence[Draft], Versions]:
            said = {people_stream(one): await self._log.read(people_stream(one)) for one in deliveries}
            new = {stream: entries for stream, entries in said.items() if not _stands(entries, place.key)}
            return [Draft(stream, event) for stream in new], _versions(new)

        await self._keep(place, plan)

    async def _acted(self, place: Place, act: str, words: str, decision: Decision) -> e.AgentActed:
        return e.AgentActed(
            act="hold" if act == "hold" else "release",
            agent=place.badge.role,
            session=SessionId(place.badge.session),
            event_id=place.key,
            words=await self._seals.seal(words),
            decision=decision,
        )

    async def _reasoned(self, place: Place, why: Decision) -> e.ReasoningRecorded:
        return e.ReasoningRecorded(
            turn=place.turn,
            index=place.index,
            reasoning=await self._seals.seal(canonical(why.model_dump(mode="json", exclude_none=True)).decode()),
            options=len(why.options),
            claims=len(why.claims),
            confidence_percent=why.confidence_percent,
        )

    async def _held_by_role(self, delivery: DeliveryId, place: Place) -> bool:
        people = fold_people(await self._log.read(people_stream(delivery)))
        return any(role == place.badge.role for role, _ in people.agents_holding)

    async def _said(self, delivery: DeliveryId, place: Place) -> bool:
        return _stands(await self._log.read(people_stream(delivery)), place.key)

    async def _own_entries(self, place: Place) -> list[Entry]:
        entries = await self._log.read(place.badge.stream)
        if not entries:
            raise Refused("this session has not begun")
        return entries

    async def _delivery(self, delivery: DeliveryId, place: Place) -> Delivery:
        """Of the session's own repository: another's reads like one that there is not."""
        entries = await self._log.read(delivery_stream(delivery))
        found = fold_delivery(delivery, entries) if entries else None
        if found is None or found.repository != place.badge.repository:
            raise Refused(f"there is no such delivery in {place.badge.repository}")
        return found

    async def _is_asked(self, undo: DeliveryId, place: Place) -> bool:
        """Whether this very call has asked for it. Raises Refused when another has."""
        entries = await self._log.read(delivery_stream(undo))
        if entries and not _stands(entries[:1], place.key):
            phase = fold_delivery(undo, entries).phase
            raise Refused(f"its revert has been asked for already: it is {undo}, and {phase}")
        return bool(entries)

    async def _may_be_taken_back(self, d: Delivery) -> None:
        bounds, root = self._bounds, d.asked.root
        if d.merged is None:
            raise Refused(f"{d.id} is {d.phase} and has not merged, so there is nothing to revert")
        if d.phase in TAKEN_BACK_ALREADY:
            raise Refused(f"{d.id} is {d.phase}: it is being taken back already")
        if d.phase is Phase.STUCK:
            raise Refused(f"{d.id} is stuck, and a person must look at it first")
        if d.asked.cause is e.Cause.REVERT:
            raise Refused(f"{d.id} is a revert itself, and what becomes of it is a person's to say")
        if d.asked.depth + 1 > bounds.spawn_depth:
            raise Refused(f"{d.id} stands {d.asked.depth} deep below its request; {bounds.spawn_depth} is the bound")
        spawned = [one for one in family_of(root) if await self._log.stream(delivery_stream(one)) is not None]
        if len(spawned) + 1 > bounds.fan_out_per_root:
            raise Refused(f"{root} has brought about {len(spawned)} deliveries; {bounds.fan_out_per_root} is the bound")

    def _caller(self, badge: Badge) -> Caller:
        return Caller(badge.principal, self._policy(), badge.on_behalf_of or None)


def standing(control: Sequence[Entry], scope: str) -> list[str]:
    """Who stops this very scope now, oldest first; a freeze is "a breaker". Empty: nobody does."""
    who: list[str] = []
    for entry in control:
        match entry.event:
            case e.Stopped(scope=at, by=by) if at == scope:
                who.append(by)
            case e.Frozen(scope=at) if at == scope:
                who.append("a breaker")
            case e.Resumed(scope=at) if at == scope:
                who.clear()
    return who


def _unrevoked(badge: Badge) -> tuple[NotStopped]:
    """Held against the append itself: a person may revoke the session after its call was allowed."""
    return (NotStopped(tuple(f"session:{link.session}" for link in badge.chain)),)


def _unless_revoked(no: Rejected) -> None:
    if isinstance(no.guard, NotStopped):
        raise Refused("this session, or one that lent it its authority, has been revoked", rules=("control/revoked",))


def _stands(entries: Sequence[Entry], event_id: str) -> bool:
    return any(getattr(entry.event, "event_id", None) == event_id for entry in entries)


def _versions(streams: Mapping[StreamId, Sequence[Entry]]) -> Versions:
    return {stream: entries[-1].version if entries else 0 for stream, entries in streams.items()}
