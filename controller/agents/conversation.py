"""A session's conversation with its model, built from what is recorded and from nothing else.

A live run and a resumed one build the same messages, byte for byte: the answer to a tool call is what `TurnRecorded`
sealed, not what the process happens to remember. A reply is run only if it makes sense as a whole; what was cut off,
refused or empty is never half done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.domain.ids import canonical
from controller.ports import ModelReply

Block = Mapping[str, Any]

NOTHING = "(no output)"

MAX_CALLS = 64  # in one reply: their record is one entry of the log, which has a bound


class Sense(StrEnum):
    CALLS = "calls"  # tools are to be run
    FINAL = "final"  # the model has finished
    REFUSAL = "refusal"  # the model will not
    NONSENSE = "nonsense"  # nothing can be done with it


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call. `index` counts the tool calls of its reply."""

    index: int
    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    content: tuple[Block, ...]
    stop_reason: str

    @property
    def text(self) -> str:
        return "\n\n".join(str(block["text"]).strip() for block in self.content if _says(block))

    @property
    def calls(self) -> tuple[Call, ...]:
        uses = [block for block in self.content if block.get("type") == "tool_use"]
        return tuple(Call(index, use["id"], use["name"], use["input"]) for index, use in enumerate(uses))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model is told about one of its calls."""

    text: str
    error: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply, and the answers to its calls. No answers: nothing was run."""

    reply: Reply
    answers: tuple[Answer, ...] = ()


def write_reply(reply: ModelReply) -> str:
    """The text to seal. Raises ValueError when the content cannot be stored as it is (a lone surrogate, a NaN)."""
    return canonical({"content": list(reply.content), "stop_reason": reply.stop_reason}).decode()


def read_reply(text: str) -> Reply:
    raw = json.loads(text)
    return Reply(tuple(raw["content"]), raw["stop_reason"])


def sense_of(reply: Reply) -> tuple[Sense, str]:
    """What can be done with a reply, and in plain words why nothing can."""
    match reply.stop_reason:
        case "refusal":
            return Sense.REFUSAL, "the model refused"
        case "max_tokens":
            return Sense.NONSENSE, "the reply was cut off at its token bound"
        case "tool_use":
            return _sense_of_calls(reply.calls)
        case "end_turn" | "stop_sequence":
            return _sense_of_words(reply)
        case unknown:
            return Sense.NONSENSE, f"the reply stopped for an unknown reason ({unknown})"


def _sense_of_words(reply: Reply) -> tuple[Sense, str]:
    if reply.calls:
        return Sense.NONSENSE, "the reply says that it is finished and calls tools as well"
    if not reply.text:
        return Sense.NONSENSE, "the reply was empty"
    return Sense.FINAL, ""


def _sense_of_calls(calls: tuple[Call, ...]) -> tuple[Sense, str]:
    if not calls:
        return Sense.NONSENSE, "the reply announced a tool call and made none"
    if len(calls) > MAX_CALLS:
        return Sense.NONSENSE, f"the reply makes {len(calls)} tool calls at once, and the bound is {MAX_CALLS}"
    broken = [call.name for call in calls if not isinstance(call.arguments, Mapping)]
    if broken:
        return Sense.NONSENSE, f"the arguments of {broken[0]} are no JSON object"
    return Sense.CALLS, ""


def is_nonsense(reply: Reply, known_tools: frozenset[str]) -> bool:
    """Nothing could be done with it, or all it did was to call tools that do not exist."""
    sense, _ = sense_of(reply)
    if sense is Sense.CALLS:
        return all(call.name not in known_tools for call in reply.calls)
    return sense is Sense.NONSENSE


def nonsense_in_a_row(turns: Sequence[Turn], known_tools: frozenset[str]) -> int:
    count = 0
    for turn in reversed(turns):
        if not is_nonsense(turn.reply, known_tools):
            break
        count += 1
    return count


def messages(user: str, turns: Sequence[Turn], result_bytes: int) -> list[dict[str, Any]]:
    """Messages API shape: roles alternate, calls are answered in the next message, answers stand before words."""
    found: list[dict[str, Any]] = [_user([_text(user)])]
    for turn in turns:
        said, heard = _exchange(turn, result_bytes)
        if said:
            found += [{"role": "assistant", "content": said}, _user(heard)]
        else:
            found[-1] = _user([*found[-1]["content"], *heard])
    return found


def _exchange(turn: Turn, result_bytes: int) -> tuple[list[Block], list[Block]]:
    sense, why = sense_of(turn.reply)
    if sense is Sense.CALLS:
        said = [block for block in turn.reply.content if block.get("type") != "text" or _says(block)]
        return said, [_result(call, turn.answers, result_bytes) for call in turn.reply.calls]
    notice = (
        f"Nothing of your last reply was carried out: {why}. Call a tool, or finish with a summary of what you changed."
    )
    return [block for block in turn.reply.content if _says(block)], [_text(notice)]


def _result(call: Call, answers: Sequence[Answer], result_bytes: int) -> Block:
    answer = answers[call.index] if call.index < len(answers) else Answer("This call was not carried out.", error=True)
    text = cut(answer.text, result_bytes) or NOTHING
    return {"type": "tool_result", "tool_use_id": call.id, "content": text, "is_error": answer.error}


def cut(text: str, limit_bytes: int) -> str:
    """At most about `limit_bytes` of UTF-8: the beginning and the end, and between them how much is left out."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit_bytes:
        return text
    half = limit_bytes // 2
    left_out = len(raw) - 2 * half
    head, tail = raw[:half].decode(errors="ignore"), raw[len(raw) - half :].decode(errors="ignore")
    return f"{head}\n[... {left_out} bytes left out ...]\n{tail}"


def _user(content: Sequence[Block]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _says(block: Block) -> bool:
    return block.get("type") == "text" and bool(str(block.get("text", "")).strip())
