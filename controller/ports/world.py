"""CI, the platform, telemetry and the risk policy, as steps may look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controller.domain.benchmark import Benchmark
from controller.domain.change import ChangeFacts, MutantFacts, TestFacts
from controller.domain.counts import Histogram, InstanceMinute, TraceGroup, WindowCounts
from controller.domain.events import Label
from controller.domain.ids import Commit, Digest, Repository, Service
from controller.domain.risk import RiskInputs, RiskVerdict
from controller.domain.verdict import Exemplars


@dataclass(frozen=True, slots=True)
class TestResult:
    __test__ = False
    test: str
    passed: bool
    duration_ms: int
    message: str = ""
    skipped: bool = False  # it did not run, so it proves nothing


@dataclass(frozen=True, slots=True)
class CiRun:
    """A run as the CI system knows it. `tests` grows while it runs: results are streamed, test by test."""

    run: str
    commit: Commit
    state: str  # "queued" | "running" | "passed" | "failed" | "broken"
    started_at: datetime | None  # None: still queued
    finished_at: datetime | None  # None: not finished
    tests: tuple[TestResult, ...]
    isolation: str
    reason: str = ""  # why it is broken, in words
    log: str = ""
    benchmarks: tuple[Benchmark, ...] = ()  # known once it has finished
    facts: TestFacts | None = None  # None: not finished, or this CI cannot tell
    mutants: MutantFacts | None = None  # None: not finished, or not a run of mutants
    named: tuple[str, ...] = ()  # tests that `facts` name by their `clear_name`s
    forged: bool = False  # the tests' report is not believed; `reason` says why


class Ci(Protocol):
    async def run(self, run: str) -> CiRun | None:
        """None: the CI system does not know it (it was lost before it began)."""
        ...


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    confirmed_commit: Commit | None  # None: nothing deployed yet
    confirmed_release: int | None
    canary_release: int | None  # None: no canary
    canary_commit: Commit | None
    canary_healthy: bool
    canary_reason: str  # why it is not healthy, in words
    weight_percent: int
    weight_until: datetime | None  # None: no weight is out
    lapsed_release: int | None  # the platform took this release's weight back by itself; None: it has not


class Platform(Protocol):
    async def status(self, service: Service, environment: str) -> PlatformStatus: ...


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a version before it is compared with a canary."""

    instances: tuple[InstanceMinute, ...]
    latency: Histogram
    requests: int
    errors: int = 0
    callers: bool = False  # whether callers tell what they saw of it
    routes: tuple[str, ...] = ()  # busiest first
    gauges: tuple[str, ...] = ()
    windows_asked: int = 0  # windows in which callers sent it requests
    windows_silent: int = 0  # of those, windows that it reported nothing of


class Telemetry(Protocol):
    @property
    def source(self) -> str:
        """Which counts these are: "the service's own OTLP metrics" or "the proxy's status codes and latencies"."""
        ...

    @property
    def label(self) -> Label: ...

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        """Closed windows from `from_ms` (a multiple of the width) on, in order, without a gap.

        Late points are counted apart, never added.
        """
        ...

    async def baseline(
        self, service: Service, version: Commit, *, from_ms: int, to_ms: int, width_ms: int = 10_000
    ) -> Baseline:
        """`width_ms`: of the windows in which silence is counted."""
        ...

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        """Epoch ms of the first failed request of a version. None: none has failed."""
        ...

    async def exemplars(self, service: Service, *, canary: Commit, baseline: Commit) -> Exemplars:
        """Failed traces of the canary, served ones of the baseline; few, newest last. Empty: no traces are sent."""
        ...

    async def excluded(self, service: Service) -> Mapping[str, int]:
        """What was received and not counted, by reason ("late points": 12). Empty: nothing was left out."""
        ...

    async def traces(self, service: Service, *, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """Finished traces through the service. Empty: none were sent, or none of that time are kept."""
        ...


class Policy(Protocol):
    @property
    def digest(self) -> Digest: ...

    async def classify(self, inputs: RiskInputs) -> RiskVerdict: ...


class Facts(Protocol):
    """Reads a change off both trees. Nothing of the change is run, and its files are parsed apart from this process."""

    async def of(self, repository: Repository, base: Commit, head: Commit, task: str) -> ChangeFacts:
        """`task`: what was asked for, to tell a dependency that it names from one that it does not."""
        ...
