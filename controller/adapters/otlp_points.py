"""From OTLP points and spans to counts: who served how many requests, how many failed, how long they took.

Only `http.server.request.duration` of watched services is looked at, and the attributes of a series are read once:
walking them is 95 % of the cost of decoding. A delta point [start, end] belongs to the second of its end, and is
counted once however often it is delivered. A cumulative series is turned into deltas by its start time; a new start or
a falling count is a reset.

Exponential histograms are merged down to scale 3 exactly; a coarser one is refused, as splitting buckets would be
guessing. Seconds become milliseconds by a shift of 80 buckets, 2^10 for 1000: every edge reads 2.4 % high, the same in
both arms. Explicit-bucket histograms give requests and errors, and no latency.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from controller.adapters.otlp_counts import HIGHEST_BUCKET, LOWEST_BUCKET, ServiceCounts
from controller.adapters.otlp_traces import Assembler
from controller.adapters.otlp_values import texts
from controller.domain.counts import SCALE

METRIC = "http.server.request.duration"
SHIFT_TO_MS = {"s": 80, "ms": 0}
FINEST_SCALE = 20  # of the OpenTelemetry SDKs
SEEN_KEPT = 65_536  # deliveries remembered: minutes at 200 series twice a second
SERIES_KEPT = 8_192
AHEAD_MS = 60_000  # a point further in the future has a broken clock
SERVER_ERROR = 500

Point = ExponentialHistogramDataPoint | HistogramDataPoint


class PointRefused(Exception):  # noqa: N818  it is answered as a rejected point
    """The point cannot be counted, and sending it again cannot help."""


class Kind(Enum):
    """What the requests of a series were."""

    SERVED = "served"
    FAILED = "failed"
    HEALTH_CHECK = "health_check"


@dataclass(frozen=True, slots=True)
class Origin:
    counts: ServiceCounts
    version: str
    instance: str


@dataclass(slots=True)
class Total:
    """The last cumulative value of a series."""

    start_ns: int
    time_ns: int
    requests: int
    latency: dict[int, int]


@dataclass(slots=True)
class Rejected:
    """Points of one export that were not counted, and why; the sender must not send them again."""

    points: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        self.points += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    @property
    def message(self) -> str:
        return "; ".join(f"{count} x {reason}" for reason, count in self.reasons.items())


class Bounded(OrderedDict[object, object]):
    """A memory of the newest `most` keys."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: object, value: object) -> None:
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)


