"""What every shared rate promises: never more than the limit in a window, and nobody through when nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.adapters.limits import SharedLimits
from controller.errors import Unavailable
from controller.ports import Limits
from controller.sim.limits import SimLimits

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
Controllers = Callable[[], Limits]  # another controller on the same state


@dataclass
class Clock:
    at: datetime = START

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here may sleep, but somebody wanted {seconds} s")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sim", "sqlite"])
def another(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Controllers:
    if request.param == "sim":
        only = SimLimits(clock)
        return lambda: only

    def opened() -> Limits:
        limits = SharedLimits(tmp_path / "limits.db", clock)
        request.addfinalizer(limits.close)
        return limits

    return opened


async def through(limits: Limits, times: int, *, who: str = "session/shop-1/1", limit: int = 100) -> int:
    waits = [await limits.take(who, limit=limit, window_s=60) for _ in range(times)]
    return waits.count(0.0)


async def test_a_window_lets_exactly_its_limit_through(another: Controllers) -> None:
    assert await through(another(), 250) == 100


async def test_whoever_is_over_the_limit_is_told_when_the_next_window_begins(
    another: Controllers, clock: Clock
) -> None:
    limits = another()
    clock.at += timedelta(seconds=20)
    await through(limits, 100)
    assert await limits.take("session/shop-1/1", limit=100, window_s=60) == 40.0
    clock.at += timedelta(seconds=40)
    assert await limits.take("session/shop-1/1", limit=100, window_s=60) == 0.0


async def test_one_who_is_over_keeps_nobody_else_out(another: Controllers) -> None:
    limits = another()
    await through(limits, 101)
    assert await through(limits, 100, who="session/shop-2/1") == 100


async def test_two_controllers_together_let_no_more_through_than_one(another: Controllers) -> None:
    one, two = another(), another()
    passed = await asyncio.gather(*(through(limits, 5) for limits in (one, two) for _ in range(30)))
    assert 95 <= sum(passed) <= 100


async def test_a_clock_that_is_set_back_opens_no_second_window(another: Controllers, clock: Clock) -> None:
    limits = another()
    await through(limits, 100)
    clock.at -= timedelta(hours=1)
    assert await through(limits, 10) == 0


async def test_a_limit_below_the_share_of_a_process_is_kept(another: Controllers) -> None:
    assert await through(another(), 10, limit=3) == 3


async def test_when_the_count_cannot_be_reached_nobody_is_let_through(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "limits.db").mkdir()
    broken, down = SharedLimits(tmp_path / "limits.db", clock), SimLimits(clock)
    down.down = True
    for limits in (broken, down):
        with pytest.raises(Unavailable, match="shared count of calls"):
            await limits.take("session/shop-1/1", limit=100, window_s=60)
