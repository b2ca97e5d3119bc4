"""The log as figures: what has been counted since its first entry, and how things stand now.

Counters and histograms are a fold of the whole log, so they neither begin anew with a process nor count twice when two
processes tell them. Gauges are of what is under way, and are no longer told when it has ended. Every figure that rests
on a model or on a service's metrics carries its label.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain.delivery import TERMINAL, Delivery
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, kind_of, rest_of
from controller.metrics import conventions as c
from controller.metrics.trace_words import MICRO, input_tokens, of_label
from controller.ports.telling import Attributes, Distribution, Metric, Point, Value

MOST_UNDER_WAY = 10_000  # deliveries and model calls each
MOST_SERIES = 2_000  # of all metrics together; further ones are not counted
_Series = tuple[tuple[str, Value], ...]


@dataclass
class _Spread:
    counts: list[int]
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


@dataclass
class _Shelf:
    """Everything that only grows, or goes up and down, by metric and attributes."""

    numbers: dict[tuple[Metric, _Series], int] = field(default_factory=dict)
    spreads: dict[tuple[Metric, _Series], _Spread] = field(default_factory=dict)

    def add(self, metric: Metric, attributes: Attributes, by: int = 1) -> None:
        if (key := self._key(metric, attributes)) is not None:
            self.numbers[key] = self.numbers.get(key, 0) + by

    def record(self, metric: Metric, attributes: Attributes, value: float) -> None:
        if (key := self._key(metric, attributes)) is not None:
            self.spreads.setdefault(key, _Spread([0] * (len(metric.bounds) + 1))).add(value, metric.bounds)

    def _key(self, metric: Metric, attributes: Attributes) -> tuple[Metric, _Series] | None:
        """None: there are too many series."""
        key = (metric, tuple(sorted(attributes.items())))
        known = key in self.numbers or key in self.spreads
        return key if known or len(self.numbers) + len(self.spreads) < MOST_SERIES else None


@dataclass
class _Canary:
    """The release under way in one service's stream."""

    place: dict[str, Value]
    release: int
    label: e.Label | None = None  # None: nothing has been observed
    log_e: float | None = None  # None: likewise
    threshold: float = 0.0
    detected_at: datetime | None = None  # None: no regression was found


