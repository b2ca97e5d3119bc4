"""The instances of one release: how they are started, what they are told about themselves, and how they leave.

They keep their connections when the release changes its role from canary to confirmed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.edge_artefact import artefact_folder
from controller.adapters.edge_config import ServiceSettings, filled
from controller.adapters.edge_processes import Instance, StartPlan
from controller.adapters.edge_routes import Arm, arm_of
from controller.adapters.edge_state import Deployed
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_doors import place_of
from controller.errors import Permanent

DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class OtlpAddress:
    """Where instances send their telemetry, and what lets them in."""

    endpoint: str
    token: str


@dataclass(frozen=True, slots=True)
class Group:
    """The instances of one release. They keep their connections when the release changes its role."""

    arm: Arm
    instances: tuple[Instance, ...]

    @property
    def healthy(self) -> bool:
        return all(instance.serving for instance in self.instances)

    @property
    def reason(self) -> str:
        """Empty when all are healthy, or none has failed yet."""
        bad = [instance for instance in self.instances if instance.reason]
        return f"{len(bad)} of {len(self.instances)} instances: {bad[0].reason}" if bad else ""

    async def drain_and_stop(self) -> None:
        """Requests under way are finished, for a bounded time."""
        now = asyncio.get_running_loop().time
        deadline = now() + DRAIN_S
        while self.arm.in_flight and now() < deadline:  # noqa: ASYNC110  bounded, and rare
            await asyncio.sleep(0.02)
        for upstream in self.arm.upstreams:
            upstream.close()
        await asyncio.gather(*(instance.stop() for instance in self.instances))


async def started(
    settings: ServiceSettings, wanted: Deployed, store: Path, otlp: OtlpAddress, sandbox: Sandbox, *, restarts: bool
) -> Group:
    """Raises `Permanent`, and leaves nothing running then."""
    folder = artefact_folder(store, wanted.artefact)
    if not folder.is_dir():
        short = wanted.artefact[:17]
        raise Permanent(f"artefact {short} of release {wanted.release} is not here", "Build its commit first")
    instances = []
    for number in range(wanted.instances):
        name = f"{settings.name}-{wanted.release}-{number}"
        environment = {**settings.env, **telling(settings, wanted, name, otlp), "PYTHONPATH": sandbox.inside(folder)}
        instances.append(Instance(name, _plan(settings, folder, environment, otlp, sandbox), restarts=restarts))
    try:
        for instance in instances:
            await instance.start()
    except Permanent:
        await asyncio.gather(*(instance.stop() for instance in instances))
        raise
    return Group(arm_of(wanted.commit, wanted.release, instances), tuple(instances))


def _plan(
    settings: ServiceSettings, folder: Path, environment: dict[str, str], otlp: OtlpAddress, sandbox: Sandbox
) -> StartPlan:
    """It may reach the OTLP receiver, and what the service declares."""
    places = [otlp.endpoint.removeprefix("http://"), *settings.network]
    return StartPlan(
        sandbox=sandbox,
        python=settings.python,
        command=lambda port: filled(settings.start, python=settings.python, port=str(port)),
        environment=environment,
        secrets=settings.secrets,
        folder=folder,
        reads=settings.reads,
        reach=tuple(dict.fromkeys(map(place_of, places))),
        health=settings.health,
        ready_seconds=settings.ready_seconds,
    )


def telling(settings: ServiceSettings, wanted: Deployed, name: str, otlp: OtlpAddress) -> dict[str, str]:
    """What an instance is told about itself, for its own use and for any OpenTelemetry SDK."""
    attributes = {
        "service.name": settings.name,
        "service.version": wanted.commit,
        "service.instance.id": name,
        "deployment.id": f"{settings.slot}/{wanted.release}",
        "deployment.environment.name": settings.environment,
        "vcs.ref.head.revision": wanted.commit,
    }
    return {
        "SERVICE_VERSION": wanted.commit,
        "SERVICE_INSTANCE_ID": name,
        "DEPLOYMENT_ID": attributes["deployment.id"],
        "OTEL_SERVICE_NAME": settings.name,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{key}={value}" for key, value in attributes.items()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{otlp.token}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "DEPLOYMENT_ENVIRONMENT": settings.environment,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
