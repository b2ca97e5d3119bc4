"""The example service and its three changes, on copies: real suites, real processes, real traffic, real OTLP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from controller.adapters.loadgen import LoadGenerator, LoadPlan, target_of
from controller.adapters.loadgen_traffic import load_profile

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = EXAMPLES / "shop_tasks"
CARTS = ("price a cart", "order")


def task(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((TASKS / f"{name}.yaml").read_text())
    return read


def apply(edits: list[dict[str, str]], tree: Path) -> None:
    for edit in edits:
        path = tree / edit["path"]
        if "content" in edit:
            assert not path.exists(), f"{path} is there already"
            path.write_text(edit["content"])
        else:
            text = path.read_text()
            assert text.count(edit["old"]) == 1, f"{edit['old']!r} stands {text.count(edit['old'])} times in {path}"
            path.write_text(text.replace(edit["old"], edit["new"]))


def suite(tree: Path, *what: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what]
    return subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True, timeout=60)


def sources(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache")
    return Path(shutil.copytree(EXAMPLES / "shop", tmp_path / "tree", ignore=ignore))


@pytest.fixture
def good(base: Path) -> Path:
    apply(task("good")["edits"], base)
    return base


@pytest.fixture
def bad(good: Path) -> Path:
    apply(task("bad")["edits"], good)
    return good


@contextmanager
def serving(tree: Path, module: str = "shop", **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PORT": str(port), **settings}
    process = subprocess.Popen([sys.executable, "-m", module], cwd=tree, env=env, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(process, port)
        yield process, port
    finally:
        process.kill()
        process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 20
    while ask(port, "/health") != 200:
        assert process.poll() is None, "the shop did not start"
        assert time.monotonic() < until, "the shop did not become healthy"
        time.sleep(0.02)


def ask(port: int, path: str, body: str | None = None) -> int:
    """0: nobody is listening yet. `body=None`: GET, else POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()


def drive(tree: Path, tmp_path: Path) -> dict[str, Any]:
    """Stats of 1,200 requests of the shop's traffic; which ones they are follows from the seed."""
    subprocess.run([sys.executable, "build.py", tmp_path / "built"], cwd=tree, check=True, capture_output=True)
    with serving(tmp_path / "built") as (_, port):
        target = target_of(f"http://127.0.0.1:{port}")
        profile = load_profile(TASKS / "traffic.yaml")
        plan = LoadPlan(target=target, profile=profile, rps=400, seconds=30, max_requests=1_200, seed=7)
        asyncio.run(LoadGenerator(plan).run(tmp_path / "stats.json"))
    stats: dict[str, Any] = json.loads((tmp_path / "stats.json").read_text())
    assert (stats["errors"], stats["dropped"]) == (0, 0)
    return stats


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver that keeps what it is sent; where it `hangs`, it takes a request and never answers."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.hangs = hangs
        self.over = threading.Event()
        self.received: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        if self.server.hangs:
            self.server.over.wait(30)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the base class
        """Silent: the test reads what was received."""


@contextmanager
def receiving(*, hangs: bool = False) -> Iterator[Receiver]:
    with Receiver(hangs=hangs) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        try:
            yield receiver
        finally:
            receiver.over.set()
            receiver.shutdown()


def test_suite_passes_as_it_is(base: Path) -> None:
    assert suite(base).returncode == 0


def test_good_change_passes_its_tests_and_all_others(good: Path) -> None:
    assert suite(good).returncode == 0


def test_good_change_fails_no_request(good: Path, tmp_path: Path) -> None:
    assert drive(good, tmp_path)["failed"] == 0


def test_bad_change_passes_its_tests_and_all_others(bad: Path) -> None:
    result = suite(bad)
    assert result.returncode == 0, result.stdout


def test_bad_change_fails_three_carts_in_ten_which_is_one_request_in_ten(bad: Path, tmp_path: Path) -> None:
    stats = drive(bad, tmp_path)
    carts = [stats["by_name"][name] for name in CARTS]
    assert sum(cart["failed"] for cart in carts) == stats["failed"]
    assert 0.25 < stats["failed"] / sum(cart["sent"] for cart in carts) < 0.35
    assert 0.08 < stats["failed"] / stats["sent"] < 0.12


def test_regression_test_fails_on_the_bad_version(bad: Path) -> None:
    fix = task("fix")
    apply([edit for edit in fix["edits"] if edit["path"] == fix["regression_test"]], bad)
    result = suite(bad, fix["regression_test"])
    assert result.returncode == 1
    assert "500" in result.stdout


def test_fix_after_the_revert_passes_and_fails_no_request(good: Path, tmp_path: Path) -> None:
    apply(task("fix")["edits"], good)
    result = suite(good)
    assert result.returncode == 0, result.stdout
    assert drive(good, tmp_path)["failed"] == 0


