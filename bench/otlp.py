"""How many OTLP points a core takes in: decode, look at, count. `python bench/otlp.py [seconds]`, CPU time.

Points are what an instance of a watched service sends: one exponential histogram with ten filled buckets per route and
status.
"""

from __future__ import annotations

import asyncio
import gzip
import platform
import sys
import time
from datetime import UTC, datetime

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

from controller.adapters.edge_http import Head, Request
from controller.adapters.otlp import PROTOBUF, Receiver
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_points import Ingest

NOW_MS = time.time_ns() // 1_000_000
METRIC = "http.server.request.duration"


def export(points: int, step: int, service: str = "shop") -> bytes:
    """`points` series of one instance, over half a second; every step is another half second."""
    made = ExportMetricsServiceRequest()
    of_resource = made.resource_metrics.add()
    for key, value in (("service.name", service), ("service.version", "1" * 40), ("service.instance.id", "i-1")):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    histogram = of_resource.scope_metrics.add().metrics.add(name=METRIC, unit="s").exponential_histogram
    histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    start = (NOW_MS + step) * 10**6
    for number in range(points):
        point = histogram.data_points.add(start_time_unix_nano=start, time_unix_nano=start + 10**6, scale=3, count=20)
        point.attributes.add(key="http.request.method").value.string_value = "GET"
        point.attributes.add(key="http.route").value.string_value = f"/products/{number // 2}"
        point.attributes.add(key="http.response.status_code").value.int_value = 500 if number % 2 else 200
        point.positive.offset = -60
        point.positive.bucket_counts.extend([2] * 10)
    content: bytes = made.SerializeToString()
    return content


async def measure(points: int, seconds: float, *, packed: bool, service: str = "shop") -> tuple[float, float]:
    """(points, requests) per second of CPU."""
    receiver = Receiver(Ingest({"shop": ServiceCounts("/health")}.get, lambda: NOW_MS))
    bodies = [export(points, step, service) for step in range(max(50, 20_000 // points))]
    fields = [(b"content-type", PROTOBUF.encode())] + ([(b"content-encoding", b"gzip")] if packed else [])
    contents = [gzip.compress(body, 6) if packed else body for body in bodies]
    requests = [Request("POST", "/v1/metrics", {}, Head(b"", fields), content) for content in contents]
    sent, began = 0, time.process_time()
    while time.process_time() - began < seconds and sent < len(requests):
        answer = await receiver.handle(requests[sent])
        assert (answer.status, answer.body) == (200, b"")
        sent += 1
    spent = time.process_time() - began
    return sent * points / spent, sent / spent


async def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print(
        f"{datetime.now(UTC):%Y-%m-%d} python {platform.python_version()} {platform.machine()}, CPU time of one process"
    )
    for name, points, packed, service in (
        ("1,000 points a request", 1_000, False, "shop"),
        ("the same, gzip", 1_000, True, "shop"),
        ("10 points a request", 10, False, "shop"),
        ("1,000 points of a service that nobody judges", 1_000, False, "unwatched"),
    ):
        points_per_s, requests_per_s = await measure(points, seconds, packed=packed, service=service)
        print(f"{name:>45}: {points_per_s:>10,.0f} points/s {requests_per_s:>7,.0f} requests/s")


if __name__ == "__main__":
    asyncio.run(main())
