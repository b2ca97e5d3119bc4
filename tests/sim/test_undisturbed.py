"""The loop in a world where nobody dies."""

from __future__ import annotations

import pytest
from scenarios import (
    BAD,
    BROKEN,
    CRASHING,
    DEADLY,
    FLAKY,
    GOOD,
    MENDED,
    SLOW,
    UNBUILDABLE,
    YELLOW,
    facts_of,
    fill_the_book,
    legal,
    nothing_twice,
    one_by_one,
)
from simulated import Simulation

from controller.domain.delivery import Phase
from controller.domain.events import Cause
from controller.domain.risk import Colour
from controller.domain.rollout import ReleaseEnd, RolloutPhase
from controller.sim.world import MAIN, SHOP, SimWorld


def begun(seed: int = 1, **more: object) -> Simulation:
    sim = Simulation(SimWorld(seed, **more))  # type: ignore[arg-type]
    fill_the_book(sim.world)
    sim.start("w1")
    return sim


async def phases(sim: Simulation) -> dict[str, Phase]:
    return {
        name.rpartition("-")[2] if "-revert" in name or "-fix" in name else "task": d.phase
        for name, d in (await sim.deliveries()).items()
    }


async def checked(sim: Simulation) -> None:
    await nothing_twice(sim)
    await legal(sim)


async def test_the_first_release_is_what_stands_on_main() -> None:
    sim = begun()
    await sim.run(lambda: sim.world.served is not None)
    assert sim.world.served == sim.world.first
    await checked(sim)


async def test_a_good_change_is_confirmed_in_production() -> None:
    sim = begun()
    await one_by_one(sim, GOOD)
    assert await phases(sim) == {"task": Phase.CONFIRMED}
    assert sim.world.served == sim.world.forge.repository(SHOP).branches[MAIN]
    assert sim.world.platform.tree(sim.world.served)["list.py"] == "prices = []\n"
    await checked(sim)


async def test_an_ordinary_task_from_chat_and_an_ordinary_fix_are_green_and_untainted() -> None:
    """Who may ask taints nothing by asking, and neither do CI's words and telemetry, which the fix was written from."""
    sim = begun()
    asked = await sim.ask(BAD, source="slack")
    await sim.run()
    found = await sim.deliveries()
    fix = next(d for d in found.values() if d.asked.cause is Cause.FIX)
    for one in (found[asked], fix):
        assert one.risk is not None
        assert (one.risk.verdict.colour, one.tainted) == (Colour.GREEN, False)
    assert fix.phase is Phase.CONFIRMED


@pytest.mark.parametrize("title", [BAD, SLOW, CRASHING, DEADLY, UNBUILDABLE])
async def test_a_change_that_hurts_is_rolled_back_reverted_and_fixed(title: str) -> None:
    sim = begun()
    await one_by_one(sim, GOOD, title)
    found = await sim.deliveries()
    assert {name.rpartition("-")[2]: d.phase for name, d in found.items() if d.asked.caused_by} == {
        "revert": Phase.CONFIRMED,
        "fix": Phase.CONFIRMED,
    }
    assert sorted(d.phase for d in found.values() if not d.asked.caused_by) == [Phase.CONFIRMED, Phase.HANDED_OVER]
    ends = [release.end for release in (await sim.rollout()).ended]
    assert ends[-3:] == [ReleaseEnd.ROLLED_BACK, ReleaseEnd.NOTHING, ReleaseEnd.CONFIRMED]
    assert sim.world.served is not None
    assert any("mended" in text for text in sim.world.platform.tree(sim.world.served).values())
    await checked(sim)


async def test_a_change_that_stays_red_is_given_up_after_two_rounds() -> None:
    sim = begun()
    await one_by_one(sim, BROKEN)
    (found,) = (await sim.deliveries()).values()
    assert (found.phase, found.rounds) == (Phase.ABANDONED, 2)
    assert sim.world.forge.repository(SHOP).branches[MAIN] == sim.world.first
    await checked(sim)


async def test_a_change_that_is_mended_after_a_red_run_is_confirmed() -> None:
    sim = begun()
    await one_by_one(sim, MENDED)
    (found,) = (await sim.deliveries()).values()
    assert (found.phase, found.rounds, found.iteration) == (Phase.CONFIRMED, 2, 2)
    states = [pull.state for pull in sim.world.forge.repository(SHOP).pulls.values()]
    assert states == ["closed", "merged"]
    await checked(sim)


