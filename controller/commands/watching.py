"""Running a controller in this terminal while showing what it does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from controller.domain.delivery import TERMINAL, Delivery, Phase
from controller.domain.delivery import fold as fold_delivery
from controller.domain.ids import DeliveryId, delivery_stream
from controller.terminal.screen import Screen, follow

if TYPE_CHECKING:
    from controller.ports import Log
    from controller.wiring import Controller

LOOK_SECONDS = 0.2


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
