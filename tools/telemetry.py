"""The belt for telemetry: what users met, as the judge of a canary counts it. Numbers only, and whose they are.

Windows are closed ones: a number that was told once is never told differently later. What is told is the comparison
that decides, canary beside confirmed release over the same time; where no canary is under way, the confirmed release
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.domain.counts import BUCKETS_PER_DOUBLING, ArmCounts, Histogram, WindowCounts
from controller.domain.ids import Repository
from controller.domain.rollout import Release
from controller.ports import Clock, Log, RepositoryConfig, ServiceConfig, Telemetry, ToolDefinition, ToolResult
from tools.belt import Call, NotPossible, Tool, schema, text_schema, whole_schema
from tools.pages import offset_schema, page_of_entries
from tools.releases import Releases

DEFAULT_MINUTES, MAX_MINUTES = 10, 120
MINUTE_MS = 60_000
QUANTILES_PERCENT = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class TelemetryBelt:
    telemetry: Telemetry
    clock: Clock
    log: Log
    repositories: Mapping[Repository, RepositoryConfig]
    page_bytes: int

    def tools(self) -> list[Tool]:
        return [Tool(QUERY_TELEMETRY, self.query_telemetry)]

    async def query_telemetry(self, call: Call) -> ToolResult:
        releases = Releases(self.log, self.repositories)
        service = releases.service(call.badge, call.arguments["environment"])
        if call.arguments.get("service", service.name) != service.name:
            raise NotPossible(f"this session looks at {service.name} only")
        minutes, now_ms = call.arguments.get("minutes", DEFAULT_MINUTES), int(self.clock.now().timestamp() * 1000)
        rollout = await releases.rollout(service)
        if rollout.confirmed is None:
            raise NotPossible(f"no release of {service.name} has been confirmed yet, so there is nothing to compare")
        from_ms = now_ms - minutes * MINUTE_MS
        head = f"{service.name}@{service.environment}, last {minutes} min; counts: {self.telemetry.source}; "
        head += f"{self.telemetry.label.value}"
        if rollout.current is None or rollout.ready is None:
            alone = await self._alone(service, rollout.confirmed, from_ms, now_ms)
            return ToolResult(f"{head}\nNo canary is under way.\n{alone}")
        windows = await self._windows(service, rollout.current, rollout.confirmed, from_ms)
        head = "\n".join((head, *_totals(rollout.current, rollout.confirmed, windows)))
        entries = [_window(one) for one in reversed(windows)]
        return ToolResult(page_of_entries(entries, call.arguments.get("offset", 0), self.page_bytes, head=head))

    async def _windows(
        self, service: ServiceConfig, canary: Release, confirmed: Release, from_ms: int
    ) -> list[WindowCounts]:
        """Since the release began, in windows of the judge's own width."""
        width, opened_ms = service.plan.window_ms, int(canary.opened_at.timestamp() * 1000)
        start = max(from_ms, opened_ms)
        return await self.telemetry.windows(
            service.name,
            canary=canary.commit,
            baseline=confirmed.version,
            from_ms=-(-start // width) * width,
            width_ms=width,
        )

    async def _alone(self, service: ServiceConfig, confirmed: Release, from_ms: int, to_ms: int) -> str:
        found = await self.telemetry.baseline(service.name, confirmed.version, from_ms=from_ms, to_ms=to_ms)
        errors = sum(one.errors for one in found.instances)
        return _arm(f"confirmed release {confirmed.number}", found.requests, errors, found.latency)


def _totals(canary: Release, confirmed: Release, windows: Iterable[WindowCounts]) -> list[str]:
    arms = [ArmCounts(requests=0, errors=0), ArmCounts(requests=0, errors=0)]
    for window in windows:
        arms = [arms[0].merged_with(window.canary), arms[1].merged_with(window.baseline)]
    names = (f"canary, release {canary.number}", f"confirmed release {confirmed.number}")
    return [_arm(name, arm.requests, arm.errors, arm.latency) for name, arm in zip(names, arms, strict=True)]


def _arm(name: str, requests: int, errors: int, latency: Histogram) -> str:
    return f"{name}: {_counted(requests, errors)}; {_latency(latency)}"


def _counted(requests: int, errors: int) -> str:
    share = f" ({errors / requests:.2%})" if requests else ""
    return f"{requests} requests, {errors} errors{share}"


def _latency(latency: Histogram) -> str:
    if not latency.total:
        return "latency not timed"
    found = [f"{percent} % within {_within_ms(latency, percent):.0f} ms" for percent in QUANTILES_PERCENT]
    return f"{', '.join(found)} (of {latency.total} timed, upper bounds of buckets 9 % wide)"


def _within_ms(latency: Histogram, percent: int) -> float:
    """The upper bound of the first bucket by which this share of the durations is counted."""
    counted = 0
    for index, count in latency.buckets:
        counted += count
        if counted * 100 >= percent * latency.total:
            return float(2 ** ((index + 1) / BUCKETS_PER_DOUBLING))
    raise ValueError("a histogram holds as many durations as it says")


def _window(window: WindowCounts) -> str:
    at = datetime.fromtimestamp(window.start_ms / 1000, UTC).isoformat(timespec="seconds")
    width = (window.end_ms - window.start_ms) / 1000
    arms = {"canary": window.canary, "confirmed": window.baseline}
    sides = [f"{name} {_counted(arm.requests, arm.errors)}" for name, arm in arms.items()]
    return f"{at} +{width:g} s: {'; '.join(sides)}"


QUERY_TELEMETRY = ToolDefinition(
    "query_telemetry",
    "What users meet in an environment: requests, errors and latency of the canary beside the confirmed release, newest"
    " window first, from the counts that decide.",
    schema(
        ("environment",),
        environment=text_schema(minLength=1, maxLength=100),
        service=text_schema(minLength=1, maxLength=100),
        minutes=whole_schema(f"To look back, {DEFAULT_MINUTES} if not given", minimum=1, maximum=MAX_MINUTES),
        offset=offset_schema("a window, from 0, as the last page said"),
    ),
    tool_class="read",
    environment_argument="environment",
)
