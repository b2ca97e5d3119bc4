"""The one way in for people.

They are authenticated by the door they came through, decided on, de-duplicated, written down, and only then answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from controller.domain import events as e
from controller.domain.approvals import ApprovalRules
from controller.domain.delivery import Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Caller, Draft, Entry
from controller.domain.ids import (
    CONTROL,
    Branch,
    DeliveryId,
    Digest,
    Repository,
    SessionId,
    StreamId,
    agent_stream,
    delivery_from_event,
    delivery_stream,
    digest_bytes,
    people_stream,
)
from controller.errors import Permanent, Refused, Unavailable
from controller.ports import Log, Rejected, Seals

TASK_BYTES = 20_000
EVENT_ID_CHARS = 200  # a longer one is known by its digest
WORDS_BYTES = 4_000
ATTEMPTS = 10  # at an append whose stream moves on meanwhile
Act = Literal["approve", "reject", "hold", "release", "promote", "retry", "unstick"]
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

    def __init__(self, *, log: Log, seals: Seals, standing: Standing, approvals: ApprovalRules | None = None) -> None:
        """`approvals=None`: one person does everything."""
        self._log = log
        self._approvals = approvals or ApprovalRules()
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
        who, event_id = self._may(person, "ask", repository), _bounded(event_id)
        text = task.strip()
        if not text:
            raise Refused("the task is empty", 'Say what is wanted: flyball run "…"')
        if len(text.encode()) > TASK_BYTES:
            raise Refused(
                f"the task has {len(text.encode())} bytes, the bound is {TASK_BYTES}", "Say it shorter, or split it"
            )
        delivery = delivery_from_event(repository, event_id)
        stream = delivery_stream(delivery)
        if entries := await self._log.read(stream):
            return _again(delivery, entries[0], event_id)
        request = e.TaskRequested(
            delivery=delivery,
            repository=repository,
            branch=branch,
            task=await self._seals.seal(text, subject=who),
            asked_by=who,
            source=source,
            event_id=event_id,
            feature=feature,
            root=delivery,
            depth=0,
        )
        kept = await self._log.append([Draft(stream, request)], expect={stream: 0}, by=self._caller(who))
        return Asked(delivery, new=not isinstance(kept, Rejected))

    async def act(self, person: str, act: Act, delivery: DeliveryId, *, event_id: str, words: str = "") -> None:
        """An act of a person on a delivery. Approving and rejecting bind to the head and the policy that stand now.

        The same `event_id` is one act, however often it arrives, and whatever has become of the delivery since.
        """
        state, stream, event_id = await self._delivery(delivery), people_stream(delivery), _bounded(event_id)
        who = self._may(person, act, state.repository)
        if await self._stands(stream, event_id):
            return
        if act in ("approve", "reject") and not state.needs_consent:
            raise Refused(
                f"{delivery} is {state.phase} and waits for nobody's consent", f"Look at it: flyball show {delivery}"
            )
        if act == "approve" and who == state.requested_by and state.tainted:
            raise Refused(
                f"{delivery} read text from outside, so whoever asked for it may not approve it",
                "Ask somebody else to look",
            )
        if act == "approve":
            self._may_approve(person, who, state)
        if act == "unstick" and state.phase is not Phase.STUCK:
            raise Refused(f"{delivery} is {state.phase}, not stuck", f"Look at it: flyball show {delivery}")
        if act == "retry" and state.phase is not Phase.DEPLOYING:
            raise Refused(
                f"{delivery} is {state.phase}: only a canary that is under way can be begun again",
                'Ask for the change once more: flyball run "…"',
            )
        bound = act in ("approve", "reject")
        acted = e.PersonActed(
            act=act,
            person=who,
            event_id=event_id,
            head=state.head if bound else None,
            policy=state.policy if bound else None,
            words=await self._seals.seal(words[:WORDS_BYTES], subject=who) if words else None,
        )
        await self._keep(stream, acted, who, event_id)

    def _may_approve(self, person: str, who: str, state: Delivery) -> None:
        """Not one's own, where somebody else could; and of what is owned only its owners. Raises Refused."""
        rules, pseudonym = self._approvals, self._seals.pseudonym
        if who == state.requested_by and not rules.alone(who, pseudonym):
            raise Refused(
                f"{person} asked for {state.id}, so {person} may not approve it",
                "Ask somebody else to look",
                rules=("people/own-request",),
            )
        change = state.risk.inputs.change if state.risk else None
        owned = change.owned if change else ()
        if owned and len(rules.unapproved(owned, (who,), pseudonym)) == len(owned):
            owners = ", ".join(sorted({owner for one in owned for owner in one.owners}))
            raise Refused(
                f"{state.id} changes {len(owned)} files that are owned by {owners}, and {person} is none of them",
                "Ask an owner, or say under [policy.codeowners] which people an owner stands for",
                rules=("people/code-owner",),
            )

    async def unstick_service(self, person: str, service: str, environment: str, *, event_id: str) -> None:
        """Let a stuck rollout go on."""
        who, event_id = self._may(person, "unstick", None), _bounded(event_id)
        acted = e.PersonActed(act="unstick", person=who, event_id=event_id)
        await self._keep(people_stream(DeliveryId(f"{service}@{environment}")), acted, who, event_id)

    async def stop(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        """Block forward verbs in a scope; running canaries go to stable first."""
        who, event_id = self._may(person, "stop", None), _bounded(event_id)
        await self._keep(CONTROL, e.Stopped(scope=scope, by=who, reason=reason, event_id=event_id), who, event_id)

    async def resume(self, person: str, scope: str, reason: str, *, event_id: str) -> None:
        """Lift a stop or a freeze. Raises Refused when the scope is not stopped."""
        who, event_id = self._may(person, "resume", None), _bounded(event_id)
        if await self._stands(CONTROL, event_id):
            return
        if scope not in {row.scope for row in await self._log.control()}:
            raise Refused(f"scope {scope!r} is not stopped", "See what is: flyball status")
        await self._keep(CONTROL, e.Resumed(scope=scope, by=who, reason=reason, event_id=event_id), who, event_id)

    async def revoke(self, person: str, session: SessionId, reason: str, *, event_id: str) -> None:
        """End an agent's session: its next call, of a tool or of the model, is refused. `event_id` as with `stop`."""
        who, event_id = self._may(person, "revoke", None), _bounded(event_id)
        if await self._stands(CONTROL, event_id):
            return
        row = await self._log.stream(agent_stream(session))
        if row is None:
            raise Refused(f"there is no session {session!r}", "See a delivery's sessions: flyball show DELIVERY")
        if row.terminal:
            raise Refused(f"session {session} has ended", f"See how: flyball show {session.partition('/')[0]}")
        revoked = e.SessionRevoked(session=session, by=who, reason=reason, event_id=event_id)
        await self._keep(CONTROL, revoked, who, event_id)

    async def _delivery(self, delivery: DeliveryId) -> Delivery:
        entries = await self._log.read(delivery_stream(delivery))
        if not entries:
            raise Refused(f"there is no delivery {delivery!r}", "See them: flyball status")
        return fold_delivery(delivery, entries)

    async def _keep(self, stream: StreamId, event: e.Event, who: str, event_id: str) -> None:
        """Append it, unless it stands there already: the look and the append agree on the stream's version."""
        for _ in range(ATTEMPTS):
            entries = await self._log.read(stream)
            if _told(entries, event_id):
                return
            expect = {stream: entries[-1].version if entries else 0}
            kept = await self._log.append([Draft(stream, event)], expect=expect, by=self._caller(who))
            if not isinstance(kept, Rejected):
                return
        raise Unavailable(f"{stream} is too busy to write to", "Try again")

    async def _stands(self, stream: StreamId, event_id: str) -> bool:
        """Whether this very act has been taken down before."""
        return _told(await self._log.read(stream), event_id)

    def _may(self, person: str, act: str, repository: str | None) -> str:
        if not person:
            raise Permanent("nobody is signed in", "The door that lets people in must say who they are")
        who = self._seals.pseudonym(person)
        if not self._standing.may_person(person, act, repository):
            raise Refused(f"{person} may not {act}", "Ask whoever owns the policy", rules=("people/default-deny",))
        return who

    def _caller(self, who: str) -> Caller:
        return Caller(who, self._standing.digest)


def _bounded(event_id: str) -> str:
    if not event_id:
        raise Permanent("an event without an id", "The door that lets people in must name every event")
    return event_id if len(event_id) <= EVENT_ID_CHARS else digest_bytes(event_id.encode())


def _told(entries: list[Entry], event_id: str) -> bool:
    return any(getattr(entry.event, "event_id", None) == event_id for entry in entries)


def _again(delivery: DeliveryId, first: Entry, event_id: str) -> Asked:
    """A delivery is named by a short digest of its event: that two events share one must never lose a request."""
    if getattr(first.event, "event_id", None) != event_id:
        raise Refused(f"{delivery} is the name of another request already", "Ask again under another event id")
    return Asked(delivery, new=False)
