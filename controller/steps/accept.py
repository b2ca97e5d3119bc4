"""NEW: whether this is ours to do, whether it may begin, and what it may cost."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.decision import Claim, Decision, decide
from controller.domain.delivery import TERMINAL, Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Draft
from controller.domain.ids import DeliveryId, delivery_stream
from controller.history.citing import newest
from controller.ports import Ports
from controller.steps.common import abandon, draft, overdue, wait

AGENT = "intake"


async def accept(d: Delivery, ports: Ports) -> list[Draft]:
    asked = d.asked
    if asked.repository not in ports.repositories:
        known = ", ".join(sorted(ports.repositories)) or "none"
        return await abandon(d, ports, AGENT, f"repository {asked.repository} is not configured here (known: {known})")
    if asked.depth > ports.bounds.spawn_depth:
        return await abandon(
            d, ports, AGENT, f"spawn depth {asked.depth} is over the bound of {ports.bounds.spawn_depth}"
        )
    if asked.after is not None and not await _over(ports, asked.after):
        if overdue(d, ports):
            return await abandon(d, ports, AGENT, f"{asked.after}, which comes first, did not end in time")
        on = delivery_stream(asked.after)
        return wait(
            d, ports, e.WaitsFor.AFTER, on=on, seconds=ports.bounds.wait_seconds, reason=f"{asked.after} comes first"
        )
    decision = _decision(d, ports, await newest(ports.log, delivery_stream(d.id)))
    return [draft(d, e.TaskAccepted(budget_micro_usd=ports.bounds.delivery_micro_usd, decision=decision))]


async def _over(ports: Ports, delivery: DeliveryId) -> bool:
    from_log = await ports.log.read(delivery_stream(delivery))
    return fold_delivery(delivery, from_log).phase in TERMINAL


def _decision(d: Delivery, ports: Ports, request: str) -> Decision:
    asked = d.asked
    return decide(
        f"Take on {d.id}?",
        "accept",
        over={"refuse": "the repository is configured and the bounds are kept"},
        because=(
            Claim(text=f"asked by {asked.asked_by} over {asked.source}", evidence=request),
            Claim(text=f"depth {asked.depth} of {ports.bounds.spawn_depth}, cause {asked.cause}", evidence=request),
        ),
        would_change="an unknown repository or a depth over the bound",
        fallback="nothing has been touched; the delivery can be abandoned at any time before it merges",
        rules=("intake/known-repository", "intake/depth"),
        policy=ports.caller.policy,
    )
