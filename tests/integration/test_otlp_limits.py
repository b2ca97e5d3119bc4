"""Who may send over HTTP, how much may wait, and that what was acknowledged is counted whatever else comes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import now_ms
from exports_kit import START_MS, V2, Counted, attributed, exponential, resource

from controller.adapters.edge_http import LOOPBACK, Request, Response, SmallServer, get_status, loopback
from controller.adapters.edge_proxy import Proxy
from controller.adapters.edge_routes import Routes, arm_of
from controller.adapters.otlp import PROTOBUF, otlp_server
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_intake import LARGEST_BODY_BYTES, Bearer, Intake

TOKEN = "t" * 32
SENDERS, POINTS = 24, 100
LETTERED = {"authorization": f"Bearer {TOKEN}", "content-type": PROTOBUF}


@dataclass
class World:
    counted: Counted = field(default_factory=Counted)
    client: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(trust_env=False, timeout=10))
    url: str = ""

    def __post_init__(self) -> None:
        self.intake = Intake(self.counted.ingest, most_waiting=2)

    async def post(
        self, content: bytes, path: str = "/v1/metrics", headers: Mapping[str, str] = LETTERED
    ) -> httpx2.Response:
        return await self.client.post(self.url + path, content=content, headers=headers)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    small = otlp_server(world.intake, Bearer(TOKEN))
    server = await small.listen(0)
    world.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    yield world
    await world.client.aclose()
    server.close()
    await small.conversations.end()


@pytest.mark.parametrize("said", ["", "Bearer x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}\xe9"])
async def test_stranger_is_turned_away_before_anything_is_read(world: World, said: str) -> None:
    headers = [(b"content-type", PROTOBUF.encode()), (b"authorization", said.encode("latin-1"))]
    answer = await world.client.post(world.url + "/v1/metrics", content=b"\xff", headers=headers)
    assert answer.status_code == 401
    assert not world.counted.counts.versions


async def test_refusal_says_why_in_the_senders_own_encoding(world: World) -> None:
    assert "no ExportMetrics" in Status.FromString((await world.post(b"\xff\xff")).content).message
    answer = await world.post(b"{", headers=LETTERED | {"content-type": "application/json"})
    assert "no ExportMetrics" in json.loads(answer.content)["message"]


async def test_overloaded_receiver_loses_nothing_that_it_acknowledged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a line of two, twelve times as many senders, each until its export is taken."""
    caplog.set_level(logging.WARNING, logger="flyball.edge")
    said: Counter[int] = Counter()
    waits: set[str] = set()

    async def send(number: int) -> None:
        made, metrics = resource(instance=f"i-{number % 8}")
        histogram = metrics.add(name="http.server.request.duration", unit="s").exponential_histogram
        histogram.aggregation_temporality = 1
        for route in range(POINTS):
            point = histogram.data_points.add(time_unix_nano=(START_MS + number) * 10**6, scale=3, count=1)
            point.positive.bucket_counts.append(1)
            attributed(point, {"http.route": f"/{route}", "http.response.status_code": 200})
        while True:
            answer = await world.post(made.SerializeToString())
            said[answer.status_code] += 1
            if answer.status_code == 200:
                return
            waits.add(answer.headers["retry-after"])

    await asyncio.gather(*(send(number) for number in range(SENDERS)))
    assert said[200] == SENDERS
    assert said[503] == world.intake.turned_away > SENDERS
    assert said.keys() == {200, 503}
    assert all(int(wait) >= 1 for wait in waits)
    assert world.counted.first().canary.requests == SENDERS * POINTS
    (line,) = [record.getMessage() for record in caplog.records]
    assert "turned 1 exports away" in line


