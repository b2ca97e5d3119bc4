"""One delivery's story: its own entries and those of every stream that served it, in log order."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, StreamId, delivery_stream, kind_of, people_stream
from controller.ports import Log


async def story_of(log: Log, delivery: str) -> list[Entry]:
    """Empty: there is no such delivery."""
    story = _Story(delivery)
    return [entry async for entry in log.scan() if story.tells(entry)]


class _Story:
    """Reads the log once, in order, and knows of each entry whether it is about the delivery."""

    def __init__(self, delivery: str) -> None:
        self._delivery = delivery
        self._own = {delivery_stream(DeliveryId(delivery)), people_stream(DeliveryId(delivery))}
        self._open: dict[StreamId, bool] = {}  # rollouts, and whether the release under way carries it
        self._effects: set[StreamId] = set()  # effects that served it

    def tells(self, entry: Entry) -> bool:
        event, stream = entry.event, entry.stream
        if isinstance(event, e.ReleaseOpened):
            self._open[stream] = self._delivery in event.deliveries
        if isinstance(event, e.EffectIntended) and self._serves(event.subject):
            self._effects.add(stream)
        match kind_of(stream):
            case "queue":
                carried = getattr(event, "deliveries", ())
                return self._delivery in carried or getattr(event, "delivery", None) == self._delivery
            case "effect":
                return stream in self._effects
            case _:
                return self._serves(stream)

    def _serves(self, stream: StreamId) -> bool:
        return stream in self._own or stream.startswith(f"session/{self._delivery}/") or self._open.get(stream, False)
