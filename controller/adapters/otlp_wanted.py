"""What is counted of an export, and what is refused of it.

A refused point is told to its sender in words, and counted by cause for whoever reads the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from controller.adapters.otlp_counts import SECONDS_KEPT, ServiceCounts

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
SLICE_S = 0.001  # counted at a stretch
AHEAD_MS = 60_000  # a point further in the future has a broken clock
MOST_REASONS = 8  # told to a sender


class PointRefused(Exception):  # noqa: N818  it is answered as a rejected point
    """The point cannot be counted, and sending it again cannot help. `cause` is one of few, for counting."""

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(message or cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Sender:
    """What a resource is. `counts=None`: of a service that nobody judges."""

    identity: bytes
    counts: ServiceCounts | None
    version: str  # empty: it does not say
    instance: str


@dataclass(slots=True)
class Rejected:
    """Points of one export that were not counted, and why; the sender must not send them again."""

    points: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        self.points += 1
        if reason in self.reasons or len(self.reasons) < MOST_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1

    @property
    def message(self) -> str:
        return "; ".join(f"{count} x {reason}" for reason, count in self.reasons.items())


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric that is counted, decoded. `kind`: the name of its data."""

    sender: Sender
    scope: bytes
    name: str
    unit: str
    kind: str
    data: Any


def reject(rejected: Rejected, counts: ServiceCounts | None, refused: PointRefused) -> None:
    rejected.add(str(refused))
    if counts is not None:
        counts.excluded[f"refused: {refused.cause}"] += 1


def times_taken_ns(now_ms: int) -> tuple[int, int]:
    """The oldest and the latest time that a point may have."""
    return (now_ms - SECONDS_KEPT * 1_000) * 1_000_000, (now_ms + AHEAD_MS) * 1_000_000


def check_time(time_ns: int, oldest_ns: int, latest_ns: int) -> None:
    """Raises `PointRefused`."""
    if oldest_ns <= time_ns <= latest_ns:
        return
    if not time_ns:
        raise PointRefused("it has no time")
    if time_ns > latest_ns:
        ahead = f"its time is more than {AHEAD_MS // 1000} s ahead: set the sender's clock"
        raise PointRefused("time in the future", ahead)
    raise PointRefused("time long past", f"its time is more than {SECONDS_KEPT // 60} minutes ago")
