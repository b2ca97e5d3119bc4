"""An agent's run as spans: invoking the agent, and each of its model calls; what it did with tools are events."""

from __future__ import annotations

import re

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.metrics import conventions as c
from controller.metrics.trace_building import TraceBuilding
from controller.metrics.trace_words import input_tokens, of_label, of_reply
from controller.ports.telling import SpanKind, Value

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,80}")  # a model may ask for a tool by any words: those are not passed on
_GOOD = frozenset({"done", "no_change"})


class SessionTrace:
    """Its calls are counted here, as the agent's span sums them up."""

    def __init__(self, trace: TraceBuilding, under: str, event: e.SessionStarted, entry: Entry) -> None:
        self.trace = trace
        self.key = f"{entry.stream}#{entry.version}"
        self._model = event.model
        self._call_key: str | None = None  # None: no call is under way
        self._used: dict[str, int] = {c.INPUT_TOKENS: 0, c.OUTPUT_TOKENS: 0}
        told: dict[str, Value] = {
            c.OPERATION: c.INVOKE_AGENT,
            c.AGENT_NAME: event.role,
            c.CONVERSATION_ID: entry.stream.partition("/")[2],
            c.REQUEST_MODEL: event.model,
            c.ITERATION: event.iteration,
        }
        told |= c.provider_of(event.model) | of_label(event.label)
        trace.begin(self.key, f"{c.INVOKE_AGENT} {event.role}", entry.time, told, under=under)

    def take(self, entry: Entry) -> None:
        match entry.event:
            case e.ModelCallReserved() as event:
                self._asks(event, entry)
            case e.ReplyRecorded() as event:
                self._answered(event, entry)
            case e.TurnRecorded() as event:
                for call in event.calls:
                    self._called(call.tool, call.rules, entry, allowed=call.allowed, failed=call.error)
            case e.CallRefused() as event:
                self._called(event.tool, event.rules, entry, allowed=False, failed=False)
            case e.SessionResumed() as event:
                self.trace.tell(self.key, c.SESSION_RESUMED, entry.time, {c.TURN: event.turn})
            case e.SessionEnded() as event:
                self._ended(event, entry)
            case _:
                pass

    def _asks(self, event: e.ModelCallReserved, entry: Entry) -> None:
        self._give_up(entry)
        self._call_key = f"{self.key}/{entry.version}"
        told: dict[str, Value] = {c.OPERATION: c.CHAT, c.REQUEST_MODEL: self._model, c.TURN: event.turn}
        told |= c.provider_of(self._model)
        name = f"{c.CHAT} {self._model}"
        self.trace.begin(self._call_key, name, entry.time, told, under=self.key, kind=SpanKind.CLIENT)

    def _give_up(self, entry: Entry) -> None:
        """A call whose reply never came: its process died, or it failed."""
        if self._call_key is not None:
            self.trace.end(self._call_key, entry, {c.ERROR_TYPE: "no_reply"}, failed=True)
            self._call_key = None

    def _answered(self, event: e.ReplyRecorded, entry: Entry) -> None:
        self._used[c.INPUT_TOKENS] += input_tokens(event)
        self._used[c.OUTPUT_TOKENS] += event.usage.output_tokens
        if self._call_key is not None:
            self.trace.end(self._call_key, entry, of_reply(event))
            self._call_key = None

    def _called(self, tool: str, rules: tuple[str, ...], entry: Entry, *, allowed: bool, failed: bool) -> None:
        named = tool if _NAME.fullmatch(tool) else "_OTHER"
        told: dict[str, Value] = {c.TOOL_NAME: named, c.ALLOWED: allowed, c.CALL_FAILED: failed, c.CALL_RULES: rules}
        self.trace.tell(self.key, c.TOOL_CALL, entry.time, told)

    def _ended(self, event: e.SessionEnded, entry: Entry) -> None:
        self._give_up(entry)
        told: dict[str, Value] = {
            c.SESSION_OUTCOME: event.outcome,
            c.TURNS: event.turns,
            c.COST: event.cost_micro_usd,
            c.TAINTED: event.tainted,
        }
        failed = event.outcome not in _GOOD
        told |= {c.ERROR_TYPE: event.outcome} if failed else {}
        self.trace.end(self.key, entry, told | self._used, failed=failed)
