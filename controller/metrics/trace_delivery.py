"""A delivery's own stream as spans: the run of a pipeline, and one task for each stay in a phase.

A phase's span is named after the step that works in it. Rounds of CI lie within `check`; sessions, landings, releases
and effects are told by their own streams and put where this one stands.
"""

from __future__ import annotations

from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain.delivery import TERMINAL, Delivery
from controller.domain.entry import Entry
from controller.domain.ids import DeliveryId
from controller.metrics import conventions as c
from controller.metrics.trace_building import ROOT, TraceBuilding
from controller.metrics.trace_ids import trace_of
from controller.metrics.trace_words import of_decision, of_label, outcome, to_delivery
from controller.ports.telling import SpanKind, Value

_LEAVES: dict[type[e.Event], str] = {
    e.SentBack: c.FAILURE,
    e.Abandoned: c.FAILURE,
    e.Stuck: c.ERROR,
    e.Superseded: c.CANCELLATION,
}  # what a phase has come to when this ends it; anything else: success


class DeliveryTrace:
    def __init__(self, origin: str, delivery: DeliveryId) -> None:
        self._origin = origin
        self.state = Delivery(delivery)
        self.trace = TraceBuilding(trace_of(origin, delivery))
        self.phase_key = ROOT  # of the phase under way; ROOT: one that other spans tell
        self._ci_key: str | None = None  # None: no round is under way

    def take(self, entry: Entry) -> None:
        event, before = entry.event, self.state.phase
        self.state = deliveries.evolve(self.state, entry)
        if isinstance(event, e.TaskRequested):
            self._begin(event, entry)
        if isinstance(event, e.Event):
            self._tell(event, entry)
        if self.state.phase is not before:
            self._leave(entry)
            self._enter(entry)
        if self.state.phase in TERMINAL:
            self._end(entry)

    def _begin(self, event: e.TaskRequested, entry: Entry) -> None:
        pipeline = c.PIPELINES[event.cause]
        told: dict[str, Value] = {
            c.PIPELINE_NAME: pipeline,
            c.PIPELINE_ACTION: c.RUN,
            c.PIPELINE_RUN_ID: event.delivery,
            c.REPOSITORY: event.repository,
            c.BASE_NAME: event.branch,
            c.BASE_TYPE: c.BRANCH,
            c.CAUSE: event.cause.value,
            c.ROOT_DELIVERY: event.root,
            c.ASKED_BY: event.asked_by,
        }
        self.trace.begin(ROOT, f"{c.RUN} {pipeline}", entry.time, told, under=None, kind=SpanKind.SERVER)
        if event.caused_by is not None:
            self.trace.describe(ROOT, {c.CAUSED_BY: event.caused_by})
            self.trace.link(ROOT, [to_delivery(self._origin, event.caused_by, "cause")])
        self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        name = c.TASKS.get(self.state.phase)
        self.phase_key = ROOT if name is None else f"{entry.stream}#{entry.version}"
        if name is not None:
            run = f"{self.state.id}/{name}/{entry.version}"
            self.trace.begin(self.phase_key, name, entry.time, c.task(name, run))

    def _leave(self, entry: Entry) -> None:
        if self.phase_key == ROOT:
            return
        told, failed = outcome(_LEAVES.get(type(entry.event), c.SUCCESS), entry.kind)  # type: ignore[arg-type]
        self.trace.end(self.phase_key, entry, told, failed=failed)
        self._ci_key = None

    def _tell(self, event: e.Event, entry: Entry) -> None:
        match event:
            case e.ChangeAuthored():
                self._authored(event)
            case e.PullRequestOpened():
                self.trace.describe(ROOT, {c.CHANGE_ID: str(event.number), c.CHANGE_STATE: c.OPEN})
            case e.CiStarted():
                self._ci_started(event, entry)
            case e.CiReported():
                self._ci_reported(event, entry)
            case e.RiskClassified():
                self.trace.describe(self.phase_key, {c.COLOUR: event.verdict.colour.value})
            case e.Merged():
                self.trace.describe(ROOT, {c.CHANGE_STATE: c.MERGED, c.HEAD_REVISION: event.commit})
            case e.HandedOver():
                asked = [(event.revert, "revert"), (event.fix, "fix")]
                links = [to_delivery(self._origin, one, why) for one, why in asked if one is not None]
                self.trace.link(self.phase_key, links)
            case e.StepFailed():
                told: dict[str, Value] = {c.FAILED_STEP: event.step, c.ATTEMPT: event.attempt}
                self.trace.tell(self.phase_key, c.STEP_FAILED, entry.time, told)
            case _:
                pass
        decision = getattr(event, "decision", None)
        if decision is not None and not isinstance(event, e.CiReported):
            self.trace.tell(self.phase_key, c.DECISION, entry.time, of_decision(decision), always=True)

    def _authored(self, event: e.ChangeAuthored) -> None:
        change: dict[str, Value] = {
            c.HEAD_NAME: event.branch,
            c.HEAD_TYPE: c.BRANCH,
            c.HEAD_REVISION: event.head,
            c.BASE_REVISION: event.base,
        }
        self.trace.describe(ROOT, change | of_label(event.label))
        more: dict[str, Value] = {
            c.ITERATION: event.iteration,
            c.FILES: len(event.files),
            c.LINES: event.lines_changed,
            c.COST: event.cost_micro_usd,
            c.TAINTED: event.tainted,
        }
        self.trace.describe(self.phase_key, change | more | of_label(event.label))

    def _ci_started(self, event: e.CiStarted, entry: Entry) -> None:
        if self._ci_key is not None:
            self.trace.end(self._ci_key, entry, {c.TASK_RESULT: c.CANCELLATION})
        self._ci_key = f"{entry.stream}#{entry.version}/ci"
        told = c.task("ci", event.run) | {c.HEAD_REVISION: event.head, c.BASE_REVISION: event.base}
        self.trace.begin(self._ci_key, "ci", entry.time, told, under=self.phase_key)

    def _ci_reported(self, event: e.CiReported, entry: Entry) -> None:
        if self._ci_key is None:
            return
        told, failed = outcome(c.SUCCESS if event.passed else c.FAILURE, "tests_failed")
        counts: dict[str, Value] = {
            c.ROUNDS: event.round,
            c.TESTS: event.tests,
            c.FAILED_TESTS: len(event.failures),
        }
        if event.decision is not None:
            self.trace.tell(self._ci_key, c.DECISION, event.finished_at, of_decision(event.decision), always=True)
        self.trace.end(self._ci_key, entry, {**told, **counts}, failed=failed, at=event.finished_at)
        self._ci_key = None

    def _end(self, entry: Entry) -> None:
        d = self.state
        result = c.RESULTS[d.phase]
        told: dict[str, Value] = {
            c.PIPELINE_RESULT: result,
            c.END_PHASE: d.phase.value,
            c.ROUNDS: d.rounds,
            c.ITERATION: d.iteration,
            c.COST: d.cost_micro_usd,
            c.TAINTED: d.tainted,
        }
        if d.pull_request is not None and d.merged is None:
            told[c.CHANGE_STATE] = c.CLOSED
        failed = result in c.FAILURES
        self.trace.end(ROOT, entry, told | ({c.ERROR_TYPE: d.phase.value} if failed else {}), failed=failed)
