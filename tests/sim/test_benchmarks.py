"""Benchmarks in the simulated world: its CI measures what the tree says, 2 % off, and the loop does the rest."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios import legal, nothing_twice
from simulated import Simulation

from controller.canary.changepoints import change_points
from controller.domain import events as e
from controller.domain.delivery import Delivery, Phase
from controller.domain.risk import Colour
from controller.history.benchmarks import landings, series
from controller.sim.world import MAIN, SHOP, SimWorld
from controller.terminal.words import line_of

NAME = "pricing_ms"
SLOWER, FASTER = "Sum the prices twice", "Sum the prices once"


async def landed(levels: Sequence[float], seed: int = 1, *, consenting: bool = True) -> Simulation:
    """A change for each level that its benchmark has; all land, one by one."""
    sim = Simulation(SimWorld(seed, with_service=False), consenting=consenting)
    sim.start("w1")
    for number, level in enumerate(levels):
        await change(sim, f"Change {number:03}", level)
    return sim


async def change(sim: Simulation, title: str, level: float) -> Delivery:
    tests = {"tests/test_pricing.py": f"assert sum([1]) == 1  # MEASURES {NAME} {level}; {title}\n"}
    sim.world.plays(title, {"pricing.py": f"total = 1  # {title}\n", **tests})
    delivery = await sim.ask(title)
    assert await sim.run(lambda: settled(sim, delivery))
    return await sim.delivery(delivery)


async def settled(sim: Simulation, delivery: object) -> bool:
    one = await sim.delivery(delivery)  # type: ignore[arg-type]
    consent = one.waiting is not None and one.waiting.waits_for is e.WaitsFor.CONSENT
    return one.phase is Phase.CONFIRMED or (consent and not sim.consenting)


async def test_a_slower_change_waits_for_a_person_who_is_shown_the_numbers() -> None:
    sim = await landed([14.2] * 14)
    sim.consenting = False
    slow = await change(sim, SLOWER, 19.8)
    assert slow.risk is not None
    assert (slow.phase, slow.risk.verdict.colour) == (Phase.CLASSIFIED, Colour.YELLOW)
    assert "yellow/benchmark-slower" in slow.risk.verdict.rules
    assert slow.risk.verdict.reason.startswith(f"yellow: slower than what has landed: {NAME} 14.")
    assert "n=14)" in slow.risk.verdict.reason
    lines = [await line_of(entry, sim.seals) for entry in await sim.entries() if slow.id in entry.stream]
    said = [line for line in lines if line is not None]
    assert any(line.detail.startswith(f"{NAME} 1") for line in said if line.text.startswith("CI round"))
    assert any("slower than what has landed" in line.text and line.tone == "care" for line in said)
    sim.close()


async def test_a_faster_change_and_one_that_is_alike_land_by_themselves() -> None:
    sim = await landed([14.2] * 14)
    sim.consenting = False
    for title, level in ((FASTER, 9.0), ("Another one like it", 14.2)):
        one = await change(sim, title, level)
        assert one.risk is not None
        assert (one.phase, one.risk.verdict.colour) == (Phase.CONFIRMED, Colour.GREEN), title
        assert one.risk.inputs.slower_benchmarks == ()
    sim.close()


async def test_nothing_is_called_slower_before_enough_has_landed() -> None:
    sim = await landed([14.2] * 9)
    sim.consenting = False
    one = await change(sim, SLOWER, 40.0)
    assert one.phase is Phase.CONFIRMED
    assert one.ci is not None
    assert one.ci.benchmarks[0].name == NAME
    sim.close()


async def test_those_who_land_after_an_accepted_slowdown_are_not_blamed_and_the_landing_that_brought_it_is() -> None:
    sim = await landed([14.2] * 14)
    slow = await change(sim, SLOWER, 19.8)
    assert slow.phase is Phase.CONFIRMED
    after = [await change(sim, f"After it {number:03}", 19.8) for number in range(6)]
    assert [one.risk.verdict.colour for one in after if one.risk] == [Colour.GREEN] * 6
    points = series(await landings(sim.log, SHOP, MAIN))[NAME]
    assert [point.landing.delivery for point in points][-7:] == [slow.id, *(one.id for one in after)]
    assert [point.landing.delivery for point in points if point.accepted(NAME)] == [slow.id]
    (found,) = change_points([float(point.value_micro) for point in points])
    landing = points[found.index].landing
    assert slow.merged is not None
    assert (landing.delivery, landing.commit) == (slow.id, slow.merged.commit)
    assert 0.35 < found.relative_change < 0.45
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_a_slowdown_on_top_of_an_accepted_one_is_seen_at_once() -> None:
    sim = await landed([14.2] * 14)
    await change(sim, SLOWER, 19.8)
    sim.consenting = False
    again = await change(sim, "Sum them three times", 26.0)
    assert again.phase is Phase.CLASSIFIED
    assert again.risk is not None
    (found,) = again.risk.inputs.slower_benchmarks
    assert 19_000_000 < found.before_micro < 20_600_000
    sim.close()
