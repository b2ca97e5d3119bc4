"""Mutants in the loop: asked for when everything else is green, waited for, and never in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scenarios import BAD, GOOD, YELLOW, fill_the_book, nothing_twice
from simulated import Simulation

from controller.domain import events as e
from controller.domain.change import MutantFacts
from controller.domain.delivery import Delivery, Phase
from controller.domain.ids import kind_of, rest_of
from controller.domain.risk import Colour
from controller.ports import CiRun
from controller.sim.world import SimWorld

WEAK, OTHER, WORDS = "Cache the list", "Speed up the list", "Explain the list"


def world(seed: int = 1, *, with_service: bool = False) -> Simulation:
    sim = Simulation(SimWorld(seed, with_service=with_service), consenting=True)
    fill_the_book(sim.world)
    tests = {"tests/test_weak.py": "assert True  # SURVIVES 75%\n"}
    sim.world.plays(WEAK, {"weak.py": "cache = {}\n", **tests})
    sim.world.plays(OTHER, {"list.go": "package list\n", "tests/test_go.py": "assert True\n"})
    sim.world.plays(WORDS, {"README.md": "A list.\n", "tests/test_words.py": "assert True\n"})
    sim.start("w1")
    return sim


async def delivered(sim: Simulation, task: str) -> Delivery:
    name = await sim.ask(task)
    assert await sim.run()
    return await sim.delivery(name)


def facts(one: Delivery) -> MutantFacts | None:
    assert one.risk is not None
    return one.risk.inputs.mutants


async def runs(sim: Simulation) -> list[str]:
    return [rest_of(x.stream) for x in await sim.entries() if isinstance(x.event, e.MutantsStarted)]


async def test_mutants_of_a_green_change_are_killed_and_recorded_with_its_colour() -> None:
    sim = world()
    one = await delivered(sim, GOOD)
    found = facts(one)
    assert found is not None
    assert (found.measured, found.share_killed, one.phase) == (True, 1.0, Phase.CONFIRMED)
    assert one.risk is not None
    assert "the tests noticed 20 of 20 mutants of 20" in [claim.text for claim in one.risk.decision.claims]
    assert await runs(sim) == [one.id]
    assert one.mutants_started is not None
    assert one.ci is not None
    assert (one.mutants_started.tested, one.mutants_started.base) == (one.ci.tested, one.ci.base)


async def test_mutants_cost_no_round_and_are_started_once() -> None:
    sim = world()
    one = await delivered(sim, GOOD)
    assert one.rounds == 1
    intents = [x for x in await sim.entries() if kind_of(x.stream) == "effect" and "mutants/" in x.stream]
    assert [x.kind for x in intents] == ["EffectIntended", "EffectDone"]
    await nothing_twice(sim)


async def test_what_lives_is_a_fact_of_the_colour() -> None:
    found = facts(await delivered(world(), WEAK))
    assert found is not None
    assert (found.killed, found.survived, found.share_killed) == (5, 15, 0.25)


async def test_a_change_that_waits_for_a_person_anyway_has_no_mutants() -> None:
    sim = world()
    one = await delivered(sim, YELLOW)
    assert facts(one) is None
    assert await runs(sim) == []


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (OTHER, "mutants/language: no mutator for .go"),
        (WORDS, "mutants/nothing: no source file has changed"),
    ],
)
async def test_a_change_without_python_says_that_nothing_was_measured(task: str, why: str) -> None:
    sim = world()
    found = facts(await delivered(sim, task))
    assert found is not None
    assert (found.measured, found.why_not) == (False, why)
    assert await runs(sim) == []


async def test_a_revert_has_no_mutants_and_its_fix_has() -> None:
    sim = world(with_service=True)
    bad = await sim.ask(BAD)
    assert await sim.run()
    reverts = [d for d in (await sim.deliveries()).values() if d.asked.cause is e.Cause.REVERT]
    fixes = [d for d in (await sim.deliveries()).values() if d.asked.cause is e.Cause.FIX]
    assert (len(reverts), len(fixes)) == (1, 1), await sim.deliveries()
    assert await runs(sim) == [bad, fixes[0].id]
    assert facts(reverts[0]) is None


def instead(sim: Simulation, **known: Any) -> None:
    """Every run of mutants looks like this from now on."""
    seen = sim.world.ci.run

    async def looked(run: str) -> CiRun | None:
        found = await seen(run)
        mutants = found is not None and not found.tests and sim.world.ci.runs[run].mutants
        return replace(found, **known) if found is not None and mutants else found

    sim.world.ci.run = looked  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        ({"state": "broken", "mutants": None, "reason": "no sandbox"}, "mutants/broken"),
        ({"state": "running", "mutants": None, "finished_at": None}, "mutants/overdue"),
    ],
)
async def test_a_run_that_brings_nothing_stops_nothing(known: dict[str, Any], rule: str) -> None:
    sim = world()
    instead(sim, **known)
    name = await sim.ask(GOOD)
    assert await sim.run(seconds=7_200)
    one = await sim.delivery(name)
    found = facts(one)
    assert found is not None
    assert (found.measured, found.why_not.partition(":")[0], one.phase) == (False, rule, Phase.CONFIRMED)
    assert one.risk is not None
    assert one.risk.verdict.colour is Colour.GREEN


async def test_a_run_that_ci_has_forgotten_stops_nothing() -> None:
    sim = world()

    async def forgotten(run: str) -> CiRun | None:
        return None if sim.world.ci.runs[run].mutants else await seen(run)

    seen, sim.world.ci.run = sim.world.ci.run, forgotten  # type: ignore[method-assign]
    found = facts(await delivered(sim, GOOD))
    assert found is not None
    assert (found.measured, found.why_not.partition(":")[0]) == (False, "mutants/lost")


async def test_a_controller_that_dies_while_mutants_run_starts_no_second_run() -> None:
    sim = world()
    name = await sim.ask(GOOD)

    async def started() -> bool:
        return bool(await runs(sim))

    assert await sim.run(started)
    await sim.controllers[0].bury()
    sim.controllers.clear()
    sim.start("w2")
    assert await sim.run()
    assert await runs(sim) == [name]
    found = facts(await sim.delivery(name))
    assert found is not None
    assert found.measured
