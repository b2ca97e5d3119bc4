"""Who lands next: pure, from recorded facts, so that the order can be replayed.

Reverts go first (the fast lane): while a bad commit is on main nothing else may be deployed. Within a lane, first come
first served by log index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from controller.domain.delivery import Delivery
from controller.domain.events import Cause

Lane = Literal["fast", "normal"]


@dataclass(frozen=True, slots=True)
class InLine:
    delivery: Delivery
    since: int  # log index at which it began to wait


def lane_of(delivery: Delivery) -> Lane:
    return "fast" if delivery.asked.cause is Cause.REVERT else "normal"


def ordered(waiting: Sequence[InLine]) -> list[InLine]:
    """Fast lane first, then log order."""
    return sorted(waiting, key=lambda one: (lane_of(one.delivery) != "fast", one.since))
