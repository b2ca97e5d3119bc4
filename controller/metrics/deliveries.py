"""What became of every delivery, folded from the log for people to read. Shows, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain import rollout as rollouts
from controller.domain.delivery import TERMINAL, Delivery, Phase
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, StreamId, kind_of, rest_of
from controller.domain.rollout import Release, Rollout
from controller.ports import Log


@dataclass(frozen=True, slots=True)
class PhaseTime:
    phase: Phase
    ms: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a release that hurt users was taken back."""

    release: int
    weight_percent: int
    reason: str
    first_bad_request_at: datetime | None  # None: no user saw it
    detected_at: datetime
    traffic_back_at: datetime
    canary_requests: int
    canary_errors: int

    @property
    def detection_to_rollback_ms(self) -> int:
        return _ms(self.traffic_back_at - self.detected_at)

    @property
    def first_bad_to_rollback_ms(self) -> int | None:
        """None: no request failed."""
        return _ms(self.traffic_back_at - self.first_bad_request_at) if self.first_bad_request_at else None


@dataclass(frozen=True, slots=True)
class Spent:
    """What the model's answers for a delivery have cost, those of sessions that came to nothing included."""

    micro_usd: int = 0
    label: e.Label | None = None  # None: no model has answered


@dataclass(frozen=True, slots=True)
class Record:
    """All driven streams, folded at one position of the log."""

    deliveries: tuple[Delivery, ...]  # in the order in which they were asked for
    rollouts: tuple[Rollout, ...]
    spent: Mapping[DeliveryId, Spent]

    def spent_on(self, delivery: DeliveryId) -> Spent:
        return self.spent.get(delivery, Spent())


async def record_of(log: Log) -> Record:
    """Read the whole log once."""
    found: dict[StreamId, list[Entry]] = {}
    async for entry in log.scan():
        if kind_of(entry.stream) in ("delivery", "rollout", "session"):
            found.setdefault(entry.stream, []).append(entry)
    return record(found)


def record(streams: dict[StreamId, list[Entry]]) -> Record:
    asked = [
        deliveries.fold(DeliveryId(rest_of(s)), entries) for s, entries in streams.items() if kind_of(s) == "delivery"
    ]
    rolled = [rollouts.fold(s, entries) for s, entries in streams.items() if kind_of(s) == "rollout"]
    return Record(tuple(asked), tuple(rolled), _spent(streams))


def _spent(streams: dict[StreamId, list[Entry]]) -> dict[DeliveryId, Spent]:
    found: dict[DeliveryId, Spent] = {}
    for stream, entries in streams.items():
        delivery = DeliveryId(rest_of(stream).rpartition("/")[0])
        for entry in entries if kind_of(stream) == "session" else ():
            if isinstance(entry.event, e.ReplyRecorded):
                before = found.get(delivery, Spent())
                found[delivery] = Spent(before.micro_usd + entry.event.cost_micro_usd, entry.event.label)
    return found


def phase_times(d: Delivery) -> tuple[PhaseTime, ...]:
    """How long each phase lasted, in order; the last one has not ended."""
    pairs = zip(d.phase_times, d.phase_times[1:], strict=False)
    return tuple(PhaseTime(phase, _ms(until - since)) for (phase, since), (_, until) in pairs)


def total_ms(d: Delivery) -> int | None:
    """From being asked for to its end. None: it has not ended."""
    if d.phase not in TERMINAL or not d.phase_times:
        return None
    return _ms(d.phase_times[-1][1] - d.phase_times[0][1])


def recoveries(rollout: Rollout) -> tuple[Recovery, ...]:
    return tuple(found for release in rollout.ended if (found := _recovery(release)) is not None)


def _recovery(release: Release) -> Recovery | None:
    found, back, at = release.regression, release.restored, release.detected_at
    if found is None or back is None or at is None:
        return None
    seen = found.verdict
    return Recovery(
        release=release.number,
        weight_percent=found.weight_percent,
        reason=found.reason,
        first_bad_request_at=found.first_bad_request_at,
        detected_at=at,
        traffic_back_at=back.traffic_back_at,
        canary_requests=seen.canary.requests if seen else 0,
        canary_errors=seen.canary.errors if seen else 0,
    )


def _ms(delta: timedelta) -> int:
    return round(delta.total_seconds() * 1000)
