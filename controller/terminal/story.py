"""One delivery's story: its own entries and those of every stream that served it, in log order."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, StreamId, delivery_stream, kind_of, people_stream
from controller.ports import Log


async def story_of(log: Log, delivery: str) -> list[Entry]:
    """Empty: there is no such delivery."""
    own = {delivery_stream(DeliveryId(delivery)), people_stream(DeliveryId(delivery))}
    found: list[Entry] = []
    releases: set[tuple[StreamId, int]] = set()
    subjects: dict[StreamId, StreamId] = {}
    async for entry in log.scan():
        if isinstance(entry.event, e.EffectIntended):
            subjects[entry.stream] = entry.event.subject
        if isinstance(entry.event, e.ReleaseOpened) and delivery in entry.event.deliveries:
            releases.add((entry.stream, entry.event.release))
        if entry.stream in own or _about(entry, delivery, releases, subjects):
            found.append(entry)
    return found


def _about(
    entry: Entry, delivery: str, releases: set[tuple[StreamId, int]], subjects: dict[StreamId, StreamId]
) -> bool:
    match kind_of(entry.stream):
        case "session":
            return entry.stream.startswith(f"session/{delivery}/")
        case "queue":
            carried = getattr(entry.event, "deliveries", ())
            return delivery in carried or getattr(entry.event, "delivery", None) == delivery
        case "rollout":
            return (entry.stream, getattr(entry.event, "release", 0)) in releases
        case "effect":
            subject = subjects.get(entry.stream, "")
            return subject == f"delivery/{delivery}" or subject.startswith(f"session/{delivery}/")
        case _:
            return False
