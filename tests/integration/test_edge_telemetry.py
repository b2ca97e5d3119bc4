"""The edge's telemetry as one thing: who may send, what callers saw, probes, and the protocols that it announces."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from edge_kit import SERVICE, WELL, EdgeKit, now_ms, until
from exports_kit import exponential

from controller.adapters.edge_start import ensure_edge, running
from controller.domain.counts import WindowCounts
from controller.domain.ids import Commit
from controller.errors import ConfigError

WIDTH_MS = 1_000


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[EdgeKit]:
    kit = EdgeKit(tmp_path, telemetry="auto", probes=("/", "/other"), probe_rps=20)
    await kit.up()
    yield kit
    await kit.down()


async def shown(kit: EdgeKit, percent: int) -> tuple[Commit, Commit]:
    """A canary beside a confirmed release."""
    old, new = kit.commit(WELL), kit.commit(WELL, {"new": ""})
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.serving()
    if percent:
        await kit.weight(2, percent)
    return old, new


async def windows(kit: EdgeKit, old: Commit, new: Commit, from_ms: int) -> list[WindowCounts]:
    start = from_ms // WIDTH_MS * WIDTH_MS
    return await kit.telemetry.windows(SERVICE, canary=new, baseline=old, from_ms=start, width_ms=WIDTH_MS)


async def test_probes_are_split_like_users_requests_and_end_with_the_canary(kit: EdgeKit) -> None:
    began = now_ms()
    old, new = await shown(kit, 50)

    async def probed() -> bool:
        found = await windows(kit, old, new, began)
        arms = [sum(window.canary.requests for window in found), sum(window.baseline.requests for window in found)]
        return min(arms) >= 5 and sum(window.probes for window in found) >= 10

    await until(probed, "both versions are probed")
    await kit.restore(2)
    ended = (now_ms() // WIDTH_MS + 2) * WIDTH_MS

    async def closed() -> bool:
        return bool(await windows(kit, old, new, ended))

    await until(closed, "a window after the canary's end is closed")
    assert next(window.probes for window in await windows(kit, old, new, ended)) == 0


async def test_users_requests_are_no_probes(kit: EdgeKit) -> None:
    old, new = await shown(kit, 0)
    began = now_ms()
    await kit.ask(10)

    async def counted() -> bool:
        found = await windows(kit, old, new, began)
        return sum(window.baseline.requests for window in found) >= 10 and not any(one.probes for one in found)

    await until(counted, "users are counted")


async def test_proxy_is_the_callers_view_of_a_service_that_is_judged_by_its_own_metrics(kit: EdgeKit) -> None:
    old, new = await shown(kit, 0)
    began = now_ms()
    long_ago = began - 20_000
    told_by_itself = exponential(7, {"http.response.status_code": 200}, version=old, at_ms=long_ago)
    await send(kit, told_by_itself)
    await kit.ask(12)

    async def told() -> bool:
        found = await windows(kit, old, new, began)
        seen = [window.callers.baseline.requests for window in found if window.callers]
        return sum(seen) >= 12

    await until(told, "the proxy's view is told")
    assert kit.telemetry.source == "the service's own OTLP metrics"
    seen = await kit.telemetry.baseline(SERVICE, old, from_ms=began - 60_000, to_ms=now_ms(), width_ms=WIDTH_MS)
    assert seen.callers
    assert seen.windows_asked >= seen.windows_silent >= 1


async def test_caller_that_asks_is_told_which_version_answered(kit: EdgeKit) -> None:
    old, _ = await shown(kit, 0)
    asked = await kit.client.get(kit.url(), headers={"x-flyball-ask-version": "1"})
    assert asked.headers["x-flyball-version"] == old
    assert "x-flyball-version" not in (await kit.client.get(kit.url())).headers


async def send(kit: EdgeKit, export: Any, **headers: str) -> int:
    assert kit.handle is not None
    told = {"content-type": "application/x-protobuf", **(headers or kit.handle.otlp_authorization)}
    answer = await kit.client.post(
        f"{kit.handle.otlp_url}/v1/metrics", content=export.SerializeToString(), headers=told
    )
    return answer.status_code


async def test_only_who_may_read_the_edges_folder_may_send(kit: EdgeKit) -> None:
    assert kit.handle is not None
    export = exponential(1, {}, at_ms=now_ms())
    assert await send(kit, export, authorization=f"Bearer {kit.handle.token}") == 401
    assert await send(kit, export) == 200
    assert (kit.folder / "otlp-token").stat().st_mode & 0o777 == 0o600


async def test_grpc_is_announced_when_it_listens_and_counts_in_the_same_windows(kit: EdgeKit) -> None:
    async def listening() -> str:
        found = await running(kit.folder)
        return found.otlp_grpc if found else ""

    target = await until(listening, "gRPC listens")
    assert kit.handle is not None
    version, at_ms = Commit("a" * 40), now_ms()
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        body = exponential(6, {}, version=version, at_ms=at_ms).SerializeToString()
        await call(body, metadata=tuple(kit.handle.otlp_authorization.items()), timeout=5)
    seen = await kit.telemetry.baseline(SERVICE, version, from_ms=at_ms - 5_000, to_ms=at_ms + 5_000)
    assert seen.requests == 6


async def test_token_of_a_file_is_the_one_that_counts(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path)
    token = tmp_path / "token"
    token.write_text("a-token-of-the-users-own\n")
    kit.config = kit.config.model_copy(update={"otlp_token_file": token})
    await kit.up()
    export = exponential(1, {}, at_ms=now_ms())
    assert await send(kit, export, authorization="Bearer a-token-of-the-users-own") == 200
    assert await send(kit, export, authorization="Bearer another") == 401
    await kit.down()


@pytest.mark.parametrize(("content", "cause"), [("short", "holds no token"), (None, "cannot be read")])
async def test_unusable_token_file_is_named_and_nothing_is_started(
    tmp_path: Path, content: str | None, cause: str
) -> None:
    kit = EdgeKit(tmp_path)
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    kit.config = kit.config.model_copy(update={"otlp_token_file": token})
    with pytest.raises(ConfigError, match=cause):
        await kit.up()
    await kit.down()


async def test_taken_grpc_port_ends_the_edge_with_its_name(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        kit.config = kit.config.model_copy(update={"otlp_grpc_port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match="otlp_grpc_port"):
            await kit.up()
    await kit.down()


async def test_running_edge_takes_other_gauges_and_refuses_another_port(kit: EdgeKit) -> None:
    service = kit.service.model_copy(update={"gauges": ("queue.length",)})
    kit.config = kit.config.model_copy(update={"services": (service,)})
    await kit.up()
    with pytest.raises(ConfigError, match="otlp_grpc_port"):
        await ensure_edge(kit.folder, kit.config.model_copy(update={"otlp_grpc_port": 1}))


async def test_exemplars_are_failed_traces_of_the_canary_slow_ones_behind_and_served_ones_of_the_baseline(
    kit: EdgeKit,
) -> None:
    old, new = Commit("1" * 40), Commit("2" * 40)
    for version, status, trace in ((new, 200, "a"), (new, 500, "b"), (old, 200, "c"), (old, 500, "d")):
        told = exponential(1, {"http.response.status_code": status}, version=version, at_ms=now_ms())
        point = told.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
        point.exemplars.add(as_double=0.5, trace_id=bytes.fromhex(trace * 32))
        await send(kit, told)
    found = await kit.telemetry.exemplars(SERVICE, canary=new, baseline=old)
    assert (found.bad, found.good) == (("b" * 32, "a" * 32), ("c" * 32,))


async def test_what_was_left_out_is_said_by_reason(kit: EdgeKit) -> None:
    assert await kit.telemetry.excluded(SERVICE) == {}
    await send(kit, exponential(1, {}, version=""))
    await send(kit, exponential(1, {}, at_ms=now_ms() + 3_600_000))
    assert await kit.telemetry.excluded(SERVICE) == {
        "metrics without service.version": 1,
        "refused: time in the future": 1,
    }
