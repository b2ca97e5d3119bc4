import json
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from shop import currency, rates
from shop.app import create_app
from shop.asking import Other
from shop.telemetry import Instrumented, Telemetry, resource_of
from starlette.testclient import TestClient

TODAY = {"EUR": 10_000, "USD": 20_000, "GBP": 8_560, "CHF": 9_420}


class Rates(Other):
    """Without a network between: `answers` comes back, or is raised."""

    def __init__(self, tracer: Tracer, answers: Any) -> None:
        super().__init__("http://127.0.0.1:1", tracer)
        self.answers = answers
        self.headers: dict[str, str] = {}

    def _ask(self, path: str, headers: dict[str, str], span: Span) -> bytes:
        assert path == "/rates"
        assert span.is_recording()
        self.headers = headers
        if isinstance(self.answers, Exception):
            raise self.answers
        return json.dumps(self.answers).encode()


class Traced:
    """A shop that asks for rates, and its spans."""

    def __init__(self, answers: Any) -> None:
        self.exporter = InMemorySpanExporter()
        spans = (SimpleSpanProcessor(self.exporter),)
        telemetry = Telemetry(resource_of({}), 1.0, (InMemoryMetricReader(),), spans)
        self.rates = Rates(telemetry.tracer, answers)
        self.client = TestClient(Instrumented(create_app(self.rates), telemetry), raise_server_exceptions=False)


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(currency, "RATES", dict(currency.RATES))


def test_shop_prices_at_the_rates_that_it_is_told(cart: dict[str, Any]) -> None:
    answer = Traced(TODAY).client.post("/cart/price", json=cart | {"currency": "USD"})
    assert answer.json()["subtotal"] == 13_360


def test_trace_goes_on_at_the_service_that_is_asked(cart: dict[str, Any]) -> None:
    traced = Traced(TODAY)
    assert traced.client.post("/orders", json=cart).status_code == 201
    client, server = traced.exporter.get_finished_spans()
    assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert client.context is not None
    assert client.parent == server.context
    asked_in = f"00-{client.context.trace_id:032x}-{client.context.span_id:016x}-"
    assert traced.rates.headers["traceparent"].startswith(asked_in)


def test_without_rates_nothing_is_priced_and_the_rest_goes_on(cart: dict[str, Any]) -> None:
    traced = Traced(ConnectionRefusedError("nobody listens"))
    assert traced.client.post("/cart/price", json=cart).status_code == 502
    assert traced.client.get("/products").status_code == 200
    client, server = traced.exporter.get_finished_spans()[:2]
    assert client.attributes is not None
    assert client.attributes["error.type"] == "ConnectionRefusedError"
    assert client.status.status_code is server.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("answers", [None, {}, TODAY | {"USD": 0}, TODAY | {"USD": "1"}])
def test_rates_that_are_none_are_not_learnt(cart: dict[str, Any], answers: object) -> None:
    before = dict(currency.RATES)
    assert Traced(answers).client.post("/cart/price", json=cart).status_code == 502
    assert before == currency.RATES


def test_rates_service_tells_what_the_shop_learns(cart: dict[str, Any]) -> None:
    told = TestClient(rates.create_app()).get("/rates").json()
    assert Traced(told).client.post("/cart/price", json=cart).status_code == 200
