"""Platforms and telemetries that the contract suites run against, by name.

To put another one under the same tests, add a file `world_<name>.py` beside this one that registers its factory here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from controller.domain.ids import Commit, Repository, Service
from controller.ports import Hands, Platform, Telemetry


class Behaviour(StrEnum):
    WELL = "well"
    NEVER_HEALTHY = "never_healthy"
    UNBUILDABLE = "unbuildable"


class ActingPlatform(Platform, Hands, Protocol):
    """A platform with the hands for its verbs."""


class PlatformWorld(Protocol):
    service: Service
    environment: str
    repository: Repository

    @property
    def platform(self) -> ActingPlatform: ...

    def now_ms(self) -> int: ...

    async def commit(self, behaviour: Behaviour) -> Commit:
        """A new commit of the service's repository that behaves so, with an artefact unlike every other's."""
        ...

    async def traffic(self, requests: int) -> Counter[str]:
        """So many user requests now: how many each commit has answered. "" counts those that none has."""
        ...

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        """Let time pass until `look` is true; fail, saying `what`, when it takes longer than it may."""
        ...

    async def close(self) -> None: ...


class Tells(StrEnum):
    """What a telemetry may tell besides requests, failures and latencies."""

    LATE = "late requests"
    ROUTES = "routes"
    CALLERS = "callers"
    GAUGES = "gauges"


class TelemetryWorld(Protocol):
    """One whose telemetry tells more is a `TellingWorld`, for what its `tells` names."""

    service: Service

    @property
    def telemetry(self) -> Telemetry: ...

    def now_ms(self) -> int:
        """A minute and more of the past is still open for counts."""
        ...

    async def served(
        self, version: Commit, instance: str, *, at_ms: int, requests: int, errors: int, latency_ms: float
    ) -> None:
        """The service's telemetry tells of these requests, which ended at `at_ms`."""
        ...

    async def close(self) -> None: ...


class TellingWorld(TelemetryWorld, Protocol):
    tells: frozenset[Tells]

    async def served_route(self, version: Commit, route: str, *, at_ms: int, requests: int, errors: int) -> None:
        """As `served`, of one route."""
        ...

    async def called(self, version: Commit, *, at_ms: int, requests: int, errors: int) -> None:
        """Callers tell of requests to this version of the service, which ended at `at_ms`."""
        ...

    async def level(self, version: Commit, instance: str, *, at_ms: int, name: str, value: float) -> None:
        """The service's telemetry tells a gauge's value."""
        ...


PLATFORMS: dict[str, Callable[[Path], Awaitable[PlatformWorld]]] = {}
TELEMETRIES: dict[str, Callable[[Path], Awaitable[TelemetryWorld]]] = {}
