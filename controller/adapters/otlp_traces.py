"""From single spans to whole traces: what a request went through, where it broke, and in which files.

Spans come in any order, from any service, those that nobody judges included: the deepest failing one is often theirs.
They wait by trace until none has come for `HOLD_MS`, then the trace is folded into one count for each judged service
that served a part of it, and forgotten. A span that comes later still is dropped and counted, as a trace told twice
would be counted twice.

Where it broke: from the judged service's failing server span down, into whatever failing child there is, to the
failing span none of whose children failed. Who merely passed an error on is not its origin. A failed call that nobody
served points at whom it called; one answered "your fault" (4xx) points back at the caller.

The files are those of the judged service's own failing spans on that way: another repository may have files of the
same names.

Everything is bounded: traces that wait, spans of one, and how long.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from controller.adapters.otlp_counts import ServiceCounts
from controller.adapters.otlp_groups import Alike
from controller.adapters.otlp_stacks import files_on, kept
from controller.adapters.otlp_values import texts

HOLD_MS = 5_000  # two batches of an SDK that sends every 2.5 s; the default batch delay is 5 s
OLDEST_MS = 60_000  # a trace that goes on longer is folded as it stands
MOST_TRACES = 20_000  # that wait: 200 a second for 100 s
MOST_SPANS = 256  # of one trace
REMEMBERED = 50_000  # folded traces whose late spans are known
MOST_NODES = 64  # of `TraceGroup.through`
LONGEST_NAME = 200
UNKNOWN = "unknown"
NO_ROOM = "traces cut off for want of room"
FULL = "spans beyond the most of one trace"
LATE = "spans that came after their trace was folded"
CLIENT_ERRORS = range(400, 500)
SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of one span."""

    span: str
    parent: str  # empty: it is the root
    kind: int
    service: str
    node: str  # "service@version"
    failed: bool
    peer: str  # whom a failed call of a client would be blamed on; empty: nobody but itself
    route: str
    end_ms: int
    files: tuple[str, ...]

    @property
    def serves(self) -> bool:
        return self.kind == Span.SPAN_KIND_SERVER


@dataclass(slots=True)
class Waiting:
    since_ms: int
    last_ms: int
    spans: dict[str, Seen] = field(default_factory=dict)


class Assembler:
    """`watched` gives a judged service's counts, None for any other; `now_ms` is this process's clock."""

    def __init__(self, watched: Callable[[str], ServiceCounts | None], now_ms: Callable[[], int]) -> None:
        self._watched = watched
        self._now_ms = now_ms
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()  # the longest untouched first
        self._folded: OrderedDict[str, None] = OrderedDict()
        self.dropped = Counter[str]()  # spans and traces that were not counted, by reason

    def take(self, export: ExportTraceServiceRequest, spell: Callable[[bytes], str] = bytes.hex) -> None:
        """`spell` writes an id as this encoding's ids are to be read."""
        for of_resource in export.resource_spans:
            about = texts(of_resource.resource.attributes)
            if (counts := self._watched(about.get("service.name", ""))) is not None:
                counts.traced.settle = self.fold_what_is_due
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self._keep(spell(span.trace_id), seen(span, about, spell))
        self.fold_what_is_due()

    def fold_what_is_due(self) -> None:
        now = self._now_ms()
        while self._waiting:
            trace, waiting = next(iter(self._waiting.items()))
            if now < waiting.last_ms + HOLD_MS and now < waiting.since_ms + OLDEST_MS:
                return
            del self._waiting[trace]
            self._remember(trace)
            self._fold(waiting.spans)

    def _keep(self, trace: str, span: Seen) -> None:
        if trace in self._folded:
            self.dropped[LATE] += 1
            return
        now = self._now_ms()
        waiting = self._waiting.setdefault(trace, Waiting(now, now))
        if len(waiting.spans) >= MOST_SPANS and span.span not in waiting.spans:
            self.dropped[FULL] += 1
            return
        waiting.spans[span.span] = span
        waiting.last_ms = now
        if now < waiting.since_ms + OLDEST_MS:
            self._waiting.move_to_end(trace)
        if len(self._waiting) > MOST_TRACES:
            self._remember(self._waiting.popitem(last=False)[0])
            self.dropped[NO_ROOM] += 1

    def _remember(self, trace: str) -> None:
        self._folded[trace] = None
        if len(self._folded) > REMEMBERED:
            self._folded.popitem(last=False)

    def _fold(self, spans: Mapping[str, Seen]) -> None:
        """Once for each judged service; of a service that served several parts of it, the failing one counts."""
        for service in sorted({span.service for span in spans.values() if span.serves}):
            counts = self._watched(service)
            if counts is None:
                continue
            served = [
                span
                for span in spans.values()
                if span.serves
                and span.service == service
                and not (counts.health_route and span.route == counts.health_route)
            ]
            if served:
                own = max(served, key=lambda span: (span.failed, span.end_ms, span.span))
                counts.traced.add(own.end_ms, alike(spans, own))


