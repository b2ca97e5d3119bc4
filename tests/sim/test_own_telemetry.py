"""A simulated world that tells about itself, over real HTTP, to a receiver that may be slow, deaf or gone."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from otlp_kit import Backend, listening, plain
from scenarios import BAD, GOOD, MENDED, begun, one_by_one
from simulated import ASKER, OWNER, Simulation

from controller.adapters.otel_export import OtlpReceiver
from controller.domain import events as e
from controller.domain.ids import DeliveryId
from controller.errors import ConfigError
from controller.metrics import conventions as c
from controller.metrics.trace_ids import trace_of
from controller.metrics.traces import spans_of
from controller.ports.telling import NO_SPAN, Sent, SpanLink
from controller.service import telling as service
from controller.service.telling import Telling
from controller.service.telling_beside import MEMORY, resource_of, target_of, telling
from controller.settings import TelemetrySection

ORIGIN = "flyball/here"
WITHIN_S = 0.5


async def world() -> Simulation:
    """Somebody's good task, and one that had to be rolled back, reverted and fixed."""
    made = begun(1)
    made.start("w1")
    await one_by_one(made, GOOD, BAD)
    return made


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulation]:
    """At rest: nobody works in it any more."""
    made = asyncio.run(world())
    yield made
    made.close()


@pytest.fixture
async def living() -> AsyncIterator[Simulation]:
    made = await world()
    yield made
    made.close()


@asynccontextmanager
async def teller(sim: Simulation, address: str, memory: Path, owner: str = "w1") -> AsyncIterator[Telling]:
    receiver = OtlpReceiver(
        address,
        headers={},
        timeout_s=WITHIN_S,
        resource=resource_of(ORIGIN),
        scope=(c.SCOPE, "1", c.SCHEMA_URL),
    )
    found = Telling(
        log=sim.log,
        clock=sim.world.clock,
        receiver=receiver,
        origin=ORIGIN,
        memory=memory / MEMORY,
        lease=sim.shared.lease,
        owner=owner,
        every_s=0.05,
    )
    try:
        yield found
    finally:
        await found.leave()


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


async def test_a_whole_world_arrives_as_it_was_folded(sim: Simulation, tmp_path: Path) -> None:
    async with listening(Backend()) as backend, teller(sim, backend.address, tmp_path) as telling:
        await telling.look()
    expected = spans_of(await sim.entries(), ORIGIN)
    assert Counter(backend.ids) == Counter(span.span_id for span in expected)
    roots = [span for span in backend.spans if not span.parent_span_id]
    assert {span.trace_id.hex() for span in roots} == {trace_of(ORIGIN, one) for one in await sim.deliveries()}
    by_id = {span.span_id.hex(): span for span in backend.spans}
    for span in expected:
        told = by_id[span.span_id]
        assert told.name == span.name
        assert told.end_time_unix_nano == round(span.end.timestamp() * 10**6) * 1_000
        assert plain(told.attributes) == dict(span.attributes)
        assert len(told.events) == len(span.events)
    assert all(one["service.name"] == "flyball" and one["service.instance.id"] for one in backend.resources)


async def test_figures_arrive_cumulative_since_the_logs_first_entry(sim: Simulation, tmp_path: Path) -> None:
    async with listening(Backend()) as backend, teller(sim, backend.address, tmp_path) as telling:
        await telling.look()
    entries = await sim.entries()
    observed = [x for x in entries if isinstance(x.event, e.Observed)]
    verdicts = backend.metrics["flyball.verdicts"].sum
    assert verdicts.is_monotonic
    assert sum(point.as_int for point in verdicts.data_points) == len(observed)
    assert {point.start_time_unix_nano for point in verdicts.data_points} == {
        round(entries[0].time.timestamp() * 10**6) * 1_000
    }
    detect = backend.metrics["flyball.rollout.time_to_detect"].histogram.data_points[0]
    assert (detect.count, sum(detect.bucket_counts), len(detect.bucket_counts)) == (
        1,
        1,
        len(detect.explicit_bounds) + 1,
    )
    assert {"cicd.pipeline.run.duration", "cicd.pipeline.run.active", "vcs.change.count"} <= set(backend.metrics)


