"""What Flyball tells about itself, as plain values, and who takes it: spans that have ended, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Protocol

Value = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Value]
NO_SPAN = "0" * 16  # the span id of a link to a whole trace


class SpanKind(StrEnum):
    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    at: datetime
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanLink:
    trace_id: str  # 32 hex
    span_id: str  # 16 hex; NO_SPAN: the trace as a whole
    attributes: Attributes  # never empty: a link to a whole trace counts only with attributes


@dataclass(frozen=True, slots=True)
class Span:
    """Something that has ended. Its ids are hashes of where it stands in the log: told twice, it is the same span."""

    trace_id: str  # 32 hex
    span_id: str  # 16 hex
    parent_id: str | None  # None: the root of its trace
    name: str
    kind: SpanKind
    start: datetime
    end: datetime
    attributes: Attributes
    failed: bool
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    index: int  # log index of the entry that ended it


class Instrument(StrEnum):
    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str  # UCUM
    instrument: Instrument
    description: str
    bounds: tuple[float, ...] = ()  # upper edges of a histogram's buckets; the last bucket has none


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values since the beginning, by the metric's buckets. Of at least one value."""

    counts: tuple[int, ...]  # one more than bounds
    total: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Point:
    metric: Metric
    attributes: Attributes
    value: int | float | Distribution
    since: datetime  # what a cumulative value began to be counted at


class Sent(Enum):
    TAKEN = "taken"
    REFUSED = "refused"  # for good: sending it again cannot help
    UNAVAILABLE = "unavailable"  # later, perhaps


class Receiver(Protocol):
    """Somebody else's OpenTelemetry backend. Neither call raises for what happens on the way to it."""

    @property
    def address(self) -> str: ...

    async def take_spans(self, spans: Sequence[Span]) -> Sent: ...

    async def take_points(self, points: Sequence[Point], at: datetime) -> Sent: ...

    def close(self) -> None:
        """Ends what is under way; nothing is taken afterwards."""
        ...