async def test_export_of_unknown_length_takes_the_place_of_the_largest(world: World) -> None:
    world.intake = Intake(world.counted.ingest, most_waiting_bytes=LARGEST_BODY_BYTES)
    small = otlp_server(world.intake, Bearer(None))
    server = await small.listen(0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"POST /v1/metrics HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    body, url = exponential(1, {}).SerializeToString(), f"http://{LOOPBACK}:{port}/v1/metrics"
    while (await world.client.post(url, content=body, headers=LETTERED)).status_code != 503:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the other one is not there yet; the test's own limit ends it
    writer.close()
    await writer.wait_closed()
    server.close()
    await small.conversations.end()


async def test_users_are_served_while_a_large_export_is_counted(world: World) -> None:
    async def answer(_: Request) -> Response:
        return Response(200)

    instance = SmallServer(answer, most_body_bytes=1)
    behind = await instance.listen(0)

    @dataclass
    class Target:
        port: int
        name: str = "i-1"
        serving: bool = True

        async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await loopback(self.port)()

    proxy = Proxy(ServiceCounts(), "/health", lambda: START_MS)
    arm = arm_of(V2, 1, [Target(behind.sockets[0].getsockname()[1])])
    proxy.routes = Routes(arm)
    public = await proxy.listen(0)
    made, metrics = resource()
    histogram = metrics.add(name="http.server.request.duration", unit="s").exponential_histogram
    histogram.aggregation_temporality = 1
    for number in range(10_000):
        point = histogram.data_points.add(time_unix_nano=START_MS * 10**6, scale=3, count=1)
        point.positive.bucket_counts.append(1)
        attributed(point, {"http.route": f"/{number}"})
    counting = asyncio.create_task(world.post(made.SerializeToString()))
    served = 0
    while not counting.done():
        assert await get_status(loopback(public.sockets[0].getsockname()[1]), LOOPBACK, "/", 5) == 200
        served += 1
    assert (await counting).status_code == 200
    assert served > 1
    assert world.counted.first().canary.requests == 10_000
    for server in (public, behind):
        server.close()
    await proxy.close()
    for upstream in arm.upstreams:
        upstream.close()
    await instance.conversations.end()


# --- JSON as the specification writes it

ATTRIBUTES = [
    {"key": "service.name", "value": {"stringValue": "shop"}},
    {"key": "service.version", "value": {"stringValue": V2}},
]


def in_json(metric: dict[str, Any]) -> bytes:
    told = {"resource": {"attributes": ATTRIBUTES}, "scopeMetrics": [{"scope": {"name": "s"}, "metrics": [metric]}]}
    return json.dumps({"resourceMetrics": [told]}).encode()


async def test_json_histogram_with_exemplar_counts_like_protobuf(world: World) -> None:
    trace = "5b8efff798038103d269b633813fc60c"
    point = {
        "startTimeUnixNano": str(START_MS * 10**6),
        "timeUnixNano": str((START_MS + 400) * 10**6),
        "count": "3",
        "sum": 0.6,
        "bucketCounts": ["2", "1"],
        "explicitBounds": [0.25],
        "attributes": [{"key": "http.response.status_code", "value": {"intValue": "500"}}],
        "exemplars": [
            {"timeUnixNano": str(START_MS * 10**6), "asDouble": 0.3, "traceId": trace, "spanId": "eee19b7ec3c1b174"}
        ],
        "fromTheFuture": True,
    }
    metric = {
        "name": "http.server.request.duration",
        "unit": "s",
        "histogram": {"aggregationTemporality": 1, "dataPoints": [point]},
    }
    answer = await world.post(in_json(metric), headers=LETTERED | {"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, {})
    canary = world.counted.first().canary
    assert (canary.requests, canary.errors, canary.latency.total) == (3, 3, 3)
    assert [*world.counted.counts.versions[V2].failed_traces] == [trace]


async def test_json_gauge_counts_like_protobuf(world: World) -> None:
    point = {"timeUnixNano": str((START_MS + 400) * 10**6), "asInt": "4096"}
    metric = {"name": "process.memory.usage", "unit": "By", "gauge": {"dataPoints": [point]}}
    answer = await world.post(in_json(metric), headers=LETTERED | {"content-type": "application/json; charset=utf-8"})
    assert answer.status_code == 200
    assert world.counted.first().gauges[0].canary_milli == 4_096_000


async def test_opentelemetrys_own_exporter_comes_again_when_it_is_told_to(world: World) -> None:
    exporter = OTLPMetricExporter(
        endpoint=f"{world.url}/v1/metrics",
        headers={"authorization": f"Bearer {TOKEN}"},
        compression=Compression.Gzip,
        preferred_temporality={Histogram: AggregationTemporality.DELTA},
        timeout=8,
    )
    resource = Resource.create({"service.name": "shop", "service.version": V2})
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1e6)], resource)
    world.counted.now = now_ms()
    provider.get_meter("test").create_histogram("http.server.request.duration", "s").record(0.05)
    with world.intake.place(1), world.intake.place(1):
        flushing = asyncio.create_task(asyncio.to_thread(provider.force_flush))
        while not world.intake.turned_away:  # noqa: ASYNC110  the test's own limit ends it
            await asyncio.sleep(0.01)
    assert await flushing
    assert world.counted.counts.versions[V2].total.requests == 1
    await asyncio.to_thread(provider.shutdown)


async def test_connection_is_kept_between_exports(world: World) -> None:
    body = exponential(1, {}).SerializeToString()
    answers = [await world.post(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert world.counted.counts.excluded == {"points delivered again": 2}
