"""What every shared rate promises: never more than the limit in a window, and nobody through when nobody can tell."""

from __future__ import annotations

import asyncio
import random
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


async def test_what_nobody_used_of_one_window_adds_nothing_to_the_next(another: Controllers, clock: Clock) -> None:
    limits = another()
    assert await through(limits, 1) == 1
    clock.at += timedelta(seconds=60)
    assert await through(limits, 150) == 100


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


async def test_of_forty_first_calls_at_once_none_is_lost_to_another(another: Controllers) -> None:
    limits = another()
    waits = await asyncio.gather(*(limits.take("session/shop-1/1", limit=60, window_s=60) for _ in range(40)))
    assert waits.count(0.0) == 40
    assert await through(limits, 40, limit=60) == 20


@pytest.mark.parametrize("seed", range(12))
async def test_however_calls_interleave_exactly_the_limit_passes_in_each_window(
    another: Controllers, clock: Clock, seed: int
) -> None:
    """At one controller, where nothing that was reserved can be left over at another."""
    chance, limits = random.Random(seed), another()
    limit = chance.choice([1, 2, 19, 20, 21, 60, 133])
    for _ in range(4):
        calls = [limits.take(f"role/{at % 2}", limit=limit, window_s=60) for at in range(2 * limit + 20)]
        chance.shuffle(calls)
        waits = await asyncio.gather(*calls)
        assert waits.count(0.0) == 2 * limit
        clock.at += timedelta(seconds=60)


@pytest.mark.parametrize("seed", range(12))
async def test_callers_that_go_away_neither_widen_the_limit_nor_use_it_up(another: Controllers, seed: int) -> None:
    """A cancelled call may have counted, or not; the others get all that it left."""
    chance, limits, limit = random.Random(seed), another(), 60
    tasks = [asyncio.create_task(limits.take("role/author", limit=limit, window_s=60)) for _ in range(50)]
    for _ in range(chance.randrange(20)):
        await asyncio.sleep(0)
    gone = chance.sample(tasks, 15)
    for task in gone:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    passed = outcomes.count(0.0)
    later = await through(limits, 2 * limit, who="role/author", limit=limit)
    assert limit - len(gone) <= passed + later <= limit
