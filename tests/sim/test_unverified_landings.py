"""A landing that is not what was tested: while it stands nothing lands, nothing is deployed, and people know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from random import Random

import pytest
from scenarios import GOOD, begun, nothing_twice
from simulated import ASKER, QUEUE, Simulation

from controller.canary.choosing import unproven
from controller.domain import events as e
from controller.domain.control import branch_scope
from controller.domain.delivery import Phase
from controller.domain.ids import Commit, DeliveryId, EffectKey, Repository
from controller.domain.queue import QueuePhase
from controller.domain.verbs import Build, LandCommit, SetWeight, StartCanary, Tell, Verb
from controller.ports import Candidate, Conflict
from controller.sim.history import tree_id
from controller.sim.world import MAIN, SHOP

SCOPE = branch_scope(SHOP, MAIN)
NEXT = "Add an opening time"
Tampering = Callable[[Simulation, LandCommit], object]


async def serving(seed: int = 1) -> Simulation:
    sim = begun(seed)
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.run_for(5)
    sim.world.plays(NEXT, {"time.py": "opens = 9\n", "tests/test_time.py": "assert opens == 9\n"})
    return sim


def after_landing(sim: Simulation, tamper: Tampering, *, times: int = 1) -> None:
    """Somebody acts between the landing and the look at it."""
    counted, left = sim.world.forge.counted, [times]

    def watching(key: EffectKey, verb: Verb) -> None:
        counted(key, verb)
        if isinstance(verb, LandCommit) and left[0]:
            left[0] -= 1
            tamper(sim, verb)

    sim.world.forge.counted = watching


def moved_away(sim: Simulation, verb: LandCommit) -> None:
    sim.world.forge.repository(SHOP).branches[MAIN] = verb.expect


def moved_on(sim: Simulation, _: LandCommit) -> None:
    sim.world.push_to_main({"by_hand.py": "1\n"})


def another_tree(sim: Simulation, verb: LandCommit) -> None:
    """As a forge does that squashes onto the wrong base: other content under the name that was tested."""
    history = sim.world.forge.repository(SHOP).history
    was = history.of(verb.commit)
    files = {path: text.replace("prices = []", "prices = [1]") for path, text in was.tree.items()}
    history.commits[verb.commit] = replace(was, tree=files)


def merging_in_strays(sim: Simulation, path: str = "stray.py") -> None:
    """The first change that is merged from now on brings in a file that it does not have."""
    forge, merge = sim.world.forge, sim.world.forge.merge
    made: set[Commit] = set()

    async def evil(
        repository: Repository, base: Commit, head: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        found = await merge(repository, base, head, message, at)
        if isinstance(found, Conflict) or (made and head not in made):
            return found
        made.add(head)
        history = forge.repository(repository).history
        tree = {**history.of(found.commit).tree, path: "nobody has looked at this\n"}
        one = history.make(tree, (base, head), message, at)
        return Candidate(one.id, tree_id(one.tree))

    forge.merge = evil  # type: ignore[method-assign]


async def doubted(sim: Simulation) -> e.LandingDoubted | None:
    found = [x.event for x in await sim.entries() if isinstance(x.event, e.LandingDoubted)]
    return found[-1] if found else None


async def until_doubted(sim: Simulation) -> e.LandingDoubted:
    assert await sim.run(lambda: doubted(sim)), await sim.state()
    found = await doubted(sim)
    assert found is not None
    return found


async def landings(sim: Simulation) -> list[e.Landed]:
    return [x.event for x in await sim.entries() if isinstance(x.event, e.Landed)]


async def counts(sim: Simulation) -> Counter[str]:
    return Counter(entry.kind for entry in await sim.entries())


def deployed(sim: Simulation) -> list[Commit]:
    """Every commit that the platform was told to build or start."""
    return [one.verb.commit for one in sim.world.acts if isinstance(one.verb, Build | StartCanary)]


def weights(sim: Simulation) -> int:
    return sum(isinstance(one.verb, SetWeight) for one in sim.world.acts)


def told(sim: Simulation) -> list[Tell]:
    return [tell for tell in sim.world.chat.messages.values() if "NOT VERIFIED" in tell.text]


async def phase_of(sim: Simulation, delivery: DeliveryId) -> Phase:
    return (await sim.delivery(delivery)).phase


KINDS: dict[str, Tampering] = {"missing": moved_away, "another_tree": another_tree}


@pytest.mark.parametrize("kind", ["missing", "another_tree", "stray_files"])
async def test_while_a_landing_is_not_verified_nothing_else_lands_and_nothing_is_deployed(kind: str) -> None:
    sim = await serving()
    if kind == "stray_files":
        merging_in_strays(sim)
    else:
        after_landing(sim, KINDS[kind])
    built, weighed = deployed(sim), weights(sim)
    bad = await sim.ask(GOOD)
    event = await until_doubted(sim)
    assert kind in event.doubts
    (landed,) = await landings(sim)
    assert (landed.verified, landed.doubts) == (False, event.doubts)
    later = await sim.ask(NEXT)
    await sim.run_for(1_800)
    assert await phase_of(sim, later) is Phase.CLEARED  # it waits in line
    assert await phase_of(sim, bad) is Phase.STUCK
    assert await landings(sim) == [landed]
    assert (await counts(sim))["LandingPlanned"] == 1
    assert (deployed(sim), weights(sim)) == (built, weighed)
    assert [(row.scope, row.state) for row in await sim.log.control()] == [(SCOPE, "frozen")]
    await nothing_twice(sim)
    sim.close()


async def test_who_asked_and_who_is_on_call_are_told_once_with_the_way_out() -> None:
    sim = await serving()
    after_landing(sim, moved_away)
    await sim.ask(GOOD)
    await until_doubted(sim)
    await sim.run_for(600)
    asker = sim.seals.pseudonym(ASKER)
    assert sorted(tell.to for tell in told(sim)) == sorted([asker, "on-call"])
    assert all(f"flyball resume {SCOPE}" in tell.text for tell in told(sim))
    assert all("does not hold the commit that was tested" in tell.text for tell in told(sim))
    sim.close()


async def test_its_revert_is_asked_for_waits_for_the_person_and_then_lands_first() -> None:
    sim = await serving()
    merging_in_strays(sim)
    bad = await sim.ask(GOOD)
    event = await until_doubted(sim)
    assert event.repair == DeliveryId(f"{bad}-revert")
    later = await sim.ask(NEXT)
    await sim.run_for(1_200)
    revert = await sim.delivery(event.repair)
    assert (revert.phase, revert.asked.cause) == (Phase.CLEARED, e.Cause.REVERT)
    assert revert.asked.bad_commit == event.commit
    built = len(deployed(sim))
    await sim.intake.resume("olga", SCOPE, "I have looked", event_id="r")
    assert await sim.run(lambda: merged(sim, later)), await sim.state()
    order = [one.deliveries[0] for one in await landings(sim)]
    assert order == [bad, event.repair, later]
    history = sim.world.forge.repository(SHOP).history
    await sim.run_for(600)
    assert deployed(sim)[built:], "what is mended goes out"
    assert all("stray.py" not in history.of(commit).tree for commit in deployed(sim)[built:])
    sim.close()


async def merged(sim: Simulation, delivery: DeliveryId) -> bool:
    return (await sim.delivery(delivery)).merged is not None


async def test_lifting_the_freeze_alone_deploys_nothing_of_the_landing() -> None:
    """Whatever lands on top of it carries it, and waits for its cure or for the person's word."""
    sim = await serving()
    merging_in_strays(sim)
    bad = await sim.ask(GOOD)
    event = await until_doubted(sim)
    assert event.repair is not None
    await sim.run_for(60)
    await sim.intake.act("olga", "hold", event.repair, event_id="hold")
    built = deployed(sim)
    await sim.intake.resume("olga", SCOPE, "go on without its revert", event_id="r")
    later = await sim.ask(NEXT)
    assert await sim.run(lambda: merged(sim, later)), await sim.state()
    await sim.run_for(1_800)
    assert deployed(sim) == built
    await sim.intake.act("olga", "unstick", bad, event_id="u")  # a person has looked, and it is right
    assert await sim.run(lambda: event.commit in deployed(sim)), await sim.state()
    sim.close()


