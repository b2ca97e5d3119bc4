"""What the tool gateway turned away at its door, as far as people ask about it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from controller.domain.events import DoorRefusals
from controller.domain.ids import DOOR
from controller.ports import Log

MOST_WINDOWS = 2_000  # a day has 1,440 of one controller; of more controllers the newest are counted


async def turned_away_since(log: Log, since: datetime) -> dict[str, int]:
    """Requests by kind, most first. Empty: none was turned away, or none is known of any more."""
    row = await log.stream(DOOR)
    if row is None:
        return {}
    found: Counter[str] = Counter()
    for entry in await log.read(DOOR, after=max(0, row.version - MOST_WINDOWS)):
        if isinstance(entry.event, DoorRefusals) and entry.time >= since:
            found.update({one.kind.value: one.count for one in entry.event.counts})
    return dict(found.most_common())
