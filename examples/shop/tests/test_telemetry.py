from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from shop.app import create_app
from shop.telemetry import DELTA, DURATION, MEMORY, Instrumented, Telemetry, resource_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient


class Watched:
    def __init__(self, app: Starlette) -> None:
        self.reader = InMemoryMetricReader(preferred_temporality=DELTA)
        self.exporter = InMemorySpanExporter()
        resource = resource_of({"SERVICE_VERSION": "abc123"})
        telemetry = Telemetry(resource, 1.0, (self.reader,), (SimpleSpanProcessor(self.exporter),))
        self.client = TestClient(Instrumented(app, telemetry))

    def durations(self) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == DURATION
            for point in metric.data.data_points
        ]


async def broken(_: Request) -> None:
    raise KeyError("tier")


@pytest.fixture
def watched() -> Watched:
    return Watched(create_app())


def test_request_is_counted_under_its_route(watched: Watched) -> None:
    watched.client.get("/products/scale")
    watched.client.get("/products/tamper")
    (point,) = watched.durations()
    assert point.count == 2
    assert point.scale == 3
    assert point.attributes == {
        "http.request.method": "GET",
        "http.route": "/products/{id}",
        "http.response.status_code": 200,
    }


def test_counts_are_deltas(watched: Watched) -> None:
    for _ in range(2):
        watched.client.get("/health")
        assert [point.count for point in watched.durations()] == [1]


def test_path_without_a_route_adds_no_route(watched: Watched) -> None:
    watched.client.get("/wp-login.php")
    (point,) = watched.durations()
    assert "http.route" not in point.attributes


def test_span_continues_the_trace_of_the_caller(watched: Watched) -> None:
    watched.client.get("/health", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    (span,) = watched.exporter.get_finished_spans()
    assert span.name == "GET /health"
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == "a" * 32
    assert span.resource.attributes["service.version"] == "abc123"


def test_failure_is_an_error_of_its_type_in_span_and_metric() -> None:
    watched = Watched(Starlette(routes=[Route("/", broken)]))
    assert watched.client.get("/").status_code == 500
    (span,) = watched.exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "KeyError"
    assert span.status.status_code is StatusCode.ERROR
    (point,) = watched.durations()
    assert point.attributes["http.response.status_code"] == 500
    assert [exemplar.trace_id for exemplar in point.exemplars] == [span.context.trace_id]


def test_memory_in_use_is_told(watched: Watched) -> None:
    data: Any = watched.reader.get_metrics_data()
    metrics = [
        metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]
    (memory,) = [metric for metric in metrics if metric.name == MEMORY]
    assert memory.unit == "By"
    assert not memory.data.is_monotonic
    (point,) = memory.data.data_points
    assert 10 << 20 < point.value < 10 << 30
