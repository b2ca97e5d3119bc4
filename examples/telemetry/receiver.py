"""The smallest OpenTelemetry backend: prints a trace as a tree when its root has come, and figures when they change.

    python examples/telemetry/receiver.py 4318

It takes OTLP over HTTP in protobuf, keeps nothing, and is for looking at what is sent; use a real backend to keep it.
"""

from __future__ import annotations

import gzip
import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

MOST_BYTES = 4 << 20
traces: dict[bytes, list[Span]] = defaultdict(list)
figures: dict[str, str] = {}


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # noqa: N802 - the standard library's name
        size = int(self.headers.get("content-length", "0"))
        if not 0 <= size <= MOST_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(size)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            take_spans(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            take_figures(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The traces are what is printed."""


def take_spans(export: ExportTraceServiceRequest) -> None:
    spans = [span for one in export.resource_spans for scope in one.scope_spans for span in scope.spans]
    for span in spans:
        traces[span.trace_id].append(span)
    for root in (span for span in spans if not span.parent_span_id):
        print(f"\ntrace {root.trace_id.hex()}", flush=True)
        show(root, {span.span_id: span for span in traces.pop(root.trace_id)}, 0)


def show(span: Span, known: dict[bytes, Span], depth: int) -> None:
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    failed = "  FAILED" if span.status.code == Status.STATUS_CODE_ERROR else ""
    links = f"  {len(span.links)} links" if span.links else ""
    print(f"{'  ' * depth}{span.name:<{40 - 2 * depth}}{seconds:>9.3f} s{failed}{links}")
    below = [one for one in known.values() if one.parent_span_id == span.span_id]
    for child in sorted(below, key=lambda one: one.start_time_unix_nano):
        show(child, known, depth + 1)


def take_figures(export: ExportMetricsServiceRequest) -> None:
    for metric in (m for one in export.resource_metrics for scope in one.scope_metrics for m in scope.metrics):
        words = values(metric)
        if figures.get(metric.name) != words:
            figures[metric.name] = words
            print(f"{metric.name} = {words}", flush=True)


def values(metric: Metric) -> str:
    kind = metric.WhichOneof("data") or "sum"
    points = getattr(metric, kind).data_points
    if kind == "histogram":
        return ", ".join(f"{point.count} x {point.sum / point.count:.3g} {metric.unit}" for point in points)
    return ", ".join(f"{getattr(point, point.WhichOneof('value') or 'as_int'):.6g}" for point in points)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening at http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
