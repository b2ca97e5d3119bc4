"""How releases were judged, told of whole simulated worlds: with callers, of one delivery, or with nothing counted."""

from __future__ import annotations

from scenarios import BAD, GOOD, SLOW, UNBUILDABLE, fill_the_book, one_by_one
from simulated import Simulation

from controller.compliance.judged import Judged, judged_of
from controller.compliance.packet_judging import how_it_was_judged
from controller.domain.ids import rest_of
from controller.domain.verdict import Outcome
from controller.sim.world import SimWorld
from controller.terminal.story import story_of


async def told(*titles: str, callers: bool = False) -> Simulation:
    sim = Simulation(SimWorld(1))
    fill_the_book(sim.world)
    sim.world.telemetry.callers = callers
    sim.start("w1")
    await one_by_one(sim, *titles)
    return sim


async def judged(sim: Simulation) -> tuple[Judged, ...]:
    return await judged_of(sim.log, sim.blobs, await sim.entries())


async def test_every_release_that_was_judged_is_told_and_agrees_with_its_record() -> None:
    found = await judged(await told(GOOD, BAD, SLOW, callers=True))
    outcomes = [one.verdict.outcome for one in found]
    assert outcomes.count(Outcome.ROLL_BACK) == 2
    assert Outcome.PROMOTE in outcomes
    for one in found:
        assert (one.again.missing, one.again.differences) == ("", ())
        assert one.judging is not None
        assert one.judging.windows[-1].log_e_micro == one.verdict.log_e_micro
        assert sum(window.canary.bad for window in one.judging.windows) == one.verdict.canary.errors
        assert sum(window.baseline.total for window in one.judging.windows) == one.verdict.baseline.requests
        assert set(one.files) == {
            f"log#{one.index}-{name}" for name in ("evidence.svg", "errors.svg", "latency.svg", "path.csv")
        }
    page = "".join(how_it_was_judged(found))
    assert page.count("<figure>") == 3 * len(found)
    assert "its callers" in page


async def of_what_regressed(sim: Simulation) -> tuple[Judged, ...]:
    """Of the first delivery that was taken back."""
    bad = next(rest_of(one.stream) for one in await sim.entries() if one.kind == "DeliveryRegressed")
    return await judged_of(sim.log, sim.blobs, await story_of(sim.log, bad))


async def test_one_deliverys_page_tells_of_its_own_releases_only() -> None:
    found = await of_what_regressed(await told(GOOD, BAD))
    assert [one.verdict.outcome for one in found] == [Outcome.ROLL_BACK]


async def test_release_that_was_never_counted_is_told_as_such() -> None:
    found = await of_what_regressed(await told(UNBUILDABLE))
    assert found == ()
    assert "".join(how_it_was_judged(found)) == "<p>No release of it was judged by counts.</p>"
