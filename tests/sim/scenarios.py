"""Tasks as their agents would carry them out, and what is to be compared when two runs of them must agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from simulated import QUEUE, Simulation

from controller.domain import events as e
from controller.domain.ids import Commit, DeliveryId
from controller.sim.history import tree_id
from controller.sim.world import MAIN, SHOP, SimWorld

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
    fixed = {f"{name}.py": f"{name} = 1  # mended\n", **tests, f"tests/test_{name}_regression.py": f"assert {name} == 1\n"}
    world.plays(title, {f"{name}.py": f"{name} = 1  # {marker}\n", **tests}, fixes=(fixed,))


@dataclass(frozen=True)
class Facts:
    """What must not depend on when a controller was killed. Commits are named by their trees: dates are in their ids."""

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
    rollout, shop = await sim.rollout(), sim.world.forge.repository(SHOP)

    def tree(commit: Commit) -> str:
        return tree_id(shop.history.of(commit).tree)

    ended = {x.stream: x.event for x in entries if isinstance(x.event, e.SessionEnded)}
    return Facts(
        phases={d.id: tuple(phase.value for phase, _ in d.phase_times) for d in deliveries.values()},
        ends={d.id: d.phase.value for d in deliveries.values()},
        landed=tuple(x.event.deliveries for x in entries if isinstance(x.event, e.Landed)),
        main=tree(shop.branches[MAIN]),
        pulls=tuple(sorted((pull.branch, pull.state) for pull in shop.pulls.values())),
        releases=tuple((r.deliveries, tree(r.commit), r.end.value if r.end else "") for r in rollout.ended),
        served=tree(sim.world.served) if sim.world.served else None,
        told=frozenset(sim.world.chat.messages),
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
    texts = [(tell.to, tell.thread, tell.text) for tell in sim.world.chat.messages.values()]
    assert len(texts) == len(set(texts)), texts


async def legal(sim: Simulation) -> None:
    """Whatever happened: the guards are what the log says, main is what the queue landed, and no phase was skipped."""
    assert await sim.guard_differences() == []
    landed = [entry.event for entry in await sim.entries() if isinstance(entry.event, e.Landed) and entry.stream == QUEUE]
    assert all(one.verified for one in landed), landed
    if landed:
        assert sim.world.forge.repository(SHOP).branches[MAIN] == landed[-1].commit
    await _moves_are_in_the_tables(sim)


async def _moves_are_in_the_tables(sim: Simulation) -> None:
    from controller.loop import MACHINES  # noqa: PLC0415
    from controller.domain.ids import kind_of  # noqa: PLC0415

    by_stream: dict[str, list[object]] = {}
    for entry in await sim.entries():
        if kind_of(entry.stream) in MACHINES:
            by_stream.setdefault(entry.stream, []).append(entry)
    for stream, entries in by_stream.items():
        machine = MACHINES[kind_of(stream)]  # type: ignore[arg-type]
        before = machine.fold(stream, []).phase  # type: ignore[arg-type]
        for upto in range(1, len(entries) + 1):
            after = machine.fold(stream, entries[:upto]).phase  # type: ignore[arg-type]
            entry = entries[upto - 1]
            assert after is before or after in machine.next[before], (stream, before, after, entry)
            before = after


Script = Callable[[Simulation], Awaitable[list[DeliveryId]]]


async def one_by_one(sim: Simulation, *titles: str) -> None:
    """Each task is asked for when the world has come to rest after the one before."""
    for title in titles:
        await sim.ask(title)
        assert await sim.run(), await sim.state()
