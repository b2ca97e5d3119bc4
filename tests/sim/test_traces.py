"""The log as traces: whole, in order, with the same ids each time, in words that OpenTelemetry knows."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter, defaultdict
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import golden_logs
import pytest
from golden_logs import GOLDEN

from controller.domain import events as e
from controller.domain.entry import Entry, UnknownEvent
from controller.domain.ids import DeliveryId
from controller.metrics import conventions as c
from controller.metrics.trace_building import MOST_EVENTS, MOST_LINKS, ROOT, TraceBuilding
from controller.metrics.trace_ids import root_of, trace_of
from controller.metrics.trace_words import to_exemplars
from controller.metrics.traces import KINDS, Traces, spans_of
from controller.ports.telling import NO_SPAN, Metric, Span, SpanLink

LOGS = sorted(GOLDEN.glob("*.jsonl"))
ORIGIN = "flyball/here"
NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")
every_log = pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)


@cache
def read(path: Path) -> list[Entry]:
    return golden_logs.read(path)


def traces_of(path: Path) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans_of(read(path), ORIGIN):
        found[span.trace_id].append(span)
    return found


def only(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


def trace(path: Path, delivery: str) -> list[Span]:
    return traces_of(path)[trace_of(ORIGIN, DeliveryId(delivery))]


def requested(path: Path) -> set[str]:
    return {entry.event.delivery for entry in read(path) if isinstance(entry.event, e.TaskRequested)}


@every_log
def test_every_delivery_has_one_trace_with_one_root(path: Path) -> None:
    traces = traces_of(path)
    assert set(traces) == {trace_of(ORIGIN, DeliveryId(one)) for one in requested(path)}
    for trace_id, spans in traces.items():
        (root,) = [span for span in spans if span.parent_id is None]
        assert root.span_id == root_of(trace_id)
        assert root.index == max(span.index for span in spans)


@every_log
def test_every_span_lies_within_its_parent_and_has_an_id_of_its_own(path: Path) -> None:
    for spans in traces_of(path).values():
        known = {span.span_id: span for span in spans}
        assert len(known) == len(spans)
        for span in spans:
            assert span.start <= span.end
            assert all(span.start <= event.at <= span.end for event in span.events)
            if span.parent_id is not None:
                parent = known[span.parent_id]
                assert parent.start <= span.start <= span.end <= parent.end, (span.name, parent.name)


@every_log
def test_the_same_log_gives_the_same_spans_whatever_is_left_out_of_reading(path: Path) -> None:
    entries = read(path)
    worth_reading = [entry for entry in entries if entry.kind in KINDS]
    assert spans_of(entries, ORIGIN) == spans_of(worth_reading, ORIGIN)


def test_two_logs_that_know_a_delivery_of_the_same_name_share_no_id() -> None:
    here, there = (spans_of(read(LOGS[0]), origin) for origin in (ORIGIN, "flyball/there"))
    assert not {span.trace_id for span in here} & {span.trace_id for span in there}
    assert not {span.span_id for span in here} & {span.span_id for span in there}


def test_nothing_of_a_delivery_that_has_ended_is_held_on_to() -> None:
    traces = Traces(ORIGIN)
    for entry in read(LOGS[0]):
        traces.take(entry)
    held = (traces._deliveries, traces._sessions, traces._effects, traces._landings)
    assert [len(one) for one in held] == [0, 0, 0, 0]


def test_an_entry_of_a_later_version_is_passed_over() -> None:
    entries = read(LOGS[0])
    strange = Entry(**{name: getattr(entries[5], name) for name in Entry.__slots__} | {
        "event": UnknownEvent("Teleported", 1, {}), "kind": "Teleported",
    })  # fmt: skip
    assert spans_of([*entries, strange], ORIGIN) == spans_of(entries, ORIGIN)


DECIDED = (
    e.TaskAccepted
    | e.ChangeAuthored
    | e.CiReported
    | e.RiskClassified
    | e.HandedOver
    | e.Landed
    | e.Promoted
    | e.RegressionFound
)

# --- what a trace tells -----------------------------------------------------------------------------------------------

REASONS = GOLDEN / "reasons.jsonl"


def test_a_good_delivery_reads_from_task_to_confirmation() -> None:
    spans = trace(REASONS, "shop-d880ea")
    root = only(spans, "RUN deliver")
    below = [
        span.name for span in sorted(spans, key=lambda one: (one.start, one.index)) if span.parent_id == root.span_id
    ]
    steps = ["accept", "author", "propose", "check", "classify", "clear", "merge", "await_release", "release"]
    assert [name for name in below if name in steps] == steps
    told = root.attributes
    assert (told[c.PIPELINE_RESULT], told[c.END_PHASE], told[c.LABEL]) == ("success", "CONFIRMED", "simulated")
    assert (told[c.CHANGE_ID], told[c.CHANGE_STATE]) == ("1", "merged")
    assert not root.failed


def test_a_session_names_its_model_its_tokens_and_why_it_stopped() -> None:
    spans = trace(REASONS, "shop-d880ea")
    agent, calls = only(spans, "invoke_agent author"), [span for span in spans if span.name.startswith("chat ")]
    assert {span.parent_id for span in calls} == {agent.span_id}
    assert agent.parent_id == only(spans, "author").span_id
    told = calls[0].attributes
    assert (told[c.REQUEST_MODEL], told[c.PROVIDER], told[c.INPUT_TOKENS]) == ("claude-sonnet-5-5", "anthropic", 2000)
    assert [span.attributes[c.FINISH_REASONS] for span in calls] == [("tool_use",), ("end_turn",)]
    assert agent.attributes[c.INPUT_TOKENS] == sum(int(str(span.attributes[c.INPUT_TOKENS])) for span in calls)
    assert c.TOOL_CALL in {event.name for event in agent.events}


def test_a_bad_canary_tells_its_evidence_and_that_traffic_went_back() -> None:
    spans = trace(REASONS, "shop-d0ae9e")
    root, observe, restore = (only(spans, name) for name in ("RUN deliver", "observe", "restore"))
    decided = [event for event in observe.events if event.name == c.DECISION][-1].attributes
    assert decided[c.OUTCOME] == "roll_back"
    assert decided[c.CHOICE]
    assert float(str(decided[c.LOG_E])) >= float(str(decided[c.THRESHOLD]))
    assert (observe.failed, observe.attributes[c.ERROR_TYPE]) == (True, "canary/errors")
    assert (restore.failed, restore.attributes[c.WEIGHT], c.TRAFFIC_BACK_AT in restore.attributes) == (False, 25, True)
    assert (root.failed, root.attributes[c.PIPELINE_RESULT]) == (True, "failure")


def test_a_revert_and_a_fix_are_linked_with_what_caused_them_both_ways() -> None:
    cause, revert = trace_of(ORIGIN, DeliveryId("shop-d0ae9e")), trace_of(ORIGIN, DeliveryId("shop-d0ae9e-revert"))
    hand_over = only(trace(REASONS, "shop-d0ae9e"), "hand_over")
    assert [link.attributes[c.LINK] for link in hand_over.links] == ["revert", "fix"]
    assert (hand_over.links[0].trace_id, hand_over.links[0].span_id) == (revert, root_of(revert))
    (back,) = only(trace(REASONS, "shop-d0ae9e-revert"), "RUN revert").links
    assert (back.trace_id, back.span_id) == (cause, root_of(cause))


def test_every_decision_of_a_delivery_and_its_effects_is_told() -> None:
    """But those about the first release, which is nobody's delivery."""
    entries = read(REASONS)
    told = Counter(
        str(event.attributes[c.QUESTION])
        for span in spans_of(entries, ORIGIN)
        for event in span.events
        if event.name == c.DECISION
    )
    made = [
        entry.event.decision.question
        for entry in entries
        if isinstance(entry.event, DECIDED) and entry.event.decision is not None
        if getattr(entry.event, "release", 0) != 1
    ]
    assert made
    assert not Counter(made) - told


