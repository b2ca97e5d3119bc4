"""Running a controller in this terminal while showing what it does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from controller.domain.control import fold_people
from controller.domain.delivery import TERMINAL, Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.events import RolloutStuck
from controller.domain.ids import DeliveryId, Service, delivery_stream, people_stream, rollout_stream
from controller.domain.rollout import fold as fold_rollout
from controller.errors import ConfigError, Unavailable
from controller.history.citing import last_of, opened
from controller.terminal.screen import Screen, follow

if TYPE_CHECKING:
    from controller.ports import Log
    from controller.settings import Settings
    from controller.wiring import Controller

LOOK_SECONDS = 0.2
FIRST_RELEASE_SECONDS = 360  # its build and its start have bounds of their own, below this


class Watch:
    """A running controller and the screen that shows its log."""

    def __init__(self, running: Controller, screen: Screen, position: int) -> None:
        self.running = running
        self.screen = screen
        self.position = position
        self.stop = asyncio.Event()

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Show what happens until `done` says so, or somebody stops us."""
        while not self.stop.is_set() and not await done():
            await self.show()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), LOOK_SECONDS)
        await self.show()

    async def show(self) -> None:
        record = self.running.record
        self.position = await follow(record.log, record.seals, self.screen, self.position)


@asynccontextmanager
async def watching(running: Controller, screen: Screen, *, from_start: bool = False) -> AsyncIterator[Watch]:
    """The controller sweeps for as long as the block lasts. SIGINT and SIGTERM end it in order."""
    position = 0 if from_start else (await running.record.log.head()).size
    if position:
        await screen.recall(running.record.log)
    if not running.isolated:
        screen.say(f"Code that agents write runs as you, {running.isolation}", "bold red")
    watch = Watch(running, screen, position)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, watch.stop.set)
    sweeping = asyncio.create_task(running.sweep.run(watch.stop), name="sweep")
    sweeping.add_done_callback(lambda _: watch.stop.set())
    try:
        with screen.live():
            yield watch
    finally:
        watch.stop.set()
        await sweeping
        await watch.show()


async def told_where(watch: Watch, settings: Settings) -> None:
    """Have the edge running as configured, and say where the service is reached. Without a service nothing happens.

    Raises ConfigError when the edge cannot start, for example because its port is taken.
    """
    edge, service = watch.running.edge, settings.service
    if edge is None or service is None:
        return
    url = (await edge.ready()).url(Service(service.name))
    watch.screen.say(
        f"{service.name} is reached at {url}, whatever release serves it. "
        "Canaries are judged by the requests that arrive there."
    )


async def first_release(watch: Watch, settings: Settings) -> None:
    """Wait until some release of the service is confirmed: the branch as it is, if nothing has been deployed yet.

    Raises ConfigError when it cannot start: a change could not be compared with anything then.
    """
    service = settings.service
    if service is None:
        return
    log, stream = watch.running.record.log, rollout_stream(Service(service.name), service.environment)
    at, loop = f"{service.name}@{service.environment}", asyncio.get_running_loop()
    deadline = loop.time() + FIRST_RELEASE_SECONDS

    async def done() -> bool:
        entries = await log.read(stream)
        state = fold_rollout(stream, entries)
        words = fold_people(await log.read(people_stream(DeliveryId(at))))
        if state.stuck_reason and words.unstuck_times <= state.unstuck:
            last = last_of(entries, RolloutStuck)
            said = last.event.detail if last and isinstance(last.event, RolloutStuck) else None
            heard = f": {await opened(watch.running.record.seals, said)}" if said else ""
            raise ConfigError(
                f"{service.name} is not served: {state.stuck_reason}{heard}",
                f"Correct the service, or [service] in flyball.toml; then: flyball unstick {at}, and ask again",
            )
        if loop.time() > deadline:
            raise Unavailable(f"{service.name} has no release after {FIRST_RELEASE_SECONDS} s", "See: flyball status")
        return state.confirmed is not None

    await watch.until(done)


async def family(log: Log, root: DeliveryId) -> list[Delivery]:
    """A delivery and everything that it caused, in order."""
    found: list[Delivery] = []
    for delivery in (root, DeliveryId(f"{root}-revert"), DeliveryId(f"{root}-fix"), DeliveryId(f"{root}-fix-revert")):
        entries = await log.read(delivery_stream(delivery))
        if entries:
            found.append(fold_delivery(delivery, entries))
    return found


async def all_ended(log: Log, root: DeliveryId) -> bool:
    """Nothing of this family goes on by itself: all have ended, or wait for a person to look."""
    members = await family(log, root)
    return bool(members) and all(d.phase in TERMINAL or d.phase is Phase.STUCK for d in members)
