"""Spans and figures to somebody's OpenTelemetry backend: OTLP over HTTP, in protobuf, by the official exporters.

The SDK's tracer and meter are not used, as they date what happens now: spans here are of the log's time and have ids of
their own, and a figure counts from the log's first entry. What is sent is the SDK's own data, encoded by its exporters.

The exporters ask again within the time-out, and then only say that it failed. Whether asking later could help is seen
from the last answer's status: by the OTLP specification 429, 502, 503 and 504 may be repeated and no other may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, TraceFlags
from opentelemetry.trace import SpanKind as SdkSpanKind
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.re import parse_env_headers

from controller.ports.telling import (
    Attributes,
    Distribution,
    Instrument,
    Metric,
    Point,
    Sent,
    Span,
    SpanKind,
)

RETRYABLE = frozenset({429, 502, 503, 504})
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {
    SpanKind.INTERNAL: SdkSpanKind.INTERNAL,
    SpanKind.SERVER: SdkSpanKind.SERVER,
    SpanKind.CLIENT: SdkSpanKind.CLIENT,
}


class OtlpReceiver:
    """A backend at `endpoint`, the address before /v1/traces and /v1/metrics."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        resource: Attributes,
        scope: tuple[str, str, str],  # name, version, URL of the schema
    ) -> None:
        self.address = endpoint.rstrip("/")
        name, version, self._schema = scope
        self._scope = InstrumentationScope(name, version, self._schema)
        self._resource = Resource.create(dict(resource), self._schema)
        self._closed = False
        self._status: int | None = None  # of the last answer; None: there was none
        session = requests.Session()
        session.hooks["response"].append(self._answered)
        self._spans = OTLPSpanExporter(
            f"{self.address}/v1/traces",
            headers=dict(headers),
            timeout=timeout_s,
            compression=Compression.Gzip,
            session=session,
        )
        self._metrics = OTLPMetricExporter(
            f"{self.address}/v1/metrics",
            headers=dict(headers),
            timeout=timeout_s,
            compression=Compression.Gzip,
            session=session,
        )
        # Whoever sends says once that nobody answers; the exporters would say it every time.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)

    def _answered(self, answer: requests.Response, *_: object, **__: object) -> None:
        self._status = answer.status_code

    async def take_spans(self, spans: Sequence[Span]) -> Sent:
        made = [self._span(one) for one in spans]
        return await self._sent(lambda: self._spans.export(made) is SpanExportResult.SUCCESS)

    async def take_points(self, points: Sequence[Point], at: datetime) -> Sent:
        made = self._data(points, at)
        return await self._sent(lambda: self._metrics.export(made) is MetricExportResult.SUCCESS)

    async def _sent(self, export: Callable[[], bool]) -> Sent:
        """One export at a time. The exporter blocks, so it has a thread of its own."""
        self._status = None
        if await asyncio.to_thread(export):
            return Sent.TAKEN
        return Sent.UNAVAILABLE if self._status is None or self._status in RETRYABLE else Sent.REFUSED

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._metrics.shutdown()

    def _span(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[Event(one.name, dict(one.attributes), nanoseconds(one.at)) for one in span.events],
            links=[Link(context(one.trace_id, one.span_id), dict(one.attributes)) for one in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=nanoseconds(span.start),
            end_time=nanoseconds(span.end),
            instrumentation_scope=self._scope,
        )

    def _data(self, points: Sequence[Point], at: datetime) -> MetricsData:
        by_name = groupby(sorted(points, key=lambda one: one.metric.name), key=lambda one: one.metric)
        metrics = [_metric(metric, list(found), nanoseconds(at)) for metric, found in by_name]
        scoped = ScopeMetrics(self._scope, metrics, self._schema)
        return MetricsData([ResourceMetrics(self._resource, [scoped], self._schema)])


def headers_of(text: str) -> dict[str, str]:
    """From `name=value,name=value`, percent-encoded where need be, as OTEL_EXPORTER_OTLP_HEADERS has them."""
    return dict(parse_env_headers(text, liberal=True))


def context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=SAMPLED)


def nanoseconds(at: datetime) -> int:
    """Since the epoch, exact to the microsecond."""
    return int(at.timestamp()) * 10**9 + at.microsecond * 1_000


def _metric(metric: Metric, points: list[Point], at_ns: int) -> SdkMetric:
    cumulative = AggregationTemporality.CUMULATIVE
    match metric.instrument:
        case Instrument.HISTOGRAM:
            data: Sum | Gauge | Histogram = Histogram(list(_spreads(points, at_ns)), cumulative)
        case Instrument.GAUGE:
            data = Gauge(list(_numbers(points, at_ns)))
        case _:
            monotonic = metric.instrument is Instrument.COUNTER
            data = Sum(list(_numbers(points, at_ns)), cumulative, monotonic)
    return SdkMetric(metric.name, metric.description, metric.unit, data)


def _numbers(points: Iterable[Point], at_ns: int) -> Iterable[NumberDataPoint]:
    for one in points:
        if isinstance(one.value, Distribution):
            raise TypeError(f"{one.metric.name} is no histogram, and was given a distribution")
        yield NumberDataPoint(dict(one.attributes), nanoseconds(one.since), at_ns, one.value)


def _spreads(points: Iterable[Point], at_ns: int) -> Iterable[HistogramDataPoint]:
    for one in points:
        if not isinstance(one.value, Distribution):
            raise TypeError(f"{one.metric.name} is a histogram, and was given one number")
        yield HistogramDataPoint(
            attributes=dict(one.attributes),
            start_time_unix_nano=nanoseconds(one.since),
            time_unix_nano=at_ns,
            count=sum(one.value.counts),
            sum=one.value.total,
            bucket_counts=one.value.counts,
            explicit_bounds=one.metric.bounds,
            min=one.value.least,
            max=one.value.most,
        )
