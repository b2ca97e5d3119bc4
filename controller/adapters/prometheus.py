"""Telemetry from a Prometheus server: what it has scraped of a service, as windows of counts.

Counts are exact differences of samples (`prometheus_counts`), not `increase()`, which extrapolates and loses what a new
counter began with. A window is read once its last scrape has had two scrape intervals to arrive; from then on it is
kept as it was handed out. The server holds neither traces nor what the callers saw.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from controller.adapters.prometheus_counts import (
    MINUTE_MS,
    OTHER_BOUNDS,
    Family,
    Growth,
    Samples,
    Sums,
    family_of,
    minutes_of,
    routes_of,
)
from controller.adapters.prometheus_http import PrometheusApi
from controller.adapters.prometheus_selectors import Selectors
from controller.domain.counts import MOST_ROUTES, TraceGroup, WindowCounts
from controller.domain.events import Label
from controller.domain.ids import Commit, Service
from controller.domain.verdict import Exemplars
from controller.errors import Permanent
from controller.ports import Baseline, Clock
from controller.settings import SCRAPES_IN_A_WINDOW, PrometheusSection

HOLD_SCRAPES = 2  # a scrape is stored at latest when its time-out, which is below the interval, is over
STRETCH_MS = 600_000  # every sample of it is read at once
MINUTES_AT_ONCE = 120
LOOK_BACK_MS = 3_600_000  # for the last sample of a counter that is not exposed all the time
SEEN_SCRAPES = 5  # an instance that has answered one of the last five was being scraped
OLDEST_MS = 24 * 3_600_000
MOST_WINDOWS = 720  # handed out at once; the rest comes with the next question
KEPT_WINDOWS = 4 * MOST_WINDOWS
COARSE_MS = 300_000
EXEMPLARS_MS = 2 * 3_600_000
MOST_EXEMPLARS = 20
Pair = tuple[Service, Commit, Commit, int]  # service, canary, baseline, width


class PrometheusTelemetry:
    """`health_route`: what machines ask for and no user; empty: there is none."""

    def __init__(
        self,
        api: PrometheusApi,
        section: PrometheusSection,
        clock: Clock,
        *,
        health_route: str = "",
        label: Label = Label.LIVE,
    ) -> None:
        self._api = api
        self._section = section
        self._clock = clock
        self._selectors = Selectors(section, health_route)
        self._label = label
        self._kept: OrderedDict[tuple[Pair, int], WindowCounts] = OrderedDict()  # as they were handed out, by start
        self._left_out: dict[Service, Counter[str]] = {}

    @property
    def source(self) -> str:
        return f"Prometheus' samples of {self._section.requests}"

    @property
    def label(self) -> Label:
        return self._label

    async def close(self) -> None:
        await self._api.close()

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        self._refuse(from_ms, width_ms)
        pair: Pair = (service, canary, baseline, width_ms)
        open_ms = self._now_ms() - HOLD_SCRAPES * self._section.scrape_ms
        closed = min(MOST_WINDOWS, max(0, (open_ms - from_ms) // width_ms))
        starts = range(from_ms, from_ms + closed * width_ms, width_ms)
        missing = [start for start in starts if (pair, start) not in self._kept]
        if missing:
            for window in await self._read(pair, missing[0], missing[-1] + width_ms):
                self._kept.setdefault((pair, window.start_ms), window)
        found = [self._kept[pair, start] for start in starts]
        while len(self._kept) > KEPT_WINDOWS:
            self._kept.popitem(last=False)
        return found

    async def baseline(
        self, service: Service, version: Commit, *, from_ms: int, to_ms: int, width_ms: int = 10_000
    ) -> Baseline:
        """Of a long time, from minute to minute: a new instance's first minute is left out, and so is a begun one.

        No callers are heard, so no window is known in which the version was asked and silent: `width_ms` is idle.
        """
        del width_ms
        whole, grown = Sums(), []
        every_ms = MINUTE_MS if to_ms - from_ms > STRETCH_MS else 0
        stretch_ms = MINUTES_AT_ONCE * MINUTE_MS if every_ms else STRETCH_MS
        for start, end in pairwise(_cuts(max(from_ms, to_ms - OLDEST_MS), to_ms, stretch_ms)):
            samples, scraped = await self._samples(service, (version,), start, end, every_ms)
            grown += list(samples.growth(scraped))
        for one in grown:
            whole.add(one)
        counts = whole.arm()
        busiest = sorted(routes_of(Sums(), whole), key=lambda one: (-one.baseline.requests, one.route))
        return Baseline(
            instances=minutes_of(grown),
            latency=counts.latency,
            requests=counts.requests,
            errors=counts.errors,
            routes=tuple(one.route for one in busiest[:MOST_ROUTES]),
        )

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        """Of the last day, and the scrape before the one that shows it: no earlier than that it has failed."""
        for start, end in await self._failing_stretches(service, version):
            samples, scraped = await self._samples(service, (version,), start, end)
            failed = [one.at_ms for one in samples.growth(scraped) if one.failed and one.requests]
            if failed:
                return min(failed) - self._section.scrape_ms
        return None

    async def exemplars(self, service: Service, *, canary: Commit, baseline: Commit) -> Exemplars:
        now_ms = self._now_ms()
        selector = self._selectors.counters(service, (canary, baseline))
        failing = await self._failing(service, (canary, baseline), now_ms - EXEMPLARS_MS, now_ms)
        bad: dict[str, None] = {}
        good: dict[str, None] = {}
        for _, labels, trace in await self._api.exemplars(selector, now_ms - EXEMPLARS_MS, now_ms):
            version, failed = labels.get(self._section.version_label), family_of(labels) in failing
            if failed and version == canary:
                bad[trace] = None
            elif not failed and version == baseline:
                good[trace] = None
        return Exemplars(bad=tuple(bad)[-MOST_EXEMPLARS:], good=tuple(good)[-MOST_EXEMPLARS:])

    async def excluded(self, service: Service) -> Mapping[str, int]:
        """Since this process began."""
        return dict(self._left_out.get(service, {}))

    async def traces(self, service: Service, *, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """None: Prometheus has no traces, only exemplars of them."""
        del service, from_ms, to_ms
        return []

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, pair: Pair, from_ms: int, to_ms: int) -> list[WindowCounts]:
        service, canary, baseline, width_ms = pair
        found: list[WindowCounts] = []
        stretch_ms = max(width_ms, STRETCH_MS // width_ms * width_ms)
        for start, end in pairwise(_cuts(from_ms, to_ms, stretch_ms)):
            samples, scraped = await self._samples(service, (canary, baseline), start, end)
            found += _windows(samples, samples.growth(scraped), pair, start, end)
            self._left_out.setdefault(service, Counter()).update(samples.left_out)
        return found

    async def _samples(
        self, service: Service, versions: tuple[Commit, ...], from_ms: int, to_ms: int, every_ms: int = 0
    ) -> tuple[Samples, frozenset[str]]:
        """The samples of (from, to] and the last ones before, and the newcomers that were scraped before.

        `every_ms`: only the newest ones at multiples of it, where nobody can tell who was scraped before. 0: all.
        """
        selector, steps = self._selectors.counters(service, versions), f":{every_ms}ms" if every_ms else ""
        before, during, failing = await asyncio.gather(
            self._api.at(f"last_over_time({selector}[{LOOK_BACK_MS}ms])", from_ms),
            self._api.at(f"{selector}[{to_ms - from_ms}ms{steps}]", to_ms),
            self._failing(service, versions, from_ms - LOOK_BACK_MS, to_ms),
        )
        for one in during:
            one.samples[:] = [(at_ms, value) for at_ms, value in one.samples if from_ms < at_ms <= to_ms]
        samples = Samples(self._section, before, [one for one in during if one.samples], failing)
        return samples, await self._scraped_before({} if every_ms else samples.newcomers())

    async def _scraped_before(self, newcomers: Mapping[str, int]) -> frozenset[str]:
        """Those of them that answered a scrape shortly before their first sample of a counter."""
        if not newcomers:
            return frozenset()
        label, seen_ms = self._section.instance_label, SEEN_SCRAPES * self._section.scrape_ms
        first, last = min(newcomers.values()) - seen_ms, max(newcomers.values())
        up: dict[str, list[int]] = {}
        for one in await self._api.at(f"{self._selectors.up(newcomers)}[{last - first}ms]", last):
            up.setdefault(one.labels.get(label, ""), []).extend(at_ms for at_ms, value in one.samples if value == 1)
        return frozenset(
            instance
            for instance, begins in newcomers.items()
            if any(begins - seen_ms <= at_ms < begins for at_ms in up.get(instance, []))
        )

    async def _failing(
        self, service: Service, versions: tuple[Commit, ...], from_ms: int, to_ms: int
    ) -> frozenset[Family]:
        names = await self._api.names(self._selectors.failures(service, versions), from_ms, to_ms)
        return frozenset(family_of(labels) for labels in names)

    async def _failing_stretches(self, service: Service, version: Commit) -> list[tuple[int, int]]:
        """Stretches of the last day in which a counter of failures is above zero, the earliest first."""
        to_ms = -(-self._now_ms() // COARSE_MS) * COARSE_MS
        ends: set[int] = set()
        for selector in self._selectors.failures(service, (version,)):
            query = f"max(max_over_time({selector}[{COARSE_MS}ms])) > 0"
            for one in await self._api.every(query, COARSE_MS, to_ms - OLDEST_MS, to_ms):
                ends |= {at_ms for at_ms, _ in one.samples}
        return [(end - COARSE_MS, end) for end in sorted(ends)]

    def _refuse(self, from_ms: int, width_ms: int) -> None:
        scrape_ms = self._section.scrape_ms
        if width_ms < SCRAPES_IN_A_WINDOW * scrape_ms or from_ms % width_ms:
            raise Permanent(
                f"windows of {width_ms} ms from {from_ms} ms cannot be cut from scrapes of {scrape_ms} ms",
                f"Give a start that is a multiple of the width, and set rollout.window_ms to "
                f"{SCRAPES_IN_A_WINDOW * scrape_ms} or more",
            )
        if from_ms < self._now_ms() - OLDEST_MS:
            raise Permanent(f"{from_ms} ms is longer ago than {OLDEST_MS} ms", "Start the canary again")

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _cuts(from_ms: int, to_ms: int, stretch_ms: int) -> list[int]:
    """Where stretches of time begin and end."""
    return [*range(from_ms, to_ms, stretch_ms), to_ms]


def _windows(
    samples: Samples, growth: Iterator[Growth], pair: Pair, from_ms: int, to_ms: int
) -> Iterator[WindowCounts]:
    _, canary, baseline, width_ms = pair
    sums: dict[tuple[str, int], Sums] = {}
    for one in growth:
        sums.setdefault((one.version, (one.at_ms - 1 - from_ms) // width_ms), Sums()).add(one)
    other = samples.bounds(canary) - samples.bounds(baseline)
    alike = not other or not samples.bounds(baseline)
    for number, start_ms in enumerate(range(from_ms, to_ms, width_ms)):
        arms = sums.get((canary, number), Sums()), sums.get((baseline, number), Sums())
        if not alike:
            samples.left_out[OTHER_BOUNDS] += sum(arm.histogram().total for arm in arms)
        yield WindowCounts(
            start_ms=start_ms,
            end_ms=start_ms + width_ms,
            canary=arms[0].arm(timed=alike),
            baseline=arms[1].arm(timed=alike),
            routes=routes_of(*arms),
        )
