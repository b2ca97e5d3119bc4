"""STUCK: only a named person lets a delivery go on, and it goes on where it stood."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import people_stream
from controller.ports import Ports
from controller.steps.common import draft, people, tell, wait

AGENT = "merger"


async def unstick(d: Delivery, ports: Ports) -> list[Draft]:
    said = await people(ports, d.id)
    if said.unstuck_times > d.unstuck and said.unstuck_by is not None and d.stuck_from is not None:
        return [draft(d, e.Unstuck(by=said.unstuck_by, to=d.stuck_from.value))]
    words = f"{d.id} is stuck and needs a person: {d.end_reason}. "
    words += f"Look at `flyball show {d.id}`, then `flyball unstick {d.id}`"
    if not await tell(d, ports, AGENT, f"stuck-{d.unstuck}", words):
        return []
    seconds = ports.bounds.consent_seconds
    return wait(d, ports, e.WaitsFor.PERSON, on=people_stream(d.id), seconds=seconds, reason="a person must look")