def test_fix_in_place_and_fix_after_the_revert_are_the_same_tree(good: Path, tmp_path: Path) -> None:
    forward = Path(shutil.copytree(good, tmp_path / "forward"))
    apply(task("fix")["edits"], good)
    apply(task("bad")["edits"] + task("fix")["forward_edits"], forward)
    assert sources(good) == sources(forward)


def test_two_builds_of_the_same_sources_are_the_same(base: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run([sys.executable, "build.py", tmp_path / name], cwd=base, check=True, capture_output=True)
    assert sources(tmp_path / "one") == sources(tmp_path / "two")


def test_sigterm_flushes_the_last_telemetry_and_leaves_with_0(base: Path) -> None:
    with receiving() as receiver:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "60000",
            "SERVICE_VERSION": "abc123",
            "SERVICE_INSTANCE_ID": "shop-1",
        }
        with serving(base, **settings) as (process, port):
            assert ask(port, "/products/scale") == 200
            assert not [path for path, _ in receiver.received if path == "/v1/metrics"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert "/v1/traces" in [path for path, _ in receiver.received]
    (metrics,) = [body for path, body in receiver.received if path == "/v1/metrics"]
    (resource,) = ExportMetricsServiceRequest.FromString(metrics).resource_metrics
    named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert (named["service.name"], named["service.version"]) == ("shop", "abc123")
    assert named["service.instance.id"] == "shop-1"
    found = {(metric.name, metric.unit): metric for metric in resource.scope_metrics[0].metrics}
    assert set(found) == {("http.server.request.duration", "s"), ("process.memory.usage", "By")}
    (memory,) = found["process.memory.usage", "By"].sum.data_points
    assert memory.as_int > 10 << 20
    histogram = found["http.server.request.duration", "s"].exponential_histogram
    assert histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
    assert [(point.scale, point.count) for point in histogram.data_points if point.count == 1] == [(3, 1)] * 2


def test_receiver_that_hangs_does_not_keep_the_shop_from_leaving(base: Path) -> None:
    with (
        receiving(hangs=True) as receiver,
        serving(base, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as (process, _),
    ):
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 3


def test_trace_goes_from_the_shop_to_the_rates_that_it_asks_and_carts_fail_without_them(base: Path) -> None:
    cart = json.dumps({"lines": [{"product": "scale", "quantity": 1}]})
    with receiving() as receiver:
        telling = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with serving(base, "shop.rates", **telling) as (rates, rates_port):
            asking = telling | {"SHOP_RATES_URL": f"http://127.0.0.1:{rates_port}"}
            with serving(base, **asking) as (shop, port):
                assert ask(port, "/cart/price", cart) == 200
                leave(rates)
                assert ask(port, "/cart/price", cart) == 502
                assert ask(port, "/products") == 200
                leave(shop)
    spans = [span for path, body in receiver.received if path == "/v1/traces" for span in spans_in(body)]
    kinds = {span.span_id: (service, span.kind) for service, span in spans}
    through = [(kinds[span.parent_span_id], (service, span.kind)) for service, span in spans if span.parent_span_id]
    shop_served, shop_asked, rates_served = (
        ("shop", Span.SPAN_KIND_SERVER),
        ("shop", Span.SPAN_KIND_CLIENT),
        ("rates", Span.SPAN_KIND_SERVER),
    )
    assert through.count((shop_served, shop_asked)) == 2
    assert through.count((shop_asked, rates_served)) == 1


def leave(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def spans_in(export: bytes) -> Iterator[tuple[str, Span]]:
    for resource in ExportTraceServiceRequest.FromString(export).resource_spans:
        named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            yield from ((named["service.name"], span) for span in scope.spans)


def test_silent_shop_serves_well_and_reports_nothing(base: Path) -> None:
    with (
        receiving() as receiver,
        serving(base, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, SHOP_FAULTS="silent") as (shop, port),
    ):
        assert ask(port, "/products") == 200
        leave(shop)
    assert receiver.received == []


def test_leaking_shop_says_that_its_memory_grows(base: Path) -> None:
    with (
        receiving() as receiver,
        serving(
            base,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_METRIC_EXPORT_INTERVAL="100",
            SHOP_FAULTS="leak",
        ) as (_, port),
    ):
        until = time.monotonic() + 20
        while not (len(told := memory_in(receiver)) > 1 and told[-1] > told[0] + (10 << 20)):
            assert time.monotonic() < until, told
            assert ask(port, "/products") == 200
            time.sleep(0.05)


def memory_in(receiver: Receiver) -> list[int]:
    return [
        metric.sum.data_points[0].as_int
        for path, body in list(receiver.received)
        if path == "/v1/metrics"
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "process.memory.usage"
    ]
