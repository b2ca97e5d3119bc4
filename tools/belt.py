"""What a tool is: a definition that the desk decides by, and a coroutine that carries out an allowed call.

A tool never decides and never records; it gets canonical arguments and returns text for a model. What cannot be done as
it was asked for is `NotPossible`, and its message is for the agent: plain words, no names of this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.domain.ids import Digest, digest_of
from controller.errors import Permanent
from controller.ports import Badge, ToolDefinition, ToolResult

CUT_NOTE = "\n[... {left_out} bytes left out ...]\n"


@dataclass(frozen=True, slots=True)
class Call:
    """An allowed call. `turn` and `index` are its place in the session."""

    badge: Badge
    arguments: Mapping[str, Any]
    turn: int
    index: int


@dataclass(frozen=True, slots=True)
class Tool:
    definition: ToolDefinition
    run: Callable[[Call], Awaitable[ToolResult]]
    limit_s: float = 20.0  # a call that takes longer is given up


class NotPossible(Permanent):
    """The call makes no sense as it was made. Nothing was changed; the message is for the agent."""


def digest_of_definition(definition: ToolDefinition) -> Digest:
    """Of everything that a model is told about a tool."""
    return digest_of(
        {
            "name": definition.name,
            "description": definition.description,
            "schema": dict(definition.input_schema),
            "class": definition.tool_class,
        }
    )


def text_schema(**limits: Any) -> dict[str, Any]:
    return {"type": "string", **limits}


def whole_schema(description: str, *, minimum: int, maximum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, "description": description}


def schema(required: tuple[str, ...] = (), **properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def bounded(text: str, limit_bytes: int) -> str:
    """At most `limit_bytes` of UTF-8: the beginning and the end, and between them how much is left out."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    room = max(0, limit_bytes - len(CUT_NOTE.format(left_out=len(raw))))
    head, tail = raw[: room - room // 2], raw[len(raw) - room // 2 :]
    note = CUT_NOTE.format(left_out=len(raw) - len(head) - len(tail))
    return head.decode(errors="ignore") + note + tail.decode(errors="ignore")


def lines_of(text: str) -> list[str]:
    """As editors and compilers count them: a line feed ends a line, and nothing else does."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines
