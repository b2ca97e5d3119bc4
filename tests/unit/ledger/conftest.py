"""A log on a file, a clock that is moved by hand, and one way to say something."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, StreamId
from controller.ledger.sqlite import SqliteLog
from controller.ports import Receipt, Rejected

BY = Caller("service:controller", Digest("sha256:" + "0" * 64))


@dataclass
class HandClock:
    time: datetime = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path, clock: HandClock) -> Iterator[SqliteLog]:
    found = SqliteLog(path, clock)
    yield found
    found.close()


Say = Callable[..., Coroutine[None, None, Receipt | Rejected]]


@pytest.fixture
def say() -> Say:
    """Append one note of `size` characters as the next version of a session's stream."""

    async def said(log: SqliteLog, name: str = "a", *, at: int = 0, size: int = 10) -> Receipt | Rejected:
        stream = StreamId(f"session/{name}/1")
        event = e.SessionResumed(turn=at, from_checkpoint=False, reason="x" * size)
        return await log.append([Draft(stream, event)], expect={stream: at}, by=BY)

    return said
