"""What every CI keeps, and what the local one keeps besides, with real workers on every rung that starts here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_local import LocalCi
from controller.adapters.ci_workspace import run_in_workspace
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
from controller.domain.ids import Branch, Commit, EffectKey, Repository
from controller.domain.verbs import PushBranch, RunStarted, StartRun
from controller.errors import Permanent, Unavailable
from controller.ports import CiRun

SHOP = Repository("shop")
KEY = EffectKey("ci/shop")
HEAD = Commit("a" * 40)
BARE = (("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),)  # this environment's own plugins cost pytest three seconds
AVAILABLE = asyncio.run(Sandbox.available())
BEST, PLAIN = AVAILABLE[0], AVAILABLE[-1]
MIXED = {
    "shop.py": "def total(prices):\n    return sum(prices)\n",
    "test_shop.py": "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n\n\n"
    "def test_wrong():\n    assert total([2]) == 3, 'two is not three'\n",
}
GREEN = {
    "test_shop.py": "import pytest\n\ndef test_one():\n    pass\n\n"
    "@pytest.mark.skip(reason='later')\ndef test_two():\n    pass\n"
}
WAITING = {
    "test_wait.py": "import pathlib, time\n\ndef test_first():\n    pass\n\n"
    "def test_second():\n    while not pathlib.Path('go').exists():\n        time.sleep(0.01)\n"
}


@dataclass
class Commits:
    """A forge's export, from memory: commit to files."""

    trees: dict[Commit, Mapping[str, str]] = field(default_factory=dict)

    def export(self, repository: Repository, commit: Commit, folder: Path) -> None:
        if commit not in self.trees:
            raise Permanent(f"{repository} has no commit {commit}", "Push it first")
        for name, text in self.trees[commit].items():
            (folder / name).write_text(text)


def local_ci(
    root: Path, files: Mapping[str, str], sandbox: Sandbox = BEST, config: CiConfig | None = None, slots: int = 2
) -> LocalCi:
    commits = Commits({HEAD: files, Commit("b" * 40): files, Commit("c" * 40): files})
    configs = {SHOP: config or CiConfig(wall_s=60, environment=BARE)}
    return LocalCi(root, commits.export, sandbox, configs, slots=slots)


def start(commit: str = HEAD, attempt: int = 1) -> StartRun:
    return StartRun(repository=SHOP, commit=Commit(commit), attempt=attempt)


async def until(ci: LocalCi, run: str, holds: Callable[[CiRun], bool]) -> CiRun:
    give_up = monotonic() + 60
    while True:
        found = await ci.run(run)
        assert found is not None
        if holds(found):
            return found
        assert monotonic() < give_up, (found, (ci.root / "runs" / run / "worker.txt").read_text())
        await asyncio.sleep(0.02)


def is_finished(run: CiRun) -> bool:
    return run.finished_at is not None


async def run_through(ci: LocalCi, verb: StartRun | None = None) -> CiRun:
    started = await ci.act(KEY, verb or start())
    return await until(ci, started.run, is_finished)


@pytest.fixture(params=AVAILABLE, ids=lambda sandbox: str(sandbox.rung))
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    found: Sandbox = request.param
    return found


# --- on every rung ----------------------------------------------------------------------------------------------