def test_a_red_round_is_a_failed_task_and_the_next_one_its_own() -> None:
    spans = trace(REASONS, "shop-f32e8c")
    rounds = sorted((span for span in spans if span.name == "ci"), key=lambda one: one.start)
    assert [(span.failed, span.attributes[c.ROUNDS], span.attributes[c.TASK_TYPE]) for span in rounds] == [
        (True, 1, "test"),
        (False, 2, "test"),
    ]
    assert [span.failed for span in spans if span.name == "author"] == [False, False]


# --- exemplars: the field is read where a fact has it -----------------------------------------------------------------


def test_exemplars_become_links_to_whole_traces_and_what_is_no_trace_id_is_left_out() -> None:
    bad, good = "ab" * 16, "cd" * 16
    fact = SimpleNamespace(exemplars=SimpleNamespace(bad=(bad, "0" * 32, "nonsense", "AB" * 16), good=(good,)))
    links = to_exemplars(fact)  # type: ignore[arg-type]
    assert [(link.trace_id, link.span_id, link.attributes[c.LINK]) for link in links] == [
        (bad, NO_SPAN, "exemplar.bad"),
        (good, NO_SPAN, "exemplar.good"),
    ]


def test_a_fact_without_exemplars_has_no_links() -> None:
    (found,) = [x.event for x in read(REASONS) if isinstance(x.event, e.RegressionFound) and x.event.verdict][:1]
    assert to_exemplars(found) == ()


