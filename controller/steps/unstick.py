"""STUCK: only a named person lets a delivery go on, and it goes on where it stood."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import delivery_stream, people_stream
from controller.history.citing import last_of, opened
from controller.ports import Ports
from controller.steps.common import TOLD_CHARS, draft, people, tell, wait

AGENT = "merger"


async def unstick(d: Delivery, ports: Ports) -> list[Draft]:
    said = await people(ports, d.id)
    if said.unstuck_times > d.unstuck and said.unstuck_by is not None and d.stuck_from is not None:
        return [draft(d, e.Unstuck(by=said.unstuck_by, to=d.stuck_from.value))]
    words = f"{d.id} is stuck and needs a person: {d.end_reason}. "
    if heard := await _said(d, ports):
        words += f"It said: {heard[:TOLD_CHARS]}\n"
    words += f"Look at `flyball show {d.id}`, then `flyball unstick {d.id}`"
    if not await tell(d, ports, AGENT, f"stuck-{d.unstuck}", words):
        return []
    seconds = ports.bounds.consent_seconds
    return wait(d, ports, e.WaitsFor.PERSON, on=people_stream(d.id), seconds=seconds, reason="a person must look")


async def _said(d: Delivery, ports: Ports) -> str:
    """What the world said when it got stuck. Empty: nothing."""
    found = last_of(await ports.log.read(delivery_stream(d.id)), e.Stuck)
    return await opened(ports.seals, found.event.detail) if found and isinstance(found.event, e.Stuck) else ""
