"""One span and one duration per request and the process's memory, sent by OTLP.

Names follow the semantic conventions for HTTP servers and processes. The histogram is exponential (scale 3: buckets
9 % apart) and its counts are deltas, so that a reader may add them up over any window and any set of instances.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("shop")

DURATION = "http.server.request.duration"
MEMORY = "process.memory.usage"
STATM = Path("/proc/self/statm")
DELTA: dict[type, AggregationTemporality] = {Histogram: AggregationTemporality.DELTA}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SPANS_WAITING = 2_048
EXPORT_S = 0.8  # one export, tries included; two run at the end, side by side
FLUSH_S = 0.9
TRACEBACKS_SHOWN = 100


class Telemetry:
    """The two providers of one process. Without a reader or processor everything is counted and nothing is sent."""

    def __init__(
        self, resource: Resource, ratio: float, readers: tuple[MetricReader, ...], spans: tuple[SpanProcessor, ...]
    ) -> None:
        view = View(instrument_name=DURATION, aggregation=ExponentialBucketHistogramAggregation(160, 3))
        self._meters = MeterProvider(readers, resource, views=(view,), shutdown_on_exit=False)
        self._tracers = TracerProvider(ParentBasedTraceIdRatio(ratio), resource, shutdown_on_exit=False)
        for processor in spans:
            self._tracers.add_span_processor(processor)
        self.tracer = self._tracers.get_tracer("shop")
        self.meter: Meter = self._meters.get_meter("shop")
        self.meter.create_observable_up_down_counter(MEMORY, (_memory,), "By", "Physical memory in use.")

    def close(self) -> None:
        """Sends what is left; gives up after `FLUSH_S`, as a receiver that hangs must not keep the process."""
        closing = [
            threading.Thread(target=provider.shutdown, daemon=True) for provider in (self._meters, self._tracers)
        ]
        for thread in closing:
            thread.start()
        until = perf_counter() + FLUSH_S
        for thread in closing:
            thread.join(max(0.0, until - perf_counter()))


def _memory(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(memory_bytes())


def memory_bytes() -> int:
    """Resident now. Where there is no /proc: the most that it ever was."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = getrusage(RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def start_telemetry(env: Mapping[str, str], service: str = "shop") -> Telemetry:
    """Telemetry as the environment asks for it; see README.md for the variables."""
    ratio = float(env.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    if not env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return Telemetry(resource_of(env, service), ratio, (), ())
    # Imported here: 100 ms that a process without a receiver need not wait for.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    reader = PeriodicExportingMetricReader(OTLPMetricExporter(timeout=EXPORT_S, preferred_temporality=DELTA))
    processor = BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_S), max_queue_size=SPANS_WAITING)
    return Telemetry(resource_of(env, service), ratio, (reader,), (processor,))


def resource_of(env: Mapping[str, str], service: str = "shop") -> Resource:
    named = {
        "service.version": env.get("SERVICE_VERSION"),
        "service.instance.id": env.get("SERVICE_INSTANCE_ID"),
        "deployment.id": env.get("DEPLOYMENT_ID"),
        "deployment.environment.name": env.get("DEPLOYMENT_ENVIRONMENT", "development"),
    }
    return Resource.create({"service.name": service} | {name: value for name, value in named.items() if value})


class Instrumented:
    """The app, measured from the first byte in to the last byte out."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._tracer = telemetry.tracer
        self._duration = telemetry.meter.create_histogram(DURATION, "s", "Duration of HTTP server requests.")
        self._parents = TraceContextTextMapPropagator()
        self._shown: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        span = self._tracer.start_span(method, self._parent(scope), SpanKind.SERVER)
        status = 500
        failure: Exception | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            # Whoever is asked on the way finds its parent in the context.
            with use_span(span, record_exception=False, set_status_on_exception=False):
                await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001  the app has answered 500 already; here it is told
            failure = error
            self._tell(method, scope, error)
        finally:
            attributes = {"http.request.method": method, "http.response.status_code": status, **_route(scope)}
            self._duration.record(perf_counter() - started, attributes, set_span_in_context(span))
            _end(span, scope, attributes, failure)

    def _parent(self, scope: Scope) -> Context:
        for name, value in scope["headers"]:
            if name == b"traceparent":
                return self._parents.extract({"traceparent": value.decode("latin-1")})
        return Context()

    def _tell(self, method: str, scope: Scope, error: Exception) -> None:
        """In full the first time, one line from then on: the count is in the metric."""
        line = f"{method} {scope['path']} failed: {error!r}"
        first = line not in self._shown and len(self._shown) < TRACEBACKS_SHOWN
        if first:
            self._shown.add(line)
        log.error("%s", line, exc_info=error if first else None)


def _route(scope: Scope) -> dict[str, str]:
    route = scope.get("route")
    return {} if route is None else {"http.route": route.path}


def _end(span: Span, scope: Scope, attributes: dict[str, Any], failure: Exception | None) -> None:
    if span.is_recording():
        route = attributes.get("http.route")
        span.update_name(f"{attributes['http.request.method']} {route}" if route else attributes["http.request.method"])
        span.set_attributes({**attributes, "url.path": scope["path"], "url.scheme": scope["scheme"]})
        if failure is not None:
            span.record_exception(failure)
        status = attributes["http.response.status_code"]
        if status >= 500:
            span.set_attribute("error.type", str(status) if failure is None else type(failure).__qualname__)
            span.set_status(Status(StatusCode.ERROR))
    span.end()
