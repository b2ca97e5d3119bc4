"""Whose counts a service is judged by, and those counts.

Both arms of a comparison come from the same source, and a pair of versions keeps its source while it is compared. What
the callers saw of the same versions is told beside it, in windows that are closed at the same instant: the proxy's
counts of a service that is judged by its own metrics, else what its callers report themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from controller.adapters.edge_config import CountSource
from controller.adapters.edge_service import EdgeService
from controller.adapters.otlp_counts import EXEMPLARS_KEPT, ServiceCounts, VersionCounts
from controller.adapters.otlp_windows import baseline_of, closed_windows, silences
from controller.domain.counts import CallerCounts, TraceGroup, WindowCounts
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


@dataclass(frozen=True, slots=True)
class Views:
    """The two sources of one comparison."""

    source: CountSource
    own: ServiceCounts
    callers: ServiceCounts


class Counts:
    def __init__(
        self,
        services: Mapping[str, EdgeService],
        hold_ms: Callable[[], int],
        now_ms: Callable[[], int],
        left_out: Callable[[], Mapping[str, int]] = dict[str, int],
    ) -> None:
        self._services = services
        self._hold_ms = hold_ms
        self._now_ms = now_ms
        self._left_out = left_out  # of all services, by reason
        self._latched: OrderedDict[tuple[str, str, str], Views] = OrderedDict()

    def windows(self, service: str, canary: Commit, baseline: Commit, from_ms: int, width_ms: int) -> dict[str, Any]:
        pair = (service, canary, baseline)
        views = self._latched.get(pair)
        if views is None:
            views = self._latched[pair] = self._views(service, baseline)
            if len(self._latched) > SOURCES_KEPT:
                self._latched.popitem(last=False)
        now_ms, hold_ms = self._now_ms(), self._hold_ms()
        sources = views.own, views.callers, self._edge(service).seen_by_proxy
        closed = {
            counts: closed_windows(
                counts, canary, baseline, from_ms=from_ms, width_ms=width_ms, now_ms=now_ms, hold_ms=hold_ms
            )
            for counts in dict.fromkeys(sources)
        }
        own, seen, proxied = (closed[counts] for counts in sources)
        found = [
            _joined(mine, theirs, through, views.callers.first_s)
            for mine, theirs, through in zip(own, seen, proxied, strict=True)
        ]
        return {
            "source": SOURCE_WORDS[views.source],
            "windows": [window.model_dump(mode="json") for window in found],
        }

    def baseline(self, service: str, version: Commit, from_ms: int, to_ms: int, width_ms: int) -> dict[str, Any]:
        views = self._views(service, version)
        found = baseline_of(views.own, version, from_ms=from_ms, to_ms=to_ms)
        told_until_ms = min(to_ms, self._now_ms() - self._hold_ms())
        asked, silent = silences(
            views.own, views.callers, version, from_ms=from_ms, to_ms=told_until_ms, width_ms=width_ms
        )
        called = baseline_of(views.callers, version, from_ms=from_ms, to_ms=to_ms).requests > 0
        found = replace(found, callers=called, windows_asked=asked, windows_silent=silent)
        return {"source": SOURCE_WORDS[views.source], "baseline": BASELINE.dump_python(found, mode="json")}

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
        return Exemplars(bad=_bad(bad) if bad else (), good=tuple(good.served_traces) if good else ())

    def excluded(self, service: str) -> dict[str, int]:
        """Since the edge began."""
        edge = self._edge(service)
        found = edge.told_by_otlp.excluded + edge.seen_by_proxy.excluded + edge.told_by_callers.excluded
        found.update(edge.told_by_otlp.traced.dropped)
        found.update({f"{reason}, of all services": number for reason, number in self._left_out().items()})
        return {reason: number for reason, number in sorted(found.items()) if number}

    def traces(self, service: str, from_ms: int, to_ms: int) -> list[TraceGroup]:
        return self._edge(service).told_by_otlp.traces(from_ms, to_ms)

    def _edge(self, service: str) -> EdgeService:
        found = self._services.get(service)
        if found is None:
            raise Permanent(f"this edge runs no service {service}", "Add it to `services` and restart the edge")
        return found

    def _views(self, service: str, confirmed: Commit) -> Views:
        edge = self._edge(service)
        source = edge.settings.telemetry
        if source is CountSource.AUTO:
            source = CountSource.OTLP if _knows(edge.told_by_otlp, confirmed) else CountSource.PROXY
        if source is CountSource.PROXY:
            return Views(source, edge.seen_by_proxy, edge.told_by_callers)
        bypassed = _knows(edge.told_by_callers, confirmed) and not _knows(edge.seen_by_proxy, confirmed)
        return Views(source, edge.told_by_otlp, edge.told_by_callers if bypassed else edge.seen_by_proxy)


def _knows(counts: ServiceCounts, version: Commit) -> bool:
    known = counts.versions.get(version)
    return known is not None and known.total.requests > 0


def _joined(own: WindowCounts, seen: WindowCounts, proxied: WindowCounts, callers_since_s: int | None) -> WindowCounts:
    """A window of before the callers' first report says nothing of them. `callers_since_s=None`: they never report."""
    told = callers_since_s is not None and own.end_ms > callers_since_s * 1000
    callers = CallerCounts(canary=seen.canary, baseline=seen.baseline) if told else None
    return own.model_copy(update={"callers": callers, "probes": proxied.probes})


def _bad(canary: VersionCounts) -> tuple[str, ...]:
    """Failed ones, newest last, and behind them the slowest ones, slowest last."""
    slow = [trace for _, trace in canary.slow_traces if trace not in canary.failed_traces]
    failed = [*canary.failed_traces][-(EXEMPLARS_KEPT - len(slow)) :]
    return (*failed, *slow)
