"""The log as traces: one for each delivery, from its being asked for to its end.

A projection: entries go in, in log order, and what has ended comes out. Everything about a span follows from the log,
its ids included, so telling twice tells the same. What is under way is held; whatever has ended is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId, StreamId, kind_of, rest_of, session_behind
from controller.metrics import conventions as c
from controller.metrics.trace_building import TraceBuilding
from controller.metrics.trace_delivery import DeliveryTrace
from controller.metrics.trace_release import ReleaseTrace
from controller.metrics.trace_session import SessionTrace
from controller.metrics.trace_words import of_decision, outcome
from controller.ports.telling import Span, SpanKind, Value

MOST_UNDER_WAY = (
    10_000  # deliveries, sessions and effects each; the oldest is forgotten, and its trace stays without end
)
SILENT = frozenset({"Waited", "Heartbeat", "SigningKeyRotated", "ClockSource", "ControllerStarted"})
KINDS = frozenset(e.ALL) - SILENT  # what is worth reading
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which trace something belongs."""

    trace: TraceBuilding
    key: str


class Traces:
    def __init__(self, origin: str) -> None:
        """`origin`: the log's name, which every id comes from."""
        self._origin = origin
        self._deliveries: OrderedDict[str, DeliveryTrace] = OrderedDict()
        self._sessions: OrderedDict[str, SessionTrace] = OrderedDict()
        self._effects: OrderedDict[str, list[_Place]] = OrderedDict()
        self._releases: dict[str, ReleaseTrace] = {}
        self._landings: dict[str, list[_Place]] = {}

    def take(self, entry: Entry) -> list[Span]:
        """What has ended with this entry."""
        touched = {id(place.trace): place.trace for place in self._places(entry.stream)}
        match kind_of(entry.stream):
            case "delivery":
                self._delivery(entry)
            case "session":
                self._session(entry)
            case "rollout":
                self._rollout(entry)
            case "queue":
                self._queue(entry)
            case "effect":
                self._effect(entry)
            case "people":
                self._person(entry)
            case _:
                return []
        touched |= {id(place.trace): place.trace for place in self._places(entry.stream)}
        self._forget(entry)
        return [span for trace in touched.values() for span in trace.taken()]

    def _places(self, stream: StreamId) -> list[_Place]:
        """Where something about this stream belongs now. Empty: no trace under way tells of it."""
        name = rest_of(stream)
        match kind_of(stream):
            case "delivery" | "people":
                one = self._deliveries.get(name)
                return [] if one is None else [_Place(one.trace, one.phase_key)]
            case "session":
                session = self._sessions.get(stream)
                return [] if session is None else [_Place(session.trace, session.key)]
            case "rollout":
                release = self._releases.get(stream, ReleaseTrace())
                return [_Place(trace, release.key) for trace in release.traces]
            case "queue":
                return self._landings.get(stream, [])
            case "effect":
                return self._effects.get(stream, [])
            case _:
                return []

    def _delivery(self, entry: Entry) -> None:
        name = rest_of(entry.stream)
        if isinstance(entry.event, e.TaskRequested):
            _keep(self._deliveries, name, DeliveryTrace(self._origin, DeliveryId(name)))
        if (one := self._deliveries.get(name)) is not None:
            one.take(entry)

    def _session(self, entry: Entry) -> None:
        if isinstance(entry.event, e.SessionStarted):
            one = self._deliveries.get(entry.event.delivery)
            if one is not None:
                _keep(self._sessions, entry.stream, SessionTrace(one.trace, one.phase_key, entry.event, entry))
        elif (session := self._sessions.get(entry.stream)) is not None:
            session.take(entry)

    def _rollout(self, entry: Entry) -> None:
        release = self._releases.setdefault(entry.stream, ReleaseTrace())
        if isinstance(entry.event, e.ReleaseOpened):
            carried = [self._deliveries.get(name) for name in entry.event.deliveries]
            release.open(entry.event, entry, [one.trace for one in carried if one is not None])
        else:
            release.take(entry)

    def _queue(self, entry: Entry) -> None:
        match entry.event:
            case e.LandingPlanned() as event:
                self._landings[entry.stream] = self._planned(event, entry)
            case e.LandingChecked() as event:
                for place in self._places(entry.stream):
                    told: dict[str, Value] = {c.TASK_RESULT: c.SUCCESS if event.passed else c.FAILURE}
                    place.trace.tell(place.key, c.LANDING_CHECKED, entry.time, told)
            case e.Landed() as event:
                self._landed(
                    entry,
                    c.SUCCESS if event.verified else c.FAILURE,
                    of_decision(event.decision),
                    {c.HEAD_REVISION: event.commit},
                )
            case e.Evicted(landing=int()) as event:
                self._landed(entry, c.FAILURE, None, {c.WHY_EVICTED: event.why})
            case e.LandingVoided():
                self._landed(entry, c.CANCELLATION, None, {})
            case _:
                pass

    def _planned(self, event: e.LandingPlanned, entry: Entry) -> list[_Place]:
        key = f"{entry.stream}#{entry.version}"
        told = c.task("landing", key) | {c.LANDING: event.landing, c.LANE: event.lane, c.BASE_REVISION: event.base}
        carried = [one for name in event.deliveries if (one := self._deliveries.get(name)) is not None]
        for one in carried:
            one.trace.begin(key, "landing", entry.time, told, under=one.phase_key)
        return [_Place(one.trace, key) for one in carried]

    def _landed(self, entry: Entry, result: str, decision: dict[str, Value] | None, more: dict[str, Value]) -> None:
        told, failed = outcome(result, entry.kind)
        for place in self._places(entry.stream):
            if decision is not None:
                place.trace.tell(place.key, c.DECISION, entry.time, decision, always=True)
            place.trace.end(place.key, entry, {**told, **more}, failed=failed)

    def _effect(self, entry: Entry) -> None:
        if isinstance(entry.event, e.EffectIntended):
            self._intended(entry.event, entry)
            return
        results: dict[type[object], str] = {
            e.EffectDone: c.SUCCESS,
            e.EffectFailed: c.FAILURE,
            e.EffectUnknown: c.ERROR,
        }
        if (result := results.get(type(entry.event))) is None:
            return
        told, failed = outcome(result, entry.kind)
        how: dict[str, Value] = {c.HOW: entry.event.how} if isinstance(entry.event, e.EffectDone) else {}
        for place in self._places(entry.stream):
            place.trace.end(place.key, entry, {**told, **how}, failed=failed)

    def _intended(self, event: e.EffectIntended, entry: Entry) -> None:
        told: dict[str, Value] = {
            c.VERB: event.verb,
            c.DIRECTION: event.direction,
            c.AGENT_NAME: event.agent,
            c.ALLOWED_BY: event.allowed_by,
        }
        places = [_Place(place.trace, f"{entry.stream}#{entry.version}") for place in self._places(event.subject)]
        for place, under in zip(places, self._places(event.subject), strict=True):
            place.trace.begin(place.key, event.verb, entry.time, told, under=under.key, kind=SpanKind.CLIENT)
            place.trace.tell(place.key, c.DECISION, entry.time, of_decision(event.decision), always=True)
        if places:
            _keep(self._effects, entry.stream, places)

    def _person(self, entry: Entry) -> None:
        for place in self._places(entry.stream):
            match entry.event:
                case e.PersonActed() as event:
                    told: dict[str, Value] = {c.ACT: event.act, c.PERSON: event.person}
                    place.trace.tell(place.key, c.PERSON_ACTED, entry.time, told)
                case e.AgentActed() as event:
                    place.trace.tell(place.key, c.DECISION, entry.time, of_decision(event.decision))
                case _:
                    pass

    def _forget(self, entry: Entry) -> None:
        """What has ended."""
        event, name = entry.event, rest_of(entry.stream)
        if (one := self._deliveries.get(name)) is not None and one.trace.over:
            del self._deliveries[name]
        if isinstance(event, e.SessionEnded) and session_behind(entry.stream) is not None:
            self._sessions.pop(entry.stream, None)
        if isinstance(event, e.EffectDone | e.EffectFailed | e.EffectUnknown):
            self._effects.pop(entry.stream, None)
        if isinstance(event, e.Landed | e.LandingVoided) or (
            isinstance(event, e.Evicted) and event.landing is not None
        ):
            self._landings.pop(entry.stream, None)


def spans_of(entries: Iterable[Entry], origin: str) -> list[Span]:
    traces = Traces(origin)
    return [span for entry in entries for span in traces.take(entry)]


def _keep(kept: OrderedDict[str, T], name: str, value: T) -> None:
    kept[name] = value
    if len(kept) > MOST_UNDER_WAY:
        kept.popitem(last=False)