async def test_a_link_to_a_whole_trace_has_no_span_id_and_says_what_it_is(sim: Simulation, tmp_path: Path) -> None:
    span = next(one for one in spans_of(await sim.entries(), ORIGIN) if one.name == "restore")
    linked = replace(span, links=(SpanLink("ab" * 16, NO_SPAN, {c.LINK: "exemplar.bad"}),))
    async with listening(Backend()) as backend, teller(sim, backend.address, tmp_path) as telling:
        assert await telling._receiver.take_spans([linked]) is Sent.TAKEN
    ((link,),) = [one.links for one in backend.spans]
    assert (link.trace_id.hex(), link.span_id, plain(link.attributes)) == (
        "ab" * 16,
        bytes(8),
        {c.LINK: "exemplar.bad"},
    )


async def test_nothing_sealed_no_name_of_a_person_and_no_path_leaves(sim: Simulation, tmp_path: Path) -> None:
    async with listening(Backend()) as backend, teller(sim, backend.address, tmp_path) as telling:
        await telling.look()
    sent = b"\n".join(backend.bodies)
    assert len(sent) > 10_000
    for secret in (GOOD, BAD, ASKER, OWNER, "discount.py", "list.py", "FAILS", "prices = []"):
        assert secret.encode() not in sent, secret
    sealed = {told for entry in await sim.entries() for told in _sealed(json.loads(entry.leaf)["body"])}
    assert len(sealed) > 20
    for one in sealed:
        assert one.encode() not in sent
    for words in [
        await sim.seals.open(one.event.task) for one in await sim.entries() if isinstance(one.event, e.TaskRequested)
    ]:
        assert words.encode() not in sent


def _sealed(value: object) -> list[str]:
    """Digests and keys of everything sealed in an entry's body."""
    if isinstance(value, list):
        return [found for one in value for found in _sealed(one)]
    if not isinstance(value, dict):
        return []
    own = [value["digest"]] if {"key_id", "digest", "size"} <= value.keys() else []
    return own + [found for one in value.values() for found in _sealed(one)]


