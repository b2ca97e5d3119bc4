"""Whose counts a service is judged by, and those counts.

Both arms of a comparison come from the same source, and a pair of versions keeps its source while it is compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from controller.adapters.edge_config import CountSource
from controller.adapters.edge_service import EdgeService
from controller.adapters.otlp_counts import ServiceCounts
from controller.domain.counts import TraceGroup
from controller.domain.ids import Commit
from controller.domain.verdict import Exemplars
from controller.errors import Permanent
from controller.ports import Baseline

SOURCES_KEPT = 256
SOURCE_WORDS = {
    CountSource.OTLP: "the service's own OTLP metrics",
    CountSource.PROXY: "the proxy's status codes and latencies",
}
BASELINE: TypeAdapter[Baseline] = TypeAdapter(Baseline)


class Counts:
    def __init__(
        self, services: Mapping[str, EdgeService], hold_ms: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self._services = services
        self._hold_ms = hold_ms
        self._now_ms = now_ms
        self._latched: OrderedDict[tuple[str, str, str], CountSource] = OrderedDict()

    def windows(self, service: str, canary: Commit, baseline: Commit, from_ms: int, width_ms: int) -> dict[str, Any]:
        pair = (service, canary, baseline)
        source = self._latched.setdefault(pair, self._source(service, baseline))
        if len(self._latched) > SOURCES_KEPT:
            self._latched.popitem(last=False)
        counts = self._of(service, source)
        now_ms, hold_ms = self._now_ms(), self._hold_ms()
        found = counts.windows(canary, baseline, from_ms=from_ms, width_ms=width_ms, now_ms=now_ms, hold_ms=hold_ms)
        return {
            "source": SOURCE_WORDS[source],
            "windows": [window.model_dump(mode="json") for window in found],
            "late": dict(counts.late),
        }

    def baseline(self, service: str, version: Commit, from_ms: int, to_ms: int, width_ms: int) -> dict[str, Any]:
        source = self._source(service, version)
        found = self._of(service, source).baseline(version, from_ms=from_ms, to_ms=to_ms, width_ms=width_ms)
        return {"source": SOURCE_WORDS[source], "baseline": BASELINE.dump_python(found, mode="json")}

    def failures(self, service: str, version: Commit) -> dict[str, Any]:
        """The first failure that either source knows of."""
        edge = self._edge(service)
        both = [
            counts.versions[version] for counts in (edge.told_by_otlp, edge.seen_by_proxy) if version in counts.versions
        ]
        known = [counts.first_failure_ms for counts in both if counts.first_failure_ms is not None]
        return {"first_failure_ms": min(known) if known else None}

    def exemplars(self, service: str, canary: Commit, baseline: Commit) -> Exemplars:
        told = self._edge(service).told_by_otlp.versions
        bad, good = told.get(canary), told.get(baseline)
        return Exemplars(bad=tuple(bad.failed_traces) if bad else (), good=tuple(good.served_traces) if good else ())

    def excluded(self, service: str) -> dict[str, int]:
        edge = self._edge(service)
        return {f"late {what}": n for what, n in (edge.told_by_otlp.late + edge.seen_by_proxy.late).items()}

    def traces(self, service: str, from_ms: int, to_ms: int) -> list[TraceGroup]:
        return self._edge(service).told_by_otlp.traces(from_ms, to_ms)

    def _edge(self, service: str) -> EdgeService:
        found = self._services.get(service)
        if found is None:
            raise Permanent(f"this edge runs no service {service}", "Add it to `services` and restart the edge")
        return found

    def _source(self, service: str, confirmed: Commit) -> CountSource:
        edge = self._edge(service)
        if edge.settings.telemetry is not CountSource.AUTO:
            return edge.settings.telemetry
        told = edge.told_by_otlp.versions.get(confirmed)
        return CountSource.OTLP if told is not None and told.total.requests else CountSource.PROXY

    def _of(self, service: str, source: CountSource) -> ServiceCounts:
        edge = self._edge(service)
        return edge.told_by_otlp if source is CountSource.OTLP else edge.seen_by_proxy
