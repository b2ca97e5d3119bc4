"""What is stopped, frozen or revoked, and what has been said about one delivery: by people, and by agents.

A person's word is law: their `release` lifts every hold. An agent may hold, and its role may take its own hold back;
it lifts nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import Branch, Commit, DeliveryId, Digest, Repository, Service

ALL_SCOPE = "all"
AGENT = "agent:"  # how the principals of agents begin


def by_agent(principal: str) -> bool:
    """Whether an agent asked, in any session; people and services are no agents."""
    return principal.startswith(AGENT)


def service_scope(service: Service) -> str:
    return f"service:{service}"


def branch_scope(repository: Repository, branch: Branch) -> str:
    return f"branch:{repository}@{branch}"


def undo_of(delivery: DeliveryId) -> DeliveryId:
    """The revert of a delivery that an agent may ask for, once. Those that follow a roll-back are named otherwise."""
    return DeliveryId(f"{delivery}-undo")


def family_of(root: DeliveryId) -> tuple[DeliveryId, ...]:
    """Everything that a request can bring about besides itself, by name: what the bound on fan-out counts."""
    fix = DeliveryId(f"{root}-fix")
    return (DeliveryId(f"{root}-revert"), undo_of(root), fix, DeliveryId(f"{fix}-revert"), undo_of(fix))


def scopes(*, agent: str, repository: str | None, service: str | None, branch: str | None = None) -> tuple[str, ...]:
    """Every scope whose stop would block this caller from acting there. `branch` is one of `repository`'s."""
    found = [ALL_SCOPE, f"agent:{agent}"]
    if repository is not None:
        found.append(f"repository:{repository}")
        if branch is not None:
            found.append(branch_scope(Repository(repository), Branch(branch)))
    if service is not None:
        found.append(f"service:{service}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class People:
    """The standing word of people on one delivery, and the holds of agents."""

    version: int = 0
    person_holding: str | None = None  # None: no person holds it
    agents_holding: tuple[tuple[str, str], ...] = ()  # role and principal, one of each role
    consents: tuple[tuple[Commit, Digest, str], ...] = ()  # head, policy digest, person
    rejected_by: str | None = None
    promoted_by: str | None = None
    promoted_at: datetime | None = None  # the last time. None: never
    retried_by: str | None = None
    retried_at: datetime | None = None  # None: nobody has asked for another try
    unstuck_by: str | None = None
    unstuck_times: int = 0

    @property
    def held_by(self) -> str | None:
        """A person before an agent. None: nobody holds it."""
        return self.person_holding or next((principal for _, principal in self.agents_holding), None)

    def consents_to(self, head: Commit, policy: Digest) -> tuple[str, ...]:
        """Everybody who consented to exactly this head under exactly this policy, in order."""
        return tuple(dict.fromkeys(who for at, under, who in self.consents if at == head and under == policy))

    def consent_to(self, head: Commit, policy: Digest) -> str | None:
        """Who consented to exactly this head under exactly this policy. None: nobody."""
        return next((who for at, under, who in self.consents if at == head and under == policy), None)


def fold_people(entries: list[Entry]) -> People:
    state = People()
    for entry in entries:
        match entry.event:
            case e.PersonActed() as event:
                state = _evolve(replace(state, version=entry.version), event, entry.time)
            case e.AgentActed() as event:
                state = _told_by_agent(replace(state, version=entry.version), event)
    return state


def _told_by_agent(p: People, event: e.AgentActed) -> People:
    others = tuple(one for one in p.agents_holding if one[0] != event.agent)
    mine = ((event.agent, f"{AGENT}{event.agent}/{event.session}"),) if event.act == "hold" else ()
    return replace(p, agents_holding=(*others, *mine))


def _evolve(p: People, event: e.PersonActed, at: datetime) -> People:  # noqa: PLR0911 - one flat table of acts
    match event.act:
        case "hold":
            return replace(p, person_holding=event.person)
        case "release":
            return replace(p, person_holding=None, agents_holding=())
        case "approve" if event.head is not None and event.policy is not None:
            return replace(p, consents=(*p.consents, (event.head, event.policy, event.person)), rejected_by=None)
        case "reject":
            return replace(p, rejected_by=event.person)
        case "promote":
            return replace(p, promoted_by=event.person, promoted_at=at)
        case "retry":
            return replace(p, retried_by=event.person, retried_at=at)
        case "unstick":
            return replace(p, unstuck_by=event.person, unstuck_times=p.unstuck_times + 1)
        case _:
            return p