def alike(spans: Mapping[str, Seen], own: Seen) -> Alike:
    """A finished trace as the service of its server span `own` is judged by it."""
    through = tuple(sorted({span.node for span in spans.values() if span.serves}))[:MOST_NODES]
    if not own.failed:
        return Alike(through, own.route, None, ())
    way = way_down(spans, own)
    files = kept(file for span in reversed(way) if span.service == own.service for file in span.files)
    return Alike(through, own.route, _origin(spans, way[-1]), files)


def way_down(spans: Mapping[str, Seen], start: Seen) -> Sequence[Seen]:
    """From a failing span to the deepest failing one below it; of several children, the one that failed last."""
    children: dict[str, list[Seen]] = {}
    for span in spans.values():
        children.setdefault(span.parent, []).append(span)
    way, walked = [start], {start.span}
    while below := [span for span in _failing_below(children, way[-1]) if span.span not in walked]:
        way.append(max(below, key=lambda span: (span.end_ms, span.span)))
        walked.add(way[-1].span)
    return way


def _failing_below(children: Mapping[str, Sequence[Seen]], span: Seen) -> Iterator[Seen]:
    """Failing children, looked for through inner spans too: few libraries say of those that they failed."""
    pending, walked = list(children.get(span.span, ())), {span.span}
    while pending:
        child = pending.pop()
        if child.span in walked:
            continue
        walked.add(child.span)
        if child.failed:
            yield child
        elif child.kind == Span.SPAN_KIND_INTERNAL:
            pending.extend(children.get(child.span, ()))


def _origin(spans: Mapping[str, Seen], deepest: Seen) -> str:
    served = any(span.serves and span.parent == deepest.span for span in spans.values())
    return f"{deepest.peer}@{UNKNOWN}"[:LONGEST_NAME] if deepest.peer and not served else deepest.node


def seen(span: Span, about: Mapping[str, str], spell: Callable[[bytes], str]) -> Seen:
    """`about`: what the resource says of itself."""
    attributes = texts(span.attributes)
    service, failed = about.get("service.name", UNKNOWN), _failed(span, attributes)
    return Seen(
        span=spell(span.span_id),
        parent=spell(span.parent_span_id) if span.parent_span_id else "",
        kind=span.kind,
        service=service,
        node=f"{service}@{about.get('service.version', UNKNOWN)}"[:LONGEST_NAME],
        failed=failed,
        peer=_peer(span, attributes) if failed else "",
        route=attributes.get("http.route", attributes.get("rpc.method", ""))[:LONGEST_NAME],
        end_ms=span.end_time_unix_nano // 1_000_000,
        files=_files(span, attributes, about.get("process.working_directory", "")) if failed else (),
    )


def _failed(span: Span, attributes: Mapping[str, str]) -> bool:
    status = _status(attributes)
    wrong = "error.type" in attributes or status >= SERVER_ERRORS
    return span.status.code == Status.STATUS_CODE_ERROR or (wrong and span.kind != Span.SPAN_KIND_INTERNAL)


def _peer(span: Span, attributes: Mapping[str, str]) -> str:
    if span.kind not in {Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER} or _status(attributes) in CLIENT_ERRORS:
        return ""
    return attributes.get("peer.service") or attributes.get("server.address", "")


def _status(attributes: Mapping[str, str]) -> int:
    """0: none is said."""
    told = attributes.get("http.response.status_code", "")
    return int(told) if told.isdigit() else 0


def _files(span: Span, attributes: Mapping[str, str], root: str) -> tuple[str, ...]:
    """Of its exceptions, the last one first: an earlier one may have been handled."""
    found: list[str] = []
    for event in reversed(span.events):
        if event.name == "exception":
            found += files_on(texts(event.attributes).get("exception.stacktrace", ""), root)
    said = attributes.get("code.file.path") or attributes.get("code.filepath", "")
    return kept([*found, said] if said else found, root)
