"""What the benchmarks of landed changes measured, in the order in which they landed on a branch. Folded from the log.

The queue's stream says what landed and when; each delivery's own stream holds the CI report of the head that did, and
whether a person consented to it although it was slower: then that landing begins a level of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controller.domain import events as e
from controller.domain.benchmark import Benchmark
from controller.domain.entry import Entry
from controller.domain.ids import Branch, Commit, DeliveryId, Repository, delivery_stream, queue_stream
from controller.ports import Log

MOST_LANDINGS = 200  # the newest; a change of hardware or of habits further back says nothing about today
QUEUE_ENTRIES = 10 * MOST_LANDINGS  # read for them: planned, checked and landed are three, the rest is for mishaps


@dataclass(frozen=True, slots=True)
class Landing:
    """One delivery that landed, and what CI had measured of it."""

    delivery: DeliveryId
    commit: Commit  # what the branch stood at afterwards
    at: datetime
    report: int  # log index of its CiReported
    benchmarks: tuple[Benchmark, ...]
    accepted: frozenset[str]  # benchmarks known to be slower when it was let land


@dataclass(frozen=True, slots=True)
class Point:
    landing: Landing
    value_micro: int

    def accepted(self, name: str) -> bool:
        return name in self.landing.accepted


async def landings(log: Log, repository: Repository, branch: Branch) -> list[Landing]:
    """The last `MOST_LANDINGS` whose CI report is in the log, oldest first.

    Reads the end of the queue's stream and the streams of the deliveries it names, never the whole log.
    """
    stream = queue_stream(repository, branch)
    row = await log.stream(stream)
    queued = await log.read(stream, max(0, row.version - QUEUE_ENTRIES)) if row else []
    carried = [
        (entry, event.commit, delivery, head)
        for entry in queued
        if isinstance(event := entry.event, e.Landed) and event.verified
        for delivery, head in zip(event.deliveries, event.heads, strict=True)
    ]
    found = [
        _landing(entry, commit, delivery, head, await log.read(delivery_stream(delivery)))
        for entry, commit, delivery, head in carried[-MOST_LANDINGS:]
    ]
    return [one for one in found if one is not None]


def _landing(landed: Entry, commit: Commit, delivery: DeliveryId, head: Commit, entries: list[Entry]) -> Landing | None:
    """None: its report is not in the log."""
    reports = [one for one in entries if isinstance(one.event, e.CiReported) and one.event.head == head]
    colours = [one.event for one in entries if isinstance(one.event, e.RiskClassified) and one.index < landed.index]
    if not reports or not isinstance(report := reports[-1].event, e.CiReported):
        return None
    slower = colours[-1].inputs.slower_benchmarks if colours else ()
    accepted = frozenset(one.name for one in slower)
    return Landing(delivery, commit, landed.time, reports[-1].index, report.benchmarks, accepted)


def series(found: Iterable[Landing]) -> dict[str, list[Point]]:
    """By name: one point for each landing that measured it."""
    by_name: dict[str, list[Point]] = {}
    for landing in found:
        for one in landing.benchmarks:
            by_name.setdefault(one.name, []).append(Point(landing, one.value_micro))
    return by_name
