"""Killed anywhere: built again from nothing but the log and the world, it ends where it would have ended."""

from __future__ import annotations

from random import Random

import pytest
from scenarios import (
    BAD,
    BROKEN,
    DEADLY,
    FLAKY,
    GOOD,
    MENDED,
    UNBUILDABLE,
    YELLOW,
    agrees,
    begun,
    legal,
    nothing_twice,
    one_by_one,
    undisturbed,
)

from controller.domain.delivery import Phase

WORLDS = 64
MORE_WORLDS = 1_500  # behind the marker `slow`
STORIES = ((GOOD,), (BAD,), (MENDED,), (BROKEN,), (YELLOW,), (DEADLY,), (FLAKY,), (UNBUILDABLE,))
LONG = (GOOD, BAD)


async def killed_and_ends_as_undisturbed(number: int, story: tuple[str, ...]) -> None:
    """Killed up to three times, each time at a random point, and up again at once or after a while.

    As in the undisturbed run, a task is asked for when the one before it has ended.
    """
    rng, seed = Random(number), number % 2
    expected, points = await undisturbed(seed, story)
    sim = begun(seed, keep_checkpoints=rng.random() < 0.5)
    died = []
    for life in range(rng.randint(1, 3)):
        dying = sim.start(f"w{rng.choice((1, life))}", kill_at=rng.randint(1, max(2, points)))
        for title in story:
            await sim.ask(title)
            await sim.run()
            if dying.dead:
                break  # nobody asks for the next one before this one has ended
        if not dying.dead:
            sim.controllers.remove(dying)
            await dying.bury()
        died.append(dying.process.died_at)
        sim.world.clock.advance(rng.choice((0, 0, 1, 20, 100)))
    sim.start(rng.choice(("w1", "last")))
    await one_by_one(sim, *story)
    await agrees(sim, expected, f"world {number}, {story}, died at {died}")


@pytest.mark.parametrize("number", range(WORLDS))
async def test_killed_anywhere_ends_as_undisturbed(number: int) -> None:
    await killed_and_ends_as_undisturbed(number, STORIES[number % len(STORIES)])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(WORLDS, MORE_WORLDS))
async def test_killed_anywhere_in_many_more_worlds_ends_as_undisturbed(number: int) -> None:
    await killed_and_ends_as_undisturbed(number, (*STORIES, LONG)[number % (len(STORIES) + 1)])


@pytest.mark.parametrize("number", range(6))
async def test_four_changes_at_once_end_legally_whoever_dies(number: int) -> None:
    rng, sim = Random(number), begun(number)
    asked = [await sim.ask(title) for title in (GOOD, BAD, MENDED, YELLOW)]
    for life in range(3):
        dying = sim.start(f"w{life}", kill_at=rng.randint(1, 400))
        await sim.run(seconds=900)
        if not dying.dead:
            sim.controllers.remove(dying)
            await dying.bury()
        sim.world.clock.advance(rng.choice((0, 1, 30)))
    sim.start("one", racing=Random(number))
    sim.start("two", racing=Random(number + 1))
    assert await sim.run(seconds=7_200, order=rng), await sim.state()
    good, bad, *_ = [(await sim.delivery(one)).phase for one in asked]
    assert (good, bad) == (Phase.CONFIRMED, Phase.HANDED_OVER)
    assert "FAILS" not in "".join(sim.world.platform.tree(sim.world.served or sim.world.first).values())
    await nothing_twice(sim)
    await legal(sim)
    sim.close()
