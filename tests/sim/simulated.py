"""A simulated world with its log, the controllers that work in it, and the one who moves its clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from langgraph.checkpoint.memory import InMemorySaver

from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import paths_by
from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.agents.session import Saver
from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Entry
from controller.domain.events import WaitsFor
from controller.domain.ids import DeliveryId, Digest, delivery_stream, queue_stream, rest_of, rollout_stream
from controller.domain.queue import Queue
from controller.domain.queue import fold as fold_queue
from controller.domain.rollout import Rollout, RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.intake import Intake, Source
from controller.ledger.lease import SqliteLease
from controller.ledger.rebuild import differences, rebuilt, stored
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.loop import Loop
from controller.service.sweep import Pace, Sweep
from controller.sim.assembly import Shared, wire
from controller.sim.blobs import SimBlobs
from controller.sim.process import Killed, Process
from controller.sim.world import MAIN, PRODUCTION, SERVICE, SHOP, SimWorld
from rbac.decide import Authority
from rbac.model import Served

PACE = Pace(tail=0.2, sweep=10.0, outside=2.0, window=1.0, patient=15.0)
ASKER, OWNER = "ann", "olga"
ROLLOUT = rollout_stream(SERVICE, PRODUCTION)
QUEUE = queue_stream(SHOP, MAIN)
SPINS = 400  # turns of the event loop in which everything that is not asleep comes to rest
TICKS = 6_000


@lru_cache
def authority() -> Authority:
    return Authority([Served(repository=SHOP, branch=MAIN, environments=(PRODUCTION,))])


@lru_cache
def keys() -> Path:
    """One folder of keys for all worlds: what is sealed is not what they are about."""
    return Path(mkdtemp(prefix="flyball-sim-keys-"))


POLICY = PolicyTable(TableParameters(owner=OWNER, protected=(".ci/**",)))


class Everyone:
    """All people may do everything."""

    digest = Digest("sha256:" + "0" * 64)

    def may_person(self, person: str, act: str, repository: str | None) -> bool:
        del person, act, repository
        return True


@dataclass
class Controller:
    process: Process
    sweep: Sweep

    @property
    def dead(self) -> bool:
        return self.process.dead

    async def bury(self) -> None:
        """Nothing of it runs on."""
        tasks = list(self.sweep.driving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Simulation:
    world: SimWorld
    path: Path | str = ":memory:"
    keep_checkpoints: bool = True
    controllers: list[Controller] = field(default_factory=list)
    consented: set[object] = field(default_factory=set)
    consenting: bool = False  # somebody consents to whatever asks for it
    ticks: int = 0

    def __post_init__(self) -> None:
        inline = SqliteLog(self.path, self.world.clock, inline=True)
        self.log = inline
        self.blobs = SimBlobs()
        self.seals = LocalSeals(keys(), self.blobs)
        self.saver = InMemorySaver()
        grants = RbacGrants(authority())
        lease = SqliteLease(self.path, self.world.clock, inline=True)
        checkpoints = self._kept if self.keep_checkpoints else None
        self.shared = Shared(
            self.log, lease, self.blobs, self.seals, POLICY, grants, authority(), paths_by(authority()), checkpoints
        )
        self.intake = Intake(log=self.log, seals=self.seals, standing=Everyone())

    def _kept(self) -> AbstractAsyncContextManager[Saver]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Saver]:
            yield self.saver

        return opened()

    def start(
        self,
        name: str,
        *,
        kill_at: int | None = None,
        racing: Random | None = None,
        sweep: type[Sweep] = Sweep,
        **more: object,
    ) -> Controller:
        """A new process with nothing but the log and the world."""
        process = Process(name, self.world.clock, kill_at=kill_at, racing=racing, **more)  # type: ignore[arg-type]
        wired = wire(self.world, self.shared, process)
        heart = sweep(wired.ports, Loop(wired.ports), wired.lease, wired.runner.run, PACE)
        controller = Controller(process, heart)
        self.controllers.append(controller)
        return controller

    async def ask(self, title: str, event_id: str = "", source: Source = "cli") -> DeliveryId:
        asked = await self.intake.ask(
            ASKER, title, repository=SHOP, branch=MAIN, source=source, event_id=event_id or title
        )
        return asked.delivery

    async def delivery(self, delivery: DeliveryId) -> Delivery:
        return fold_delivery(delivery, await self.log.read(delivery_stream(delivery)))

    async def rollout(self) -> Rollout:
        return fold_rollout(ROLLOUT, await self.log.read(ROLLOUT))

    async def queue(self) -> Queue:
        return fold_queue(QUEUE, await self.log.read(QUEUE))

    async def entries(self) -> list[Entry]:
        return [entry async for entry in self.log.scan()]

    async def deliveries(self) -> dict[DeliveryId, Delivery]:
        names = {e.stream: None for e in await self.entries() if e.stream.startswith("delivery/")}
        return {DeliveryId(rest_of(name)): await self.delivery(DeliveryId(rest_of(name))) for name in names}

    async def resting(self) -> bool:
        """Every delivery has ended and no release is under way."""
        if await self.log.live("delivery/"):
            return False
        return (await self.rollout()).phase in (RolloutPhase.IDLE, RolloutPhase.STUCK)

    async def run(
        self,
        until: Callable[[], object] | None = None,
        *,
        seconds: float = 3_600,
        order: Random | None = None,
        bury: bool = True,
    ) -> bool:
        """Let the controllers work until the world rests (or `until` says so). False: time is up, or all are dead."""
        over = self.world.clock.now() + timedelta(seconds=seconds)
        for _ in range(TICKS):
            if await self._reached(until):
                return True
            living = [one for one in self.controllers if not one.dead]
            if not living or self.world.clock.now() >= over:
                return False
            if order is not None:
                order.shuffle(living)
            await self._round(living)
            if self.consenting:
                await self._consent()
            if bury:
                await self._bury_the_dead()
        raise AssertionError(f"the world does not come to rest: {await self.state()}")

    async def run_for(self, seconds: float) -> None:
        async def never() -> bool:
            return False

        await self.run(never, seconds=seconds)

    async def _consent(self) -> None:
        for row in await self.log.live("delivery/"):
            if row.waits_on is None or not row.waits_on.startswith("people/"):
                continue
            one = await self.delivery(DeliveryId(rest_of(row.stream)))
            if one.waiting is not None and one.waiting.waits_for is WaitsFor.CONSENT and one.head not in self.consented:
                self.consented.add(one.head)
                await self.intake.act("olga", "approve", one.id, event_id=f"consent-{one.head}")

    async def _reached(self, until: Callable[[], object] | None) -> bool:
        found = (until or self.resting)()
        return bool(await found) if asyncio.iscoroutine(found) else bool(found)

    async def _round(self, living: Sequence[Controller]) -> None:
        for one in living:
            self.ticks += 1
            with contextlib.suppress(Killed):
                await one.sweep.tick()
        await self._come_to_rest(living)
        await self._move_the_clock([one for one in living if not one.dead])

    async def _come_to_rest(self, living: Sequence[Controller]) -> None:
        """Until everything is done or sleeps on the virtual clock."""
        tasks = [task for one in living for task in one.sweep.driving.values()]
        while not self.world.clock.sleeping:
            await asyncio.sleep(0)
            if all(task.done() for task in tasks):
                await asyncio.sleep(0)  # what is done takes itself off the list
                _retrieve(tasks)
                return
        for _ in range(SPINS):
            await asyncio.sleep(0)
        _retrieve(tasks)

    async def _move_the_clock(self, living: Sequence[Controller]) -> None:
        now = self.world.clock.now()
        size = (await self.log.head()).size
        times = [at for one in living for stream, at in one.sweep.due.items() if stream not in one.sweep.driving]
        times += [one.sweep.next_sweep for one in living if one.sweep.next_sweep is not None]
        waking = self.world.clock.next_waking()
        if waking is not None:
            times.append(waking)
        if any(one.sweep.position < size for one in living):
            times.append(now + timedelta(seconds=PACE.tail))
        soonest = min(times, default=now + timedelta(seconds=1))
        self.world.clock.advance_to(max(soonest, now + timedelta(milliseconds=50)))

    async def _bury_the_dead(self) -> None:
        for one in [one for one in self.controllers if one.dead]:
            self.controllers.remove(one)
            await one.bury()

    async def state(self) -> Mapping[str, object]:
        """For a person who must understand a seed."""
        found = {
            d.id: (d.phase.value, d.waiting and d.waiting.reason, d.failures, d.end_reason)
            for d in (await self.deliveries()).values()
        }
        rollout = await self.rollout()
        return {
            "at": self.world.clock.now(),
            "deliveries": found,
            "rollout": rollout.phase,
            "stuck": rollout.stuck_reason,
            "queue": (await self.queue()).phase,
            "driving": [list(c.sweep.driving) for c in self.controllers],
        }

    async def guard_differences(self) -> list[tuple[str, str]]:
        return list(differences(rebuilt(await self.entries()), stored(self.log._writer.db)))

    def close(self) -> None:
        self.log.close()


def _retrieve(tasks: Sequence[asyncio.Task[None]]) -> None:
    """A killed process leaves tasks behind whose end nobody waits for."""
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