async def test_a_revert_that_is_not_verified_is_not_reverted_again() -> None:
    sim = await serving()
    merging_in_strays(sim)
    await sim.ask(GOOD)
    first = await until_doubted(sim)
    assert first.repair is not None
    merging_in_strays(sim, "other.py")
    await sim.run_for(300)
    await sim.intake.resume("olga", SCOPE, "let the revert land", event_id="r")
    assert await sim.run(lambda: twice(sim)), await sim.state()
    second = await doubted(sim)
    assert second is not None
    assert (second.repair, second.doubts) == (None, ("stray_files",))
    assert "undoing it would bring back what it undid" in second.proposal
    assert [row.state for row in await sim.log.control()] == ["frozen"]
    assert len({delivery for delivery in await sim.deliveries() if "revert" in delivery}) == 1
    sim.close()


async def twice(sim: Simulation) -> bool:
    return (await counts(sim))["LandingDoubted"] == 2


async def test_somebody_who_pushes_on_top_of_a_landing_does_not_make_it_doubtful() -> None:
    sim = await serving()
    after_landing(sim, moved_on)
    delivery = await sim.ask(GOOD)
    assert await sim.run(), await sim.state()
    (landed,) = await landings(sim)
    assert (landed.verified, landed.doubts) == (True, ())
    assert await phase_of(sim, delivery) is Phase.CONFIRMED
    assert await sim.log.control() == []
    sim.close()


