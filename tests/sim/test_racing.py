"""Three workers on one log, workers that hang in an act, and hints that are lost, doubled or out of order."""

from __future__ import annotations

from random import Random

import pytest
from scenarios import BAD, BROKEN, GOOD, MENDED, YELLOW, agrees, begun, one_by_one, undisturbed

from controller.domain.entry import Entry
from controller.domain.verbs import VERBS
from controller.service.sweep import Sweep

STORIES = ((GOOD,), (BAD,), (MENDED,), (YELLOW,), (BROKEN,))
HANGS_S = 400.0  # longer than any deadline


@pytest.mark.parametrize("number", range(15))
async def test_three_workers_racing_on_one_log_do_everything_once(number: int) -> None:
    story, rng = STORIES[number % len(STORIES)], Random(number)
    expected, _ = await undisturbed(number % 2, story)
    sim = begun(number % 2)
    for name in ("one", "two", "three"):
        sim.start(name, racing=Random(rng.random()))
    await one_by_one(sim, *story, order=rng)
    await agrees(sim, expected, (number, story))


@pytest.mark.parametrize("number", range(15))
async def test_of_three_racing_workers_two_die_and_the_third_ends_it(number: int) -> None:
    story, rng = STORIES[number % len(STORIES)], Random(number)
    expected, points = await undisturbed(number % 2, story)
    sim = begun(number % 2)
    for name in ("one", "two"):
        sim.start(name, racing=Random(rng.random()), kill_at=rng.randint(1, max(2, points // 2)))
    sim.start("three", racing=Random(rng.random()))
    await one_by_one(sim, *story, order=rng)
    await agrees(sim, expected, (number, story))


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"forge.comment"}))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_hangs_in_an_act_beyond_its_deadline_is_taken_over_and_its_late_act_is_no_second_one(
    verb: str, when: str
) -> None:
    story = (MENDED,) if verb == "forge.close_pull_request" else (BAD,)
    expected, _ = await undisturbed(1, story)
    sim = begun(1)
    pause = (HANGS_S, 0.0) if when == "before" else (0.0, HANGS_S)
    sim.start("hanging", slow={verb: pause})
    sim.start("other")
    await one_by_one(sim, *story)
    sim.world.clock.advance(2 * HANGS_S)  # what still hangs lands now
    await sim.run_for(30)
    await agrees(sim, expected, (verb, when))


class Forgetful(Sweep):
    """Loses two hints of three, and hears others twice or late."""

    rng = Random(0)

    async def _hint(self, entry: Entry, now: object) -> None:
        chance = self.rng.random()
        if chance < 0.66:
            return
        if chance < 0.8:
            await super()._hint(entry, now)  # type: ignore[arg-type]
        await super()._hint(entry, now)  # type: ignore[arg-type]
        earlier = [e async for e in self.ports.log.scan(max(0, entry.index - 5))]
        await super()._hint(self.rng.choice(earlier), now)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(10))
async def test_lost_doubled_and_reordered_hints_only_cost_time(number: int) -> None:
    story = STORIES[number % len(STORIES)]
    expected, _ = await undisturbed(number % 2, story)
    sim = begun(number % 2)
    Forgetful.rng = Random(number)
    sim.start("forgetful", sweep=Forgetful)
    await one_by_one(sim, *story)
    await agrees(sim, expected, (number, story))
