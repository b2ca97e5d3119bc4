"""Facts as attributes of spans. Only ids, numbers, words of closed lists, and sentences that code has written.

Nothing sealed is opened, and names of files and of people do not come here: people are the pseudonyms that they are in
the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controller.domain import events as e
from controller.domain.decision import Decision
from controller.domain.ids import DeliveryId
from controller.domain.verdict import Verdict
from controller.metrics import conventions as c
from controller.metrics.trace_ids import TRACE_ID, root_of, trace_of
from controller.ports.telling import NO_SPAN, Attributes, SpanLink, Value

MICRO = 1_000_000


def of_decision(decision: Decision) -> dict[str, Value]:
    told: dict[str, Value] = {
        c.QUESTION: decision.question,
        c.CHOICE: decision.choice,
        c.RULES: decision.rules,
        c.CONFIDENCE: decision.confidence_percent,
    }
    return told | ({c.POLICY: decision.policy} if decision.policy else {})


def of_verdict(verdict: Verdict) -> dict[str, Value]:
    """Evidence in nats."""
    return {
        c.OUTCOME: verdict.outcome.value,
        c.RULE: verdict.rule.value,
        c.LOG_E: verdict.log_e_micro / MICRO,
        c.THRESHOLD: verdict.threshold_micro / MICRO,
        c.MUST_PAGE: verdict.must_page,
        c.CANARY_REQUESTS: verdict.canary.requests,
        c.CANARY_ERRORS: verdict.canary.errors,
        c.BASELINE_REQUESTS: verdict.baseline.requests,
        c.BASELINE_ERRORS: verdict.baseline.errors,
    }


def of_judgement(decision: Decision, verdict: Verdict | None) -> dict[str, Value]:
    """A decision on numbers. `verdict=None`: no statistics were needed."""
    if verdict is None:
        return of_decision(decision)
    return of_decision(decision) | of_verdict(verdict) | {c.SENTENCE: verdict.sentence}


def of_label(label: e.Label | None) -> dict[str, Value]:
    """Empty: nothing here rests on a model or a metric."""
    return {c.LABEL: label.value} if label is not None else {}


def of_reply(reply: e.ReplyRecorded) -> dict[str, Value]:
    used = reply.usage
    return {
        c.RESPONSE_MODEL: reply.model,
        c.RESPONSE_ID: reply.request_id,
        c.FINISH_REASONS: (reply.stop_reason,),
        c.INPUT_TOKENS: input_tokens(reply),
        c.OUTPUT_TOKENS: used.output_tokens,
        c.CACHE_READ_TOKENS: used.cache_read_tokens,
        c.CACHE_WRITE_TOKENS: used.cache_write_tokens,
        c.COST: reply.cost_micro_usd,
        c.LABEL: reply.label.value,
    }


def input_tokens(reply: e.ReplyRecorded) -> int:
    """By the conventions those of the cache are input too; ours are counted apart."""
    return reply.usage.input_tokens + reply.usage.cache_read_tokens + reply.usage.cache_write_tokens


def to_delivery(origin: str, delivery: DeliveryId, why: str) -> SpanLink:
    trace = trace_of(origin, delivery)
    return SpanLink(trace, root_of(trace), {c.LINK: why})


def to_exemplars(fact: e.Event) -> tuple[SpanLink, ...]:
    """Traces of requests that a regression was seen in, and good ones beside them. Empty: the fact names none."""
    named: Any = getattr(fact, "exemplars", None)
    return tuple(
        SpanLink(trace, NO_SPAN, {c.LINK: f"exemplar.{arm}"})
        for arm in ("bad", "good")
        for trace in _valid(getattr(named, arm, ()))
    )


def _valid(traces: Iterable[object]) -> list[str]:
    """What came from outside and is no trace id is left out."""
    return [trace for trace in traces if isinstance(trace, str) and TRACE_ID.fullmatch(trace)]


def outcome(result: str, word: str = "") -> tuple[Attributes, bool]:
    """A task's result as attributes, and whether it failed. `word`: what kind of failure."""
    failed = result in c.FAILURES
    told: dict[str, Value] = {c.TASK_RESULT: result}
    return (told | {c.ERROR_TYPE: word or result} if failed else told), failed
