"""A Prometheus server as a world: what was served stands in the next scrape, and a scrape that has been stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from platform_worlds import TELEMETRIES

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import prometheus_kit
from prometheus_kit import SCRAPE_MS, Instance, Server

from controller.domain.ids import Commit
from controller.ports import Telemetry


class PrometheusWorld:
    service = prometheus_kit.SERVICE

    def __init__(self, server: Server) -> None:
        self._server = server
        self._telemetry = prometheus_kit.telemetry(server)
        self._instances: dict[tuple[Commit, str], Instance] = {}
        self._scraped_ms: dict[tuple[Commit, str], int] = {}

    @property
    def telemetry(self) -> Telemetry:
        return self._telemetry

    def now_ms(self) -> int:
        return prometheus_kit.now_ms()

    async def served(
        self, version: Commit, instance: str, *, at_ms: int, requests: int, errors: int, latency_ms: float
    ) -> None:
        of, next_ms = (version, instance), at_ms // SCRAPE_MS * SCRAPE_MS + SCRAPE_MS
        found = self._instances.setdefault(of, Instance(self.service, version, instance))
        scrapes = []
        if of not in self._scraped_ms:
            scrapes += found.scrape(next_ms - SCRAPE_MS)
        found.serve(requests, errors, latency_ms)
        at = max(next_ms, self._scraped_ms.get(of, 0) + SCRAPE_MS)
        self._scraped_ms[of] = at
        assert await self._server.write([*scrapes, *found.scrape(at)]) == 204

    async def close(self) -> None:
        await self._telemetry.close()
        await self._server.down()


async def prometheus_world(folder: Path) -> PrometheusWorld:
    if prometheus_kit.BINARY is None:
        pytest.skip(prometheus_kit.WITHOUT)
    return PrometheusWorld(await Server(folder / "prometheus").up())


TELEMETRIES["prometheus"] = prometheus_world
