"""Users, and the telemetry that counts them: requests by who served when, failures by version and window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from controller.domain.counts import (
    ArmCounts,
    CallerCounts,
    GaugeMeans,
    Histogram,
    InstanceMinute,
    TraceGroup,
    WindowCounts,
)
from controller.domain.events import Label
from controller.domain.ids import Commit, Service
from controller.domain.verdict import Exemplars
from controller.ports import Baseline
from controller.sim.chance import binomial, whole
from controller.sim.clock import SimClock
from controller.sim.content import error_rate, failing_file, has
from controller.sim.history import tree_id
from controller.sim.platform import SimPlatform, SlotState, Span

MINUTE_MS = 60_000
LOOK_MS = 1_000  # grid on which the first failure is sought
MOST_WINDOWS = 5_000  # in one answer
BASELINE_INSTANCES = 3
USUAL_BUCKETS = ((24, 0.3), (27, 0.4), (30, 0.2), (35, 0.08), (43, 0.02))  # 8 to 42 ms, in buckets of scale 3
NOTHING = ArmCounts(requests=0, errors=0)
MEMORY = "process.memory.usage"
USUAL_MEMORY_MILLI = 100_000_000_000  # 100 MB, in thousandths of a byte
SLOWER_BY = 8  # buckets: twice as long


@dataclass(frozen=True, slots=True)
class Outage:
    """Something beneath every version fails a share of all requests."""

    from_ms: int
    to_ms: int
    rate: float


@dataclass
class SimTelemetry:
    """`Telemetry` over the platform's spans."""

    seed: int
    clock: SimClock
    platform: SimPlatform
    environment: str = "production"
    requests_per_second: float = 200.0
    source: str = "the simulated service's own counts"
    label: Label = Label.SIMULATED
    outages: list[Outage] = field(default_factory=list)
    callers: bool = False  # whether the proxy's own counts are told as well
    traced: bool = False  # whether requests leave traces

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        state, now_ms = self.platform.slot(service, self.environment), self.clock.now_ms()
        begun = state.spans[0].from_ms if state.spans else now_ms
        start = max(from_ms, begun // width_ms * width_ms)
        found: list[WindowCounts] = []
        while start + width_ms <= now_ms and len(found) < MOST_WINDOWS:
            found.append(self._window(state, (canary, baseline), start, start + width_ms))
            start += width_ms
        return found

    def _window(self, state: SlotState, versions: tuple[Commit, Commit], start: int, end: int) -> WindowCounts:
        asked = [self._arm(state, version, start, end) for version in versions]
        trees = [self.platform.tree(version) for version in versions]
        told = [NOTHING if has(tree, "SILENT") else arm for tree, arm in zip(trees, asked, strict=True)]
        levels = [
            self._memory(state, version, end) if has(tree, "LEAKS") or arm.requests else None
            for version, tree, arm in zip(versions, trees, told, strict=True)
        ]
        return WindowCounts(
            start_ms=start,
            end_ms=end,
            canary=told[0],
            baseline=told[1],
            callers=CallerCounts(canary=asked[0], baseline=asked[1]) if self.callers else None,
            gauges=(GaugeMeans(name=MEMORY, canary_milli=levels[0], baseline_milli=levels[1]),),
        )

    def _memory(self, state: SlotState, version: Commit, at_ms: int) -> int:
        """In thousandths of a byte. A leak grows by a tenth of the usual a second, from the version's first request."""
        since = next((span.from_ms for span in state.spans if _share(span, version) > 0), at_ms)
        leaked = (at_ms - since) * USUAL_MEMORY_MILLI // 10_000 if has(self.platform.tree(version), "LEAKS") else 0
        return USUAL_MEMORY_MILLI + leaked

    async def baseline(
        self,
        service: Service,
        version: Commit,
        *,
        from_ms: int,
        to_ms: int,
        width_ms: int = 10_000,
    ) -> Baseline:
        state = self.platform.slot(service, self.environment)
        arm = self._arm(state, version, from_ms, to_ms)
        minute = from_ms // MINUTE_MS * MINUTE_MS
        share, failed = divmod(arm.requests, BASELINE_INSTANCES)[0], divmod(arm.errors, BASELINE_INSTANCES)[0]
        instances = tuple(
            InstanceMinute(instance=f"{service}-{n}", minute_ms=minute, requests=share, errors=failed)
            for n in range(BASELINE_INSTANCES)
        )
        return Baseline(
            instances,
            arm.latency,
            arm.requests,
            arm.errors,
            callers=self.callers,
            gauges=(MEMORY,),
            windows_asked=(to_ms - from_ms) // width_ms if self.callers and arm.requests else 0,
        )

    async def exemplars(self, service: Service, *, canary: Commit, baseline: Commit) -> Exemplars:  # noqa: ARG002
        """None: simulated users leave no traces."""
        return Exemplars()

    async def excluded(self, service: Service) -> Mapping[str, int]:  # noqa: ARG002
        return {}

    async def traces(self, service: Service, *, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """Every request is traced; what fails by a marker breaks in the marked file. Empty where `traced` is off."""
        state = self.platform.slot(service, self.environment)
        served = {name for span in state.spans for name in (span.confirmed, span.canary) if name is not None}
        found = []
        for version in sorted(served) if self.traced else ():
            arm, file = self._arm(state, version, from_ms, to_ms), failing_file(self.platform.tree(version))
            node, files = f"{service}@{version}", (file,) if file else ()
            for origin, count in ((node, arm.errors), (None, arm.requests - arm.errors)):
                if count:
                    on = files if origin else ()
                    found.append(TraceGroup(through=(node,), route="/", origin=origin, files=on, traces=count))
        return found

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        state, now_ms = self.platform.slot(service, self.environment), self.clock.now_ms()
        start = next((span.from_ms for span in state.spans if _share(span, version) > 0), now_ms)
        start = start // LOOK_MS * LOOK_MS
        while start < now_ms:
            if self._arm(state, version, start, start + LOOK_MS).errors:
                return start
            start += LOOK_MS
        return None

    def _arm(self, state: SlotState, version: Commit, from_ms: int, to_ms: int) -> ArmCounts:
        """What one version served in [from_ms, to_ms). Chance goes by its tree, whichever commit has it."""
        served = sum(
            (end - start) * _share(span, version, start) for span, start, end in _pieces(state.spans, from_ms, to_ms)
        )
        if not served:
            return ArmCounts(requests=0, errors=0)
        tree = self.platform.tree(version)
        name = tree_id(tree)
        requests = whole(served / 1000 * self.requests_per_second, self.seed, "requests", name, from_ms, to_ms)
        rate = max(error_rate(tree), self._outage(from_ms))
        errors = binomial(requests, rate, self.seed, "errors", name, from_ms, to_ms)
        shift = SLOWER_BY if has(tree, "SLOW") else 0
        return ArmCounts(requests=requests, errors=errors, latency=self._latency(requests, shift, name, from_ms))

    def _outage(self, at_ms: int) -> float:
        return max((one.rate for one in self.outages if one.from_ms <= at_ms < one.to_ms), default=0.0)

    def _latency(self, requests: int, shift: int, name: str, from_ms: int) -> Histogram:
        counts = {
            bucket + shift: whole(requests * share, self.seed, "latency", name, from_ms, bucket)
            for bucket, share in USUAL_BUCKETS
        }
        return Histogram.of(counts)


def _pieces(spans: list[Span], from_ms: int, to_ms: int) -> Iterator[tuple[Span, int, int]]:
    """Stretches within which nothing changes: a span is cut where its weight expires."""
    for number, span in enumerate(spans):
        end = spans[number + 1].from_ms if number + 1 < len(spans) else to_ms
        cuts = sorted({span.from_ms, end, *((span.until_ms,) if span.until_ms is not None else ())})
        for start, stop in pairwise(cuts):
            first, last = max(start, from_ms), min(stop, to_ms, end)
            if span.from_ms <= first < last:
                yield span, first, last


def _share(span: Span, version: Commit, at_ms: int | None = None) -> float:
    """Of all requests, the share that this version serves at an instant (None: when the span begins)."""
    at_ms = span.from_ms if at_ms is None else at_ms
    weight = 0 if span.until_ms is not None and at_ms >= span.until_ms else span.weight_percent
    canary = weight / 100 if span.canary == version else 0.0
    if span.confirmed is None:
        return canary
    return canary + (1 - weight / 100 if span.confirmed == version else 0.0)
