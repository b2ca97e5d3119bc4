"""Real processes on one log, of either store: side by side, and killed in the middle of their work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit

from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_verify import verify_postgres
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import Report, verify

ROOT = Path(__file__).parents[2]
ENDLESS = 1_000_000
STORES = ("file", "postgres")
Said = dict[int, tuple[str, int]]  # index to (stream, version)


class Store:
    def __init__(self, kind: str, folder: Path) -> None:
        self.where = postgres_kit.server().database() if kind == "postgres" else str(folder / "log.db")
        self.verify: Callable[[str], Report] = verify_postgres if kind == "postgres" else verify
        self._kind = kind

    def settle(self) -> None:
        """A server may still commit what its client sent before it died; whoever gets the lock afterwards sees it."""
        if self._kind == "postgres":
            postgres_kit.server().run("SELECT FROM flyball.head FOR UPDATE", self.where)

    async def entries(self, from_index: int = 0) -> Said:
        clock = postgres_kit.HandClock()
        log = PostgresLog(self.where, clock) if self._kind == "postgres" else SqliteLog(self.where, clock)
        found = {entry.index: (str(entry.stream), entry.version) async for entry in log.scan(from_index)}
        log.close()
        return found


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path)


def started(store: Store, name: str, *, writers: int, entries: int) -> subprocess.Popen[str]:
    script = ROOT / "tests" / "fixtures" / "append_process.py"
    command = [sys.executable, str(script), store.where, name, str(writers), str(entries)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def released(*processes: subprocess.Popen[str]) -> None:
    """Let them write, all of them once all are ready."""
    for process in processes:
        assert output_of(process).readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()


def output_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def acknowledged(lines: list[str]) -> Said:
    """A last line that the kill cut short was not said."""
    parts = [line.split() for line in lines if line.endswith("\n")]
    return {int(index): (stream, int(version)) for index, stream, version in parts}


def processes_one_ahead(store: Store, count: int) -> Iterator[subprocess.Popen[str]]:
    """Each starts up while the one before it writes."""
    ahead = started(store, "killed", writers=10, entries=ENDLESS)
    for number in range(count):
        process = ahead
        released(process)
        if number + 1 < count:
            ahead = started(store, "killed", writers=10, entries=ENDLESS)
        yield process


def killed_after(process: subprocess.Popen[str], lines: int) -> Said:
    with output_of(process) as output:
        said = [output.readline() for _ in range(lines)]
        process.kill()
        said += output.readlines()
    process.wait(30)
    return acknowledged(said)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.slow)])
async def test_kills_under_load_lose_nothing_that_was_acknowledged_and_tear_nothing(store: Store, kills: int) -> None:
    said: Said = {}
    for kill, process in enumerate(processes_one_ahead(store, kills)):
        said |= killed_after(process, 20 + 7 * (kill % 13))
        store.settle()
        report = store.verify(store.where)
        assert report.findings == ()
        stored = await store.entries()
        assert report.size == len(stored)
        assert {index: stored.get(index) for index in said} == said
    assert len(said) >= kills * 20


@pytest.mark.timeout(60)
async def test_replicas_that_append_at_once_give_contiguous_indices_and_one_valid_tree(store: Store) -> None:
    replicas = [started(store, name, writers=5, entries=100) for name in ("one", "two", "three")]
    released(*replicas)
    said: list[Said] = []
    for replica in replicas:
        with output_of(replica) as output:
            said.append(acknowledged(output.readlines()))
        assert replica.wait(30) == 0
    together: Said = {index: entry for part in said for index, entry in part.items()}
    assert together == await store.entries()
    assert sorted(together) == list(range(1500))
    assert all(min(one) < max(other) for one in said for other in said)
    report = store.verify(store.where)
    assert (report.size, report.findings) == (1500, ())
