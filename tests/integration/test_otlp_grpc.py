"""OTLP over gRPC: OpenTelemetry's own exporters into the receiver, and what a sender is told when it is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics import Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation as Exponential
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace import Status as SpanStatus

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import now_ms
from exports_kit import SERVED, V2, exponential

from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_grpc import METRICS, GrpcReceiver
from controller.adapters.otlp_intake import LARGEST_BODY_BYTES, Bearer, Intake
from controller.adapters.otlp_points import Ingest

TOKEN = "t" * 32
DELTA: dict[type, AggregationTemporality] = {Histogram: AggregationTemporality.DELTA}
CUMULATIVE: dict[type, AggregationTemporality] = {Histogram: AggregationTemporality.CUMULATIVE}
RESOURCE = Resource.create({"service.name": "shop", "service.version": V2, "service.instance.id": "i-1"})


@dataclass
class World:
    counts: ServiceCounts = field(default_factory=lambda: ServiceCounts("/health", ("queue.length",)))
    port: int = 0

    def __post_init__(self) -> None:
        self.intake = Intake(Ingest({"shop": self.counts}.get, now_ms), most_waiting=1)

    async def export(self, body: bytes, *, said: str = f"Bearer {TOKEN}", **told: Any) -> bytes:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            call = channel.unary_unary(f"/{METRICS}/Export")
            answer: bytes = await call(body, metadata=(("authorization", said),), timeout=5, **told)
            return answer


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    receiver = GrpcReceiver(world.intake, Bearer(TOKEN))
    world.port = await receiver.start(0)
    yield world
    await receiver.stop()


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE], ids=["delta", "cumulative"])
@pytest.mark.parametrize(
    "aggregation",
    [Exponential(160, 3), ExplicitBucketHistogramAggregation((0.1, 1.0))],
    ids=["exponential", "explicit"],
)
async def test_opentelemetrys_own_exporter_is_counted(
    world: World, aggregation: Aggregation, temporality: dict[type, AggregationTemporality]
) -> None:
    def send() -> None:
        exporter = OTLPMetricExporter(
            endpoint=f"http://127.0.0.1:{world.port}",
            headers={"authorization": f"Bearer {TOKEN}"},
            compression=grpc.Compression.Gzip,
            preferred_temporality={**temporality, UpDownCounter: AggregationTemporality.CUMULATIVE},
            preferred_aggregation={Histogram: aggregation},
        )
        provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1e6)], RESOURCE)
        meter = provider.get_meter("test")
        duration, queue = meter.create_histogram(SERVED, "s"), meter.create_up_down_counter("queue.length")
        queue.add(7)
        for status in (200, 200, 500):
            duration.record(0.05, {"http.response.status_code": status, "http.route": "/pay"})
            assert provider.force_flush()
        provider.shutdown()

    await asyncio.to_thread(send)
    version = world.counts.versions[V2]
    assert (version.total.requests, version.total.errors) == (3, 1)
    (seconds,) = version.instances.values()
    assert sum(sum(tally.latency.values()) for tally in seconds.values()) == 3
    assert {milli for levels in version.gauges["queue.length"].values() for milli in levels.values()} == {7_000}
    assert not world.counts.excluded


async def test_opentelemetrys_own_spans_name_failed_and_served_traces(world: World) -> None:
    def send() -> list[str]:
        exporter = OTLPSpanExporter(
            endpoint=f"http://127.0.0.1:{world.port}", headers={"authorization": f"Bearer {TOKEN}"}
        )
        provider = TracerProvider(resource=RESOURCE)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        traces = []
        for failing in (True, False):
            with provider.get_tracer("test").start_as_current_span("GET /pay", kind=SpanKind.SERVER) as span:
                traces.append(f"{span.get_span_context().trace_id:032x}")
                if failing:
                    span.set_status(SpanStatus(StatusCode.ERROR))
        provider.shutdown()
        return traces

    failed, served = await asyncio.to_thread(send)
    version = world.counts.versions[V2]
    assert ([*version.failed_traces], [*version.served_traces]) == ([failed], [served])


async def test_points_that_cannot_be_counted_are_told_as_partial_success(world: World) -> None:
    body = exponential(3, {}, at_ms=now_ms() + 3_600_000).SerializeToString()
    answer = ExportMetricsServiceResponse.FromString(await world.export(body))
    assert answer.partial_success.rejected_data_points == 1
    assert "clock" in answer.partial_success.error_message


async def test_stranger_without_the_token_is_unauthenticated(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.export(exponential(3, {}).SerializeToString(), said="Bearer x")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not world.counts.versions


async def test_malformed_message_is_the_senders_fault(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.export(b"\xff\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_message_beyond_the_limit_is_not_taken(world: World, compression: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.export(b"\0" * (LARGEST_BODY_BYTES + 1), compression=compression)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_full_line_says_when_to_come_again(world: World) -> None:
    with world.intake.place(1), pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.export(exponential(3, {}, at_ms=now_ms()).SerializeToString())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (said,) = [value for name, value in refused.value.trailing_metadata() if name == "grpc-status-details-bin"]
    retry = RetryInfo()
    assert Status.FromString(said).details[0].Unpack(retry)
    assert retry.retry_delay.seconds >= 1
    assert world.intake.turned_away == 1


async def test_opentelemetrys_own_exporter_comes_again_when_it_is_told_to(world: World) -> None:
    exporter = OTLPMetricExporter(
        endpoint=f"http://127.0.0.1:{world.port}",
        headers={"authorization": f"Bearer {TOKEN}"},
        preferred_temporality=DELTA,
        timeout=8,
    )
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1e6)], RESOURCE)
    provider.get_meter("test").create_histogram(SERVED, "s").record(0.05, {"http.response.status_code": 200})
    with world.intake.place(1):
        flushing = asyncio.create_task(asyncio.to_thread(provider.force_flush))
        while not world.intake.turned_away:  # noqa: ASYNC110  the test's own limit ends it
            await asyncio.sleep(0.01)
    assert await flushing
    assert world.counts.versions[V2].total.requests == 1
    await asyncio.to_thread(provider.shutdown)


async def test_port_that_somebody_has_is_taken_and_not_shared(world: World) -> None:
    with pytest.raises(OSError, match="cannot listen"):
        await GrpcReceiver(world.intake, Bearer(TOKEN)).start(world.port)
