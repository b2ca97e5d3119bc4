"""How many OTLP points a core takes in, and what happens when ten times as many come. `python bench/otlp.py [seconds]`.

Points are what an instance of a watched service sends: one exponential histogram with ten filled buckets per route and
status. CPU time, beside protobuf's own decoding of the same bytes into OpenTelemetry's messages, which is the least
that a receiver with the generated classes could do. Then memory per series, how long an edge takes to start, and
overload: an edge's proxy and receiver on one event loop, as in the product, while a process of senders without any
pause offers what it can.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

from controller.adapters.edge_http import (
    LOOPBACK,
    Head,
    Request,
    Response,
    SmallServer,
    get_status,
    loopback,
    read_head,
)
from controller.adapters.edge_proxy import Proxy
from controller.adapters.edge_routes import Routes, arm_of
from controller.adapters.otlp import PROTOBUF, Receiver, otlp_server
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_intake import Bearer, Intake
from controller.adapters.otlp_points import Ingest
from controller.adapters.otlp_windows import closed_windows
from controller.domain.ids import Commit

NOW_MS = time.time_ns() // 1_000_000
METRIC = "http.server.request.duration"
VERSION = "1" * 40
REQUESTS_A_POINT = 20
SENDERS = 120  # without pause, and what was turned away they send again at once; the line holds 64
LATENCY_SAMPLES = 300
STARTS = 5


def export(points: int, step: int, service: str = "shop", start_ms: int = NOW_MS, instance: str = "i-1") -> bytes:
    """`points` series of one instance, over half a second; every step is another millisecond."""
    made = ExportMetricsServiceRequest()
    of_resource = made.resource_metrics.add()
    for key, value in (("service.name", service), ("service.version", VERSION), ("service.instance.id", instance)):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    histogram = of_resource.scope_metrics.add().metrics.add(name=METRIC, unit="s").exponential_histogram
    histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    start = (start_ms + step) * 10**6
    for number in range(points):
        point = histogram.data_points.add(
            start_time_unix_nano=start, time_unix_nano=start + 10**6, scale=3, count=REQUESTS_A_POINT
        )
        point.attributes.add(key="http.request.method").value.string_value = "GET"
        point.attributes.add(key="http.route").value.string_value = f"/products/{number // 2}"
        point.attributes.add(key="http.response.status_code").value.int_value = 500 if number % 2 else 200
        point.positive.offset = -60
        point.positive.bucket_counts.extend([2] * 10)
    content: bytes = made.SerializeToString()
    return content


def bodies(points: int, service: str = "shop") -> list[bytes]:
    return [export(points, step, service) for step in range(max(50, 20_000 // points))]


async def counted(points: int, seconds: float, *, packed: bool, service: str = "shop") -> float:
    """Points per second of CPU, through the receiver."""
    receiver = Receiver(Intake(Ingest({"shop": ServiceCounts("/health")}.get, lambda: NOW_MS)), Bearer(None))
    fields = [(b"content-type", PROTOBUF.encode())] + ([(b"content-encoding", b"gzip")] if packed else [])
    contents = [gzip.compress(body, 6) if packed else body for body in bodies(points, service)]
    requests = [Request("POST", "/v1/metrics", {}, Head(b"", fields), content) for content in contents]
    sent, began = 0, time.process_time()
    while time.process_time() - began < seconds and sent < len(requests):
        answer = await receiver.handle(requests[sent])
        assert (answer.status, answer.body) == (200, b"")
        sent += 1
    return sent * points / (time.process_time() - began)


def decoded(points: int, seconds: float) -> float:
    """Points per second of CPU that protobuf alone decodes."""
    contents, sent, began = bodies(points), 0, time.process_time()
    while time.process_time() - began < seconds:
        ExportMetricsServiceRequest.FromString(contents[sent % len(contents)])
        sent += 1
    return sent * points / (time.process_time() - began)


def bytes_a_series(series: int = 4_000) -> float:
    ingest = Ingest({"shop": ServiceCounts("/health")}.get, lambda: NOW_MS)
    ingest.metrics(export(2, 0))
    body = export(series, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ingest.metrics(body)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / series


# --- overload


async def answer(_: Request) -> Response:
    return Response(200, b"{}")


class Fixed:
    name, serving = "old", True

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await loopback(self.port)()

    def __init__(self, port: int) -> None:
        self.port = port


async def post(port: int, content: bytes) -> int:
    """The status, over a connection of its own. A refusal may come, and end it, before everything is sent."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    fields = f"content-type: {PROTOBUF}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n"
    writer.write(f"POST /v1/metrics HTTP/1.1\r\n{fields}\r\n".encode() + content)
    head = await read_head(reader)
    writer.close()
    assert head is not None
    return int(head.first[9:12])


async def send(port: int, start_ms: int, seconds: float, points: int) -> None:
    """The senders' process: prints what was acknowledged and what was turned away, in points."""
    told, contents = {"acknowledged": 0, "turned away": 0}, endless(points, start_ms)
    until = time.monotonic() + seconds

    async def one() -> None:
        content = next(contents)
        while time.monotonic() < until:
            status = await post(port, content)
            told["acknowledged" if status == 200 else "turned away"] += points
            content = next(contents) if status == 200 else content

    await asyncio.gather(*(one() for _ in range(SENDERS)))
    print(json.dumps(told))


