"""Who is dead for certain, told by real processes that die: leases and intents of theirs are taken over at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.adapters.clock import SystemClock
from controller.adapters.workers import MOST_FILES, LocalWorkers
from controller.domain.ids import StreamId
from controller.ledger.lease import SqliteLease

STREAM = StreamId("delivery/shop-1")
LIVES = """
import sys
from pathlib import Path
from controller.adapters.workers import LocalWorkers
print(LocalWorkers(Path(sys.argv[1])).enlist(), flush=True)
sys.stdin.read()
"""


class Other:
    """Another controller's process, which has enlisted."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", LIVES, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def die(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workers"


@pytest.fixture
def other(folder: Path) -> Iterator[Other]:
    found = Other(folder)
    yield found
    found.die()


def test_killed_controller_is_known_to_be_gone_and_a_living_one_is_not(folder: Path, other: Other) -> None:
    seen = LocalWorkers(folder)
    assert not seen.gone(other.name)
    other.die()
    assert seen.gone(other.name)


def test_nobody_is_called_dead_on_hearsay(folder: Path, other: Other) -> None:
    seen = LocalWorkers(folder)
    assert not seen.gone(f"another-machine:{other.process.pid}:abc")
    assert not seen.gone(other.name + "0")


def test_controller_that_left_in_order_is_gone_too(folder: Path) -> None:
    first, second = LocalWorkers(folder), LocalWorkers(folder)
    mine = first.enlist()
    assert not second.gone(mine)
    first.leave()
    assert second.gone(mine)


def test_files_of_former_controllers_are_bounded_and_the_living_keep_theirs(folder: Path, other: Other) -> None:
    for _ in range(MOST_FILES + 5):
        passing = LocalWorkers(folder)
        passing.enlist()
        passing.leave()
    assert len(list(folder.iterdir())) <= MOST_FILES + 2  # the newest, and the one that lives
    other_still = LocalWorkers(folder)
    assert not other_still.gone(other.name)
    other.die()
    assert other_still.gone(other.name)


async def test_lease_of_a_dead_controller_is_free_at_once(folder: Path, other: Other, tmp_path: Path) -> None:
    lease = SqliteLease(tmp_path / "log.db", SystemClock(), gone=LocalWorkers(folder).gone)
    held = await lease.acquire(STREAM, other.name, 3600)
    assert held is not None
    assert await lease.acquire(STREAM, "me", 3600) is None
    other.die()
    mine = await lease.acquire(STREAM, "me", 3600)
    assert mine is not None
    assert mine.fence > held.fence
    assert await lease.renew(held, 3600) is None
    lease.close()
