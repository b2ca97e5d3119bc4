"""CLEARED: stand in line, and read what the queue did with this head."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import StreamId, people_stream, queue_stream
from controller.domain.queue import fold as fold_queue
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import abandon, draft, overdue, people, wait

AGENT = "merger"


async def merge(d: Delivery, ports: Ports) -> list[Draft]:
    change = d.change
    if change is None:
        raise Permanent(f"{d.id} is cleared without a change", "Run `flyball log verify`")
    line = queue_stream(d.repository, d.branch)
    outcome = fold_queue(line, await ports.log.read(line)).outcome_of(d.id, change.head)
    if outcome is not None and outcome.landed is not None:
        landed = outcome.landed
        if not landed.verified and d.doubted != landed.commit:
            return [draft(d, e.Stuck(reason=_doubted(landed, line), landed=landed.commit))]
        merged = e.Merged(commit=landed.commit, head=change.head, base=landed.base, rebased=landed.base != change.base)
        return [draft(d, merged)]
    if outcome is not None and outcome.evicted is not None:
        return await _evicted(d, ports, outcome.evicted)
    said = await people(ports, d.id)
    if said.rejected_by is not None:
        return await abandon(d, ports, AGENT, f"rejected by {said.rejected_by}")
    if said.held_by is not None:
        on, seconds = people_stream(d.id), ports.bounds.consent_seconds
        return wait(d, ports, e.WaitsFor.PERSON, on=on, seconds=seconds, reason=f"held by {said.held_by}")
    if overdue(d, ports) and d.waiting is not None and d.waiting.waits_for is e.WaitsFor.QUEUE:
        raise Permanent(
            f"{d.id} has waited for {line} too long", "Is `flyball serve` running? Then look at `flyball status`"
        )
    return wait(d, ports, e.WaitsFor.QUEUE, on=line, seconds=ports.bounds.wait_seconds, reason=f"in line at {line}")


def _doubted(landed: e.Landed, line: StreamId) -> str:
    why = ", ".join(landed.doubts) or "not said"
    return f"queue/unverified: landing {landed.landing} of {line} is not verified ({why})"


async def _evicted(d: Delivery, ports: Ports, evicted: e.Evicted) -> list[Draft]:
    if evicted.why == "base_moved" and evicted.new_head is not None:
        return [
            draft(
                d,
                e.SentBack(to="PROPOSED", reason=evicted.reason, new_head=evicted.new_head, new_base=evicted.new_base),
            )
        ]
    if d.asked.cause is e.Cause.REVERT:
        return await abandon(d, ports, AGENT, f"{evicted.reason}; the fix goes forward instead", evicted.detail)
    if d.rounds >= ports.bounds.ci_rounds:
        reason = f"{evicted.reason}; {d.rounds} CI rounds are the bound; a person must look"
        return await abandon(d, ports, AGENT, reason, evicted.detail)
    return [draft(d, e.SentBack(to="ACCEPTED", reason=evicted.reason, detail=evicted.detail))]
