"""What the world did while somebody's word stood: it counts every act on it, and the log every entry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from scenarios import QUICK, fill_the_book, legal, nothing_twice
from simulated import Simulation

from controller.domain import events as e
from controller.domain import verbs as v
from controller.domain.delivery import Phase
from controller.domain.ids import DeliveryId
from controller.domain.rollout import RolloutPhase
from controller.sim.world import SimWorld

A_WHILE_S = 200.0  # a good change is at its end after less than half of it
STARVED = QUICK.model_copy(update={"step_requests": 10**6})  # no step of it ever has enough requests
LONG_BAKE = QUICK.model_copy(update={"bake_ms": 30_000})
FORWARD = {verb.name: verb for verb in v.Verb.__subclasses__() if verb.direction == "forward"}


async def serving(sim: Simulation) -> Simulation:
    """The first release serves, and somebody works."""
    sim.start("w1")
    assert await sim.run(lambda: sim.world.served is not None)
    assert await sim.run()
    return sim


async def at(sim: Simulation, delivery: DeliveryId, *phases: Phase) -> None:
    async def there() -> bool:
        return (await sim.delivery(delivery)).phase in phases

    assert await sim.run(there), await sim.state()


async def at_rollout(sim: Simulation, phase: RolloutPhase) -> None:
    async def there() -> bool:
        return (await sim.rollout()).phase is phase

    assert await sim.run(there), await sim.state()


@dataclass
class Meanwhile:
    """What is done from here on."""

    sim: Simulation
    acts: int
    entries: int

    def done(self, *kinds: type[v.Verb]) -> list[v.Verb]:
        return [one.verb for one in self.sim.world.acts[self.acts :] if isinstance(one.verb, kinds)]

    async def said(self, *kinds: type[e.Event]) -> list[e.Event]:
        entries = await self.sim.entries()
        return [one.event for one in entries if one.index >= self.entries and isinstance(one.event, kinds)]


async def from_now(sim: Simulation) -> Meanwhile:
    return Meanwhile(sim, len(sim.world.acts), len(await sim.entries()))


@asynccontextmanager
async def world(*, same_words: bool = False, **given: object) -> AsyncIterator[Simulation]:
    """Nobody consents in it. Afterwards nothing was done twice, and every move was a legal one.

    `same_words`: people have to be told the same thing twice.
    """
    sim = Simulation(SimWorld(1, **{"plan": QUICK, **given}))  # type: ignore[arg-type]
    fill_the_book(sim.world)
    yield sim
    if not same_words:
        await nothing_twice(sim)
    await legal(sim)
    sim.close()
