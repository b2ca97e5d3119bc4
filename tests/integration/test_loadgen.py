"""The load generator against real sockets: a small HTTP server with memory, in this process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.loadgen import LoadGenerator, LoadPlan, main, target_of
from controller.adapters.loadgen_traffic import Method, Profile, RequestTemplate, arrivals, load_profile
from controller.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHOP_TRAFFIC = ROOT / "examples" / "shop_tasks" / "traffic.yaml"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def profile_of(*paths: str) -> Profile:
    return Profile(traffic=tuple(RequestTemplate(name=path, method=Method.GET, path=path, weight=1) for path in paths))


class Site:
    """Answers by path, and remembers requests and connections."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.heads: list[bytes] = []
        self.connections = 0
        self.open_for_answers = asyncio.Event()
        self.open_for_answers.set()
        self.asked_20_times = asyncio.Event()
        self.hangs_up = False  # after every answer, without saying so

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if len(self.heads) == 20:
                    self.asked_20_times.set()
                await self.open_for_answers.wait()
                writer.write(self.answers[head.split(b" ")[1].decode()])
                if self.hangs_up:
                    break
        except asyncio.IncompleteReadError:
            pass  # the client left
        finally:
            writer.close()


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[str]:
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def plan_for(url: str, profile: Profile, **changes: Any) -> LoadPlan:
    bounds: dict[str, Any] = {"rps": 1_000, "seconds": 10, "max_requests": 50, "seed": 7, **changes}
    return LoadPlan(target=target_of(url), profile=profile, **bounds)


async def run(plan: LoadPlan, tmp_path: Path) -> dict[str, Any]:
    await LoadGenerator(plan).run(tmp_path / "stats.json")
    stats: dict[str, Any] = json.loads((tmp_path / "stats.json").read_text())
    return stats


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_same_seed_gives_the_same_requests_and_another_seed_others() -> None:
    profile = load_profile(SHOP_TRAFFIC)
    first, again, other = (list(islice(arrivals(profile, 200, seed, 0.1), 300)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_arrivals_keep_the_rate_the_weights_and_the_share_of_traces() -> None:
    profile = load_profile(SHOP_TRAFFIC)
    sent = list(islice(arrivals(profile, 200, 7, 0.1), 20_000))
    assert sent[-1].due_s == pytest.approx(100, rel=0.03)
    shares = Counter(arrival.name for arrival in sent)
    assert shares["price a cart"] / len(sent) == pytest.approx(0.25, abs=0.015)
    assert sum(arrival.traceparent.endswith("-01") for arrival in sent) / len(sent) == pytest.approx(0.1, abs=0.01)


def test_every_body_of_the_shop_traffic_is_json_without_placeholders() -> None:
    for arrival in islice(arrivals(load_profile(SHOP_TRAFFIC), 200, 7, 0.1), 2_000):
        assert "$" not in arrival.path + arrival.body.decode()
        assert not arrival.body or json.loads(arrival.body)["lines"]


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "http://[2001:db8::1]:80", "http://0.0.0.0:80"])
def test_target_beyond_this_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"not this machine.*Load is only ever sent to loopback"):
        target_of(url)


@pytest.mark.parametrize("url", ["https://127.0.0.1:80", "127.0.0.1:80", "http://127.0.0.1:80/path"])
def test_url_that_is_more_or_less_than_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not http://HOST:PORT"):
        target_of(url)


@pytest.mark.parametrize("bound", [{"rps": 5_000}, {"seconds": 0}, {"connections": 1_000}, {"max_requests": 0}])
def test_plan_beyond_its_bounds_is_refused(bound: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        plan_for("http://127.0.0.1:80", profile_of("/"), **bound)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{name: a, method: GET, path: /$id, weight: 1}", "id"),
        ("{name: a, method: GET, path: /, weight: 0}", "weight"),
        ("{name: a, method: BREW, path: /, weight: 1}", "method"),
        ('{name: a, method: GET, path: /$id, weight: 1, values: {id: ["a/../b"]}}', "values"),
    ],
)
def test_unusable_profile_names_what_is_wrong(tmp_path: Path, template: str, named: str) -> None:
    path = tmp_path / "traffic.yaml"
    path.write_text(f"traffic: [{template}]")
    with pytest.raises(ConfigError, match=named):
        load_profile(path)