async def test_a_yellow_change_waits_for_consent_and_then_goes_on() -> None:
    sim = begun()
    delivery = await sim.ask(YELLOW)
    await sim.run_for(120)
    assert (await sim.delivery(delivery)).phase is Phase.CLASSIFIED
    await sim.intake.act("olga", "approve", delivery, event_id="e1")
    await sim.run()
    assert (await sim.delivery(delivery)).phase is Phase.CONFIRMED
    await checked(sim)


async def test_a_rejected_change_is_given_up() -> None:
    sim = begun()
    delivery = await sim.ask(YELLOW)
    await sim.run_for(60)
    await sim.intake.act("olga", "reject", delivery, event_id="e1")
    await sim.run()
    assert (await sim.delivery(delivery)).phase is Phase.ABANDONED
    await checked(sim)


async def test_a_conflict_in_the_queue_goes_back_to_its_author_who_starts_from_the_new_main() -> None:
    sim = begun()
    sim.world.plays("Say two", {"app.py": "def price(): return 2\n", "tests/test_two.py": "2\n"})
    sim.world.plays("Say three", {"app.py": "def price(): return 3\n", "tests/test_three.py": "3\n"})
    await sim.run(lambda: sim.world.served is not None)
    await sim.ask("Say two")
    await sim.ask("Say three")
    assert await sim.run(), await sim.state()
    found = await sim.deliveries()
    assert {d.phase for d in found.values()} == {Phase.CONFIRMED}
    assert sorted(d.iteration for d in found.values()) == [1, 2]
    await checked(sim)


async def test_a_repository_without_a_service_is_done_when_it_has_merged() -> None:
    sim = begun(with_service=False)
    await one_by_one(sim, GOOD)
    assert await phases(sim) == {"task": Phase.CONFIRMED}
    await checked(sim)


async def test_a_first_release_that_never_becomes_healthy_waits_for_a_person() -> None:
    sim = begun()
    sim.world.push_to_main({"app.py": "DEAD\n"})
    await sim.run_for(60)
    assert (await sim.rollout()).phase is RolloutPhase.STUCK
    assert sim.world.served is None


async def test_an_unrelated_merge_after_a_rollback_does_not_bring_the_bad_commit_back() -> None:
    sim = begun()
    sim.world.model.book.pop(BAD)
    bad = {"discount.py": "FAILS 10%\n", "tests/test_discount.py": "ok\n"}
    sim.world.plays(BAD, bad)  # and no fix: the agent has no idea
    await one_by_one(sim, GOOD)
    delivery = await sim.ask(BAD)

    async def rolled_back() -> bool:
        return (await sim.delivery(delivery)).phase in (Phase.ROLLED_BACK, Phase.HANDED_OVER)

    assert await sim.run(rolled_back)
    sim.world.plays("Add a footer", {"footer.py": "footer = 1\n", "tests/test_footer.py": "ok\n"})
    await sim.ask("Add a footer")
    await sim.run(seconds=1_200)
    bad_commit = (await sim.delivery(delivery)).merged.commit  # type: ignore[union-attr]
    forge = sim.world.forge
    for span in sim.world.platform.slot("shop", "production").spans:  # type: ignore[arg-type]
        after = span.from_ms > (await sim.delivery(delivery)).rolled_back.traffic_back_at.timestamp() * 1000  # type: ignore[union-attr]
        if after and span.canary is not None and await forge.contains(SHOP, span.canary, bad_commit):
            assert "FAILS 10%" not in "".join(sim.world.platform.tree(span.canary).values())
    assert "footer.py" in sim.world.platform.tree(sim.world.served)  # type: ignore[arg-type]
    assert "discount.py" not in sim.world.platform.tree(sim.world.served)  # type: ignore[arg-type]
    await checked(sim)


@pytest.mark.parametrize("seed", range(6))
async def test_a_flaky_test_costs_rounds_and_nothing_else(seed: int) -> None:
    sim = begun(seed)
    await one_by_one(sim, FLAKY)
    (found,) = (await sim.deliveries()).values()
    assert found.phase in (Phase.CONFIRMED, Phase.ABANDONED)
    assert found.rounds <= 2
    await checked(sim)


async def test_the_same_seed_gives_the_same_facts() -> None:
    runs = []
    for _ in range(2):
        sim = begun(7)
        await one_by_one(sim, GOOD, BAD)
        runs.append(await facts_of(sim))
    assert runs[0] == runs[1]
