"""Spans of OpenTelemetry's own SDK, put together to traces: where did a request break, and in which files?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from controller.adapters import otlp_groups, otlp_traces
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_points import Ingest
from controller.adapters.otlp_stacks import files_on
from controller.adapters.otlp_traces import HOLD_MS
from controller.domain.counts import TraceGroup

START_MS = 1_790_000_000_000


@dataclass
class Mesh:
    """Services that call each other, and one receiver that judges `shop`."""

    now: int = START_MS
    shop: ServiceCounts = field(default_factory=lambda: ServiceCounts("/health"))
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    providers: dict[str, TracerProvider] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ingest = Ingest({"shop": self.shop}.get, lambda: self.now)

    def tracer(self, service: str, version: str) -> Tracer:
        name = f"{service}@{version}"
        if name not in self.providers:
            resource = Resource({"service.name": service, "service.version": version})
            provider = self.providers[name] = TracerProvider(resource=resource, shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        return self.providers[name].get_tracer("test")

    @contextmanager
    def serving(self, service: str, version: str, *, route: str = "/pay", under: Span | None = None) -> Iterator[Span]:
        context = set_span_in_context(under) if under else None
        span = self.tracer(service, version).start_span(route, context, SpanKind.SERVER, {"http.route": route})
        try:
            yield span
        except RuntimeError as error:
            span.record_exception(error)
            _failed(span)
        finally:
            span.end()

    def calling(self, service: str, version: str, under: Span, **attributes: str | int) -> Span:
        named = {name.replace("__", "."): value for name, value in attributes.items()}
        return self.tracer(service, version).start_span("call", set_span_in_context(under), SpanKind.CLIENT, named)

    def sent(self) -> ExportTraceServiceRequest:
        spans: tuple[ReadableSpan, ...] = self.exporter.get_finished_spans()
        self.exporter.clear()
        return encode_spans(spans)

    def deliver(self) -> None:
        self.ingest.traces(self.sent())

    def groups(self) -> list[TraceGroup]:
        self.now += HOLD_MS
        return self.shop.traces(0, 2**40 * 1000)


def _failed(span: Span) -> None:
    span.set_status(Status(StatusCode.ERROR))


def breaks() -> None:
    raise RuntimeError("no such item")


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_a_bug_of_its_own_is_found_in_its_own_file(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2"):
        breaks()
    mesh.deliver()
    (group,) = mesh.groups()
    assert (group.through, group.route, group.origin, group.traces) == (("shop@v2",), "/pay", "shop@v2", 1)
    assert group.files == ("/".join(__file__.strip("/").split("/")[-8:]),)


def test_a_request_that_was_served_has_no_origin(mesh: Mesh) -> None:
    for _ in range(3):
        with mesh.serving("shop", "v1"):
            pass
    mesh.deliver()
    assert mesh.groups() == [TraceGroup(through=("shop@v1",), route="/pay", traces=3)]


def test_the_service_that_broke_is_named_and_not_those_that_passed_it_on(mesh: Mesh) -> None:
    with mesh.serving("front", "f1", route="/") as front:
        with mesh.serving("shop", "v2", under=front) as shop:
            call = mesh.calling("shop", "v2", shop, server__address="stock")
            with mesh.serving("stock", "s7", route="/take", under=call):
                breaks()
            _failed(call)
            call.end()
            _failed(shop)
        _failed(front)
    mesh.deliver()
    (group,) = mesh.groups()
    assert group.through == ("front@f1", "shop@v2", "stock@s7")
    assert group.origin == "stock@s7"
    assert group.files == ()  # of stock: another repository's


def test_a_call_that_nobody_answered_points_at_whom_it_called(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2") as shop:
        call = mesh.calling("shop", "v2", shop, peer__service="ledger", server__address="10.0.0.7")
        _failed(call)
        call.end()
        _failed(shop)
    mesh.deliver()
    assert mesh.groups()[0].origin == "ledger@unknown"


def test_a_call_refused_as_the_callers_fault_points_at_the_caller(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2") as shop:
        call = mesh.calling("shop", "v2", shop, server__address="ledger", http__response__status_code=422)
        _failed(call)
        call.end()
        _failed(shop)
    mesh.deliver()
    assert mesh.groups()[0].origin == "shop@v2"


def test_an_error_that_the_service_coped_with_is_no_failure_of_it(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2") as shop:
        call = mesh.calling("shop", "v2", shop, server__address="ledger")
        _failed(call)
        call.end()
    mesh.deliver()
    assert mesh.groups()[0].origin is None


def test_an_inner_span_that_says_nothing_does_not_hide_what_failed_below_it(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2") as shop:
        inner = mesh.tracer("shop", "v2").start_span("price", set_span_in_context(shop), SpanKind.INTERNAL)
        call = mesh.calling("shop", "v2", inner, server__address="ledger")
        _failed(call)
        call.end()
        inner.end()
        _failed(shop)
    mesh.deliver()
    assert mesh.groups()[0].origin == "ledger@unknown"


def test_health_checks_are_no_requests(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2", route="/health"):
        breaks()
    mesh.deliver()
    assert mesh.groups() == []


def test_spans_may_come_in_any_order_and_in_any_number_of_exports(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2") as shop:
        with mesh.serving("stock", "s7", under=shop):
            breaks()
        _failed(shop)
    child, parent = (one for one in mesh.exporter.get_finished_spans())
    mesh.exporter.clear()
    mesh.ingest.traces(encode_spans([parent]))
    mesh.now += HOLD_MS - 1
    assert mesh.shop.traces(0, 2**50) == []
    mesh.ingest.traces(encode_spans([child]))
    assert [group.origin for group in mesh.groups()] == ["stock@s7"]


def test_a_span_that_comes_after_its_trace_was_folded_is_dropped_and_counted(mesh: Mesh) -> None:
    with mesh.serving("shop", "v2"):
        breaks()
    late = mesh.sent()
    mesh.ingest.traces(late)
    assert len(mesh.groups()) == 1
    mesh.ingest.traces(late)
    assert [group.traces for group in mesh.groups()] == [1]
    assert mesh.ingest.assembler.dropped == {otlp_traces.LATE: 1}


def test_a_trace_that_never_ends_is_folded_all_the_same(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_traces, "OLDEST_MS", 3 * HOLD_MS)
    with mesh.serving("shop", "v2") as root:
        pass
    mesh.deliver()
    for _ in range(4):
        mesh.now += HOLD_MS - 1
        with mesh.serving("shop", "v2", under=root):
            pass
        mesh.deliver()
    assert mesh.shop.traces(0, 2**50) != []


def test_memory_is_bounded_and_what_did_not_fit_is_counted(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_traces, "MOST_TRACES", 3)
    monkeypatch.setattr(otlp_traces, "MOST_SPANS", 2)
    monkeypatch.setattr(otlp_groups, "MOST_IN_A_SECOND", 1)
    for _ in range(5):
        with mesh.serving("shop", "v2"):
            pass
    with mesh.serving("shop", "v2") as root:
        for _ in range(4):
            mesh.calling("shop", "v2", root).end()
    mesh.deliver()
    assert sum(group.traces for group in mesh.groups()) <= 3
    assert mesh.ingest.assembler.dropped == {otlp_traces.NO_ROOM: 3, otlp_traces.FULL: 3}


def test_the_oldest_traces_are_forgotten_first(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_groups, "MOST_GROUPS", 2)
    for second in range(4):
        mesh.shop.traced.add(START_MS + second * 1000, otlp_groups.Alike((f"shop@v{second}",), "", None, ()))
    assert [group.through for group in mesh.groups()] == [("shop@v2",), ("shop@v3",)]
    assert mesh.shop.traced.dropped == {otlp_groups.FORGOTTEN: 2}


def test_only_the_time_that_is_asked_for_is_answered(mesh: Mesh) -> None:
    add: Callable[[int, otlp_groups.Alike], None] = mesh.shop.traced.add
    for second in range(3):
        add(START_MS + second * 1000, otlp_groups.Alike((f"shop@v{second}",), "", None, ()))
    found = mesh.shop.traces(START_MS + 1000, START_MS + 2000)
    assert [group.through for group in found] == [("shop@v1",)]


PYTHON = """Traceback (most recent call last):
  File "/srv/app/shop/pricing.py", line 8, in price_cart
    rate = RATES[code]
