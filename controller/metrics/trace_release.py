"""A rollout's stream as spans: the release in the trace of every delivery that it carries, and its parts within it.

A release that carries nobody's delivery (the very first) has no trace; figures count it all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.rollout import RolloutPhase
from controller.metrics import conventions as c
from controller.metrics.trace_building import TraceBuilding
from controller.metrics.trace_words import of_decision, of_judgement, of_label, of_verdict, outcome, to_exemplars
from controller.ports.telling import Value


@dataclass(frozen=True)
class _Turn:
    """What an entry does to the part under way, and which part it begins."""

    part: str  # the result of the part that it ends
    begins: str | None = None  # None: no part
    release: str | None = None  # the result of the release that it ends; None: the release goes on


_TURNS: dict[type[e.Event], _Turn] = {
    e.ArtefactBuilt: _Turn(c.SUCCESS, "start_canary"),
    e.NothingToDeploy: _Turn(c.SKIP, release=c.SKIP),
    e.CanaryReady: _Turn(c.SUCCESS),
    e.StepStarted: _Turn(c.SUCCESS, "observe"),
    e.StepPassed: _Turn(c.SUCCESS),
    e.ReleasePaused: _Turn(c.CANCELLATION, "paused"),
    e.WeightLapsed: _Turn(c.CANCELLATION, "paused"),
    e.ReleaseResumed: _Turn(c.SUCCESS, "start_canary"),
    e.Promoted: _Turn(c.SUCCESS, "bake"),
    e.ReleaseConfirmed: _Turn(c.SUCCESS, release=c.SUCCESS),
    e.RegressionFound: _Turn(c.FAILURE, "restore"),
    e.TrafficRestored: _Turn(c.SUCCESS, release=c.FAILURE),
    e.RecoveryVerified: _Turn(c.SUCCESS, release=c.FAILURE),
    e.RecoveryFailed: _Turn(c.FAILURE, "stuck"),
    e.ReleaseRetried: _Turn(c.CANCELLATION, "paused"),
    e.RolloutStuck: _Turn(c.ERROR, "stuck"),
}
_RECOVERING = _Turn(c.SUCCESS, "recover")  # traffic is back, and it is still to be seen that it is over
_DEPLOYED = {c.SUCCESS: "succeeded", c.FAILURE: "failed"}


class ReleaseTrace:
    """The release under way in one service's stream, in the traces that it belongs to."""

    def __init__(self) -> None:
        self.traces: list[TraceBuilding] = []
        self._release_key = ""
        self._part_key: str | None = None  # None: between two parts

    @property
    def key(self) -> str:
        """What is under way: a part, or the release as a whole."""
        return self._part_key or self._release_key

    def open(self, event: e.ReleaseOpened, entry: Entry, traces: list[TraceBuilding]) -> None:
        self.traces, self._release_key, self._part_key = traces, f"{entry.stream}#{entry.version}", None
        deployment = f"{event.service}@{event.environment}/{event.release}"
        told = c.task("release", deployment) | {
            c.DEPLOYMENT_ID: deployment,
            c.ENVIRONMENT: event.environment,
            c.SERVICE: event.service,
            c.RELEASE: event.release,
            c.REPOSITORY: event.repository,
            c.HEAD_REVISION: event.commit,
        }
        told |= {c.AGAINST: event.against} if event.against is not None else {}
        for trace in self.traces:
            trace.begin(self._release_key, "release", entry.time, told)
            trace.tell(self._release_key, c.DECISION, entry.time, of_decision(event.decision), always=True)
        self._begin("build", entry)

    def take(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, e.Event):
            self._tell(event, entry)
        if isinstance(event, e.Unstuck):
            gone = event.to == RolloutPhase.IDLE.value
            self._turn(_Turn(c.SUCCESS, release=c.FAILURE if gone else None), entry)
        elif isinstance(event, e.TrafficRestored) and event.badness is not None:
            self._turn(_RECOVERING, entry)
        elif (turn := _TURNS.get(type(event))) is not None:  # type: ignore[arg-type]
            self._turn(turn, entry)

    def _turn(self, turn: _Turn, entry: Entry) -> None:
        if self._part_key is not None:
            self._end(self._part_key, turn.part, entry, {})
            self._part_key = None
        if turn.begins is not None:
            self._begin(turn.begins, entry)
        if turn.release is not None:
            status: dict[str, Value] = (
                {c.DEPLOYMENT_STATUS: _DEPLOYED[turn.release]} if turn.release in _DEPLOYED else {}
            )
            self._end(self._release_key, turn.release, entry, status)
            self.traces = []

    def _begin(self, name: str, entry: Entry) -> None:
        self._part_key = f"{entry.stream}#{entry.version}/{name}"
        told = c.task(name, f"{self._release_key}/{name}/{entry.version}") | _of_part(entry.event)
        for trace in self.traces:
            trace.begin(self._part_key, name, entry.time, told, under=self._release_key)
            trace.link(self._part_key, to_exemplars(entry.event) if isinstance(entry.event, e.RegressionFound) else ())

    def _end(self, key: str, result: str, entry: Entry, more: dict[str, Value]) -> None:
        told, failed = outcome(result, _error_of(entry.event))
        for trace in self.traces:
            trace.end(key, entry, {**told, **more}, failed=failed)

    def _tell(self, event: e.Event, entry: Entry) -> None:
        match event:
            case e.Observed():
                told = of_verdict(event.verdict) | {c.WEIGHT: event.weight_percent} | of_label(event.label)
                self._describe(of_label(event.label))
                self._event(c.VERDICT, entry, told)
                self._links(event)
            case e.RegressionFound():
                self._event(c.DECISION, entry, of_judgement(event.decision, event.verdict), always=True)
                self._links(event)
            case e.Promoted():
                self._event(c.DECISION, entry, of_judgement(event.decision, event.verdict), always=True)
            case e.ArtefactBuilt() | e.NothingToDeploy():
                self._describe({c.ARTIFACT_HASH: event.artefact.removeprefix("sha256:")})
            case e.TrafficRestored():
                at = event.traffic_back_at.isoformat()
                self._describe({c.TRAFFIC_BACK_AT: at, c.HEALTH_CHECKS: event.health_checks})
            case e.AlarmRaised():
                told = {c.RULE: event.what, c.LOG_E: event.log_e_micro / 1e6, c.THRESHOLD: event.threshold_micro / 1e6}
                self._event(c.ALARM, entry, told, always=True)
            case e.StepFailed():
                self._event(c.STEP_FAILED, entry, {c.FAILED_STEP: event.step, c.ATTEMPT: event.attempt})
            case _:
                pass

    def _describe(self, told: dict[str, Value]) -> None:
        for trace in self.traces:
            trace.describe(self.key, told)

    def _event(self, name: str, entry: Entry, told: dict[str, Value], *, always: bool = False) -> None:
        for trace in self.traces:
            trace.tell(self.key, name, entry.time, told, always=always)

    def _links(self, event: e.Event) -> None:
        for trace in self.traces:
            trace.link(self.key, to_exemplars(event))


def _of_part(event: object) -> dict[str, Value]:
    match event:
        case e.StepStarted():
            return {c.STEP: event.step, c.WEIGHT: event.weight_percent}
        case e.RegressionFound():
            first = event.first_bad_request_at
            told: dict[str, Value] = {c.WEIGHT: event.weight_percent}
            return told | ({c.FIRST_BAD_AT: first.isoformat()} if first is not None else {})
        case _:
            return {}


def _error_of(event: object) -> str:
    """The rule that spoke, where one did. Empty: the result says it all."""
    match event:
        case e.RegressionFound(verdict=verdict, decision=decision):
            return verdict.rule.value if verdict is not None else decision.rules[0]
        case e.TrafficRestored():
            return "regressed"
        case _:
            return ""