# --- a trace under way ------------------------------------------------------------------------------------------------


def entries_apart() -> tuple[Entry, Entry]:
    first, last = read(LOGS[0])[0], read(LOGS[0])[-1]
    return first, last


def test_what_is_open_when_its_parent_ends_is_cut_off_and_nothing_comes_after_the_root() -> None:
    first, last = entries_apart()
    building = TraceBuilding("ab" * 16)
    building.begin(ROOT, "root", first.time, {}, under=None)
    building.begin("child", "child", first.time, {})
    building.begin("grandchild", "grandchild", first.time, {}, under="child")
    building.end(ROOT, last, {})
    building.begin("late", "late", last.time, {})
    building.end("late", last, {})
    assert [(one.name, c.CUT_OFF in one.attributes) for one in building.taken()] == [
        ("grandchild", True),
        ("child", True),
        ("root", False),
    ]


def test_clocks_that_disagree_put_no_span_outside_its_parent() -> None:
    first, last = entries_apart()
    building = TraceBuilding("ab" * 16)
    building.begin(ROOT, "root", last.time, {}, under=None)
    building.begin("child", "child", last.time - timedelta(hours=1), {})
    building.end("child", last, {}, at=last.time - timedelta(hours=2))
    building.end(ROOT, first, {})
    child, root = building.taken()
    assert root.start <= child.start <= child.end <= root.end


def test_a_span_keeps_a_bounded_number_of_events_and_says_how_many_it_left_out() -> None:
    first, last = entries_apart()
    building = TraceBuilding("ab" * 16)
    building.begin(ROOT, "root", first.time, {}, under=None)
    for _ in range(MOST_EVENTS + 7):
        building.tell(ROOT, "flyball.verdict", first.time, {})
    building.tell(ROOT, c.DECISION, first.time, {}, always=True)
    building.end(ROOT, last, {})
    (root,) = building.taken()
    assert (len(root.events), root.events[-1].name, root.attributes[c.LEFT_OUT]) == (MOST_EVENTS + 1, c.DECISION, 7)


def test_a_trace_that_several_segments_name_is_linked_once_and_links_are_bounded() -> None:
    first, last = entries_apart()
    building = TraceBuilding("ab" * 16)
    building.begin(ROOT, "root", first.time, {}, under=None)
    for _ in range(2):
        building.link(ROOT, [SpanLink(f"{number:032x}", NO_SPAN, {c.LINK: "cause"}) for number in range(1, 200)])
    building.end(ROOT, last, {})
    (root,) = building.taken()
    assert len(root.links) == len({link.trace_id for link in root.links}) == MOST_LINKS


# --- words ------------------------------------------------------------------------------------------------------------


def known_names() -> set[str]:
    """Every attribute and metric that the pinned package has, stable or not."""
    found: set[str] = set()
    for part in ("attributes", "metrics", "_incubating.attributes", "_incubating.metrics"):
        package = importlib.import_module(f"opentelemetry.semconv.{part}")
        modules = [f"{package.__name__}.{one.name}" for one in pkgutil.iter_modules(package.__path__)]
        for loaded in map(importlib.import_module, [package.__name__, *modules]):
            found |= {value for name, value in vars(loaded).items() if name.isupper() and isinstance(value, str)}
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_name_is_opentelemetrys_or_begins_with_flyball() -> None:
    known = known_names()
    assert "service.name" in known
    spans = [span for path in LOGS for span in spans_of(read(path), ORIGIN)]
    events = [event for span in spans for event in span.events]
    used = {key for told in [*(one.attributes for one in spans), *(one.attributes for one in events)] for key in told}
    used |= {value for name, value in vars(c).items() if name.isupper() and NAME.fullmatch(str(value))}
    used |= {metric.name for metric in vars(c).values() if isinstance(metric, Metric)}
    strange = {name for name in used if not name.startswith("flyball.")} - known
    assert strange == set()


def test_the_schema_is_that_of_the_pinned_package() -> None:
    from opentelemetry.semconv.schemas import Schemas  # noqa: PLC0415 - beside what it is compared with

    assert list(Schemas)[-1].value == c.SCHEMA_URL
