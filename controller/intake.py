"""The one way in: a person is authenticated by the door they came through, decided on, de-duplicated, written down, and only then answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from controller.domain import events as e
from controller.domain.delivery import Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Caller, Draft
from controller.domain.ids import (
    CONTROL,
    Branch,
    DeliveryId,
    Digest,
    Repository,
    StreamId,
    delivery_from_event,
    delivery_stream,
    people_stream,
)
from controller.errors import Permanent, Refused, Unavailable
from controller.ports import Log, Rejected, Seals

TASK_BYTES = 20_000
WORDS_BYTES = 4_000
ATTEMPTS = 10  # at an append whose stream moves on meanwhile
Act = Literal["approve", "reject", "hold", "release", "promote", "retry", "unstick", "answer"]
Source = Literal["cli", "web", "api", "slack"]


class Standing(Protocol):
    """Who may ask what of Flyball. Unknown means no."""

    @property
    def digest(self) -> Digest: ...

    def may_person(self, person: str, act: str, repository: str | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class Asked:
    delivery: DeliveryId
    new: bool  # False: this very request had been accepted before


class Intake:
    """What people do, as events with their name on them."""

    def __init__(self, *, log: Log, seals: Seals, standing: Standing) -> None:
        self._log = log
        self._seals = seals
        self._standing = standing

    async def ask(
        self,
        person: str,
        task: str,
        *,
        repository: Repository,
        branch: Branch,
        source: Source,
        event_id: str,
        feature: str | None = None,
    ) -> Asked:
        """Ask for a change. The same `event_id` names the same delivery, however often it arrives."""
        who = self._may(person, "ask", repository)
        text = task.strip()
        if not text:
            raise Refused("the task is empty", 'Say what is wanted: flyball run "…"')
        if len(text.encode()) > TASK_BYTES:
            raise Refused(
                f"the task has {len(text.encode())} bytes, the bound is {TASK_BYTES}", "Say it shorter, or split it"
            )
        delivery = delivery_from_event(repository, event_id)
        stream = delivery_stream(delivery)
        if await self._log.stream(stream) is not None:
            return Asked(delivery, new=False)
        request = e.TaskRequested(
            delivery=delivery,
            repository=repository,
            branch=branch,
            task=await self._seals.seal(text),
            asked_by=who,
            source=source,
            event_id=event_id[:200],
            feature=feature,
            root=delivery,
            depth=0,
        )
        kept = await self._log.append([Draft(stream, request)], expect={stream: 0}, by=self._caller(who))
        return Asked(delivery, new=not isinstance(kept, Rejected))

    async def act(self, person: str, act: Act, delivery: DeliveryId, *, event_id: str, words: str = "") -> None:
        """An act of a person on a delivery. Approving and rejecting bind to the head and the policy that stand now."""
        state = await self._delivery(delivery)
        who = self._may(person, act, state.repository)
        if act in ("approve", "reject") and not state.needs_consent:
            raise Refused(
                f"{delivery} is {state.phase} and waits for nobody's consent", f"Look at it: flyball show {delivery}"
            )
        if act == "approve" and who == state.requested_by and state.tainted:
            raise Refused(
                f"{delivery} read text from outside, so whoever asked for it may not approve it",
                "Ask somebody else to look",
            )
        if act == "unstick" and state.phase is not Phase.STUCK:
            raise Refused(f"{delivery} is {state.phase}, not stuck", f"Look at it: flyball show {delivery}")
        bound = act in ("approve", "reject")
        acted = e.PersonActed(
            act=act,
            person=who,
            event_id=event_id[:200],
            head=state.head if bound else None,
            policy=state.policy if bound else None,
            words=await self._seals.seal(words[:WORDS_BYTES]) if words else None,
        )
        await self._keep(people_stream(delivery), acted, who)

    async def unstick_service(self, person: str, service: str, environment: str, *, event_id: str) -> None:
        """Let a stuck rollout go on."""
        who = self._may(person, "unstick", None)
        acted = e.PersonActed(act="unstick", person=who, event_id=event_id)
        await self._keep(people_stream(DeliveryId(f"{service}@{environment}")), acted, who)

    async def stop(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        """Block forward verbs in a scope; running canaries go to stable first."""
        who = self._may(person, "stop", None)
        await self._keep(CONTROL, e.Stopped(scope=scope, by=who, reason=reason, event_id=event_id), who)

    async def resume(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        """Lift a stop or a freeze. Raises Refused when the scope is not stopped."""
        who = self._may(person, "resume", None)
        if scope not in {row.scope for row in await self._log.control()}:
            raise Refused(f"scope {scope!r} is not stopped", "See what is: flyball status")
        await self._keep(CONTROL, e.Resumed(scope=scope, by=who, reason=reason, event_id=event_id), who)

    async def _delivery(self, delivery: DeliveryId) -> Delivery:
        entries = await self._log.read(delivery_stream(delivery))
        if not entries:
            raise Refused(f"there is no delivery {delivery!r}", "See them: flyball status")
        return fold_delivery(delivery, entries)

    async def _keep(self, stream: StreamId, event: e.Event, who: str) -> None:
        for _ in range(ATTEMPTS):
            row = await self._log.stream(stream)
            expect = {stream: row.version if row else 0}
            if not isinstance(
                await self._log.append([Draft(stream, event)], expect=expect, by=self._caller(who)), Rejected
            ):
                return
        raise Unavailable(f"{stream} is too busy to write to", "Try again")

    def _may(self, person: str, act: str, repository: str | None) -> str:
        if not person:
            raise Permanent("nobody is signed in", "The door that lets people in must say who they are")
        who = self._seals.pseudonym(person)
        if not self._standing.may_person(person, act, repository):
            raise Refused(f"{person} may not {act}", "Ask whoever owns the policy", rules=("people/default-deny",))
        return who

    def _caller(self, who: str) -> Caller:
        return Caller(who, self._standing.digest)
