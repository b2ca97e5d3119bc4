"""What is stopped, frozen or revoked, and what has been said about one delivery by people."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import Commit, Digest

ALL_SCOPE = "all"


def scopes(*, agent: str, repository: str | None, service: str | None) -> tuple[str, ...]:
    """Every scope whose stop would block this caller from acting there."""
    found = [ALL_SCOPE, f"agent:{agent}"]
    if repository is not None:
        found.append(f"repository:{repository}")
    if service is not None:
        found.append(f"service:{service}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class People:
    """The standing word of people on one delivery."""

    version: int = 0
    held_by: str | None = None  # None: nobody holds it
    consents: tuple[tuple[Commit, Digest, str], ...] = ()  # head, policy digest, person
    rejected_by: str | None = None
    promoted_by: str | None = None
    unstuck_by: str | None = None
    unstuck_times: int = 0

    def consent_to(self, head: Commit, policy: Digest) -> str | None:
        """Who consented to exactly this head under exactly this policy. None: nobody."""
        return next((who for at, under, who in self.consents if at == head and under == policy), None)


def fold_people(entries: list[Entry]) -> People:
    state = People()
    for entry in entries:
        if isinstance(entry.event, e.PersonActed):
            state = _evolve(replace(state, version=entry.version), entry.event)
    return state


def _evolve(p: People, event: e.PersonActed) -> People:  # noqa: PLR0911 - one flat table of acts
    match event.act:
        case "hold":
            return replace(p, held_by=event.person)
        case "release":
            return replace(p, held_by=None)
        case "approve" if event.head is not None and event.policy is not None:
            return replace(p, consents=(*p.consents, (event.head, event.policy, event.person)), rejected_by=None)
        case "reject":
            return replace(p, rejected_by=event.person)
        case "promote":
            return replace(p, promoted_by=event.person)
        case "unstick":
            return replace(p, unstuck_by=event.person, unstuck_times=p.unstuck_times + 1)
        case _:
            return p