class Ingest:
    """Takes exports; `watched` gives a service's counts, or None for a service that nobody judges."""

    def __init__(self, watched: Callable[[str], ServiceCounts | None], now_ms: Callable[[], int]) -> None:
        self._watched = watched
        self._now_ms = now_ms
        self._since_ns = now_ms() * 1_000_000
        self._seen = Bounded(SEEN_KEPT)
        self._totals = Bounded(SERIES_KEPT)
        self._origins = Bounded(SERIES_KEPT)
        self._kinds = Bounded(SERIES_KEPT)
        self.duplicates = 0
        self.assembler = Assembler(watched, now_ms)

    def metrics(self, export: ExportMetricsServiceRequest) -> Rejected:
        rejected = Rejected()
        for of_resource in export.resource_metrics:
            identity = of_resource.resource.SerializeToString()
            origin = self._origin(identity, of_resource.resource)
            if origin is None:
                continue
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    if metric.name == METRIC:
                        self._metric(origin, identity, metric, rejected)
        return rejected

    def traces(self, export: ExportTraceServiceRequest, trace_id: Callable[[bytes], str] = bytes.hex) -> None:
        """Remembers failed server spans. `trace_id` says how this encoding spells one."""
        self.assembler.take(export, trace_id)
        for of_resource in export.resource_spans:
            origin = self._origin(of_resource.resource.SerializeToString(), of_resource.resource)
            if origin is None:
                continue
            counts = origin.counts.version(origin.version)
            for span in (
                span
                for of_scope in of_resource.scope_spans
                for span in of_scope.spans
                if _failed(span, origin.counts.health_route)
            ):
                counts.failed_at(span.end_time_unix_nano // 1_000_000)
                counts.failed_traces.append(trace_id(span.trace_id))

    def _origin(self, identity: bytes, resource: Resource) -> Origin | None:
        if identity in self._origins:
            return self._origins[identity]  # type: ignore[return-value]
        values = texts(resource.attributes)
        counts = self._watched(values.get("service.name", ""))
        version = values.get("service.version")
        origin = (
            None
            if counts is None or not version
            else Origin(counts, version, values.get("service.instance.id", "unnamed"))
        )
        self._origins.keep(identity, origin)
        return origin

    def _metric(self, origin: Origin, identity: bytes, metric: Metric, rejected: Rejected) -> None:
        kind = metric.WhichOneof("data")
        shift = SHIFT_TO_MS.get(metric.unit)
        if kind not in {"exponential_histogram", "histogram"} or shift is None:
            rejected.add(f"{METRIC} must be a histogram in s or ms, not {kind} in {metric.unit!r}")
            return
        data = metric.exponential_histogram if kind == "exponential_histogram" else metric.histogram
        cumulative = data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for point in data.data_points:
            attributes = b"".join([pair.SerializeToString() for pair in point.attributes])
            try:
                self._point(origin, (identity, attributes), point, shift, cumulative=cumulative)
            except PointRefused as refused:
                rejected.add(str(refused))

    def _point(
        self, origin: Origin, series: tuple[bytes, bytes], point: Point, shift: int, *, cumulative: bool
    ) -> None:
        delivery = (series, point.start_time_unix_nano, point.time_unix_nano)
        if delivery in self._seen:
            self.duplicates += 1
            return
        at_ms = point.time_unix_nano // 1_000_000
        if at_ms > self._now_ms() + AHEAD_MS:
            raise PointRefused(f"its time is more than {AHEAD_MS // 1000} s ahead: set the sender's clock")
        requests, latency = point.count, _latency(point, shift)
        if cumulative:
            requests, latency = self._since_last(series, point, requests, latency)
        self._seen.keep(delivery, None)
        kind = self._kind(origin, series, point.attributes)
        if requests and kind is not Kind.HEALTH_CHECK:
            errors = requests if kind is Kind.FAILED else 0
            origin.counts.add(origin.version, origin.instance, at_ms, requests=requests, errors=errors, latency=latency)

    def _since_last(
        self, series: tuple[bytes, bytes], point: Point, requests: int, latency: dict[int, int]
    ) -> tuple[int, dict[int, int]]:
        start, time = point.start_time_unix_nano, point.time_unix_nano
        last = self._totals.get(series)
        if isinstance(last, Total) and time <= last.time_ns:
            return 0, {}  # out of order: a later total has counted it
        self._totals.keep(series, Total(start, time, requests, latency))
        if not isinstance(last, Total):
            # A series that is older than this receiver has counted what nobody can date.
            return (requests, latency) if start >= self._since_ns else (0, {})
        if start > last.start_ns or requests < last.requests:
            return requests, latency
        grown = {bucket: count - last.latency.get(bucket, 0) for bucket, count in latency.items()}
        return requests - last.requests, {bucket: count for bucket, count in grown.items() if count > 0}

    def _kind(self, origin: Origin, series: tuple[bytes, bytes], attributes: Iterable[KeyValue]) -> Kind:
        found = self._kinds.get(series)
        if isinstance(found, Kind):
            return found
        kind = kind_of(texts(attributes), origin.counts.health_route)
        self._kinds.keep(series, kind)
        return kind


def kind_of(attributes: Mapping[str, str], health_route: str) -> Kind:
    """By status or `error.type`; the instances' health is asked so often that it would hide a canary's few requests."""
    if health_route and attributes.get("http.route") == health_route:
        return Kind.HEALTH_CHECK
    status = attributes.get("http.response.status_code", "")
    failed = attributes.get("error.type") or (status.isdigit() and int(status) >= SERVER_ERROR)
    return Kind.FAILED if failed else Kind.SERVED


def _failed(span: Span, health_route: str) -> bool:
    kind = kind_of(texts(span.attributes), health_route)
    if span.kind != Span.SPAN_KIND_SERVER or kind is Kind.HEALTH_CHECK:
        return False
    return span.status.code == Status.STATUS_CODE_ERROR or kind is Kind.FAILED


def _latency(point: Point, shift: int) -> dict[int, int]:
    """Milliseconds at scale 3. Empty for an explicit-bucket histogram."""
    if isinstance(point, HistogramDataPoint):
        return {}
    if not SCALE <= point.scale <= FINEST_SCALE:
        raise PointRefused(
            f"its scale {point.scale} is not within {SCALE} to {FINEST_SCALE}: "
            f"let the view keep scale {SCALE} with max_size=160"
        )
    counts = list(point.positive.bucket_counts)
    if any(point.negative.bucket_counts) or point.zero_count + sum(counts) != point.count:
        raise PointRefused("its buckets do not add up to its count")
    halvings = point.scale - SCALE
    found: dict[int, int] = {LOWEST_BUCKET: point.zero_count} if point.zero_count else {}
    for index, count in enumerate(counts, point.positive.offset):
        if count:
            bucket = (index >> halvings) + shift
            found[bucket] = found.get(bucket, 0) + count
    return found if all(LOWEST_BUCKET <= bucket <= HIGHEST_BUCKET for bucket in found) else _clamped(found)


def _clamped(latency: Mapping[int, int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for bucket, count in latency.items():
        inside = min(HIGHEST_BUCKET, max(LOWEST_BUCKET, bucket))
        found[inside] = found.get(inside, 0) + count
    return found
