"""CLASSIFIED: Green goes on, Yellow waits for a person's consent to this very head, Red goes back."""

from __future__ import annotations

from datetime import timedelta

from controller.domain import events as e
from controller.domain.change import OwnedPath
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import people_stream
from controller.domain.risk import Colour
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import abandon, draft, overdue, people, tell, wait

AGENT = "merger"
NAMED_OWNERS = 10  # told, and named in a reason


async def clear(d: Delivery, ports: Ports) -> list[Draft]:
    risk, change = d.risk, d.change
    if risk is None or change is None:
        raise Permanent(f"{d.id} is classified without a colour or a change", "Run `flyball log verify`")
    verdict = risk.verdict
    if verdict.colour is Colour.GREEN:
        cleared = e.Cleared(head=change.head, policy=verdict.policy, approver=verdict.approver, by_person=False)
        return [draft(d, cleared)]
    if verdict.colour is Colour.RED:
        if d.rounds >= ports.bounds.ci_rounds or d.asked.cause is e.Cause.REVERT:
            return await abandon(d, ports, AGENT, f"red: {verdict.reason}")
        return [draft(d, e.SentBack(to="ACCEPTED", reason=f"red: {verdict.reason}"[:600]))]
    return await _consent(d, ports, risk, change)


async def _consent(d: Delivery, ports: Ports, risk: e.RiskClassified, change: e.ChangeAuthored) -> list[Draft]:
    said = await people(ports, d.id)
    if said.rejected_by is not None:
        return await abandon(d, ports, AGENT, f"rejected by {said.rejected_by}")
    policy = risk.verdict.policy
    consented = said.consents_to(change.head, policy)
    missing = _owners_missing(d, ports, risk, consented)
    if consented and not missing:
        own = consented[0] == d.requested_by
        cleared = e.Cleared(head=change.head, policy=policy, approver=consented[0], by_person=True, self_approved=own)
        return [draft(d, cleared)]
    if d.approval is None or d.approval.head != change.head:
        return await _ask(d, ports, risk, change)
    if overdue(d, ports):
        return await abandon(d, ports, AGENT, "nobody consented in time")
    reason = f"consent to {change.head[:12]} under {policy[:19]}"
    if consented:
        reason += f"; still of {', '.join(missing[:NAMED_OWNERS])}"
    return wait(
        d, ports, e.WaitsFor.CONSENT, on=people_stream(d.id), seconds=ports.bounds.consent_seconds, reason=reason
    )


async def _ask(d: Delivery, ports: Ports, risk: e.RiskClassified, change: e.ChangeAuthored) -> list[Draft]:
    """Whoever asked for the change, and every owner of a path in it, once."""
    words = f"{d.id} needs a person: {risk.verdict.reason}. `flyball approve {d.id}` or `flyball reject {d.id}`"
    if not await tell(d, ports, AGENT, f"approval-{change.head[:12]}", words):
        return []
    if not await _owners_told(d, ports, risk, change, words):
        return []
    until = ports.clock.now() + timedelta(seconds=ports.bounds.consent_seconds)
    return [draft(d, e.ApprovalRequested(head=change.head, policy=risk.verdict.policy, until=until))]


def _owned(risk: e.RiskClassified) -> tuple[OwnedPath, ...]:
    return risk.inputs.change.owned if risk.inputs.change else ()


def _owners_missing(d: Delivery, ports: Ports, risk: e.RiskClassified, consented: tuple[str, ...]) -> list[str]:
    """Owners of paths that no owner has consented to yet. Empty: all are spoken for."""
    rules = ports.repository(d.repository).approvals
    left = rules.unapproved(_owned(risk), consented, ports.seals.pseudonym)
    return sorted({owner for one in left for owner in one.owners})


async def _owners_told(d: Delivery, ports: Ports, risk: e.RiskClassified, change: e.ChangeAuthored, words: str) -> bool:
    """Each owner hears of it once. False: look again."""
    owners = sorted({owner for one in _owned(risk) for owner in one.owners})[:NAMED_OWNERS]
    for number, owner in enumerate(owners):
        if not await tell(d, ports, AGENT, f"owner-{number}-{change.head[:12]}", words, to=owner):
            return False
    return True
