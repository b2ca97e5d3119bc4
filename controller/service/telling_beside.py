"""Beside a controller: whom Flyball tells about itself, if anybody, and how long a controller's end waits for it."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controller import VERSION
from controller.adapters.otel_export import OtlpReceiver, headers_of
from controller.errors import ConfigError, Permanent
from controller.metrics import conventions as c
from controller.ports import Clock, Lease, Log
from controller.ports.telling import Value
from controller.provenance.log_places import origin_of
from controller.service.telling import Telling
from controller.settings import TelemetrySection

logger = logging.getLogger("flyball.telemetry")
MEMORY = "telemetry.json"
SPECIFIED = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's own variables: https://opentelemetry.io/docs/specs/otel/
DISABLED = "OTEL_SDK_DISABLED"
NAMESPACE = uuid.UUID("8b1f5b0e-6b0a-5d57-9a3e-1d3a6f1d2c47")  # of the logs' instance ids; any constant would do


@dataclass(frozen=True, slots=True)
class Target:
    """Where it is told, and with which secrets."""

    endpoint: str
    headers: str  # as OTEL_EXPORTER_OTLP_HEADERS spells them; empty: none, or those of that variable


def target_of(section: TelemetrySection, env: Mapping[str, str]) -> Target | None:
    """None: nobody wants to hear. Raises ConfigError for an address that is none, or a secret that is not there."""
    endpoint = section.endpoint or env.get(SPECIFIED, "")
    if not endpoint or env.get(DISABLED, "").lower() == "true":
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{SPECIFIED} is {endpoint!r}", "Begin it with http:// or https://, as http://127.0.0.1:4318")
    name = section.headers_env
    if name and not env.get(name):
        raise ConfigError(f"{name} is not set, and telemetry.headers_env names it", "Set it, like: authorization=…")
    return Target(endpoint, env.get(name, "") if name else "")


@asynccontextmanager
async def telling(
    section: TelemetrySection, folder: Path, named: str, *, log: Log, clock: Clock, lease: Lease, owner: str
) -> AsyncIterator[Telling | None]:
    """Tell beside what the caller does, if anybody wants to hear. `named`: the log's name; empty: its own."""
    target = target_of(section, os.environ)
    if target is None:
        yield None
        return
    origin = named or await _own_name(log)
    receiver = OtlpReceiver(
        target.endpoint,
        headers=headers_of(target.headers),
        timeout_s=section.timeout_seconds,
        resource=resource_of(origin),
        scope=(c.SCOPE, VERSION, c.SCHEMA_URL),
    )
    teller = Telling(
        log=log,
        clock=clock,
        receiver=receiver,
        origin=origin,
        memory=folder / MEMORY,
        lease=lease,
        owner=owner,
        every_s=section.interval_seconds,
    )
    task = asyncio.create_task(teller.run(), name="own telemetry")
    task.add_done_callback(_say_why)
    try:
        yield teller
    finally:
        teller.ends()
        await asyncio.wait({task}, timeout=2 * section.timeout_seconds)
        task.cancel()
        await asyncio.wait({task})
        await teller.leave()


def resource_of(origin: str) -> dict[str, Value]:
    """Who tells. The instance is the log: its figures go on whichever controller tells them."""
    return {
        c.SERVICE_NAME: "flyball",
        c.SERVICE_VERSION: VERSION,
        c.SERVICE_INSTANCE_ID: str(uuid.uuid5(NAMESPACE, origin)),
    }


async def _own_name(log: Log) -> str:
    async for entry in log.scan():
        return origin_of(entry.leaf)
    raise Permanent("the log is empty, so it has no name yet", "Let a controller start on it first")


def _say_why(task: asyncio.Task[None]) -> None:
    """Own telemetry that ends by itself takes nothing along, and is not silent about it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("own telemetry has ended: %s", error, exc_info=error)