def endless(points: int, start_ms: int) -> Iterator[bytes]:
    """Exports that are new to the receiver: one, with its start and end put a nanosecond later each time."""
    body = export(points, 0, start_ms=start_ms)
    times = [start_ms * 10**6, (start_ms + 1) * 10**6]
    for step in count(1):
        fresh = body
        for time_ns in times:
            fresh = fresh.replace(time_ns.to_bytes(8, "little"), (time_ns + step).to_bytes(8, "little"))
        yield fresh


async def latencies_ms(port: int, samples: int) -> list[float]:
    found = []
    for _ in range(samples):
        began = time.perf_counter()
        assert await get_status(loopback(port), LOOPBACK, "/", 10) == 200
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.01)
    return sorted(found)


async def probe(port: str) -> None:
    """The users' process: prints p50 and p99 of the proxy, in ms."""
    found = await latencies_ms(int(port), LATENCY_SAMPLES)
    print(json.dumps([found[len(found) // 2], found[int(len(found) * 0.99)]]))


async def aside(*words: str) -> str:
    child = await asyncio.create_subprocess_exec(sys.executable, __file__, *words, stdout=PIPE)
    out, _ = await child.communicate()
    assert child.returncode == 0
    return out.decode()


async def overload(seconds: float, points: int) -> None:
    counts, instance = ServiceCounts("/health"), SmallServer(answer, most_body_bytes=1)
    port = (await instance.listen(0)).sockets[0].getsockname()[1]
    proxy = Proxy(ServiceCounts(), "/health", lambda: time.time_ns() // 1_000_000)
    proxy.routes = Routes(arm_of(VERSION, 1, [Fixed(port)]))
    public = (await proxy.listen(0)).sockets[0].getsockname()[1]
    intake = Intake(Ingest({"shop": counts}.get, lambda: NOW_MS))
    small = otlp_server(intake, Bearer(None))
    otlp = (await small.listen(0)).sockets[0].getsockname()[1]
    quiet = json.loads(await aside("--probe", str(public)))
    sending = asyncio.create_task(aside("--send", str(otlp), str(NOW_MS), str(seconds), str(points)))
    await asyncio.sleep(0.5)
    busy = json.loads(await aside("--probe", str(public)))
    told = json.loads(await sending)
    start = NOW_MS // 1000 * 1000
    windows = closed_windows(
        counts, Commit(VERSION), Commit("2" * 40), from_ms=start, width_ms=1000, now_ms=NOW_MS + 10_000, hold_ms=0
    )
    found = sum(window.canary.requests for window in windows) // REQUESTS_A_POINT
    print(f"overload, {SENDERS} senders without pause, {points} points an export, {seconds:g} s:")
    share = (told["acknowledged"] + told["turned away"]) / max(1, told["acknowledged"])
    print(f"  acknowledged {told['acknowledged']:,} points, turned away {told['turned away']:,}")
    print(f"  offered {share:.1f} times what was taken")
    print(f"  in the windows {found:,}: {'none lost' if found == told['acknowledged'] else 'NOT THE SAME'}")
    print(f"  proxy p50/p99 ms: {quiet[0]:.1f}/{quiet[1]:.1f} before, {busy[0]:.1f}/{busy[1]:.1f} meanwhile")
    for conversations in (small.conversations, instance.conversations):
        await conversations.end()
    await proxy.close()
    if found != told["acknowledged"]:
        sys.exit(1)


# --- start


def start_s() -> tuple[float, float]:
    """Seconds until an edge says that it is ready, and until it listens for gRPC too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        service = {"name": "shop", "repository": "shop", "git_dir": name, "start": ["true"]}
        (folder / "config.json").write_text(json.dumps({"services": [service]}))
        words = [sys.executable, "-m", "controller.service.edge", "--dir", name, "--config", name + "/config.json"]
        found: dict[str, float] = {}
        began = time.perf_counter()
        edge = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        while "otlp_grpc" not in found:
            time.sleep(0.005)
            known = json.loads(ports.read_text()) if (ports := folder / "ports.json").exists() else {}
            found |= {name: time.perf_counter() - began for name in known if name not in found}
        edge.terminate()
        assert edge.wait(10) == 0
    return found["admin"], found["otlp_grpc"]


async def main() -> None:
    if sys.argv[1:2] == ["--send"]:
        await send(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["--probe"]:
        await probe(sys.argv[2])
    else:
        await measured()


async def measured() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print(
        f"{datetime.now(UTC):%Y-%m-%d} python {platform.python_version()} {platform.machine()}, CPU time of one process"
    )
    for points in (1_000, 10):
        print(f"{f'{points:,} points an export, decoded by protobuf':>50}: {decoded(points, seconds):>10,.0f} points/s")
        print(f"{'decoded and counted':>50}: {await counted(points, seconds, packed=False):>10,.0f} points/s")
    print(f"{'1,000, gzip':>50}: {await counted(1_000, seconds, packed=True):>10,.0f} points/s")
    skipped = await counted(1_000, seconds, packed=False, service="unwatched")
    print(f"{'1,000 of a service that nobody judges':>50}: {skipped:>10,.0f} points/s")
    print(f"{'memory':>50}: {bytes_a_series():>10,.0f} bytes a series")
    for ready, grpc in [start_s() for _ in range(STARTS)]:
        print(f"{'an edge is ready, listens for gRPC':>50}: {ready:>10.2f} s, {grpc:.2f} s")
    logging.basicConfig(level=logging.WARNING, format="  the log says: %(message)s")
    await overload(max(6.0, 3 * seconds), 1_000)


if __name__ == "__main__":
    asyncio.run(main())
