"""The demo's score: three tasks, asked for one after the other, and what became of them.

Cut off anywhere, it goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from controller.adapters.edge_start import ensure_edge
from controller.commands.common import person
from controller.commands.models import live_model, scripted_model
from controller.commands.watching import Watch, all_ended, family, first_release, watching
from controller.demo.stage import PRESUMPTUOUS, RPS, TASKS, book, make_source, traffic, write_settings
from controller.domain.delivery import Delivery, Phase
from controller.domain.events import Cause, Label
from controller.domain.ids import DeliveryId
from controller.embedded import bring_in, edge_config
from controller.errors import Unavailable
from controller.metrics.deliveries import record_of, recoveries
from controller.recording import Folder, discard
from controller.service.sweep import Pace
from controller.settings import FILE, Settings, load
from controller.terminal.report import delivery_row, print_summary, recovery_row
from controller.terminal.screen import Screen
from controller.wiring import Controller, ModelChoice, controller

PACE = Pace(tail=0.1, sweep=5.0, outside=0.2, window=0.5, patient=5.0)
HOLD_MS = 1_000
ORPHAN_SECONDS = 300  # the edge of a demo that nobody takes up again ends by itself
SETTLE_SECONDS = 4  # of traffic before the first task, so that there is a baseline to compare with


async def conduct(state: Path, screen: Screen, *, fresh: bool, accept_plain: bool = False) -> int:
    """Exit code: 0 when all three tasks ended as they should."""
    folder = Folder(state)
    if fresh:
        discard(folder)
    folder.make()
    make_source(state)
    write_settings(state, accept_plain=accept_plain)
    settings = load(state / FILE)
    bring_in(settings, state, folder)
    config = edge_config(settings, state, folder, ORPHAN_SECONDS, HOLD_MS)
    if config is None:
        raise Unavailable("the demo has no service", "This is a defect in the demo's settings")
    began = time.monotonic()
    with _model(settings) as model:
        _introduce(screen, settings, state, model)
        handle = await ensure_edge(folder.edge, config)
        async with (
            controller(
                settings,
                state,
                folder,
                model,
                label=Label.LOAD_TEST,
                pace=PACE,
                orphan_seconds=ORPHAN_SECONDS,
                hold_ms=HOLD_MS,
            ) as running,
            watching(running, screen) as watch,
        ):
            screen.heading("The shop goes live")
            await first_release(watch, settings)
            with traffic(handle.url(settings.configured(state).service.name), state):  # type: ignore[union-attr]
                await watch.until(_after(SETTLE_SECONDS))
                asked = await _ask_all(watch, settings, state)
            good = await _summary(running, screen, asked, state, time.monotonic() - began)
            if running.edge is not None:
                await running.edge.ask("POST", "/shutdown", 10)
    return 0 if good else 1


def _model(settings: Settings) -> AbstractContextManager[ModelChoice]:
    return live_model(settings) if os.environ.get("ANTHROPIC_API_KEY") else scripted_model(book())


def _introduce(screen: Screen, settings: Settings, state: Path, model: ModelChoice) -> None:
    screen.heading("Flyball demo")
    screen.say(f"State in {state} (kept). Model answers are {model.label.value.upper()}; everything else is real:")
    screen.say(
        "git, test runs, builds, the shop service behind a weighted proxy, OpenTelemetry, the judge, the roll-back."
    )
    plan, judge = settings.rollout, settings.judge
    steps = ", ".join(f"{percent} %" for percent in plan.steps_percent)
    slower = 2 ** (judge.tolerance_buckets / 8)
    screen.say(
        f"Canary steps {steps}; windows of {plan.window_ms} ms; {RPS} requests a second of load-test traffic. "
        f"Roll-back at alpha {judge.alpha_ppm / 1e6:g}; demo bound for promotion: "
        f"fewer than {judge.slo_error_ppm / 1e4:g} % of requests fail; up to {slower:g} times as slow is tolerated."
    )


def _after(seconds: float) -> Callable[[], Awaitable[bool]]:
    until = time.monotonic() + seconds

    async def done() -> bool:
        return time.monotonic() >= until

    return done


async def _ask_all(watch: Watch, settings: Settings, state: Path) -> dict[str, DeliveryId]:
    """Ask for each task, and for the next when it has ended. A task that was asked for before is only waited for."""
    repository = settings.configured(state)
    intake, log = watch.running.record.intake, watch.running.record.log
    asked: dict[str, DeliveryId] = {}
    tasks = {
        "good": ("1. A good change", _sentence("good")),
        "bad": ("2. A change that passes its tests and hurts users", _sentence("bad")),
        "refused": ("3. An agent that tries what it may not", PRESUMPTUOUS),
    }
    for name, (heading, task) in tasks.items():
        if watch.stop.is_set():
            break
        watch.screen.heading(heading)
        one = await intake.ask(
            person(),
            task,
            repository=repository.name,
            branch=repository.branch,
            source="cli",
            event_id=f"demo-{name}",
            feature=f"demo/{name}",
        )
        asked[name] = one.delivery

        async def ended(root: DeliveryId = one.delivery) -> bool:
            return await all_ended(log, root)

        await watch.until(ended)
    return asked


def _sentence(name: str) -> str:
    import yaml  # noqa: PLC0415

    return str(yaml.safe_load((TASKS / f"{name}.yaml").read_text())["task"])


async def _summary(
    running: Controller, screen: Screen, asked: dict[str, DeliveryId], state: Path, seconds: float
) -> bool:
    log = running.record.log
    record, head = await record_of(log), await log.head()
    backs = [back for rollout in record.rollouts for back in recoveries(rollout)]
    good = await _as_it_should(running, asked, len(backs))
    screen.value(
        "summary",
        {
            "as_it_should": good,
            "seconds": round(seconds, 1),
            "deliveries": [delivery_row(d, record.spent_on(d.id)) for d in record.deliveries],
            "recoveries": [recovery_row(back) for back in backs],
            "log": {"size": head.size, "root": head.root, "witnessed": False},
        },
    )
    if screen.json_lines:
        return good
    screen.heading(f"Summary ({seconds:.0f} s)")
    await print_summary(screen.console, record, head, running.record.seals)
    screen.heading("Look further")
    for command, what in (
        (f"flyball status --dir {state}", "where everything is"),
        (f"flyball show {asked.get('bad', 'DELIVERY')} --dir {state}", "the bad change's story, with every reason"),
        (f"flyball log verify --dir {state}", "recompute the tree and the guards from the entries"),
        (f"git -C {state}/forge/shop.git log --graph --oneline main", "what landed"),
        (f"flyball messages --dir {state}", "what people were told"),
    ):
        screen.say(f"  {command}")
        screen.say(f"      {what}", "bright_black")
    if not good:
        screen.say("\nNot every task ended as it should have: see above.", "bold red")
    return good


async def _as_it_should(running: Controller, asked: dict[str, DeliveryId], rolled_back: int) -> bool:
    """Task 1 confirmed; task 2 rolled back, reverted and fixed; task 3 given up with nothing merged."""
    members = {name: await family(running.record.log, root) for name, root in asked.items()}
    bad = {d.asked.cause: d.phase for d in members.get("bad", [])}
    return (
        _phases(members.get("good", [])) == [Phase.CONFIRMED]
        and bad == {Cause.TASK: Phase.HANDED_OVER, Cause.REVERT: Phase.CONFIRMED, Cause.FIX: Phase.CONFIRMED}
        and _phases(members.get("refused", [])) == [Phase.ABANDONED]
        and rolled_back == 1
    )


def _phases(members: list[Delivery]) -> list[Phase]:
    return [d.phase for d in members]
