"""The OTLP receiver over real HTTP, with a clock of its own: what it counts, what it refuses, and what it says."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from controller.adapters.otlp import PROTOBUF, otlp_server
from controller.adapters.otlp_counts import ServiceCounts, latency_bucket
from controller.adapters.otlp_intake import LARGEST_BODY_BYTES, LARGEST_UNPACKED_BYTES, Bearer, Intake
from controller.adapters.otlp_points import Ingest
from controller.adapters.otlp_windows import baseline_of, closed_windows
from controller.domain.counts import WindowCounts
from controller.domain.ids import Commit
from controller.errors import Permanent

START_MS = 1_790_000_000_000
V1, V2 = Commit("1" * 40), Commit("2" * 40)
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


@dataclass
class World:
    """A receiver that watches one service."""

    now: int = START_MS
    counts: ServiceCounts = field(default_factory=lambda: ServiceCounts("/health"))
    client: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(trust_env=False, timeout=10))
    url: str = ""

    def ingest(self) -> Ingest:
        return Ingest({"shop": self.counts}.get, lambda: self.now)

    async def post(self, content: bytes, path: str = "/v1/metrics", **headers: str) -> httpx2.Response:
        told = {"content-type": PROTOBUF, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.client.post(self.url + path, content=content, headers=told)

    async def tell(self, export: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse:
        answer = await self.post(export.SerializeToString())
        assert answer.status_code == 200
        assert answer.headers["content-type"] == PROTOBUF
        said: ExportMetricsServiceResponse = ExportMetricsServiceResponse.FromString(answer.content)
        return said

    def windows(self, from_ms: int = START_MS, width_ms: int = 1000) -> list[WindowCounts]:
        return closed_windows(self.counts, V2, V1, from_ms=from_ms, width_ms=width_ms, now_ms=self.now, hold_ms=1000)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    small = otlp_server(Intake(world.ingest()), Bearer(None), most_at_once=2)
    server = await small.listen(0)
    world.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield world
    await world.client.aclose()
    server.close()
    await small.conversations.end()


def export(
    counts: Sequence[int] = (3,),
    *,
    at_ms: int = START_MS + 500,
    since_ms: int = START_MS,
    version: str = V2,
    service: str = "shop",
    status: int = 200,
    scale: int = 3,
    offset: int = -80,
    temporality: int = DELTA,
    route: str = "/",
    said: int | None = None,
) -> ExportMetricsServiceRequest:
    """One point; offset -80 at scale 3 in seconds is bucket 0 in ms. `said`: a count that need not be true."""
    made = ExportMetricsServiceRequest()
    of_resource = made.resource_metrics.add()
    for key, value in (("service.name", service), ("service.version", version), ("service.instance.id", "i-1")):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    metric = of_resource.scope_metrics.add().metrics.add(name="http.server.request.duration", unit="s")
    histogram = metric.exponential_histogram
    histogram.aggregation_temporality = temporality
    point = histogram.data_points.add(start_time_unix_nano=since_ms * 10**6, time_unix_nano=at_ms * 10**6, scale=scale)
    point.attributes.add(key="http.response.status_code").value.int_value = status
    point.attributes.add(key="http.route").value.string_value = route
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    point.count = sum(counts) if said is None else said
    return made


async def test_delta_point_counts_in_the_second_in_which_it_ends(world: World) -> None:
    await world.tell(export((2, 0, 1), at_ms=START_MS + 1_400, since_ms=START_MS + 900))
    world.now += 3_000
    first, second = world.windows()
    assert first.canary.requests == 0
    assert (second.canary.requests, second.canary.errors) == (3, 0)
    assert second.canary.latency.buckets == ((0, 2), (2, 1))


async def test_server_errors_are_errors_and_client_errors_are_not(world: World) -> None:
    await world.tell(export((4,), status=503))
    await world.tell(export((5,), status=404))
    world.now += 2_000
    (window,) = world.windows()
    assert (window.canary.requests, window.canary.errors) == (9, 4)
    assert world.counts.versions[V2].first_failure_ms == START_MS + 500


async def test_window_stays_open_until_late_points_have_had_their_time(world: World) -> None:
    world.now = START_MS + 1_999
    assert world.windows() == []
    world.now = START_MS + 2_000
    assert [(w.start_ms, w.end_ms) for w in world.windows()] == [(START_MS, START_MS + 1_000)]


async def test_late_point_is_dropped_and_counted(world: World) -> None:
    world.now += 2_000
    before = world.windows()
    await world.tell(export((7,)))
    assert world.windows() == before
    assert world.counts.excluded == {"late points": 1, "late requests": 7}


async def test_point_delivered_twice_counts_once(world: World) -> None:
    for _ in range(2):
        await world.tell(export((6,)))
    await world.tell(export((1,), at_ms=START_MS + 900, since_ms=START_MS + 500))
    world.now += 2_000
    assert world.windows()[0].canary.requests == 7


async def test_cumulative_series_counts_its_growth_and_survives_a_restart(world: World) -> None:
    for at, since, total in ((200, 0, 10), (400, 0, 14), (600, 500, 3), (800, 500, 5), (700, 500, 4)):
        told = export((total,), at_ms=START_MS + at, since_ms=START_MS + since, temporality=CUMULATIVE)
        await world.tell(told)
    world.now += 2_000
    window = world.windows()[0]
    assert window.canary.requests == 14 + 5
    assert window.canary.latency.total == 19


async def test_cumulative_series_from_before_the_receiver_begins_where_it_is_first_seen(world: World) -> None:
    old = START_MS - 3_600_000
    await world.tell(export((9_000,), at_ms=START_MS + 100, since_ms=old, temporality=CUMULATIVE))
    await world.tell(export((9_004,), at_ms=START_MS + 600, since_ms=old, temporality=CUMULATIVE))
    world.now += 2_000
    assert world.windows()[0].canary.requests == 4


async def test_finer_histograms_are_merged_exactly(world: World) -> None:
    dice = random.Random(7)
    seconds = [dice.lognormvariate(-3, 1) for _ in range(500)]
    for version, scale in ((V1, 3), (V2, 9)):
        indices = [latency_bucket_at(value, scale) for value in seconds]
        counts = [indices.count(index) for index in range(min(indices), max(indices) + 1)]
        await world.tell(export(counts, version=version, scale=scale, offset=min(indices)))
    world.now += 2_000
    (window,) = world.windows()
    assert window.canary.latency == window.baseline.latency
    assert window.canary.latency.total == 500


def latency_bucket_at(value: float, scale: int) -> int:
    buckets_per_doubling: int = 1 << scale
    return math.ceil(math.log2(value) * buckets_per_doubling) - 1


async def test_coarser_histogram_is_refused_with_what_to_change(world: World) -> None:
    answer = await world.tell(export((3, 1), scale=2))
    assert answer.partial_success.rejected_data_points == 1
    assert "scale 2" in answer.partial_success.error_message
    assert "max_size=160" in answer.partial_success.error_message
    assert not world.counts.versions


async def test_point_whose_buckets_do_not_add_up_is_refused(world: World) -> None:
    answer = await world.tell(export((3, 1), said=5))
    assert "add up" in answer.partial_success.error_message


async def test_point_from_a_clock_that_runs_ahead_is_refused(world: World) -> None:
    answer = await world.tell(export(at_ms=START_MS + 61_000))
    assert "clock" in answer.partial_success.error_message


async def test_other_services_and_health_checks_are_not_counted(world: World) -> None:
    assert not (await world.tell(export(service="billing"))).partial_success.rejected_data_points
    await world.tell(export((50,), route="/health"))
    await world.tell(export((1,)))
    world.now += 2_000
    assert world.windows()[0].canary.requests == 1


async def test_gzip_is_unpacked_and_a_bomb_is_not(world: World) -> None:
    packed = gzip.compress(export((8,)).SerializeToString())
    assert (await world.post(packed, content_encoding="gzip")).status_code == 200
    bomb = gzip.compress(b"\0" * (LARGEST_UNPACKED_BYTES + 1))
    assert (await world.post(bomb, content_encoding="gzip")).status_code == 413
    assert (await world.post(packed[:-9], content_encoding="gzip")).status_code == 400
    assert (await world.post(packed, content_encoding="br")).status_code == 415
    world.now += 2_000
    assert world.windows()[0].canary.requests == 8


async def test_malformed_exports_are_refused(world: World) -> None:
    assert (await world.post(b"\xff\xff\xff")).status_code == 400
    assert (await world.post(b"{", content_type="application/json")).status_code == 400
    assert (await world.post(b"x", content_type="text/plain")).status_code == 415
    assert (await world.post(b"", path="/v1/logs")).status_code == 404
    assert (await world.client.get(world.url + "/v1/metrics")).status_code == 405
    assert (await world.post(b"\0" * (LARGEST_BODY_BYTES + 1))).status_code == 413
    assert not world.counts.versions


async def test_json_counts_like_protobuf_and_keeps_trace_ids(world: World) -> None:
    trace = "5b8efff798038103d269b633813fc60c"
    attributes = [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "service.version", "value": {"stringValue": V2}},
    ]
    span = {
        "traceId": trace,
        "spanId": "eee19b7ec3c1b174",
        "kind": 2,
        "status": {"code": 2},
        "endTimeUnixNano": str((START_MS + 3) * 10**6),
    }
    told: dict[str, Any] = {
        "resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]}]
    }
    answer = await world.post(json.dumps(told).encode(), "/v1/traces", content_type="application/json")
    assert (answer.status_code, answer.json()) == (200, {})
    assert list(world.counts.versions[V2].failed_traces) == [trace]
    assert world.counts.versions[V2].first_failure_ms == START_MS + 3


async def test_sender_beyond_what_is_read_at_once_is_told_to_come_back(world: World) -> None:
    port = int(world.url.rpartition(":")[2])
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in slow:
        writer.write(b"POST /v1/metrics HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
        await writer.drain()
    answer = await world.post(export().SerializeToString())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    for _, writer in slow:
        writer.close()
        await writer.wait_closed()


async def test_windows_that_counts_cannot_give_are_refused(world: World) -> None:
    for from_ms, width_ms in ((START_MS + 1, 1000), (START_MS, 1500), (START_MS, 0), (0, 1000)):
        with pytest.raises(Permanent):
            world.windows(from_ms, width_ms)


async def test_baseline_is_told_by_instance_and_minute(world: World) -> None:
    minute = START_MS // 60_000 * 60_000 + 60_000
    for at, status in ((0, 200), (59_000, 500), (60_000, 200)):
        world.now = minute + at
        await world.tell(export((5,), at_ms=minute + at, status=status))
    seen = baseline_of(world.counts, V2, from_ms=minute, to_ms=minute + 120_000)
    assert [(m.minute_ms - minute, m.requests, m.errors) for m in seen.instances] == [(0, 10, 5), (60_000, 5, 0)]
    assert (seen.requests, seen.latency.total) == (15, 15)


def test_latency_bucket_holds_its_upper_edge() -> None:
    assert [latency_bucket(value) for value in (1.0, 1.0001, 2.0, 1024.0, 0.0)] == [-1, 0, 7, 79, -160]