async def test_failing_test_is_reported_with_its_message_and_the_passing_one_beside_it(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    run = await run_through(local_ci(tmp_path, MIXED, sandbox))
    assert (run.state, run.reason, run.commit) == ("failed", "1 of 2 tests failed", HEAD)
    assert [(test.test, test.passed) for test in run.tests] == [
        ("test_shop.py::test_total", True),
        ("test_shop.py::test_wrong", False),
    ]
    assert "two is not three" in run.tests[1].message
    assert "1 failed, 1 passed" in run.log
    assert run.isolation == sandbox.isolation
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.started_at.utcoffset() is not None
    assert run.started_at <= run.finished_at


async def test_green_suite_passes_and_leaves_no_tree_behind(tmp_path: Path, sandbox: Sandbox) -> None:
    ci = local_ci(tmp_path, GREEN, sandbox)
    run = await run_through(ci)
    assert run.state == "passed", run
    assert run.tests[1].message == "skipped: Skipped: later"
    for worker in ci.workers:
        await asyncio.to_thread(worker.wait, 10)
    assert not (tmp_path / "runs" / run.run / "tree").exists()


async def test_results_are_there_while_the_run_still_runs(tmp_path: Path, sandbox: Sandbox) -> None:
    ci = local_ci(tmp_path, WAITING, sandbox)
    started = await ci.act(KEY, start())
    early = await until(ci, started.run, lambda run: len(run.tests) == 1)
    assert (early.state, early.finished_at, early.tests[0].test) == ("running", None, "test_wait.py::test_first")
    (tmp_path / "runs" / started.run / "tree" / "go").touch()
    assert (await until(ci, started.run, is_finished)).state == "passed"


async def test_run_outlives_the_controller_that_started_it(tmp_path: Path, sandbox: Sandbox) -> None:
    controller = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ci import KEY, WAITING, local_ci, start
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
async def main():
    ci = local_ci(Path({str(tmp_path)!r}), WAITING, Sandbox(Rung({str(sandbox.rung)!r}), {sandbox.why!r}))
    print((await ci.act(KEY, start())).run, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", controller, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert first.stdout is not None
    name = (await asyncio.wait_for(first.stdout.readline(), 60)).decode().strip()
    first.kill()
    assert await first.wait() == -signal.SIGKILL
    second = local_ci(tmp_path, WAITING, sandbox)
    await until(second, name, lambda run: len(run.tests) == 1)
    (tmp_path / "runs" / name / "tree" / "go").touch()
    run = await until(second, name, is_finished)
    assert (run.state, len(run.tests)) == ("passed", 2)
    assert json.loads((tmp_path / "runs" / name / "state.json").read_text())["starts"] == 1


async def test_agent_is_told_of_failures_first(tmp_path: Path, sandbox: Sandbox) -> None:
    for name, text in MIXED.items():
        (tmp_path / name).write_text(text)
    config = CiConfig(wall_s=60, environment=BARE)
    told = await run_in_workspace(tmp_path, sandbox=sandbox, config=config)
    assert told.startswith("failed: 1 passed, 1 failed in ")
    assert told.index("FAILED test_shop.py::test_wrong") < told.index("output:")
    told = await run_in_workspace(tmp_path, ["python", "-m", "pytest", "-k", "total"], sandbox=sandbox, config=config)
    assert told.startswith("passed: 1 passed, 0 failed in ")


# --- whatever the rung ------------------------------------------------------------------------------------------


async def test_same_start_twice_is_one_run(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, GREEN)
    assert await ci.find(KEY, start()) is None
    first, second = await asyncio.gather(ci.act(KEY, start()), ci.act(KEY, start()))
    assert first == second == await ci.find(KEY, start())
    await until(ci, first.run, is_finished)
    assert await ci.act(KEY, start()) == first
    assert json.loads((tmp_path / "runs" / first.run / "state.json").read_text())["starts"] == 1


async def test_another_attempt_is_another_run(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, GREEN)
    runs = {(await run_through(ci, start(attempt=attempt))).run for attempt in (1, 2)}
    assert len(runs) == 2


async def test_unknown_run_is_none(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, GREEN)
    assert await ci.run("shop-nothing") is None
    assert await ci.run("../../etc") is None


async def test_commit_that_the_forge_does_not_have_is_a_definite_no_and_leaves_nothing(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, GREEN)
    with pytest.raises(Permanent, match="no commit"):
        await ci.act(KEY, start("d" * 40))
    assert await ci.find(KEY, start("d" * 40)) is None


async def test_verb_of_another_port_is_refused(tmp_path: Path) -> None:
    push = PushBranch(repository=SHOP, branch=Branch("main"), commit=HEAD, expect=None)
    with pytest.raises(Permanent, match="no hands"):
        await local_ci(tmp_path, GREEN).act(KEY, push)


async def kill_worker(ci: LocalCi) -> None:
    worker = ci.workers[-1]
    worker.kill()
    await asyncio.to_thread(worker.wait, 10)


async def test_dead_worker_is_replaced_on_the_next_look_with_a_fresh_tree(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, WAITING)
    started = await ci.act(KEY, start())
    await until(ci, started.run, lambda run: len(run.tests) == 1)
    (tmp_path / "runs" / started.run / "tree" / "litter").touch()
    await kill_worker(ci)
    again = await until(ci, started.run, lambda run: run.state == "running" and len(run.tests) == 1)
    assert again.tests[0].test == "test_wait.py::test_first"
    assert not (tmp_path / "runs" / started.run / "tree" / "litter").exists()
    (tmp_path / "runs" / started.run / "tree" / "go").touch()
    assert (await until(ci, started.run, is_finished)).state == "passed"


async def test_third_dead_worker_breaks_the_run_with_a_reason(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, WAITING)
    started = await ci.act(KEY, start())
    for _ in range(3):
        await until(ci, started.run, lambda run: run.state == "running" and len(ci.workers) == 1)
        await kill_worker(ci)
    run = await until(ci, started.run, is_finished)
    assert (run.state, len(ci.workers)) == ("broken", 0)
    assert run.reason.startswith("3 workers died without a result")


async def test_run_beyond_the_slots_is_queued_until_one_frees(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, WAITING, slots=1)
    first = await ci.act(KEY, start())
    await until(ci, first.run, lambda run: len(run.tests) == 1)
    second = await ci.act(KEY, start("b" * 40))
    waiting = await ci.run(second.run)
    assert waiting is not None
    assert (waiting.state, waiting.started_at) == ("queued", None)
    (tmp_path / "runs" / first.run / "tree" / "go").touch()
    await until(ci, first.run, is_finished)
    await until(ci, second.run, lambda run: len(run.tests) == 1)
    (tmp_path / "runs" / second.run / "tree" / "go").touch()
    assert (await until(ci, second.run, is_finished)).state == "passed"


async def test_run_against_a_base_knows_its_tests_from_the_bases_own_run(tmp_path: Path) -> None:
    """The second delivery on: what tested the base before it landed has listed them."""
    other = {**GREEN, "test_more.py": "def test_more():\n    pass\n"}
    ci = LocalCi(
        tmp_path,
        Commits({HEAD: other, Commit("b" * 40): GREEN}).export,
        BEST,
        {SHOP: CiConfig(wall_s=60, environment=BARE)},
    )
    against = StartRun(repository=SHOP, commit=HEAD, base=Commit("b" * 40), attempt=2)
    listed = await run_through(ci, against)
    assert "the base's tests, listed" in listed.log
    await run_through(ci, start("b" * 40))
    known = await run_through(ci, against.model_copy(update={"attempt": 3}))
    assert "the base's tests, listed" not in known.log
    for run in (listed, known):
        assert run.facts is not None
        assert (run.state, run.facts.collected_base, run.facts.collected) == ("passed", 2, 3)
        assert (run.facts.base_verdict, run.facts.vanished, run.facts.newly_skipped) == ("passed", (), ())
        assert run.named == ("test_more.py::test_more",)
    for worker in ci.workers:
        await asyncio.to_thread(worker.wait, 10)
    assert not (tmp_path / "runs" / known.run / "base").exists()


async def test_too_many_unfinished_runs_are_refused_for_now(tmp_path: Path) -> None:
    ci = local_ci(tmp_path, WAITING, slots=1)
    ci.most_waiting = 1
    first = await ci.act(KEY, start())
    with pytest.raises(Unavailable, match=r"test\.slots"):
        await ci.act(KEY, start("b" * 40))
    assert await ci.act(KEY, start()) == RunStarted(run=first.run)
    (tmp_path / "runs" / first.run / "tree" / "go").touch()
    await until(ci, first.run, is_finished)
    await ci.act(KEY, start("b" * 40))
    (tmp_path / "runs" / (await ci.act(KEY, start("b" * 40))).run / "tree" / "go").touch()


Broken = tuple[Mapping[str, str], CiConfig, str, str]
CASES: dict[str, Broken] = {
    "no tests": (
        {"shop.py": ""},
        CiConfig(environment=BARE),
        "broken",
        "no tests were collected; add one or set `test.command`",
    ),
    "no interpreter": (GREEN, CiConfig(python="/nowhere/python"), "broken", "set `test.python`"),
    "no command": (GREEN, CiConfig(("no-such-command",)), "broken", "install it or set `test.command`"),
    "other command": ({"ok.sh": "echo fine"}, CiConfig(("sh", "ok.sh")), "passed", ""),
    "other command fails": (
        {"no.sh": "echo not fine; exit 3"},
        CiConfig(("sh", "no.sh")),
        "failed",
        "`sh no.sh` ended with exit code 3",
    ),
    "import error": (
        {"test_a.py": "import nowhere_to_be_found"},
        CiConfig(environment=BARE),
        "failed",
        "1 of 1 tests failed",
    ),
    "hang": (
        {"test_a.py": "import time\ndef test_a():\n    time.sleep(60)"},
        CiConfig(wall_s=4, environment=BARE),
        "failed",
        "still running",
    ),
    "crash": (
        {"test_a.py": "import os\ndef test_a():\n    os.abort()"},
        CiConfig(environment=BARE),
        "failed",
        "SIGABRT during test_a.py",
    ),
    "memory": (
        {"test_a.py": "def test_a():\n    bytearray(4 << 30)"},
        CiConfig(memory_bytes=1 << 30, environment=BARE),
        "failed",
        "1 of 1 tests failed",
    ),
    "leaves with zero": (
        {"conftest.py": "import os\nos._exit(0)", **GREEN},
        CiConfig(environment=BARE),
        "broken",
        "before its session did",
    ),
    "hides its failure": (
        {"conftest.py": "import os\ndef pytest_unconfigure():\n    os._exit(0)", **MIXED},
        CiConfig(environment=BARE),
        "failed",
        "1 of 2 tests failed",
    ),
    "bad arguments": (
        GREEN,
        CiConfig(("python", "-m", "pytest", "--no-such-flag"), environment=BARE),
        "broken",
        "no-such-flag",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_ending_is_told_in_words(tmp_path: Path, case: str) -> None:
    files, config, state, words = CASES[case]
    run = await run_through(local_ci(tmp_path, files, config=config))
    assert run.state == state, run
    assert words in run.reason
    assert all(test.message for test in run.tests if not test.passed)


@pytest.mark.skipif(BEST.rung is Rung.PLAIN, reason="needs isolation")
async def test_isolated_run_says_so_and_the_plain_one_does_not_pretend(tmp_path: Path) -> None:
    isolated = await run_through(local_ci(tmp_path / "isolated", GREEN, BEST))
    plain = await run_through(local_ci(tmp_path / "plain", GREEN, PLAIN))
    assert "no network" in isolated.isolation
    assert "no isolation" in plain.isolation
