"""The platform of a repository that has no service: there is nothing to deploy, and whoever asks has made a mistake."""
# ruff: noqa: ARG002 - the arguments are the ports'; nothing here looks at what was asked

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from controller.domain.counts import TraceGroup, WindowCounts
from controller.domain.events import Label
from controller.domain.ids import Commit, EffectKey, Service
from controller.domain.verbs import Verb
from controller.domain.verdict import Exemplars
from controller.errors import Permanent
from controller.ports import Baseline, PlatformStatus

WAY_OUT = "Add a [service] section to flyball.toml; `flyball init` shows one"


class NoService:
    """`Platform`, `Telemetry` and the hands of the platform's verbs where no service is configured."""

    source = "nothing: no service is configured"
    label = Label.LIVE

    async def status(self, service: Service, environment: str) -> PlatformStatus:
        _no(f"{service}@{environment}")

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        _no(service)

    async def baseline(
        self, service: Service, version: Commit, *, from_ms: int, to_ms: int, width_ms: int = 10_000
    ) -> Baseline:
        _no(service)

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        _no(service)

    async def exemplars(self, service: Service, *, canary: Commit, baseline: Commit) -> Exemplars:
        _no(service)

    async def excluded(self, service: Service) -> Mapping[str, int]:
        _no(service)

    async def traces(self, service: Service, *, from_ms: int, to_ms: int) -> list[TraceGroup]:
        _no(service)

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        _no(verb.name)

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        _no(verb.name)


def _no(what: str) -> NoReturn:
    raise Permanent(f"no service is configured, and {what} was asked for", WAY_OUT)
