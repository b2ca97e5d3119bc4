"""The belt for the record: say why, and read what one's own session has done.

Reasons are an agent's own words: sealed, kept for reviewers, and never read by a decision. A session reads its own
stream and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from controller.domain.decision import Claim, Decision, Option
from controller.domain.entry import Entry
from controller.domain.events import CallRecord as Made
from controller.domain.events import CallRefused, CallsRecorded, ReasoningRecorded, TurnRecorded
from controller.ports import Log, Seals, ToolDefinition, ToolResult
from controller.requests import AgentRequests
from tools.belt import Call, NotPossible, Tool, schema, text_schema, whole_schema
from tools.effects import in_plain_words, place_of
from tools.pages import page_of_entries

SENTENCE = 600  # characters; as `decision.Sentence`
MAX_OPTIONS, MAX_CLAIMS = 10, 20
OWN_WORDS = ("agent/own-words",)  # the rule of a decision that no rule made
MAX_INDEX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class LedgerBelt:
    log: Log
    seals: Seals
    requests: AgentRequests
    page_bytes: int

    def tools(self) -> list[Tool]:
        return [Tool(RECORD_REASONING, self.record_reasoning), Tool(READ_OWN_RECORD, self.read_own_record)]

    async def record_reasoning(self, call: Call) -> ToolResult:
        why = _reasoning(call.arguments)
        with in_plain_words():
            await self.requests.reason(place_of(call), why)
        return ToolResult(f"Recorded: {why.choice}, over {len(why.options) - 1} others, on {len(why.claims)} claims.")

    async def read_own_record(self, call: Call) -> ToolResult:
        """Pages are by log index, so that entries added meanwhile move nothing."""
        after = call.arguments.get("after", -1)
        entries = [entry for entry in await self.log.read(call.badge.stream) if entry.index > after]
        if not entries:
            return ToolResult("There is nothing after that." if after >= 0 else "Nothing is recorded yet.")
        shown: list[str] = []
        last, room = entries[0].index, self.page_bytes // 2
        for entry in entries:
            words = await self._words(entry)
            if shown and room - len(words.encode()) < 0:
                break
            shown.append(words)
            last, room = entry.index, room - len(words.encode())
        left = len(entries) - len(shown)
        note = f"[{left} entries more; read on with after {last}]" if left else ""
        return ToolResult(page_of_entries([*shown, *([note] if note else [])], 0, self.page_bytes))

    async def _words(self, entry: Entry) -> str:
        head = f"log#{entry.index} {entry.time.isoformat(timespec='seconds')} {entry.kind}"
        match entry.event:
            case TurnRecorded() | CallsRecorded() as event:
                return "\n".join((head, *(f"  {_call(one)}" for one in event.calls)))
            case CallRefused() as event:
                return f"{head}\n  {event.tool} refused ({', '.join(event.rules)}): {event.reason}"
            case ReasoningRecorded() as event:
                return f"{head}\n  {await self.seals.open(event.reasoning)}"
            case _:
                return head


def _call(call: Made) -> str:
    answer = "allowed" if call.allowed else "refused"
    return f"{call.tool} {answer} ({', '.join(call.rules)}){', with an error' if call.error and call.allowed else ''}"


def _reasoning(said: Any) -> Decision:
    """Raises NotPossible for what is no decision: exactly one option is chosen, and the others say why not."""
    try:
        return Decision(
            question=said["question"],
            options=tuple(Option(name=one["name"], why_not=one.get("why_not")) for one in said["options"]),
            choice=said["choice"],
            claims=tuple(Claim(text=one["text"], evidence=one["evidence"]) for one in said["claims"]),
            confidence_percent=said["confidence_percent"],
            would_change=said["would_change"],
            fallback=said["fallback"],
            rules=OWN_WORDS,
        )
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise NotPossible(f"{place + ': ' if place else ''}{words}"[:SENTENCE]) from None


def _things(most: int, least: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": least, "maxItems": most, "items": item}


_SENTENCE = text_schema(minLength=1, maxLength=SENTENCE)
_NAME = text_schema(minLength=1, maxLength=200)
RECORD_REASONING = ToolDefinition(
    "record_reasoning",
    "Write down why you decide as you do: the question, the options with why not (the chosen one has none), claims with"
    " where to look, how sure you are, what would change it. Kept sealed for reviewers; nothing is decided by it.",
    schema(
        ("question", "options", "choice", "claims", "confidence_percent", "would_change", "fallback"),
        question=_SENTENCE,
        options=_things(MAX_OPTIONS, 2, schema(("name",), name=_NAME, why_not=_SENTENCE)),
        choice=_NAME,
        claims=_things(MAX_CLAIMS, 1, schema(("text", "evidence"), text=_SENTENCE, evidence=_NAME)),
        confidence_percent=whole_schema("How sure you are", minimum=0, maximum=100),
        would_change=_SENTENCE,
        fallback=_SENTENCE,
    ),
    tool_class="effect",
)
READ_OWN_RECORD = ToolDefinition(
    "read_own_record",
    "What the log holds of this session: each entry with time, tools, rules, allowed or refused, and your own reasons.",
    schema(after=whole_schema("Log index of the last entry that you have read", minimum=0, maximum=MAX_INDEX)),
    tool_class="read",
)
