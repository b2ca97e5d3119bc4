"""Seeded releases of several changes, one of them at fault, and the traces that its users leave; shared incidents too.

The repository has 113 files: one that stands on every stack, handlers, services and helpers below them. A change
touches a few; some touch settings too, which never stand on a stack. A fault breaks in one of its own files, or a level
below one, or, so often as `off_stack` says, somewhere that has nothing to do with it. Some requests of both arms fail
for no reason of the release, anywhere, and did so before it. A change is at fault in proportion to the logarithm of
its size. How often a faulty change is off its stack is not known: `off_stack` is an assumption, and the bench shows
more than one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from controller.canary.blame import Scene, Suspected
from controller.canary.evidence import Arms
from controller.domain.counts import TraceGroup
from controller.domain.ids import DeliveryId
from controller.domain.risk import Colour

ARMS = Arms("shop@new", "shop@old")
ENTRY = "shop/app.py"
HANDLERS = tuple(f"shop/handlers/h{number}.py" for number in range(12))
SERVICES = tuple(f"shop/services/s{number}.py" for number in range(40))
HELPERS = tuple(f"shop/helpers/u{number}.py" for number in range(60))
CODE = (ENTRY, *HANDLERS, *SERVICES, *HELPERS)
SETTINGS = ("settings/limits.toml", "settings/rates.json", "migrations/0042.sql")
ROOT = "srv/builds/7f3a"  # as the processes know it
PHI_MILLI = 2_000
ONSET_MS = 1_000_000
BEFORE = 3  # times as many requests as were judged


@dataclass(frozen=True)
class Kind:
    """What a run of incidents is like."""

    off_stack: float = 0.05  # of faults of code
    passed_down: float = 0.2  # of the others, those that break a level below the changed file
    mixed: float = 0.05  # changes that touch settings too
    only_settings: float = 0.03
    yellow: float = 0.25
    most_changes: int = 6
    shared: bool = False  # a dependency fails behind both arms, and no change is at fault


@dataclass(frozen=True)
class Incident:
    suspects: tuple[Suspected, ...]
    culprit: DeliveryId | None  # None: no change did it
    on_stack: bool  # whether the culprit's files stand on the failing stacks
    scene: Scene


def incident(seed: int, kind: Kind) -> Incident:
    dice = Random(f"incident {seed}")  # noqa: S311 - simulated users
    suspects = tuple(_change(dice, number, kind) for number in range(dice.randint(2, kind.most_changes)))
    if kind.shared:
        return Incident(suspects, None, False, _scene(dice, (), shared=True))
    guilty = dice.choices(suspects, [math.log2(one.lines + 1) for one in suspects])[0]
    stack = _fault(dice, guilty, kind)
    on_stack = any(file in guilty.files for file in stack)
    return Incident(suspects, guilty.delivery, on_stack, _scene(dice, stack, shared=False))


def _change(dice: Random, number: int, kind: Kind) -> Suspected:
    files = set(dice.sample(CODE, dice.choice((1, 1, 2, 2, 3, 5))))
    chance = dice.random()
    if chance < kind.only_settings:
        files = {dice.choice(SETTINGS)}
    elif chance < kind.only_settings + kind.mixed:
        files.add(dice.choice(SETTINGS))
    lines = round(dice.lognormvariate(3.3, 1.2)) + 1
    colour = Colour.YELLOW if dice.random() < kind.yellow else Colour.GREEN
    tests = (f"tests/test_{number}.py",)
    return Suspected(DeliveryId(f"shop-{number:06x}"), (*sorted(files), *tests), lines, colour, ONSET_MS - 60_000)


def _fault(dice: Random, guilty: Suspected, kind: Kind) -> tuple[str, ...]:
    """The failing stack, innermost first."""
    code = [file for file in guilty.files if file in CODE]
    settings = any(file in SETTINGS for file in guilty.files)
    if not code or dice.random() < (0.5 if settings else kind.off_stack):
        return _stack(dice, dice.choice(CODE[1:]))
    broken = dice.choice(code)
    return _stack(dice, broken, deeper=dice.random() < kind.passed_down)


def _stack(dice: Random, broken: str, *, deeper: bool = False) -> tuple[str, ...]:
    below = [dice.choice(HELPERS)] if deeper and broken not in HELPERS else []
    above = [] if broken == ENTRY else [ENTRY]
    if broken in HELPERS:
        above = [dice.choice(SERVICES), dice.choice(HANDLERS), *above]
    elif broken in SERVICES:
        above = [dice.choice(HANDLERS), *above]
    return tuple(dict.fromkeys((*below, broken, *above)))


def _scene(dice: Random, stack: Sequence[str], *, shared: bool) -> Scene:
    traces = round(10 ** dice.uniform(2.8, 4.2))  # of both arms, sampled
    canary = round(traces * dice.choice((0.05, 0.1, 0.25, 0.5)))
    usual, bad = 10 ** dice.uniform(-3.5, -2.3), dice.uniform(0.05, 0.5)
    if not shared:
        bad = max(bad, 15 / canary)  # what a judge has crossed its line on
    found = Counter[tuple[str, str | None, tuple[str, ...]]]()
    anywhere = _stack(dice, dice.choice(CODE))
    for node, requests in ((ARMS.canary, canary), (ARMS.baseline, traces - canary)):
        failing = _times(dice, requests, bad) if shared or node == ARMS.canary else 0
        noise = _times(dice, requests - failing, usual)
        origin = "stock@s1" if shared else node
        found[node, origin, tuple(anywhere if shared else stack)] += failing
        for _ in range(noise):
            found[node, node, _stack(dice, dice.choice(CODE))] += 1
        found[node, None, ()] += requests - failing - noise
    before = Counter[tuple[str, str | None, tuple[str, ...]]]()
    for _ in range(_times(dice, BEFORE * traces, usual)):
        before[ARMS.baseline, ARMS.baseline, _stack(dice, dice.choice(CODE))] += 1
    return Scene(ARMS, _groups(found), PHI_MILLI, ONSET_MS, _groups(before))


def _groups(counted: Mapping[tuple[str, str | None, tuple[str, ...]], int]) -> list[TraceGroup]:
    return [
        TraceGroup(
            through=(node, "stock@s1"),
            route="/pay",
            origin=origin,
            files=tuple(f"{ROOT}/{file}" for file in files),
            traces=count,
        )
        for (node, origin, files), count in counted.items()
        if count
    ]


def _times(dice: Random, of: int, rate: float) -> int:
    """How many of so many happen; by the normal approximation where they are many."""
    if of * rate > 50:  # noqa: PLR2004 - the approximation is good from here on
        return min(of, max(0, round(dice.gauss(of * rate, (of * rate * (1 - rate)) ** 0.5))))
    return sum(dice.random() < min(1.0, rate) for _ in range(of))
