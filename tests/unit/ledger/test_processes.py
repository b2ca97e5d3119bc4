"""Real processes on one file: side by side, and killed in the middle of their work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Clock

ROOT = Path(__file__).parents[3]
WRITER = ROOT / "tests" / "fixtures" / "append_process.py"
ENDLESS = 1_000_000


def started(path: Path, name: str, *, writers: int, entries: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(path), name, str(writers), str(entries)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def said_by(process: subprocess.Popen[str]) -> dict[int, tuple[str, int]]:
    """All that it acknowledged until it ended."""
    with output_of(process) as output:
        return acknowledged(output.readlines())


def output_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def released(*processes: subprocess.Popen[str]) -> None:
    """Let them write, all of them once all are ready."""
    for process in processes:
        assert output_of(process).readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()


def acknowledged(lines: list[str]) -> dict[int, tuple[str, int]]:
    """Index to (stream, version). A last line that the kill cut short was not said."""
    parts = [line.split() for line in lines if line.endswith("\n")]
    return {int(index): (stream, int(version)) for index, stream, version in parts}


async def entries_of(path: Path, clock: Clock) -> dict[int, tuple[str, int]]:
    log = SqliteLog(path, clock, inline=True)
    found = {entry.index: (str(entry.stream), entry.version) async for entry in log.scan()}
    log.close()
    return found


@pytest.mark.timeout(60)
async def test_two_processes_on_one_file_give_contiguous_indices_and_one_valid_tree(path: Path, clock: Clock) -> None:
    both = [started(path, name, writers=5, entries=100) for name in ("one", "two")]
    released(*both)
    said = [said_by(process) for process in both]
    assert [process.wait(30) for process in both] == [0, 0]
    assert said[0].keys().isdisjoint(said[1])
    assert min(said[0]) < max(said[1])
    assert min(said[1]) < max(said[0])
    assert {**said[0], **said[1]} == await entries_of(path, clock)
    assert sorted({**said[0], **said[1]}) == list(range(1000))
    report = verify(path)
    assert (report.size, report.findings) == (1000, ())


@pytest.mark.timeout(60)
async def test_five_kills_under_load_lose_nothing_that_was_acknowledged(path: Path, clock: Clock) -> None:
    said: dict[int, tuple[str, int]] = {}
    for kill in range(5):
        process = started(path, "killed", writers=10, entries=ENDLESS)
        released(process)
        lines = [output_of(process).readline() for _ in range(100 + 37 * kill)]
        process.kill()
        with output_of(process) as output:
            lines += output.readlines()
        process.wait(30)
        said |= acknowledged(lines)
        report = verify(path)
        assert report.findings == ()
        stored = await entries_of(path, clock)
        assert report.size == len(stored)
        assert {index: stored.get(index) for index in said} == said
    assert len(said) >= 5 * 100