class Figures:
    def __init__(self) -> None:
        self._since: datetime | None = None  # None: no entry yet
        self._shelf = _Shelf()
        self._deliveries: OrderedDict[str, Delivery] = OrderedDict()
        self._opened: dict[str, datetime] = {}  # pull requests that are open, by delivery
        self._landed: dict[str, tuple[dict[str, Value], float]] = {}  # the last landing of each repository
        self._asked: OrderedDict[str, datetime] = OrderedDict()  # model calls under way, by session's stream
        self._canaries: dict[str, _Canary] = {}

    def take(self, entry: Entry) -> None:
        self._since = self._since or entry.time
        match kind_of(entry.stream):
            case "delivery":
                self._delivery(entry)
            case "session":
                self._session(entry)
            case "rollout":
                self._rollout(entry)
            case "door" if isinstance(entry.event, e.DoorRefusals):
                for one in entry.event.counts:
                    self._shelf.add(c.DOOR_REFUSED, {c.DOOR_KIND: one.kind.value}, one.count)
            case _:
                pass

    def points(self, now: datetime) -> list[Point]:
        """How all of it stands. Empty: nothing has happened yet."""
        if self._since is None:
            return []
        numbers = [self._point(metric, dict(told), value) for (metric, told), value in self._shelf.numbers.items()]
        spreads = [
            self._point(metric, dict(told), Distribution(tuple(one.counts), one.total, one.least, one.most))
            for (metric, told), one in self._shelf.spreads.items()
        ]
        return [*numbers, *spreads, *self._of_changes(now), *self._of_canaries()]

    def _point(self, metric: Metric, attributes: Attributes, value: float | Distribution) -> Point:
        if self._since is None:
            raise ValueError("nothing is counted before the first entry")
        return Point(metric, attributes, value, self._since)

    # --- deliveries ---------------------------------------------------------------------------------------------------

    def _delivery(self, entry: Entry) -> None:
        name, event = rest_of(entry.stream), entry.event
        if isinstance(event, e.TaskRequested):
            self._shelf.add(c.RUN_ACTIVE, {**c.EXECUTING, c.PIPELINE_NAME: c.PIPELINES[event.cause]})
            self._deliveries[name] = Delivery(DeliveryId(name))
            if len(self._deliveries) > MOST_UNDER_WAY:
                self._opened.pop(self._deliveries.popitem(last=False)[0], None)
        if name not in self._deliveries:
            return
        d = self._deliveries[name] = deliveries.evolve(self._deliveries[name], entry)
        if isinstance(event, e.PullRequestOpened) and name not in self._opened:
            self._opened[name] = entry.time
            self._shelf.add(c.CHANGE_COUNT, _change(d, c.OPEN))
        if isinstance(event, e.Merged):
            self._closed(d, c.MERGED, entry.time)
        if d.phase in TERMINAL:
            self._closed(d, c.CLOSED, entry.time)
            self._ended(d, entry.time)
            del self._deliveries[name]

    def _closed(self, d: Delivery, state: str, at: datetime) -> None:
        """Its pull request, if it had one that was open."""
        if (opened := self._opened.pop(d.id, None)) is None:
            return
        self._shelf.add(c.CHANGE_COUNT, _change(d, c.OPEN), -1)
        self._shelf.add(c.CHANGE_COUNT, _change(d, state))
        if state == c.MERGED:
            self._landed[d.repository] = ({c.REPOSITORY: d.repository} | _head(d), _seconds(opened, at))

    def _ended(self, d: Delivery, at: datetime) -> None:
        pipeline: dict[str, Value] = {c.PIPELINE_NAME: c.PIPELINES[d.asked.cause]}
        result = c.RESULTS[d.phase]
        self._shelf.add(c.RUN_ACTIVE, {**c.EXECUTING, **pipeline}, -1)
        told = {**c.EXECUTING, **pipeline, c.PIPELINE_RESULT: result} | of_label(d.change.label if d.change else None)
        self._shelf.record(c.RUN_DURATION, told, _seconds(d.requested_at or at, at))
        if result in c.FAILURES:
            self._shelf.add(c.RUN_ERRORS, pipeline | {c.ERROR_TYPE: d.phase.value})

    def _of_changes(self, now: datetime) -> list[Point]:
        opened = [(self._deliveries[name], at) for name, at in self._opened.items()]
        ages = [self._point(c.CHANGE_DURATION, _change(d, c.OPEN) | _head(d), _seconds(at, now)) for d, at in opened]
        return ages + [self._point(c.TIME_TO_MERGE, told, took) for told, took in self._landed.values()]

    # --- model calls --------------------------------------------------------------------------------------------------

    def _session(self, entry: Entry) -> None:
        match entry.event:
            case e.ModelCallReserved():
                self._asked[entry.stream] = entry.time
                if len(self._asked) > MOST_UNDER_WAY:
                    self._asked.popitem(last=False)
            case e.ReplyRecorded() as event:
                told: dict[str, Value] = {c.OPERATION: c.CHAT, c.REQUEST_MODEL: event.model}
                told |= c.provider_of(event.model) | of_label(event.label)
                if (asked := self._asked.pop(entry.stream, None)) is not None:
                    self._shelf.record(c.CALL_DURATION, told, _seconds(asked, entry.time))
                self._shelf.record(c.TOKEN_USAGE, told | {c.TOKEN_TYPE: "input"}, input_tokens(event))
                self._shelf.record(c.TOKEN_USAGE, told | {c.TOKEN_TYPE: "output"}, event.usage.output_tokens)
                self._shelf.add(c.MODEL_COST, told, event.cost_micro_usd)
            case e.SessionEnded():
                self._asked.pop(entry.stream, None)
            case _:
                pass

    # --- releases -----------------------------------------------------------------------------------------------------

    def _rollout(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, e.ReleaseOpened):
            place: dict[str, Value] = {c.SERVICE: event.service, c.ENVIRONMENT: event.environment}
            self._canaries[entry.stream] = _Canary(place, event.release)
        canary = self._canaries.get(entry.stream)
        if canary is None:
            return
        match event:
            case e.Observed():
                self._observed(canary, event)
            case e.RegressionFound():
                self._regressed(canary, event, entry.time)
            case e.TrafficRestored():
                if canary.detected_at is not None:
                    took = _seconds(canary.detected_at, event.traffic_back_at)
                    self._shelf.record(c.TIME_TO_RESTORE, canary.place | of_label(canary.label), took)
                del self._canaries[entry.stream]
            case e.ReleaseConfirmed() | e.NothingToDeploy():
                del self._canaries[entry.stream]
            case _:
                pass

    def _observed(self, canary: _Canary, event: e.Observed) -> None:
        verdict = event.verdict
        canary.label = event.label
        canary.log_e, canary.threshold = verdict.log_e_micro / MICRO, verdict.threshold_micro / MICRO
        told: dict[str, Value] = {c.OUTCOME: verdict.outcome.value, c.RULE: verdict.rule.value}
        self._shelf.add(c.VERDICTS, canary.place | told | of_label(event.label))

    def _regressed(self, canary: _Canary, event: e.RegressionFound, at: datetime) -> None:
        canary.detected_at = at
        if event.first_bad_request_at is not None:
            took = _seconds(event.first_bad_request_at, at)
            self._shelf.record(c.TIME_TO_DETECT, canary.place | of_label(canary.label), took)

    def _of_canaries(self) -> list[Point]:
        found = []
        for canary in self._canaries.values():
            if canary.log_e is not None:
                told = canary.place | {c.RELEASE: canary.release} | of_label(canary.label)
                found.append(self._point(c.LOG_E_NOW, told, canary.log_e))
                found.append(self._point(c.LOG_E_LINE, told, canary.threshold))
        return found


def _change(d: Delivery, state: str) -> dict[str, Value]:
    return {c.REPOSITORY: d.repository, c.CHANGE_STATE: state}


def _head(d: Delivery) -> dict[str, Value]:
    return {c.HEAD_NAME: d.change.branch} if d.change is not None else {}


def _seconds(earlier: datetime, later: datetime) -> float:
    """Never below 0: the two may come from two clocks."""
    return max(0.0, (later - earlier).total_seconds())
