"""Holds, promotions, stops and resumes that land at any moment: afterwards everything ends as if nobody had spoken."""

from __future__ import annotations

from random import Random

import pytest
from scenarios import BAD, GOOD, MENDED, YELLOW, begun, facts_of, legal, nothing_twice, undisturbed
from simulated import Simulation

from controller.domain.ids import DeliveryId

STORIES = (GOOD, BAD, MENDED, YELLOW)
SCOPES = ("all", "service:shop", "repository:shop", "agent:author", "agent:merger", "agent:releaser", "agent:checker")


async def interfere(sim: Simulation, rng: Random, delivery: DeliveryId, number: int) -> None:
    """Say something, let some time pass, and take it back."""
    await sim.run_for(rng.uniform(0, 12))
    hold, scope = rng.random() < 0.4, rng.choice(SCOPES)
    if hold:
        await sim.intake.act("olga", "hold", delivery, event_id=f"hold-{number}")
    else:
        await sim.intake.stop("olga", scope, "let me look", event_id=f"stop-{number}")
    await sim.run_for(rng.choice((0.0, 1.0, 5.0, 60.0)))
    if hold:
        await sim.intake.act("olga", "release", delivery, event_id=f"release-{number}")
    else:
        await sim.intake.resume("olga", scope, "go on", event_id=f"resume-{number}")


@pytest.mark.parametrize("number", range(32))
async def test_what_people_stop_and_hold_goes_on_when_they_let_it(number: int) -> None:
    rng, title = Random(number), STORIES[number % len(STORIES)]
    expected, _ = await undisturbed(number % 2, (title,))
    sim = begun(number % 2)
    sim.start("w1")
    delivery = await sim.ask(title)
    for turn in range(rng.randint(1, 4)):
        await interfere(sim, rng, delivery, turn)
    assert await sim.run(seconds=7_200), await sim.state()
    found = await facts_of(sim)
    for name in ("phases", "ends", "main", "served", "pulls", "told"):
        assert getattr(found, name) == getattr(expected, name), (name, number, title)
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


@pytest.mark.parametrize("number", range(8))
async def test_whatever_a_person_promotes_or_rejects_ends_legally(number: int) -> None:
    rng = Random(number)
    sim = begun(number)
    sim.start("w1")
    delivery = await sim.ask(rng.choice((GOOD, YELLOW)))
    await sim.run_for(rng.uniform(0, 30))
    await sim.intake.act("olga", "promote", delivery, event_id="promote")
    assert await sim.run(seconds=7_200), await sim.state()
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_a_delivery_that_is_held_in_line_neither_blocks_the_line_nor_makes_it_spin() -> None:
    sim = begun(1)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    held = await sim.ask(GOOD)
    await sim.intake.act("olga", "hold", held, event_id="hold")
    await sim.run_for(60)
    before = (await sim.log.head()).size
    await sim.run_for(300)
    assert (await sim.log.head()).size == before
    other = await sim.ask(MENDED)
    await sim.run_for(300)
    assert (await sim.delivery(other)).phase.value == "CONFIRMED"
    await sim.intake.act("olga", "release", held, event_id="release")
    assert await sim.run(), await sim.state()
    assert (await sim.delivery(held)).phase.value == "CONFIRMED"
    await legal(sim)
    sim.close()
