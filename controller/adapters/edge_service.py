"""One service in one environment: its instances, its routes, and what the verbs do to them.

Moves towards users are durable before traffic follows; the way back happens first and is written down afterwards. A
weight's deadline is enforced twice: by routing, which asks the time at every request, and by a timer, which records
that the weight has lapsed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from controller.adapters.edge_artefact import artefact_folder
from controller.adapters.edge_build import build, pruned
from controller.adapters.edge_config import ServiceSettings
from controller.adapters.edge_http import LOOPBACK, get_status, loopback
from controller.adapters.edge_probes import Probes
from controller.adapters.edge_processes import Instance, Life
from controller.adapters.edge_proxy import Proxy
from controller.adapters.edge_release import Group, OtlpAddress, started
from controller.adapters.edge_routes import Routes
from controller.adapters.edge_state import BuildRecord, Deployed, ServiceState, StateKeeper
from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.sandbox import Sandbox
from controller.domain.verbs import (
    Build,
    Built,
    CanaryStarted,
    ConfirmRelease,
    Ok,
    Restored,
    RestoreTraffic,
    SetWeight,
    StartCanary,
    WeightSet,
)
from controller.errors import Permanent
from controller.ports import PlatformStatus

BUILDS_KEPT = 20  # of all services
GOOD_CHECKS = 3  # in a row, after a return to the confirmed release
CHECKS_WITHIN_S = 8.0
log = logging.getLogger("flyball.edge")


class EdgeService:
    def __init__(
        self,
        settings: ServiceSettings,
        keeper: StateKeeper,
        folder: Path,
        otlp: OtlpAddress,
        now_ms: Callable[[], int],
        *,
        sandbox: Sandbox,
    ) -> None:
        self.settings = settings
        self._sandbox = sandbox
        self.seen_by_proxy = ServiceCounts()
        self.told_by_otlp = ServiceCounts(settings.health, settings.gauges)
        self.told_by_callers = ServiceCounts(settings.health)
        self.proxy = Proxy(self.seen_by_proxy, settings.health, now_ms)
        self.port = settings.port
        self._keeper = keeper
        self._store = folder / "artefacts"
        self._otlp = otlp
        self._now_ms = now_ms
        self._confirmed: Group | None = None  # None: nothing is deployed
        self._canary: Group | None = None  # None: the slot is free
        self._acting = asyncio.Lock()
        self._building = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._deadline: asyncio.TimerHandle | None = None  # None: no weight can lapse
        self._server: asyncio.Server | None = None  # None: not opened
        self._probes = Probes(lambda: self.settings, lambda: self.port, lambda: self.proxy.routes.exposes(now_ms()))
        self._probing: asyncio.Task[None] | None = None  # None: not opened

    @property
    def state(self) -> ServiceState:
        return self._keeper.state.services.get(self.settings.slot, ServiceState())

    async def open(self) -> None:
        """Listen, and start the confirmed release again. Raises `OSError` when the port is taken."""
        self._server = await self.proxy.listen(self.settings.port)
        self.port = self._server.sockets[0].getsockname()[1]
        await self._remember(self.state.restarted(self._now_ms()))
        if self.state.confirmed is not None:
            self._confirmed = await self._start(self.state.confirmed, restarts=True)
        self._route()
        self._probing = asyncio.create_task(self._probes.run(), name=f"probes {self.settings.slot}")

    def configure(self, settings: ServiceSettings) -> None:
        """What the next build, instance, probe or export reads."""
        self.settings = settings
        self.told_by_otlp.gauges = settings.gauges

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        if self._deadline is not None:
            self._deadline.cancel()
        if self._server is not None:
            self._server.close()
        for group in (self._canary, self._confirmed):
            if group is not None:
                self._leave(group)
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self.proxy.close()

    # --- verbs

    async def build(self, verb: Build) -> Built:
        if verb.repository != self.settings.repository:
            raise Permanent(
                f"{self.settings.slot} is built from {self.settings.repository}, not from {verb.repository}"
            )
        key = f"{self.settings.slot} {verb.commit}"
        async with self._building:
            record = self._keeper.state.builds.get(key)
            if record is None or not artefact_folder(self._store, record.artefact).exists():
                record = await build(self.settings, verb.commit, self._store, self._sandbox)
                await self._keep_build(key, record)
        return Built(artefact=record.artefact, duration_ms=record.duration_ms, isolation=record.isolation)

    async def _keep_build(self, key: str, record: BuildRecord) -> None:
        states = self._keeper.state.services.values()
        used = {held.artefact for state in states for held in (state.confirmed, state.canary) if held is not None}
        builds = {**self._keeper.state.builds, key: record}
        kept = await asyncio.to_thread(pruned, builds, used, BUILDS_KEPT, self._store)
        await self._keeper.update(
            lambda state: state.with_builds({**kept, **{k: v for k, v in state.builds.items() if k not in builds}})
        )

    async def start_canary(self, verb: StartCanary) -> CanaryStarted:
        wanted = Deployed(release=verb.release, commit=verb.commit, artefact=verb.artefact, instances=verb.instances)
        async with self._acting:
            held = self._canary
            down = held is None or all(one.life is Life.DOWN for one in held.instances)
            after = self.state.canary_started(wanted, self._now_ms(), held_is_down=down)
            if held is None or down or held.arm.release != wanted.release:
                fresh = await self._start(wanted, restarts=False)
                if held is not None:
                    self._leave(held)
                self._canary = held = fresh
            await self._remember(after)
            self._route()
            return CanaryStarted(instances=len(held.instances))

    async def set_weight(self, verb: SetWeight) -> WeightSet:
        async with self._acting:
            after = self.state.weight_set(verb.release, verb.weight_percent, verb.until_ms, self._now_ms())
            if verb.weight_percent and (self._canary is None or not self._canary.healthy):
                reason = (self._canary.reason or "it is starting") if self._canary else "it is gone"
                raise Permanent(
                    f"release {verb.release} gets no traffic, it is not healthy: {reason}",
                    "Restore traffic, then look at it",
                )
            await self._remember(after)
            self._route()
        return WeightSet(weight_percent=verb.weight_percent, until_ms=verb.until_ms)

    async def confirm(self, verb: ConfirmRelease) -> Ok:
        async with self._acting:
            after = self.state.confirmed_by(verb.release, self._now_ms())
            if self._canary is None:
                return Ok()  # it is confirmed already
            if not self._canary.healthy:
                raise Permanent(
                    f"release {verb.release} cannot be confirmed: {self._canary.reason or 'it is starting'}",
                    "Restore traffic",
                )
            await self._remember(after)
            former, self._confirmed, self._canary = self._confirmed, self._canary, None
            for instance in self._confirmed.instances:
                instance.restarts = True
            self._route()
            if former is not None:
                self._leave(former)
        return Ok()

    async def restore(self, verb: RestoreTraffic) -> Restored:
        """Traffic first, then the record, then the health of what it went back to."""
        async with self._acting:
            after = self.state.restored(verb.release, self._now_ms(), stop_canary=verb.stop_canary)
            gone = self._canary if verb.stop_canary else None
            if gone is not None:
                self._canary = None
            self.proxy.routes = replace(self.proxy.routes, canary=None, weight_percent=0, until_ms=None)
            at_ms = self._now_ms()
            if gone is not None:
                self._leave(gone)
            await self._remember(after)
            self._route()
        return Restored(at_ms=at_ms, health_checks=await self._good_checks())

    async def _good_checks(self) -> int:
        """Consecutive good checks through the public port, GOOD_CHECKS at most. 0: nothing is deployed or well."""
        now = asyncio.get_running_loop().time
        deadline, good = now() + CHECKS_WITHIN_S, 0
        while self._confirmed is not None and good < GOOD_CHECKS and now() < deadline:
            host = f"{LOOPBACK}:{self.port}"
            status = await get_status(loopback(self.port), host, self.settings.health, deadline - now())
            good = good + 1 if status == 200 else 0  # noqa: PLR2004
            await asyncio.sleep(0.05)
        return good

    # --- what is so now

    def status(self) -> PlatformStatus:
        state, now_ms = self.state, self._now_ms()
        canary, confirmed, group = state.canary, state.confirmed, self._canary
        weight = canary.weight_at(now_ms) if canary else 0
        expired = canary is not None and canary.until_ms is not None and now_ms >= canary.until_ms
        until_ms = canary.until_ms if canary and weight else None
        return PlatformStatus(
            confirmed_commit=confirmed.commit if confirmed else None,
            confirmed_release=confirmed.release if confirmed else None,
            canary_release=canary.release if canary else None,
            canary_commit=canary.commit if canary else None,
            canary_healthy=group is not None and group.healthy,
            canary_reason=group.reason if group else "",
            weight_percent=weight,
            weight_until=datetime.fromtimestamp(until_ms / 1000, UTC) if until_ms is not None else None,
            lapsed_release=canary.release if canary and expired else state.lapsed_release,
        )

    def instances(self) -> list[Instance]:
        return [one for group in (self._confirmed, self._canary) if group for one in group.instances]

    # --- inside

    async def _remember(self, after: ServiceState) -> None:
        if after != self.state:
            await self._keeper.update(lambda state: state.with_service(self.settings.slot, after))

    def _route(self) -> None:
        """Routes and timer follow the state."""
        canary = self.state.canary
        weight, until_ms = (canary.weight_percent, canary.until_ms) if canary else (0, None)
        self.proxy.routes = Routes(
            confirmed=self._confirmed.arm if self._confirmed else None,
            canary=self._canary.arm if self._canary else None,
            weight_percent=weight,
            until_ms=until_ms,
        )
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if until_ms is not None:
            delay_s = max(0.0, (until_ms - self._now_ms()) / 1000)
            self._deadline = asyncio.get_running_loop().call_later(delay_s, self._on_deadline, until_ms)

    def _on_deadline(self, until_ms: int) -> None:
        """By the monotonic clock: setting the wall clock back buys a canary nothing."""
        task = asyncio.create_task(self._lapse(until_ms), name=f"lapse {self.settings.slot}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _lapse(self, until_ms: int) -> None:
        if self.proxy.routes.until_ms == until_ms:
            self.proxy.routes = replace(self.proxy.routes, weight_percent=0)
        async with self._acting:
            canary = self.state.canary
            after = self.state.lapsed(max(until_ms, self._now_ms())) if canary and canary.until_ms == until_ms else None
            if after is not None:
                log.warning(
                    "%s: nobody renewed the weight of release %s, it is 0 now", self.settings.slot, after.lapsed_release
                )
                await self._remember(after)
            self._route()

    async def _start(self, wanted: Deployed, *, restarts: bool) -> Group:
        return await started(self.settings, wanted, self._store, self._otlp, self._sandbox, restarts=restarts)

    def _leave(self, group: Group) -> None:
        """Its instances are ended in the background; closing waits for them."""
        task = asyncio.create_task(group.drain_and_stop(), name=f"drain {self.settings.slot}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