def test_command_line_refuses_a_stranger_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--url http://192.0.2.1 --rps 1 --seconds 1 --max-requests 1 --seed 1 --stats-file x --profile"
    with pytest.raises(SystemExit) as left:
        main([*words.split(), str(SHOP_TRAFFIC)])
    assert left.value.code == 2
    assert "not this machine" in capsys.readouterr().err


async def test_answers_are_counted_by_class_and_by_name(tmp_path: Path) -> None:
    gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    broken = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noops\r\n0\r\n\r\n"
    async with served(Site({"/ok": OK, "/gone": gone, "/broken": broken})) as url:
        stats = await run(plan_for(url, profile_of("/ok", "/gone", "/broken"), max_requests=90), tmp_path)
    sent = {name: counts["sent"] for name, counts in stats["by_name"].items()}
    assert (stats["ok"], stats["rejected"], stats["failed"]) == (sent["/ok"], sent["/gone"], sent["/broken"])
    assert stats["sent"] == 90
    assert stats["errors"] == stats["dropped"] == 0
    assert stats["by_name"]["/broken"]["failed"] == sent["/broken"]
    assert stats["first_failure_at"] > 1_700_000_000_000
    assert 0 < stats["p50_ms"] <= stats["p99_ms"]
    assert stats["running"] is False


async def test_connections_are_kept_and_each_request_has_its_own_trace(tmp_path: Path) -> None:
    site = Site({"/": OK})
    async with served(site) as url:
        await run(plan_for(url, profile_of("/"), rps=200), tmp_path)
    assert len(site.heads) == 50
    assert site.connections < 10
    traces = [line for head in site.heads for line in head.split(b"\r\n") if line.startswith(b"Traceparent: 00-")]
    assert len(set(traces)) == 50


async def test_server_that_hangs_up_between_requests_causes_no_errors(tmp_path: Path) -> None:
    site = Site({"/": OK})
    site.hangs_up = True
    async with served(site) as url:
        stats = await run(plan_for(url, profile_of("/")), tmp_path)
    assert (stats["ok"], stats["errors"]) == (50, 0)
    assert site.connections == 50


async def test_nobody_at_the_port_is_counted_as_errors(tmp_path: Path) -> None:
    async with served(Site({})) as url:
        pass
    stats = await run(plan_for(url, profile_of("/")), tmp_path)
    assert (stats["sent"], stats["errors"], stats["p50_ms"]) == (50, 50, None)


async def test_stalled_server_gets_no_more_than_the_bound_and_cannot_hide_its_latency(tmp_path: Path) -> None:
    site = Site({"/": OK})
    site.open_for_answers.clear()
    async with served(site) as url, asyncio.timeout(10):
        generator = LoadGenerator(plan_for(url, profile_of("/"), connections=4))
        running = asyncio.create_task(generator.run(tmp_path / "stats.json"))
        await asyncio.sleep(0)  # it begins
        assert generator._pacing is not None
        await asyncio.wait({generator._pacing})
        site.open_for_answers.set()
        await running
    stats = generator.stats.snapshot()
    assert (stats["ok"], stats["dropped"], site.connections) == (4, 46, 4)
    assert stats["p50_ms"] > 10


async def test_run_ends_at_its_seconds(tmp_path: Path) -> None:
    async with served(Site({"/": OK})) as url, asyncio.timeout(5):
        stats = await run(plan_for(url, profile_of("/"), rps=100, seconds=0.5, max_requests=100_000), tmp_path)
    assert 25 < stats["sent"] < 85


async def test_sigterm_ends_the_run_with_its_last_numbers_on_file(tmp_path: Path) -> None:
    profile, stats_file = tmp_path / "traffic.yaml", tmp_path / "stats.json"
    profile.write_text("traffic: [{name: all, method: GET, path: /, weight: 1}]")
    site = Site({"/": OK})
    bounds = f"--rps 100 --seconds 60 --max-requests 6000 --seed 7 --profile {profile} --stats-file {stats_file}"
    async with served(site) as url, asyncio.timeout(20):
        words = ("-m", "controller.adapters.loadgen", "--url", url, *bounds.split())
        process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT)
        await site.asked_20_times.wait()
        assert json.loads(stats_file.read_text())["running"] is True
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    stats = json.loads(stats_file.read_text())
    assert stats["running"] is False
    assert stats["sent"] == stats["ok"] == len(site.heads)
    assert names_in(tmp_path) == ["stats.json", "traffic.yaml"]
