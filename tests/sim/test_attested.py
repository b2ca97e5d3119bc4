"""Whatever lands is spoken of exactly once, with the same words, whoever dies on the way."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scenarios import BAD, GOOD, MENDED, QUICK, YELLOW, fill_the_book, legal, nothing_twice, one_by_one
from simulated import PACE, QUEUE, Controller, Simulation

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.events.provenance import attestation_stream
from controller.domain.ids import EffectKey
from controller.domain.verbs import AnnotateCommit, Verb
from controller.errors import Permanent
from controller.loop import Loop
from controller.ports import Attestor, Blobs
from controller.provenance import dsse
from controller.provenance.attestation import APPROVED, LEVEL_2, LEVEL_3
from controller.provenance.attestation_key import FileAttestor
from controller.service.sweep import Sweep
from controller.sim.assembly import wire
from controller.sim.process import Process
from controller.sim.world import SHOP, SimWorld

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ATTESTOR = FileAttestor(KEY)


class Attesting(Simulation):
    def start(self, name: str, *, kill_at: int | None = None, **more: object) -> Controller:
        return self.start_as(Process(name, self.world.clock, kill_at=kill_at, **more))  # type: ignore[arg-type]

    def start_as(self, process: Process, attestor: Attestor | None = ATTESTOR) -> Controller:
        """`attestor` None: a controller that says nothing about what lands."""
        wired = wire(self.world, self.shared, process)
        ports = replace(wired.ports, attestor=attestor)
        controller = Controller(process, Sweep(ports, Loop(ports), wired.lease, wired.runner.run, PACE))
        self.controllers.append(controller)
        return controller


def begun(seed: int) -> Attesting:
    sim = Attesting(SimWorld(seed, plan=QUICK), consenting=True)
    fill_the_book(sim.world)
    return sim


async def _spoken_of(sim: Simulation) -> dict[str, tuple[e.Landed, e.MergeAttested]]:
    """Every landing with its one entry; fails where one has none, or where somebody else is spoken of."""
    entries = await sim.entries()
    landed = {x.event.commit: x for x in entries if isinstance(x.event, e.Landed)}
    said = {x.event.commit: x for x in entries if isinstance(x.event, e.MergeAttested)}
    assert said.keys() == landed.keys()
    assert not [x for x in entries if isinstance(x.event, e.MergeUnattested)]
    for commit, entry in said.items():
        assert entry.stream == attestation_stream(commit)
        assert entry.index > landed[commit].index
        assert isinstance(entry.event, e.MergeAttested)
        assert entry.event.landed == landed[commit].index
    return {commit: (_landed(landed[commit]), _attested(said[commit])) for commit in landed}


def _landed(entry: Entry) -> e.Landed:
    assert isinstance(entry.event, e.Landed)
    return entry.event


def _attested(entry: Entry) -> e.MergeAttested:
    assert isinstance(entry.event, e.MergeAttested)
    return entry.event


async def _statements_hold(sim: Simulation, blobs: Blobs) -> None:
    """The blob, the repository and the log say the same, signed, and once."""
    beside = sim.world.forge.repository(SHOP).statements
    spoken_of = await _spoken_of(sim)
    assert beside.keys() == spoken_of.keys()
    for commit, (landed, said) in spoken_of.items():
        envelope = await blobs.get(said.envelope)
        assert beside[landed.commit] == envelope.decode()
        statement = json.loads(dsse.verified(envelope, [KEY.public_key()]))
        assert statement["subject"][0]["digest"] == {"gitCommit": commit}
        assert tuple(statement["predicate"]["verifiedLevels"]) == said.levels
    acts = Counter(one.verb.commit for one in sim.world.acts if isinstance(one.verb, AnnotateCommit))
    assert set(acts.values()) <= {1}, acts


async def test_every_landing_is_spoken_of_with_an_honest_level() -> None:
    sim = begun(1)
    sim.start("only")
    await one_by_one(sim, GOOD, YELLOW, MENDED)
    await _statements_hold(sim, sim.blobs)
    spoken_of = list((await _spoken_of(sim)).values())
    assert [said.levels[0] for _, said in spoken_of] == [LEVEL_2, LEVEL_3, LEVEL_3]
    assert [APPROVED in said.levels for _, said in spoken_of] == [False, True, False]
    assert all(said.agent_lines > 0 and said.commits == 2 for _, said in spoken_of)
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def test_after_a_push_past_the_queue_the_level_falls_and_then_rises_again() -> None:
    sim = begun(1)
    sim.start("only")
    await one_by_one(sim, GOOD)
    sim.world.push_to_main({"by_hand.py": "1\n"})
    await one_by_one(sim, YELLOW, MENDED)
    levels = [said.levels[0] for _, said in (await _spoken_of(sim)).values()]
    assert levels == [LEVEL_2, LEVEL_2, LEVEL_3]
    sim.close()


async def test_a_revert_by_code_has_a_statement_and_no_agents_lines() -> None:
    sim = begun(1)
    sim.start("only")
    await one_by_one(sim, BAD)
    await _statements_hold(sim, sim.blobs)
    reverts = [said for landed, said in (await _spoken_of(sim)).values() if "revert" in landed.deliveries[0]]
    assert [(said.agent_lines, said.commits) for said in reverts] == [(0, 1)]
    sim.close()


@dataclass
class Watched(Process):
    """Remembers what it was about to do, or had done, at each of its points."""

    places: list[str] = field(default_factory=list)

    async def point(self, where: str) -> None:
        self.places.append(where)
        await super().point(where)


POINTS = 14  # from the landing's act to the entry about it: each append and each act has one before and one after


async def _window() -> tuple[int, dict[tuple[str, ...], tuple[str, ...]]]:
    """The first of those points, and what is said when nobody dies."""
    sim = begun(1)
    process = Watched("calm", sim.world.clock)
    sim.start_as(process)
    await one_by_one(sim, GOOD)
    first = next(n for n, place in enumerate(process.places, 1) if place.startswith("before forge.land"))
    last = process.places.index("after append MergeAttested") + 1
    assert last == first + POINTS - 1, process.places[first - 1 : last]
    said = {(*map(str, landed.deliveries),): event.levels for landed, event in (await _spoken_of(sim)).values()}
    sim.close()
    return first, said


@pytest.mark.parametrize("number", range(POINTS))
async def test_killed_at_any_point_from_the_landing_on_it_is_spoken_of_once_in_the_same_words(number: int) -> None:
    first, expected = await _window()
    sim = begun(1)
    dying = sim.start("w1", kill_at=first + number)
    await sim.ask(GOOD)
    await sim.run()
    assert dying.dead
    sim.world.clock.advance(Random(number).choice((0, 1, 20, 100)))
    sim.start("w2")
    await one_by_one(sim, GOOD)
    assert await sim.run(lambda: _all_settled(sim)), await sim.state()
    await _statements_hold(sim, sim.blobs)
    assert {
        (*map(str, landed.deliveries),): event.levels for landed, event in (await _spoken_of(sim)).values()
    } == expected
    assert not await sim.log.live("effect/annotate/")
    await nothing_twice(sim)
    await legal(sim)
    sim.close()


async def _all_settled(sim: Simulation) -> bool:
    entries = await sim.entries()
    landed = [x for x in entries if isinstance(x.event, e.Landed)]
    said = [x for x in entries if isinstance(x.event, e.MergeAttested)]
    return len(landed) == len(said)


async def test_of_three_racing_workers_each_landing_is_spoken_of_once() -> None:
    for number in range(3):
        sim = begun(number % 2)
        for name in ("one", "two", "three"):
            sim.start(name, racing=Random(number * 10 + len(name)))
        await one_by_one(sim, GOOD, MENDED, order=Random(number))
        assert await sim.run(lambda: _all_settled(sim)), await sim.state()  # noqa: B023 - awaited here
        await _statements_hold(sim, sim.blobs)
        await nothing_twice(sim)
        sim.close()


async def test_a_repository_that_takes_no_notes_keeps_nobody_from_landing_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sim = begun(1)
    sim.start("only")
    act = sim.world.forge.act

    async def full(key: EffectKey, verb: Verb) -> object:
        if isinstance(verb, AnnotateCommit):
            raise Permanent("the notes are full", "Begin a new repository")
        return await act(key, verb)

    monkeypatch.setattr(sim.world.forge, "act", full)
    await one_by_one(sim, GOOD, YELLOW)
    said = [x.event for x in await sim.entries() if isinstance(x.event, e.MergeUnattested)]
    assert [one.reason for one in said] == ["the notes are full. Begin a new repository"] * 2
    assert [x.stream for x in await sim.log.live("attestation/")] == []
    sim.close()


async def test_landings_from_before_there_was_a_key_are_spoken_of_when_there_is_one() -> None:
    sim = begun(1)
    without = sim.start_as(Process("without", sim.world.clock), None)
    await one_by_one(sim, GOOD)
    assert not [x for x in await sim.entries() if isinstance(x.event, e.MergeAttested)]
    sim.controllers.remove(without)
    await without.bury()
    sim.start("with")
    await one_by_one(sim, YELLOW)
    assert await sim.run(lambda: _all_settled(sim)), await sim.state()
    await _statements_hold(sim, sim.blobs)
    assert QUEUE in {x.stream for x in await sim.entries()}
    sim.close()
