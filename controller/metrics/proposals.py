"""The changes of rules that agents have proposed, as the log has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.domain import events as e
from controller.domain.ids import rest_of
from controller.domain.sealed import Sealed
from controller.ports import Log

MAX_PROPOSALS = 1000  # the newest


@dataclass(frozen=True, slots=True)
class Proposal:
    """`gains` and `losses` are counted in calls that were asked about, as they were when it was proposed."""

    id: str
    at: datetime
    file: str
    agent: str
    session: str
    on_behalf_of: str | None  # None: for itself
    gains: int
    losses: int
    cases_failed: int
    before: str  # digest of all rules that it was made for
    after: str
    why: Sealed
    text: Sealed


async def proposals_in(log: Log) -> tuple[Proposal, ...]:
    """Oldest first, at most MAX_PROPOSALS."""
    found: list[Proposal] = []
    async for entry in log.scan(kinds=frozenset({e.PolicyProposed.kind()})):
        event = entry.event
        if isinstance(event, e.PolicyProposed):
            found = found[-(MAX_PROPOSALS - 1) :]
            found.append(
                Proposal(
                    id=rest_of(entry.stream),
                    at=entry.time,
                    file=event.file,
                    agent=event.agent,
                    session=event.session,
                    on_behalf_of=entry.on_behalf_of,
                    gains=event.gains,
                    losses=event.losses,
                    cases_failed=event.cases_failed,
                    before=event.before,
                    after=event.after,
                    why=event.why,
                    text=event.text,
                )
            )
    return tuple(found)
