"""The edge as a process of its own, and what happens to users when something goes wrong around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from edge_kit import (
    CRASHING,
    ENVIRONMENT,
    FAILING,
    FIXTURES,
    PYTHON,
    SERVICE,
    WELL,
    EdgeKit,
    now_ms,
    reaped,
    until,
)

from controller.adapters.edge_client import EdgeLink, EdgePlatform
from controller.adapters.edge_config import EdgeConfig
from controller.adapters.edge_start import ensure_edge
from controller.adapters.sandbox_enter import children_of
from controller.domain.ids import EffectKey
from controller.domain.verbs import SetWeight
from controller.errors import ConfigError, Permanent

RENEWER = """
import asyncio, sys, time
from pathlib import Path
from controller.adapters.edge_client import EdgeLink, EdgePlatform
from controller.domain.verbs import SetWeight

async def renew(folder):
    platform = EdgePlatform(EdgeLink(Path(folder), None))
    for number in range(10_000):
        until_ms = time.time_ns() // 1_000_000 + 1_500
        verb = SetWeight(service="shop", environment="production", release=2, weight_percent=25, until_ms=until_ms)
        await platform.act(f"renewal/{number}", verb)
        await asyncio.sleep(0.2)

asyncio.run(renew(sys.argv[1]))
"""


def renewer(folder: Path) -> subprocess.Popen[bytes]:
    """A controller of its own that shows a canary to users, and renews its weight until it is killed."""
    command = [PYTHON, "-c", RENEWER, str(folder)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())})


async def none_runs(pids: set[int]) -> bool:
    """All have ended. Whoever adopts orphans may leave them in the table for a moment, as zombies."""
    stats = [Path(f"/proc/{pid}/stat") for pid in pids]
    return all(not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX" for stat in stats)


def descendants(pid: int) -> set[int]:
    """Empty where the system has no list of children."""
    below = set(children_of(pid))
    return below.union(*(descendants(child) for child in below))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[EdgeKit]:
    kit = EdgeKit(tmp_path)
    await kit.up()
    yield kit
    await kit.down()


async def test_killed_controller_lets_traffic_return_within_the_deadline(kit: EdgeKit) -> None:
    old, new = kit.commit(WELL), kit.commit(WELL, {"new": ""})
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    renewing = renewer(kit.folder)

    async def shown() -> bool:
        return (await kit.status()).weight_percent == 25

    await until(shown, "the controller shows the canary to users")
    assert new in await kit.ask(60)
    renewing.send_signal(signal.SIGKILL)
    await asyncio.to_thread(renewing.wait, 10)
    killed_ms = now_ms()

    async def lapsed() -> bool:
        return (await kit.status()).lapsed_release == 2

    await until(lapsed, "the weight lapses", within_s=4)
    status = await kit.status()
    assert (status.weight_percent, status.canary_release, status.weight_until) == (0, 2, None)
    assert await kit.ask(40) == {old: 40}
    last = (await kit.platform.details(SERVICE, ENVIRONMENT))["changes"][-1]
    assert last["cause"] == "lapsed"
    assert last["at_ms"] <= killed_ms + 1_500


async def test_killed_edge_comes_back_with_the_confirmed_release_and_without_the_canary(kit: EdgeKit) -> None:
    old, new = kit.commit(WELL), kit.commit(WELL, {"new": ""})
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.weight(2, 50)
    assert kit.handle is not None
    below = descendants(kit.handle.pid)
    lives = {(await kit.client.get(kit.url())).json()["life"] for _ in range(40)}
    await kit.kill()
    await kit.up()
    await kit.serving()
    status = await kit.status()
    assert (status.confirmed_release, status.confirmed_commit) == (1, old)
    assert (status.canary_release, status.lapsed_release, status.weight_percent) == (None, 2, 0)
    assert await kit.ask(20) == {old: 20}
    if sys.platform == "linux":
        assert len(lives) == 2
        assert len(below) > 2
        await until(lambda: none_runs(below), "the instances end with their edge")


async def test_client_starts_a_dead_edge_again(kit: EdgeKit) -> None:
    await kit.release(1, kit.commit(WELL))
    await kit.kill()
    reviving = EdgePlatform(link := EdgeLink(kit.folder, kit.config))
    assert (await reviving.status(SERVICE, ENVIRONMENT)).confirmed_release == 1
    await link.close()
    await kit.up()


async def test_crashed_canary_gets_errors_and_its_users_an_answer(kit: EdgeKit) -> None:
    old, new = kit.commit(WELL), kit.commit(WELL, {"new": ""})
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.weight(2, 50)
    since = now_ms() // 1000 * 1000 - 1000
    crashed = False
    while not crashed:
        crashed = (await kit.client.get(kit.url("/crash"))).status_code == 502

        async def down() -> bool:
            return "exit code 3" in (await kit.status()).canary_reason

        crashed = crashed and await _soon(down)
        await kit.serving()
    assert await kit.ask(40) == {old: 40}
    assert (await kit.platform.details(SERVICE, ENVIRONMENT))["proxy"]["second-chance"] > 5

    async def counted() -> bool:
        windows = await kit.telemetry.windows(SERVICE, canary=new, baseline=old, from_ms=since, width_ms=1000)
        return sum(window.canary.errors for window in windows) > 5

    await until(counted, "the canary's errors are in closed windows")
    assert kit.telemetry.source == "the proxy's status codes and latencies"
    with pytest.raises(Permanent, match="not healthy"):
        await kit.weight(2, 50)


async def _soon(look: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return bool(await until(look, "", within_s=2))
    except AssertionError:
        return False


async def test_crashed_confirmed_instance_is_started_again(kit: EdgeKit) -> None:
    await kit.release(1, kit.commit(WELL))
    before = (await kit.client.get(kit.url())).json()["life"]
    assert (await kit.client.get(kit.url("/crash"))).headers["x-flyball-edge"] in {"closed", "refused"}

    async def again() -> bool:
        answer = await kit.client.get(kit.url())
        return answer.status_code == 200 and answer.json()["life"] != before

    await until(again, "another process answers")


async def test_instance_that_ends_at_once_says_why(kit: EdgeKit) -> None:
    await kit.start(1, kit.commit(CRASHING))

    async def told() -> bool:
        return "exit code 7" in (await kit.status()).canary_reason

    await until(told, "the exit code is told")


async def test_confirming_under_load_drops_no_request(kit: EdgeKit) -> None:
    old, new = kit.commit(WELL), kit.commit(WELL, {"new": ""})
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.weight(2, 50)
    asking = [asyncio.create_task(kit.ask(60)) for _ in range(4)]
    await kit.confirm(2)
    seen: Counter[str] = sum(await asyncio.gather(*asking), Counter())
    assert set(seen) <= {old, new}
    assert seen.total() == 240
    assert await kit.ask(20) == {new: 20}


async def test_restoring_says_since_when_and_that_the_confirmed_release_is_well(kit: EdgeKit) -> None:
    old, new = kit.commit(WELL), kit.commit(FAILING)
    await kit.release(1, old)
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.weight(2, 50)
    asked_ms = now_ms()
    restored = await kit.restore(2)
    assert asked_ms <= restored.at_ms <= now_ms()
    assert restored.health_checks == 3
    assert (await kit.status()).canary_release is None
    assert await kit.ask(20) == {old: 20}


async def test_failed_first_release_makes_room_for_the_next(kit: EdgeKit) -> None:
    await kit.start(1, kit.commit(CRASHING))

    async def down() -> bool:
        return bool((await kit.status()).canary_reason)

    await until(down, "the first release is down")
    await kit.release(2, kit.commit(WELL))
    assert (await kit.status()).confirmed_release == 2


async def test_same_key_with_another_intent_is_refused(kit: EdgeKit) -> None:
    await kit.release(1, kit.commit(WELL))
    await kit.start(2, kit.commit(WELL, {"new": ""}))
    await kit.healthy(2)
    until_ms = now_ms() + 60_000
    few = SetWeight(service=SERVICE, environment=ENVIRONMENT, release=2, until_ms=until_ms, weight_percent=5)
    await kit.platform.act(EffectKey("one"), few)
    with pytest.raises(Permanent, match="another intent"):
        await kit.platform.act(EffectKey("one"), few.model_copy(update={"weight_percent": 50}))
    assert (await kit.status()).weight_percent == 5


async def test_keys_survive_a_restart_of_the_edge(kit: EdgeKit) -> None:
    commit = kit.commit(WELL)
    await kit.release(1, commit)
    keys = [EffectKey(f"confirm/{kit.keys}")]
    verb = SetWeight(service=SERVICE, environment=ENVIRONMENT, release=9, weight_percent=1, until_ms=1)
    assert await kit.platform.find(EffectKey("never"), verb) is None
    await kit.kill()
    await kit.up()
    stored = json.loads((kit.folder / "state.json").read_text())["done"]
    assert set(keys) <= set(stored)


async def test_stranger_without_the_token_is_turned_away(kit: EdgeKit) -> None:
    handle = await kit.up()
    answer = await kit.client.post(f"{handle.admin_url}/shutdown", headers={"authorization": "Bearer guess"})
    assert answer.status_code == 401
    assert (kit.folder / "token").stat().st_mode & 0o777 == 0o600
    assert (await kit.client.get(f"{handle.admin_url}/health", headers=handle.authorization)).status_code == 200


async def test_second_starter_finds_the_first_ones_edge(kit: EdgeKit) -> None:
    first = await kit.up()
    again = await asyncio.gather(*(ensure_edge(kit.folder, kit.config) for _ in range(3)))
    assert {handle.pid for handle in again} == {first.pid}


async def test_running_edge_takes_over_what_the_next_instance_reads_and_no_more(kit: EdgeKit) -> None:
    slower = kit.service.model_copy(update={"ready_seconds": 30.0})
    await ensure_edge(kit.folder, kit.config.model_copy(update={"services": (slower,)}))
    moved = kit.service.model_copy(update={"port": 1})
    with pytest.raises(ConfigError, match="port: 0 -> 1"):
        await ensure_edge(kit.folder, kit.config.model_copy(update={"services": (moved,)}))


async def test_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        kit = EdgeKit(tmp_path, port=port)
        with pytest.raises(ConfigError, match=rf"services, shop, port: port {port}"):
            await kit.up()
    await kit.down()


async def test_forgotten_edge_ends_by_itself(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path)
    kit.config = EdgeConfig(services=kit.config.services, orphan_seconds=0.5)
    handle = await kit.up()
    assert await reaped(handle.pid) == 0
    assert not (kit.folder / "ports.json").exists()
    await kit.down()


async def test_services_own_metrics_are_preferred_once_the_confirmed_version_sends_them(tmp_path: Path) -> None:
    kit = EdgeKit(tmp_path, start=("{python}", "told_service.py"))
    kit.config = EdgeConfig(services=kit.config.services, hold_ms=5_000)  # a busy machine may be late
    await kit.up()
    script = (FIXTURES / "told_service.py").read_text()
    old = kit.commit(WELL, {"told_service.py": script, "status": "200"})
    new = kit.commit(WELL, {"told_service.py": script, "status": "500"})
    await kit.release(1, old)

    async def sent() -> bool:
        await kit.client.get(kit.url())
        now = now_ms()
        seen = await kit.telemetry.baseline(SERVICE, old, from_ms=now - 60_000, to_ms=now + 1_000)
        return kit.telemetry.source == "the service's own OTLP metrics" and seen.requests > 0

    await until(sent, "the confirmed version's metrics arrive")
    await kit.start(2, new)
    await kit.healthy(2)
    await kit.weight(2, 50)
    since = now_ms() // 1000 * 1000
    failed = [(await kit.client.get(kit.url())).status_code for _ in range(40)].count(500)
    assert failed > 5

    async def both() -> bool:
        windows = await kit.telemetry.windows(SERVICE, canary=new, baseline=old, from_ms=since, width_ms=1000)
        canary, baseline = (sum(getattr(w, arm).requests for w in windows) for arm in ("canary", "baseline"))
        assert sum(w.canary.errors for w in windows) == canary <= failed
        assert sum(w.baseline.errors for w in windows) == 0
        assert sum(w.canary.latency.total for w in windows) == canary
        return bool(canary == failed and baseline >= 40 - failed)

    await until(both, "all requests are in closed windows, health checks are not")
    assert await kit.telemetry.first_failure_ms(SERVICE, old) is None
    assert (await kit.telemetry.first_failure_ms(SERVICE, new) or 0) >= since
    await kit.down()
