"""Thirty worlds whose controllers die anywhere: no effect without an entry before it, no entry without an outcome."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from scenarios import BAD, CRASHING, FLAKY, GOOD, MENDED, UNBUILDABLE, YELLOW, begun, one_by_one
from simulated import Simulation

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from completeness_kit import Act, Told, incomplete, told, unseen

from controller.service.leftovers import LEFT_AFTER
from controller.sim.world import MAIN, SHOP, Acted

WORLDS = 30
STORIES = (GOOD, BAD, MENDED, YELLOW, CRASHING, FLAKY, UNBUILDABLE)


class Watched(list[Acted]):
    """How large the log was whenever the world changed."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__()
        self.sim = sim
        self.sizes: list[int] = []

    def append(self, one: Acted) -> None:
        (size,) = self.sim.log._writer.db.execute("SELECT count(*) FROM entries").fetchone()
        self.sizes.append(size)
        super().append(one)


def world_shows(sim: Simulation, acts: Watched) -> Iterator[Act]:
    """Everything that changed, by the world's own memory."""
    world, shop = sim.world, sim.world.forge.repository(SHOP)
    for one, size in zip(acts, acts.sizes, strict=True):
        yield Act(f"the {one.verb.port}", key=one.key, size=size)
    commit = shop.branches[MAIN]
    while commit != world.first:
        yield Act("git", verb="forge.land", commit=commit)
        commit = shop.history.of(commit).parents[0]
    for branch, tip in shop.branches.items():
        if branch != MAIN:
            yield Act("git", verb="forge.push", commit=tip)
    yield from (Act("a pull request", key=pull.key) for pull in shop.pulls.values())
    yield from (Act("the platform", key=key) for key in world.platform.done)
    yield from (Act("the chat", key=key) for key in world.chat.messages)


def agrees_with_ci(sim: Simulation, log: Told) -> bool:
    """The runs that CI has are those that were started by somebody who said so."""
    runs = {result["run"] for key, result in log.results.items() if log.intents[key].body["verb"] == "ci.start"}
    return runs == set(sim.world.ci.runs)


@pytest.mark.parametrize("number", range(WORLDS))
async def test_killed_anywhere_everything_that_happened_is_accounted_for(number: int) -> None:
    rng, sim = Random(number), begun(number % 3)
    acts = Watched(sim)
    sim.world.acts = acts
    story = STORIES[number % len(STORIES)]
    for life in range(rng.randint(1, 3)):
        dying = sim.start(f"w{life}", kill_at=rng.randint(1, 250))
        await sim.ask(story)
        await sim.run()
        if not dying.dead:
            sim.controllers.remove(dying)
            await dying.bury()
        sim.world.clock.advance(rng.choice((0, 1, 20, 100)))
    sim.start("last")
    await one_by_one(sim, story)
    if await sim.log.open_effects():
        await sim.run_for(2 * LEFT_AFTER.total_seconds())
    log = told(entry.leaf for entry in await sim.entries())
    shown = list(world_shows(sim, acts))
    assert list(incomplete(log, shown)) == []
    assert unseen(log, "chat.tell", shown) == []
    assert unseen(log, "platform.set_weight", shown) == []
    assert agrees_with_ci(sim, log)
    assert len(acts) > 10
    for one in sim.controllers:
        await one.bury()
    sim.close()
