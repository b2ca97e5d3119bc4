"""The example shop with a real bug in it: its own spans, its own stacks, and whose change it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_traces import HOLD_MS, Assembler
from controller.canary.blame import Scene, Suspected, blame
from controller.canary.evidence import Arms
from controller.canary.rivals import rivals
from controller.domain.blame import Share
from controller.domain.counts import TraceGroup
from controller.domain.ids import DeliveryId
from controller.domain.risk import Colour
from controller.domain.verdict import JudgeConfig

SHOP = Path(__file__).parents[2] / "examples" / "shop"
CONFIG = JudgeConfig()
SEND = """
import logging, sys
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from shop.app import create_app
from shop.telemetry import Instrumented, Telemetry, resource_of
from starlette.testclient import TestClient

logging.disable()
exporter = InMemorySpanExporter()
telemetry = Telemetry(resource_of({"SERVICE_VERSION": sys.argv[1]}), 1.0, (), (SimpleSpanProcessor(exporter),))
customer = {"id": "c", "tier": "standard"}
cart = {"currency": "EUR", "lines": [{"product": "espresso-cup", "quantity": 1}], "customer": customer}
with TestClient(Instrumented(create_app(), telemetry), raise_server_exceptions=False) as client:
    for _ in range(int(sys.argv[2])):
        client.get("/products")
        client.post("/cart/price", json=cart)
sys.stdout.buffer.write(encode_spans(exporter.get_finished_spans()).SerializeToString())
"""


def spans(tree: Path, version: str, carts: int) -> ExportTraceServiceRequest:
    """What the shop of that tree sends while it serves so many carts and lists of products."""
    done = subprocess.run(
        [sys.executable, "-c", SEND, version, str(carts)], cwd=tree, check=True, capture_output=True, timeout=60
    )
    sent: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(done.stdout)
    return sent


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[TraceGroup]:
    """Traces of the shop and of one whose shipping is broken, side by side."""
    broken = tmp_path_factory.mktemp("canary") / "shop"
    shutil.copytree(SHOP, broken)
    pricing = broken / "shop" / "pricing.py"
    text = pricing.read_text()
    assert text.count("return 0 if subtotal_cents") == 1
    pricing.write_text(text.replace("return 0 if subtotal_cents", "return {}[subtotal_cents] if subtotal_cents"))
    pricing.write_text(pricing.read_text().replace(">= FREE_SHIPPING_FROM_CENTS", "< FREE_SHIPPING_FROM_CENTS"))
    counts, now = ServiceCounts("/health"), [0]
    assembler = Assembler({"shop": counts}.get, lambda: now[0])
    assembler.take(spans(SHOP, "old", 60))
    assembler.take(spans(broken, "new", 20))
    now[0] += HOLD_MS
    return counts.traces(0, 2**50)


def found_among(seen: list[TraceGroup], *files: str) -> tuple[Share, str]:
    """The share, and who comes first; each change touches one file and is called after it."""
    changes = [Suspected(DeliveryId(file), (file,), 10, Colour.GREEN, 0) for file in files]
    scene = Scene(Arms("shop@new", "shop@old"), seen, 2_000, 1)
    found = blame(changes, scene, rivals(None, scene, CONFIG), CONFIG)
    return found.share, found.candidates[0].delivery


def test_the_stack_of_a_real_bug_names_its_file_first_and_no_library(seen: list[TraceGroup]) -> None:
    (broken,) = [group for group in seen if group.origin is not None]
    assert (broken.through, broken.route, broken.origin, broken.traces) == (
        ("shop@new",),
        "/cart/price",
        "shop@new",
        20,
    )
    assert [file.rpartition("/shop/")[2] for file in broken.files] == ["pricing.py", "app.py", "telemetry.py"]
    assert sum(group.traces for group in seen) == 160


def test_whoever_changed_that_file_is_blamed(seen: list[TraceGroup]) -> None:
    changed = ("shop/orders.py", "shop/pricing.py", "shop/catalog.py")
    assert found_among(seen, *changed) == (Share.CLEAR, "shop/pricing.py")


def test_whoever_changed_what_stands_on_every_stack_keeps_it_from_being_clear(seen: list[TraceGroup]) -> None:
    assert found_among(seen, "shop/app.py", "shop/pricing.py") == (Share.SPLIT, "shop/pricing.py")
