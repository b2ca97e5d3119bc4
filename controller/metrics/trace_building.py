"""One delivery's trace while it is under way: spans begin under others, and end with what they have come to.

Times come from different writers' clocks, so they are put in order here: nothing begins before its parent, and a
parent ends after its children. What is open when its parent ends is cut off, and says so. Once the root has ended,
nothing more belongs to the trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain.entry import Entry
from controller.metrics import conventions as c
from controller.metrics.trace_ids import root_of, span_in
from controller.ports.telling import Attributes, Span, SpanEvent, SpanKind, SpanLink, Value

ROOT = ""  # the key of a trace's first span
MOST_EVENTS = 128  # of one span: the OpenTelemetry SDKs' default; what ends a span is told beyond it
MOST_LINKS = 128  # likewise
MOST_OPEN = 1_000  # spans of one delivery open at the same time; more are not begun


@dataclass
class _Open:
    under: str | None  # None: the root
    name: str
    kind: SpanKind
    start: datetime
    attributes: dict[str, Value]
    events: list[SpanEvent] = field(default_factory=list)
    links: list[SpanLink] = field(default_factory=list)
    left_out: int = 0
    children_until: datetime | None = None  # None: no child has ended


class TraceBuilding:
    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.ended: list[Span] = []  # since they were last taken away
        self._open: dict[str, _Open] = {}  # parents before their children
        self._over = False

    @property
    def over(self) -> bool:
        """The root has ended."""
        return self._over

    def begin(
        self,
        key: str,
        name: str,
        at: datetime,
        attributes: Attributes,
        *,
        under: str | None = ROOT,  # None: the root
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        """Under the root when `under` is not open. Nothing happens when the trace is over or too broad."""
        if self._over or len(self._open) >= MOST_OPEN:
            return
        parent = None if under is None else (under if under in self._open else ROOT)
        start = at if parent is None else max(at, self._open[parent].start)
        self._open[key] = _Open(parent, name, kind, start, dict(attributes))

    def describe(self, key: str, attributes: Attributes) -> None:
        if (span := self._open.get(key)) is not None:
            span.attributes.update(attributes)

    def tell(self, key: str, name: str, at: datetime, attributes: Attributes, *, always: bool = False) -> None:
        """An event of the span, or of the root when it is not open."""
        span = self._open.get(key) or self._open.get(ROOT)
        if span is None:
            return
        if len(span.events) >= MOST_EVENTS and not always:
            span.left_out += 1
            return
        span.events.append(SpanEvent(name, max(at, span.start), attributes))

    def link(self, key: str, links: Iterable[SpanLink]) -> None:
        if (span := self._open.get(key)) is not None:
            known = {(one.trace_id, one.span_id) for one in span.links}
            new = {(one.trace_id, one.span_id): one for one in links}
            more = [link for name, link in new.items() if name not in known]
            span.links.extend(more[: MOST_LINKS - len(span.links)])

    def end(
        self, key: str, entry: Entry, attributes: Attributes, *, failed: bool = False, at: datetime | None = None
    ) -> None:
        """`at`: when it really ended, if that was before the entry. Nothing happens when it is not open."""
        if (span := self._open.get(key)) is None:
            return
        for child in [name for name, other in self._open.items() if other.under == key]:
            self.end(child, entry, {c.CUT_OFF: True})
        del self._open[key]
        end = max(entry.time if at is None else min(at, entry.time), span.start, span.children_until or span.start)
        end = max([end, *(event.at for event in span.events)])
        if span.under is not None:
            parent = self._open[span.under]
            parent.children_until = max(parent.children_until or end, end)
        self._over = self._over or span.under is None
        self.ended.append(self._ended(key, span, entry, attributes, end=end, failed=failed))

    def _ended(
        self, key: str, span: _Open, entry: Entry, attributes: Attributes, *, end: datetime, failed: bool
    ) -> Span:
        more: dict[str, Value] = {c.LEFT_OUT: span.left_out} if span.left_out else {}
        return Span(
            trace_id=self.trace_id,
            span_id=self._id(key),
            parent_id=None if span.under is None else self._id(span.under),
            name=span.name,
            kind=span.kind,
            start=span.start,
            end=end,
            attributes={**span.attributes, **attributes, **more, c.LOG_INDEX: entry.index},
            failed=failed,
            events=tuple(span.events),
            links=tuple(span.links),
            index=entry.index,
        )

    def _id(self, key: str) -> str:
        return root_of(self.trace_id) if key == ROOT else span_in(self.trace_id, key)

    def taken(self) -> list[Span]:
        """What has ended since the last call."""
        ended, self.ended = self.ended, []
        return ended
