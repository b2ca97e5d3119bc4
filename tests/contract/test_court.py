"""What every court keeps, wherever it sits: the same windows give the same verdict, bit for bit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from world_edge import EdgeWorld, edge_world

from controller.adapters.judge_process import JudgeProcess, judge_command
from controller.canary.boundaries import no_boundaries
from controller.canary.court import InProcessCourt, judged, pack
from controller.canary.judge import judge
from controller.domain.events import CanaryReady
from controller.domain.ids import Commit
from controller.domain.verdict import JudgeConfig, Outcome, Phi, PhiSource
from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import FileBlobs
from controller.ports import Court, LookRequest, SealedCounts

OLD, NEW = Commit("1" * 40), Commit("2" * 40)
WIDTH_MS = 1_000
PHI = Phi(milli=2_000, source=PhiSource.PRIOR, instances=1, minutes=0)


@dataclass
class Bench:
    """Two courts on one edge that has counted a service for half a minute."""

    world: EdgeWorld
    blobs: FileBlobs
    own: InProcessCourt
    process: JudgeProcess
    start_ms: int

    async def served(self, version: Commit, second: int, requests: int, errors: int = 0) -> None:
        at_ms = self.start_ms + second * WIDTH_MS + 100
        await self.world.served(version, "i-1", at_ms=at_ms, requests=requests, errors=errors, latency_ms=10.0)

    async def bad_canary(self) -> None:
        """It fails half of its requests from the third second on."""
        for second in range(8):
            await self.served(OLD, second, 400, 1)
            await self.served(NEW, second, 20, 10 if second > 1 else 0)

    def request(self, **changed: object) -> LookRequest:
        asked = LookRequest(
            service=self.world.service,
            canary=NEW,
            baseline=OLD,
            from_ms=self.start_ms,
            width_ms=WIDTH_MS,
            config=JudgeConfig(),
            ready=CanaryReady(release=1, instances=1, boundaries=no_boundaries(), phi=PHI),
            segments=(),
            weight_percent=5,
            step_start_ms=self.start_ms,
        )
        return asked.model_copy(update=changed)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    world, folder = await edge_world(tmp_path), tmp_path / "blobs"
    blobs = FileBlobs(folder)
    telemetry = world.kit.telemetry
    process = JudgeProcess(
        judge_command(world.kit.folder, folder, telemetry.label), blobs, telemetry.label, within_s=10.0
    )
    start_ms = (world.now_ms() - 30_000) // WIDTH_MS * WIDTH_MS
    yield Bench(world, blobs, InProcessCourt(telemetry, blobs), process, start_ms)
    await process.close()
    await world.close()


@pytest.fixture(params=["own", "process"])
def court(request: pytest.FixtureRequest, bench: Bench) -> Court:
    found: Court = getattr(bench, request.param)
    return found


async def test_courts_say_the_same_of_the_same_canary_bit_for_bit(bench: Bench) -> None:
    await bench.bad_canary()
    here, there = await bench.own.look(bench.request()), await bench.process.look(bench.request())
    assert here.verdict.outcome is Outcome.ROLL_BACK
    assert here.model_dump_json() == there.model_dump_json()


async def test_verdict_is_that_of_the_windows_that_are_handed_out(bench: Bench, court: Court) -> None:
    await bench.served(OLD, 0, 400, 1)
    await bench.served(NEW, 1, 20)
    seen = await court.look(bench.request())
    assert [window.canary.requests for window in seen.windows[:3]] == [0, 20, 0]
    assert len(seen.windows) > 20
    apart = judge(JudgeConfig(), seen.windows, PHI, no_boundaries(), weight_percent=5, step_start_ms=bench.start_ms)
    assert seen.verdict == apart
    assert (seen.label, seen.source) == (bench.world.telemetry.label, "the service's own OTLP metrics")
    assert seen.excluded == await bench.world.telemetry.excluded(bench.world.service)


async def test_sealed_segments_count_as_they_were_seen_then(bench: Bench, court: Court) -> None:
    await bench.bad_canary()
    whole = await bench.own.look(bench.request())
    first, rest = whole.windows[:2], whole.windows[2:]
    counts = await bench.blobs.put(pack(first))
    sealed = SealedCounts(counts=counts, weight_percent=5, step_start_ms=bench.start_ms)
    later = bench.request(from_ms=bench.start_ms + 2 * WIDTH_MS, segments=(sealed,))
    seen = await court.look(later)
    assert (seen.windows, seen.verdict) == (rest, whole.verdict)
    assert await judged(later, rest, bench.blobs) == (rest, whole.verdict)


async def test_nothing_is_handed_out_after_the_crossing_which_is_final(bench: Bench, court: Court) -> None:
    await bench.bad_canary()
    seen = await court.look(bench.request())
    assert seen.verdict.first_crossing_window == len(seen.windows) - 1
    sealed = SealedCounts(
        counts=await bench.blobs.put(pack(seen.windows)), weight_percent=5, step_start_ms=bench.start_ms
    )
    again = await court.look(bench.request(from_ms=seen.windows[-1].end_ms, segments=(sealed,)))
    assert (again.windows, again.verdict) == ((), seen.verdict)


async def test_segment_that_was_altered_is_not_judged(bench: Bench, court: Court) -> None:
    counts = await bench.blobs.put(pack([]))
    bench.blobs.path_of(counts).write_text('{"windows": [ ]}')
    sealed = SealedCounts(counts=counts, weight_percent=5, step_start_ms=0)
    with pytest.raises(Permanent, match="has been altered"):
        await court.look(bench.request(segments=(sealed,)))


async def test_segment_that_is_gone_is_named(bench: Bench, court: Court) -> None:
    sealed = SealedCounts.model_validate({"counts": "sha256:" + "0" * 64, "weight_percent": 5, "step_start_ms": 0})
    with pytest.raises(Permanent, match="blob sha256:000"):
        await court.look(bench.request(segments=(sealed,)))


async def test_counts_that_are_no_longer_kept_are_not_guessed(bench: Bench, court: Court) -> None:
    with pytest.raises(Permanent, match="counts are kept for"):
        await court.look(bench.request(from_ms=0))


async def test_dead_telemetry_is_unavailable_and_nothing_is_said(bench: Bench, court: Court) -> None:
    await bench.world.kit.kill()
    with pytest.raises(Unavailable, match="edge"):
        await court.look(bench.request())