async def test_a_dead_receiver_costs_no_span_and_is_told_of_once(
    sim: Simulation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = closed_port()
    caplog.set_level(logging.INFO)
    async with teller(sim, f"http://127.0.0.1:{port}", tmp_path) as telling:
        for _ in range(3):
            await telling.look()
        warned = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
        assert len(warned) == 1
        assert f"http://127.0.0.1:{port}" in warned[0]
        assert telling.waiting == len(spans_of(await sim.entries(), ORIGIN))
        async with listening(Backend(), port) as backend:
            await telling.look()
        assert telling.waiting == 0
    assert Counter(backend.ids) == Counter(span.span_id for span in spans_of(await sim.entries(), ORIGIN))
    assert "own telemetry is taken again (silence)" in caplog.messages


async def test_while_nobody_answers_no_more_is_read_than_may_wait(
    sim: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 10)
    port = closed_port()
    async with teller(sim, f"http://127.0.0.1:{port}", tmp_path) as telling:
        for _ in range(3):
            await telling.look()
        assert 10 <= telling.waiting < 20
        async with listening(Backend(), port) as backend:
            await telling.look()
    assert Counter(backend.ids) == Counter(span.span_id for span in spans_of(await sim.entries(), ORIGIN))


async def test_what_is_refused_for_good_is_dropped_counted_and_told_of_once(
    sim: Simulation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(Backend(refuses=400)) as backend, teller(sim, backend.address, tmp_path) as telling:
        await telling.look()
        await telling.look()
        assert telling.refused == len(spans_of(await sim.entries(), ORIGIN))
        assert telling.waiting == 0
        assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 2  # spans, points
        backend.refuses = None
        await telling.look()
    assert backend.spans == []
    (point,) = backend.metrics["flyball.telemetry.refused"].sum.data_points
    assert point.as_int == telling.refused


async def test_a_restart_tells_nothing_twice_and_a_lost_memory_the_same_ids_again(
    sim: Simulation, tmp_path: Path
) -> None:
    async with listening(Backend()) as backend:
        async with teller(sim, backend.address, tmp_path) as telling:
            await telling.look()
        first = list(backend.ids)
        async with teller(sim, backend.address, tmp_path) as telling:
            await telling.look()
        assert backend.ids == first
        (tmp_path / MEMORY).unlink()
        async with teller(sim, backend.address, tmp_path) as telling:
            await telling.look()
        assert backend.ids == first * 2


async def test_a_controller_killed_between_two_looks_leaves_its_successor_the_rest(
    living: Simulation, tmp_path: Path
) -> None:
    async with listening(Backend()) as backend:
        async with teller(living, backend.address, tmp_path) as telling:
            await telling.look()
        await one_by_one(living, MENDED)
        (tmp_path / MEMORY).write_text("{ half a file")  # and its memory with it
        async with teller(living, backend.address, tmp_path, owner="w2") as telling:
            await telling.look()
    expected = {span.span_id for span in spans_of(await living.entries(), ORIGIN)}
    assert set(backend.ids) == expected


async def test_of_two_controllers_on_one_log_one_tells(sim: Simulation, tmp_path: Path) -> None:
    async with (
        listening(Backend()) as backend,
        teller(sim, backend.address, tmp_path / "a", "w1") as one,
        teller(sim, backend.address, tmp_path / "b", "w2") as other,
    ):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        await one.look()
        await other.look()
        assert Counter(backend.ids).most_common(1)[0][1] == 1
        await one.leave()
        await other.look()
        assert set(Counter(backend.ids).values()) == {2}, "whoever takes over has a memory of its own, and the same ids"


async def test_a_receiver_that_hangs_holds_up_neither_the_loop_nor_the_end(sim: Simulation, tmp_path: Path) -> None:
    turns = 0

    async def busy() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    other = asyncio.create_task(busy())
    async with listening(Backend(hangs=True)) as backend, teller(sim, backend.address, tmp_path) as telling:
        await asyncio.wait_for(telling.look(), 10 * WITHIN_S)
        assert telling.waiting > 0
    assert turns > 10
    other.cancel()


async def test_a_run_that_ends_at_once_is_told_before_it_is_over(living: Simulation, tmp_path: Path) -> None:
    async with listening(Backend()) as backend:
        section = TelemetrySection(endpoint=backend.address, interval_seconds=3_600)
        beside = telling(
            section, tmp_path, ORIGIN, log=living.log, clock=living.world.clock, lease=living.shared.lease, owner="w1"
        )
        async with beside:
            await one_by_one(living, MENDED)
    assert set(backend.ids) == {span.span_id for span in spans_of(await living.entries(), ORIGIN)}


async def test_a_log_without_a_name_is_called_as_its_checkpoints_are(sim: Simulation, tmp_path: Path) -> None:
    async with listening(Backend()) as backend:
        section = TelemetrySection(endpoint=backend.address)
        beside = telling(section, tmp_path, "", log=sim.log, clock=sim.world.clock, lease=sim.shared.lease, owner="w1")
        async with beside:
            pass
    kept = json.loads((tmp_path / MEMORY).read_text())
    first = next(iter(await sim.deliveries()))
    assert kept["origin"].startswith("flyball/")
    assert trace_of(kept["origin"], DeliveryId(first)) in {span.trace_id.hex() for span in backend.spans}


async def test_headers_come_from_the_named_variable_and_stand_in_no_file(
    sim: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_HEADERS", "authorization=Bearer%20s3cret,x-tenant=shop")
    async with listening(Backend()) as backend:
        section = TelemetrySection(endpoint=backend.address, headers_env="OUR_HEADERS")
        beside = telling(
            section, tmp_path, ORIGIN, log=sim.log, clock=sim.world.clock, lease=sim.shared.lease, owner="w1"
        )
        async with beside:
            pass
    assert {(one["authorization"], one["x-tenant"]) for one in backend.headers} == {("Bearer s3cret", "shop")}
    assert "s3cret" not in (tmp_path / MEMORY).read_text()


def test_it_is_off_unless_somebody_names_an_address() -> None:
    off = TelemetrySection()
    assert target_of(off, {}) is None
    found = target_of(off, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert found is not None
    assert found.endpoint == "http://127.0.0.1:4318"
    assert target_of(TelemetrySection(endpoint="http://there:4318"), {"OTEL_SDK_DISABLED": "true"}) is None


@pytest.mark.parametrize(
    ("section", "env", "named"),
    [
        (TelemetrySection(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (TelemetrySection(endpoint="http://there", headers_env="OURS"), {}, "telemetry.headers_env"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(section: TelemetrySection, env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        target_of(section, env)
