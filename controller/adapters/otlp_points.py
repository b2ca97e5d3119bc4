"""From OTLP's exports to counts: who served how many requests, how many failed, how long they took, how full they were.

Of watched services `http.server.request.duration` and the gauges that were asked for are looked at; of every service
`http.client.request.duration`, where it says which version of a watched service it called. An export is decoded before
any of it is counted, so what is refused as malformed has changed nothing. Counting goes in slices: whoever drives it
may do something else in between.

A point [start, end] belongs to the second of its end.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_histograms import SHIFT_TO_MS, explicit, exponential
from controller.adapters.otlp_levels import count_levels
from controller.adapters.otlp_series import UNCOUNTED, Kind, Series, SeriesBook, Total, kind_of, pairs, route_of
from controller.adapters.otlp_traces import Assembler
from controller.adapters.otlp_values import texts
from controller.adapters.otlp_wanted import (
    CUMULATIVE,
    DELTA,
    NO_VALUE,
    SLICE_S,
    PointRefused,
    Rejected,
    Sender,
    Wanted,
    check_time,
    reject,
    times_taken_ns,
)
from controller.adapters.otlp_wire import (
    Exemplar,
    ExponentialHistogram,
    Gauge,
    Histogram,
    MetricsExport,
    ScopeMetrics,
    Sum,
)

SERVED_METRIC = "http.server.request.duration"
CALLED_METRIC = "http.client.request.duration"
CALLED_BYTES = CALLED_METRIC.encode()
CALLEE = ("service.peer.name", "peer.service", "server.address")
CALLEE_VERSION = "flyball.peer.version"
DATA = {"exponential_histogram": ExponentialHistogram, "histogram": Histogram, "gauge": Gauge, "sum": Sum}
SENDERS_KEPT = 8_192
MOST_REQUESTS = 10**9  # of a point
EXEMPLARS_READ = 4  # of a point
TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class Ingest:
    """Takes exports; `watched` gives a service's counts, or None for a service that nobody judges.

    `called` gives the counts of what callers of a service report, in the same way.
    """

    def __init__(
        self,
        watched: Callable[[str], ServiceCounts | None],
        now_ms: Callable[[], int],
        called: Callable[[str], ServiceCounts | None] = lambda _: None,
    ) -> None:
        self._watched = watched
        self._called = called
        self._now_ms = now_ms
        self._senders: OrderedDict[bytes, Sender] = OrderedDict()
        self._book = SeriesBook(lambda: now_ms() * 1_000_000)
        self.assembler = Assembler(watched, now_ms)

    def metrics(self, body: bytes, trace_id: Callable[[bytes], str] = bytes.hex) -> Rejected:
        """All of it at a stretch. Raises protobuf's `DecodeError` with nothing counted."""
        rejected = Rejected()
        for _ in self.counting(body, rejected, trace_id):
            pass
        return rejected

    def counting(self, body: bytes, rejected: Rejected, trace_id: Callable[[bytes], str] = bytes.hex) -> Iterator[None]:
        """Count an export slice by slice. `trace_id` says how this encoding spells one."""
        for wanted in [*self._wanted(body)]:
            if wanted.name in {SERVED_METRIC, CALLED_METRIC}:
                yield from self._durations(wanted, rejected, trace_id)
            else:
                yield from count_levels(wanted, rejected, times_taken_ns(self._now_ms()))

    def traces(self, export: ExportTraceServiceRequest, trace_id: Callable[[bytes], str] = bytes.hex) -> None:
        """Remembers failed server spans. `trace_id` says how this encoding spells one."""
        self.assembler.take(export, trace_id)
        for of_resource in export.resource_spans:
            sender = self._sender(of_resource.resource.SerializeToString())
            if sender.counts is None or not sender.version:
                continue
            counts = sender.counts.version(sender.version)
            for span in (span for of_scope in of_resource.scope_spans for span in of_scope.spans):
                kind = _served(span, sender.counts.health_route)
                if kind is Kind.FAILED:
                    counts.failed_at(span.end_time_unix_nano // 1_000_000)
                if kind is not None:
                    _remember(
                        counts.failed_traces if kind is Kind.FAILED else counts.served_traces, trace_id(span.trace_id)
                    )

    def _sender(self, raw: bytes) -> Sender:
        found = self._senders.get(raw)
        if found is None:
            resource = Resource.FromString(raw)
            values = texts(resource.attributes)
            known = sorted((pair.key, pair.value.SerializeToString()) for pair in resource.attributes)
            found = self._senders[raw] = Sender(
                repr(known).encode(),
                self._watched(values.get("service.name", "")),
                values.get("service.version", ""),
                values.get("service.instance.id", "unnamed"),
            )
            if len(self._senders) > SENDERS_KEPT:
                self._senders.popitem(last=False)
        return found

    def _wanted(self, body: bytes) -> Iterator[Wanted]:
        for of_resource in MetricsExport.FromString(body).resource_metrics:
            sender = self._sender(of_resource.resource)
            for raw in of_resource.scope_metrics:
                if sender.counts is None and CALLED_BYTES not in raw:
                    continue
                of_scope = ScopeMetrics.FromString(raw)
                for metric in of_scope.metrics:
                    if self._is_wanted(sender, metric.name):
                        kind = next((name for name in (*DATA, "summary") if getattr(metric, name)), "")
                        data = DATA[kind].FromString(getattr(metric, kind)) if kind in DATA else None
                        yield Wanted(sender, of_scope.scope, metric.name, metric.unit, kind, data)

    def _is_wanted(self, sender: Sender, name: str) -> bool:
        if name == CALLED_METRIC:
            return True
        if sender.counts is None or not (name == SERVED_METRIC or name in sender.counts.gauges):
            return False
        if not sender.version:
            sender.counts.excluded["metrics without service.version"] += 1
        return bool(sender.version)

    # --- durations

    def _durations(self, wanted: Wanted, rejected: Rejected, trace_id: Callable[[bytes], str]) -> Iterator[None]:
        shift = SHIFT_TO_MS.get(wanted.unit)
        temporality = getattr(wanted.data, "aggregation_temporality", None)
        if wanted.kind not in {"exponential_histogram", "histogram"} or shift is None:
            if wanted.kind and wanted.name == SERVED_METRIC:
                said = f"{wanted.name} must be a histogram in s or ms, not {wanted.kind} in {wanted.unit!r}"
                reject(rejected, wanted.sender.counts, PointRefused("not a histogram in s or ms", said))
            return
        times_ns, identity = times_taken_ns(self._now_ms()), (wanted.sender.identity, wanted.name, wanted.scope)
        convert = exponential if wanted.kind == "exponential_histogram" else explicit
        until = perf_counter() + SLICE_S
        for point in wanted.data.data_points:
            if perf_counter() >= until:
                yield
                until = perf_counter() + SLICE_S
            attributes = point.attributes[:]
            spelling = (*identity, b"".join(attributes))
            series = self._book.find(spelling) or self._met(spelling, wanted, attributes)
            if series is UNCOUNTED:
                continue
            try:
                if series is None:
                    raise PointRefused("its attributes are malformed")  # noqa: TRY301  counted like the others
                if temporality not in {DELTA, CUMULATIVE}:
                    raise PointRefused("neither delta nor cumulative")  # noqa: TRY301  counted like the others
                check_time(point.time_unix_nano, *times_ns)
                counted = self._duration(series, point, *convert(point, shift), cumulative=temporality == CUMULATIVE)
            except PointRefused as refused:
                reject(rejected, series.counts if series else wanted.sender.counts, refused)
                continue
            if counted and point.exemplars:
                _exemplars(series, point.exemplars[-EXEMPLARS_READ:], 1000 if wanted.unit == "s" else 1, trace_id)

    def _duration(self, series: Series, point: Any, layout: Any, latency: dict[int, int], *, cumulative: bool) -> bool:
        """Whether it was counted. Raises `PointRefused`."""
        time_ns, start_ns, requests = point.time_unix_nano, point.start_time_unix_nano, point.count
        if point.flags & NO_VALUE:
            return False
        if cumulative:
            grown = series.growth(start_ns, Total(time_ns, requests, layout, latency), self._book.since_ns)
            if grown is None:
                series.counts.excluded["points of series older than this receiver"] += 1
                return False
            requests, latency = grown
        elif not series.first_delivery(start_ns, time_ns):
            series.counts.excluded["points delivered again"] += 1
            return False
        if requests > MOST_REQUESTS:
            raise PointRefused(f"more than {MOST_REQUESTS} requests in one point")
        if not requests or series.kind is Kind.HEALTH_CHECK:
            return False
        return series.counts.add(
            series.version,
            series.instance,
            time_ns // 1_000_000,
            requests=requests,
            errors=requests if series.kind is Kind.FAILED else 0,
            latency=latency,
            layouts=series.counts.layout_bit(layout),
            route=series.route,
        )

    def _met(self, spelling: tuple[object, ...], wanted: Wanted, attributes: Sequence[bytes]) -> Series | None:
        """For the first time. None: it cannot be read."""
        try:
            return self._book.meet(spelling, self._series(wanted, attributes))
        except DecodeError:
            return None

    def _series(self, wanted: Wanted, attributes: Sequence[bytes]) -> Series | None:
        """None: it is about no version of a watched service. Raises `DecodeError`."""
        told = pairs(attributes)
        values, sender = texts(told), wanted.sender
        key = (
            sender.identity,
            wanted.name,
            wanted.scope,
            tuple(sorted((pair.key, pair.value.SerializeToString()) for pair in told)),
        )
        if wanted.name == CALLED_METRIC:
            callee = next((values[name] for name in CALLEE if name in values), "")
            counts, version = self._called(callee), values.get(CALLEE_VERSION, "")
        else:
            counts, version = sender.counts, sender.version
        if counts is None or not version:
            return None
        kind = kind_of(values, counts.health_route)
        return Series(counts, version, sender.instance, kind, route_of(values), key)


def _exemplars(series: Series, raw: Sequence[bytes], ms_per_unit: int, trace_id: Callable[[bytes], str]) -> None:
    counts = series.counts.version(series.version)
    try:
        exemplars = [Exemplar.FromString(one) for one in raw]
    except DecodeError:
        series.counts.excluded["exemplars that cannot be read"] += len(raw)
        return
    for exemplar in exemplars:
        trace = trace_id(exemplar.trace_id)
        if not TRACE_ID.fullmatch(trace):
            continue
        if series.kind is Kind.FAILED:
            _remember(counts.failed_traces, trace)
            continue
        _remember(counts.served_traces, trace)
        value = exemplar.WhichOneof("value")
        if value is not None:
            counts.slow(getattr(exemplar, value) * ms_per_unit, trace)


def _remember(traces: Any, trace: str) -> None:
    if TRACE_ID.fullmatch(trace) and trace not in traces:
        traces.append(trace)


def _served(span: Span, health_route: str) -> Kind | None:
    """None: no user's request was served by it."""
    kind = kind_of(texts(span.attributes), health_route)
    if span.kind != Span.SPAN_KIND_SERVER or kind is Kind.HEALTH_CHECK:
        return None
    return Kind.FAILED if span.status.code == Status.STATUS_CODE_ERROR else kind