async def test_a_branch_that_is_gone_is_not_verified() -> None:
    sim = await serving()
    after_landing(sim, lambda sim, _: sim.world.forge.repository(SHOP).branches.pop(MAIN))
    await sim.ask(GOOD)
    assert (await until_doubted(sim)).doubts == ("missing",)
    sim.close()


async def test_the_freeze_is_lifted_by_a_named_person_and_nobody_else() -> None:
    sim = await serving()
    after_landing(sim, moved_away)
    await sim.ask(GOOD)
    await until_doubted(sim)
    later = await sim.ask(NEXT)
    await sim.run_for(300)
    await sim.intake.resume("olga", SCOPE, "it was me", event_id="r")
    assert await sim.run(lambda: merged(sim, later)), await sim.state()
    lifted = [x.event for x in await sim.entries() if isinstance(x.event, e.Resumed)]
    assert [one.by for one in lifted] == [sim.seals.pseudonym("olga")]
    assert (await sim.queue()).phase is QueuePhase.IDLE
    sim.close()


async def doubted_by(kill_at: int | None) -> tuple[Simulation, range]:
    """A first controller that dies at this point, and the points that lie between the request and the freeze."""
    sim = begun(1)
    first = sim.start("w1", kill_at=kill_at)
    await sim.run(lambda: sim.world.served is not None)
    await sim.run_for(5)
    merging_in_strays(sim)
    await sim.ask(GOOD)
    before = first.process.points
    await sim.run(lambda: doubted(sim), seconds=300)
    return sim, range(before, first.process.points)


@pytest.mark.parametrize("seed", range(4))
async def test_controllers_that_race_and_die_act_on_it_once(seed: int) -> None:
    undisturbed, points = await doubted_by(None)
    undisturbed.close()
    for at in Random(seed).sample(points[len(points) // 2 :], 4):
        sim, _ = await doubted_by(at)
        sim.start("w2")
        sim.start("w3")
        event = await until_doubted(sim)
        await sim.run_for(300)
        seen = await counts(sim)
        assert (seen["LandingDoubted"], seen["Frozen"], seen["Landed"]) == (1, 1, 1), at
        requests = [x.event for x in await sim.entries() if isinstance(x.event, e.TaskRequested)]
        assert [one.delivery for one in requests if one.cause is e.Cause.REVERT] == [event.repair]
        assert len(told(sim)) == 2
        await nothing_twice(sim)
        for one in sim.controllers:
            await one.bury()
        sim.close()


async def test_the_queue_says_in_the_log_why_and_what_next() -> None:
    sim = await serving()
    after_landing(sim, another_tree)
    await sim.ask(GOOD)
    event = await until_doubted(sim)
    entry = next(x for x in await sim.entries() if x.event == event)
    assert (entry.stream, entry.principal) == (QUEUE, "agent:merger")
    assert event.decision.rules == ("queue/verified-or-frozen",)
    assert "flyball resume" in event.proposal
    sim.close()


async def test_a_branch_that_has_moved_to_a_landing_nobody_has_looked_at_is_not_deployed() -> None:
    """Between the act and the entry about it, the tip is the landing already."""
    sim = await serving()
    forge, act, ports = sim.world.forge, sim.world.forge.act, sim.controllers[0].sweep.ports
    seen: list[str | None] = []

    async def acting(key: EffectKey, verb: Verb) -> object:
        result = await act(key, verb)
        if isinstance(verb, LandCommit):
            assert forge.repository(SHOP).branches[MAIN] == verb.commit
            seen.extend([await unproven(ports, SHOP, verb.expect), await unproven(ports, SHOP, verb.commit)])
        return result

    forge.act = acting  # type: ignore[method-assign,assignment]
    await sim.ask(GOOD)
    assert await sim.run(), await sim.state()
    assert seen == [None, "landing 1 of it is not verified yet"]
    (landed,) = await landings(sim)
    assert await unproven(ports, SHOP, landed.commit) is None
    sim.close()


async def test_what_landed_before_is_not_deployed_either_while_its_branch_is_frozen() -> None:
    sim = await serving()
    await sim.intake.stop("olga", "agent:releaser", "wait", event_id="s")
    first = await sim.ask(GOOD)
    assert await sim.run(lambda: merged(sim, first)), await sim.state()
    after_landing(sim, moved_away)
    await sim.ask(NEXT)
    await until_doubted(sim)
    built = deployed(sim)
    await sim.intake.resume("olga", "agent:releaser", "go on", event_id="r1")
    await sim.run_for(600)
    assert deployed(sim) == built
    assert await phase_of(sim, first) is Phase.MERGED
    await sim.intake.resume("olga", SCOPE, "I have looked", event_id="r2")
    assert await sim.run(lambda: len(deployed(sim)) > len(built)), await sim.state()
    sim.close()
