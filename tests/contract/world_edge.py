"""The edge as a world: a daemon, real instances, real requests, real OTLP."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA
from platform_worlds import PLATFORMS, TELEMETRIES, ActingPlatform, Behaviour, Tells

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import edge_kit
import exports_kit

from controller.adapters.otlp_counts import latency_bucket
from controller.domain.ids import Commit
from controller.ports import Telemetry

CHECK = """
import pathlib, shutil, sys
assert not pathlib.Path("broken").exists()
shutil.copytree(".", sys.argv[1], dirs_exist_ok=True)
"""


class EdgeWorld:
    service, environment, repository = edge_kit.SERVICE, edge_kit.ENVIRONMENT, edge_kit.REPOSITORY
    tells = frozenset(Tells)

    def __init__(self, folder: Path) -> None:
        self.kit = edge_kit.EdgeKit(
            folder, build=("{python}", "-c", CHECK, "{out}"), ready_seconds=1.5, telemetry="auto"
        )
        self._commits = 0

    async def open(self) -> EdgeWorld:
        await self.kit.up()
        return self

    @property
    def platform(self) -> ActingPlatform:
        return self.kit.platform

    @property
    def telemetry(self) -> Telemetry:
        return self.kit.telemetry

    def now_ms(self) -> int:
        return edge_kit.now_ms()

    async def commit(self, behaviour: Behaviour) -> Commit:
        self._commits += 1
        shown = edge_kit.NEVER_HEALTHY if behaviour is Behaviour.NEVER_HEALTHY else edge_kit.WELL
        files = {"number": str(self._commits), **({"broken": ""} if behaviour is Behaviour.UNBUILDABLE else {})}
        return self.kit.commit(shown, files)

    async def traffic(self, requests: int) -> Counter[str]:
        seen = await self.kit.ask(requests)
        return Counter({commit if len(commit) == 40 else "": number for commit, number in seen.items()})

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        await edge_kit.until(look, what)

    async def served(
        self, version: Commit, instance: str, *, at_ms: int, requests: int, errors: int, latency_ms: float
    ) -> None:
        export = ExportMetricsServiceRequest()
        of_resource = export.resource_metrics.add()
        told = {"service.name": self.service, "service.version": version, "service.instance.id": instance}
        for key, value in told.items():
            of_resource.resource.attributes.add(key=key).value.string_value = value
        metric = of_resource.scope_metrics.add().metrics.add(name="http.server.request.duration", unit="ms")
        histogram = metric.exponential_histogram
        histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        for status, count in ((200, requests - errors), (500, errors)):
            if not count:
                continue
            point = histogram.data_points.add(time_unix_nano=at_ms * 10**6, scale=3, count=count)
            point.attributes.add(key="http.response.status_code").value.int_value = status
            point.positive.offset = latency_bucket(latency_ms)
            point.positive.bucket_counts.append(count)
        await self.send(export)

    async def served_route(self, version: Commit, route: str, *, at_ms: int, requests: int, errors: int) -> None:
        for status, count in ((200, requests - errors), (500, errors)):
            told: dict[str, str | int] = {"http.route": route, "http.response.status_code": status}
            await self.send(exports_kit.exponential(count, told, version=version, at_ms=at_ms, since_ms=at_ms))

    async def called(self, version: Commit, *, at_ms: int, requests: int, errors: int) -> None:
        callee: dict[str, str | int] = {"service.peer.name": self.service, "flyball.peer.version": version}
        for status, count in ((200, requests - errors), (500, errors)):
            told = callee | {"http.response.status_code": status}
            await self.send(
                exports_kit.exponential(
                    count, told, name=exports_kit.CALLED, service="front", version="f1", at_ms=at_ms, since_ms=at_ms
                )
            )

    async def level(self, version: Commit, instance: str, *, at_ms: int, name: str, value: float) -> None:
        export, metrics = exports_kit.resource(self.service, version, instance)
        metrics.add(name=name).gauge.data_points.add(time_unix_nano=at_ms * 10**6, as_double=value)
        await self.send(export)

    async def send(self, export: ExportMetricsServiceRequest) -> None:
        assert self.kit.handle is not None
        url, headers = f"{self.kit.handle.otlp_url}/v1/metrics", {"content-type": "application/x-protobuf"}
        headers |= self.kit.handle.otlp_authorization
        answer = await self.kit.client.post(url, content=export.SerializeToString(), headers=headers)
        assert answer.status_code == 200

    async def close(self) -> None:
        await self.kit.down()


async def edge_world(folder: Path) -> EdgeWorld:
    return await EdgeWorld(folder).open()


PLATFORMS["edge"] = edge_world
TELEMETRIES["edge"] = edge_world
