"""What a series of points is about, and how its points become growth that is counted once.

A delta point is known by its start and end: delivered again it counts no more. A cumulative one grows from the last
total of the same start: two lives of a process may interleave, a falling total is a reset, and a total that comes after
a later one of its own life has been counted with that. A life that began before this receiver looked has counted what
nobody can date: it counts from its second point on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from controller.adapters.otlp_counts import Layout, ServiceCounts
from controller.adapters.otlp_histograms import Latency
from controller.adapters.otlp_routes import LONGEST_ROUTE

SERVER_ERROR = 500
DELIVERIES_KEPT = 128  # of a series: a minute at two exports a second
LIVES_KEPT = 4
SERIES_KEPT = 8_192
SPELLINGS_KEPT = 16_384  # of series, as bytes


class Kind(Enum):
    """What the requests of a series were."""

    SERVED = "served"
    FAILED = "failed"
    HEALTH_CHECK = "health_check"


@dataclass(frozen=True, slots=True)
class Total:
    """The last cumulative value of one life."""

    time_ns: int
    requests: int
    layout: Layout
    latency: Latency


@dataclass(slots=True)
class Series:
    counts: ServiceCounts
    version: str
    instance: str
    kind: Kind = Kind.SERVED
    route: str = ""  # empty: none is named
    key: tuple[object, ...] = ()
    used: bool = True  # since the last time that somebody was to be forgotten
    forgotten: bool = False
    delivered: dict[tuple[int, int], None] = field(default_factory=dict)  # (start, end) of the newest delta points
    lives: dict[int, Total] = field(default_factory=dict)  # by start

    def first_delivery(self, start_ns: int, time_ns: int) -> bool:
        delivery = (start_ns, time_ns)
        if delivery in self.delivered:
            return False
        self.delivered[delivery] = None
        if len(self.delivered) > DELIVERIES_KEPT:
            del self.delivered[next(iter(self.delivered))]
        return True

    def growth(self, start_ns: int, total: Total, since_ns: int) -> tuple[int, Latency] | None:
        """Requests and latency since the last total of this life. None: there is nothing to compare with."""
        last = self.lives.get(start_ns)
        if last is not None and total.time_ns <= last.time_ns:
            return 0, {}
        self.lives[start_ns] = total
        if len(self.lives) > LIVES_KEPT:
            del self.lives[min(self.lives)]
        if last is None:
            return (total.requests, total.latency) if start_ns >= since_ns else None
        if total.requests < last.requests:
            return total.requests, total.latency
        return total.requests - last.requests, _grown(last, total)


def _grown(last: Total, total: Total) -> Latency:
    """Empty when the buckets have changed in the middle of a life."""
    if last.layout != total.layout:
        return {}
    grown = {bucket: count - last.latency.get(bucket, 0) for bucket, count in total.latency.items()}
    return {bucket: count for bucket, count in grown.items() if count > 0}


UNCOUNTED = Series(ServiceCounts(), version="", instance="")


class SeriesBook:
    """Every series by what it says of itself. Its bytes are only the quick way: senders may reorder attributes."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.since_ns = now_ns()  # cumulative lives that began before are not known whole
        self._spelled: OrderedDict[tuple[object, ...], Series] = OrderedDict()
        self._series: OrderedDict[tuple[object, ...], Series] = OrderedDict()

    def find(self, spelling: tuple[object, ...]) -> Series | None:
        """Series that are not counted are found as `UNCOUNTED`. None: it is met for the first time, `meet` it."""
        known = self._spelled.get(spelling)
        if known is None or known.forgotten:
            return None
        known.used = True
        return known

    def meet(self, spelling: tuple[object, ...], read: Series | None) -> Series:
        """`read=None`: what this series tells of is not counted."""
        found = UNCOUNTED if read is None else self._series.setdefault(read.key, read)
        self._spelled[spelling] = found
        if len(self._spelled) > SPELLINGS_KEPT:
            self._spelled.popitem(last=False)
        if len(self._series) > SERIES_KEPT:
            self._forget_one()
        return found

    def _forget_one(self) -> None:
        """One that was not used of late. Were its life taken for a new one later, its whole total would count again."""
        gone = self._series.popitem(last=False)[1]
        for _ in range(SERIES_KEPT):
            if not gone.used:
                break
            gone.used = False
            self._series[gone.key] = gone
            gone = self._series.popitem(last=False)[1]
        gone.forgotten = True
        gone.counts.excluded["series forgotten, too many at once"] += 1
        if gone.lives:
            self.since_ns = self._now_ns()


def pairs(raw: Iterable[bytes]) -> list[KeyValue]:
    return [KeyValue.FromString(one) for one in raw]


def kind_of(attributes: Mapping[str, str], health_route: str) -> Kind:
    """By status or `error.type`; the instances' health is asked so often that it would hide a canary's few requests."""
    if health_route and attributes.get("http.route") == health_route:
        return Kind.HEALTH_CHECK
    status = attributes.get("http.response.status_code", "")
    failed = attributes.get("error.type") or (status.isdigit() and int(status) >= SERVER_ERROR)
    return Kind.FAILED if failed else Kind.SERVED


def route_of(attributes: Mapping[str, str]) -> str:
    return attributes.get("http.route", "")[:LONGEST_ROUTE]