KeyError: 'CHF'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/tasks.py", line 1, in step
  File "/srv/venv/lib/python3.11/site-packages/starlette/routing.py", line 76, in app
  File "/srv/app/shop/app.py", line 40, in cart_price
  File "/srv/app/shop/pricing.py", line 10, in price_cart
  File "<frozen runpy>", line 1, in run
ValueError: no rate
"""
JAVA = """java.lang.IllegalStateException: no rate
\tat com.acme.shop.CartController.price(CartController.java:40)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.lang.NullPointerException
\tat com.acme.shop.Pricing.total(Pricing.java:12)
\t... 2 more
"""
SCRIPT = """TypeError: Cannot read properties of undefined
    at total (/app/src/pricing.js:12:5)
    at async Layer.handle (/app/node_modules/express/lib/router/layer.js:95:5)
    at file:///app/src/server.mjs:3:1
    at node:internal/process/task_queues:95:5
"""
GO = """goroutine 18 [running]:
runtime.throw()
\t/usr/local/go/src/runtime/panic.go:884 +0x212
github.com/acme/shop/pricing.Total(...)
\t/app/pricing/total.go:42
main.main()
\t/app/main.go:9 +0x1d
"""


@pytest.mark.parametrize(
    ("stack", "root", "files"),
    [
        (PYTHON, "/srv/app", ("shop/pricing.py", "shop/app.py")),
        (PYTHON, "", ("srv/app/shop/pricing.py", "srv/app/shop/app.py")),
        (JAVA, "", ("com/acme/shop/Pricing.java", "com/acme/shop/CartController.java")),
        (SCRIPT, "/app/", ("src/pricing.js", "src/server.mjs")),
        (GO, "/app", ("pricing/total.go", "main.go")),
        ("Something broke.", "", ()),
    ],
)
def test_own_files_are_read_off_a_stack_innermost_first(stack: str, root: str, files: tuple[str, ...]) -> None:
    assert files_on(stack, root) == files
