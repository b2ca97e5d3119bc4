"""Tasks as their agents would carry them out, and what is to be compared when two runs of them must agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from simulated import QUEUE, Simulation

from controller.domain import delivery, queue, rollout
from controller.domain import events as e
from controller.domain.bounds import RolloutPlan
from controller.domain.delivery import Delivery
from controller.domain.entry import Entry
from controller.domain.ids import Commit, DeliveryId, StreamId, kind_of, rest_of
from controller.domain.queue import Queue
from controller.domain.rollout import Rollout
from controller.loop import MACHINES
from controller.sim.history import tree_id
from controller.sim.world import MAIN, PLAN, SHOP, SimWorld

APPROVAL = re.compile(r"approval-[0-9a-f]+")  # its key names a head, and so a date
GOOD, BAD, BROKEN, MENDED = "Add a price list", "Add a discount", "Rewrite the cart", "Round the prices"
YELLOW, DEADLY, CRASHING, SLOW = "Rename a label", "Change the start", "Cache the cart", "Sort the items"
UNBUILDABLE, FLAKY = "Pin a compiler", "Test the clock"


def fill_the_book(world: SimWorld) -> None:
    world.plays(GOOD, {"list.py": "prices = []\n", "tests/test_list.py": "assert prices == []\n"})
    _bad(world, BAD, "discount", "FAILS 10%")
    _bad(world, DEADLY, "start", "DEAD")
    _bad(world, CRASHING, "cache", "CRASHES")
    _bad(world, SLOW, "sort", "SLOW")
    _bad(world, UNBUILDABLE, "compiler", "UNBUILDABLE")
    broken = {"cart.py": "items = None  # BROKEN\n", "tests/test_cart.py": "assert items\n"}
    world.plays(BROKEN, broken, {**broken, "cart.py": "items = 0  # BROKEN again\n"})
    rounded = {"app.py": "def price(): return 2\n", "tests/test_round.py": "assert price() == 2\n"}
    world.plays(MENDED, {**rounded, "app.py": "def price(): return '2'  # BROKEN\n"}, rounded)
    world.plays(YELLOW, {"app.py": "def price(): return 1  # label\n"})
    world.plays(FLAKY, {"clock.py": "now = 0\n", "tests/test_clock.py": "assert now == 0  # FLAKY 40%\n"})


def _bad(world: SimWorld, title: str, name: str, marker: str) -> None:
    """Passes CI with tests of its own, and is no good in production; the fix mends it."""
    tests = {f"tests/test_{name}.py": f"assert {name}\n"}
    fixed = {
        f"{name}.py": f"{name} = 1  # mended\n",
        **tests,
        f"tests/test_{name}_regression.py": f"assert {name} == 1\n",
    }
    world.plays(title, {f"{name}.py": f"{name} = 1  # {marker}\n", **tests}, fixes=(fixed,))


@dataclass(frozen=True)
class Facts:
    """What must not depend on when a controller was killed. Commits are named by their trees: their ids hold dates."""

    phases: dict[str, tuple[str, ...]]
    ends: dict[str, str]
    landed: tuple[tuple[str, ...], ...]  # what each landing carried
    main: str
    pulls: tuple[tuple[str, str], ...]
    releases: tuple[tuple[tuple[str, ...], str, str], ...]  # deliveries, tree, end
    served: str | None
    told: frozenset[str]
    sessions: dict[str, tuple[str, int]]  # outcome and turns


async def facts_of(sim: Simulation) -> Facts:
    entries, deliveries = await sim.entries(), await sim.deliveries()
    released, shop = await sim.rollout(), sim.world.forge.repository(SHOP)

    def tree(commit: Commit) -> str:
        return tree_id(shop.history.of(commit).tree)

    ended = {x.stream: x.event for x in entries if isinstance(x.event, e.SessionEnded)}
    return Facts(
        phases={d.id: tuple(phase.value for phase, _ in d.phase_times) for d in deliveries.values()},
        ends={d.id: d.phase.value for d in deliveries.values()},
        landed=tuple(x.event.deliveries for x in entries if isinstance(x.event, e.Landed)),
        main=tree(shop.branches[MAIN]),
        pulls=tuple(sorted((pull.branch, pull.state) for pull in shop.pulls.values())),
        releases=tuple((r.deliveries, tree(r.commit), r.end.value if r.end else "") for r in released.ended),
        served=tree(sim.world.served) if sim.world.served else None,
        # Pages depend on when the canary was looked at: evidence that alarms at one moment may fade by the next.
        told=frozenset(APPROVAL.sub("approval", key) for key in sim.world.chat.messages if not key.startswith(PAGES)),
        sessions={name: (event.outcome, event.turns) for name, event in ended.items()},
    )


async def nothing_twice(sim: Simulation) -> None:
    """Every key acted at most once, and nothing was done twice under two keys either."""
    twice = {key: times for key, times in sim.world.acted().items() if times > 1}
    assert not twice, twice
    pulls = [pull.branch for pull in sim.world.forge.repository(SHOP).pulls.values()]
    assert len(pulls) == len(set(pulls)), pulls
    landings = [entry.event.commit for entry in await sim.entries() if isinstance(entry.event, e.Landed)]
    assert len(landings) == len(set(landings)), landings
    messages = sim.world.chat.messages.items()  # consent is asked for again, in the same words, for every head
    texts = [(tell.to, tell.thread, tell.text) for key, tell in messages if not APPROVAL.search(key)]
    assert len(texts) == len(set(texts)), texts


async def legal(sim: Simulation) -> None:
    """Whatever happened: the guards are what the log says, main is what the queue landed, and no phase was skipped."""
    assert await sim.guard_differences() == []
    landed = [
        entry.event for entry in await sim.entries() if isinstance(entry.event, e.Landed) and entry.stream == QUEUE
    ]
    assert all(one.verified for one in landed), landed
    if landed:
        assert sim.world.forge.repository(SHOP).branches[MAIN] == landed[-1].commit
    await _moves_are_in_the_tables(sim)


async def _moves_are_in_the_tables(sim: Simulation) -> None:
    states: dict[str, Any] = {}
    for entry in await sim.entries():
        if (kind := kind_of(entry.stream)) not in EVOLVE:
            continue
        begin, evolve = EVOLVE[kind]
        before = states.get(entry.stream) or begin(entry.stream)
        after = states[entry.stream] = evolve(before, entry)
        moved = after.phase is not before.phase
        assert not moved or after.phase in MACHINES[kind].next[before.phase], (before.phase, after.phase, entry)


EVOLVE: dict[str, tuple[Callable[[StreamId], Any], Callable[[Any, Entry], Any]]] = {
    "delivery": (lambda stream: Delivery(DeliveryId(rest_of(stream))), delivery.evolve),
    "queue": (Queue, queue.evolve),
    "rollout": (Rollout, rollout.evolve),
}


PAGES = ("page/", "unknown/page/")  # what is told of a canary depends on when it is looked at
QUICK = PLAN.model_copy(update={"steps_percent": (25, 100), "step_dwell_ms": 1_000, "bake_ms": 2_000})
_undisturbed: dict[tuple[int, tuple[str, ...]], tuple[Facts, int]] = {}


def begun(seed: int, plan: RolloutPlan = QUICK, *, keep_checkpoints: bool = True) -> Simulation:
    """A world with its book of plays and somebody who consents; nobody works in it yet."""
    sim = Simulation(SimWorld(seed, plan=plan), keep_checkpoints=keep_checkpoints, consenting=True)
    fill_the_book(sim.world)
    return sim


async def undisturbed(seed: int, story: tuple[str, ...]) -> tuple[Facts, int]:
    """The facts of the run in which nobody dies, and how many points it has at which somebody could."""
    if (seed, story) not in _undisturbed:
        sim = begun(seed)
        only = sim.start("undisturbed")
        await one_by_one(sim, *story)
        _undisturbed[seed, story] = (await facts_of(sim), only.process.points)
        sim.close()
    return _undisturbed[seed, story]


async def agrees(sim: Simulation, expected: Facts, story: object) -> None:
    """It has ended as the undisturbed run did, legally, and nothing was done twice. Closes it."""
    found = await facts_of(sim)
    for name in Facts.__dataclass_fields__:
        assert getattr(found, name) == getattr(expected, name), f"{name} of {story}"
    await nothing_twice(sim)
    await legal(sim)
    for one in sim.controllers:
        await one.bury()
    sim.close()


async def one_by_one(sim: Simulation, *titles: str, order: Random | None = None) -> None:
    """Each task is asked for when the world has come to rest after the one before."""
    for title in titles:
        await sim.ask(title)
        assert await sim.run(order=order), await sim.state()
