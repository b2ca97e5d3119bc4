"""Arguments of a tool call, held to one reading: plain JSON, the tool's schema, one spelling of every name.

A server library parses arguments but does not check them, and what a checker was shown must be what the tool gets. So
only values that have one spelling in JSON pass (no floats, no lone surrogates), nothing is converted, and nothing that
the schema does not name is let through. What does not fit is refused, never mended.

`reason` is logged in clear and so never repeats what the model wrote; `told` goes back to the agent, and may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.confined import NotParsed
from controller.desk_schema import misfit
from controller.desk_words import not_open, shown
from controller.domain.ids import Digest, canonical, digest_bytes, digest_of
from controller.errors import Refused
from controller.ports import ToolDefinition
from rbac import canonical as spelling

MAX_ARGUMENTS_BYTES = 2 * 1024 * 1024  # twice the largest file that can be written
MAX_MOUNTED_BYTES = 64 * 1024  # for another server's tool, whose schema nobody here wrote
MOUNTED = "__"  # between a mount's name and its tool's; none of our own tools has it
MAX_DEPTH = 8
MAX_VALUES = 50_000  # what 64 kB can hold and somebody may need; each is looked at, one by one
MAX_INTEGER = 2**53 - 1  # what every JSON reader holds exactly (RFC 8259, section 6)


@dataclass(frozen=True, slots=True)
class Names:
    """The names in a call that a decision rests on, each in its one spelling."""

    paths: tuple[str, ...]
    repository: str | None  # None: the call names none, and means the session's own
    branch: str | None  # None: the call names none
    environment: str | None  # None: the call names none


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """A call that does not happen: the rules, a reason in code's words for the log, and what the agent is told."""

    def __init__(self, rules: tuple[str, ...], reason: str, told: str, *, repeated: bool = False) -> None:
        """`repeated`: the same refusal is in the log already, and stands for this one too."""
        super().__init__(reason)
        self.repeated = repeated
        self.rules = rules
        self.reason = reason
        self.told = told


async def strict(tool: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as a plain dict of their own. Raises Refusal."""
    plain = _Plain(tool.name)
    plain.look(arguments, depth=0)
    fitting: dict[str, Any] = dict(arguments)
    most = MAX_MOUNTED_BYTES if MOUNTED in tool.name else MAX_ARGUMENTS_BYTES
    if len(canonical(fitting)) > most:
        raise _misfit(tool.name, "arguments/size", f"they are larger than {most} bytes")
    try:
        wrong = await misfit(tool, fitting, plain.values)
    except NotParsed as no:
        raise _misfit(tool.name, "arguments/schema", f"they cannot be checked: {no.message}") from no
    if wrong is not None:
        keyword, place, words = wrong
        where = f"arguments of {tool.name} break {keyword} at {place}"
        raise Refusal(("arguments/schema",), where, f"The arguments of {tool.name} do not fit: {words}.")
    return fitting


def names_in(tool: ToolDefinition, arguments: Mapping[str, Any], own_repository: str) -> Names:
    """Raises Refusal for a name in any spelling but the one."""
    paths = tuple(
        _spelt(tool.name, spelling.path, arguments[name]) for name in tool.path_arguments if name in arguments
    )
    branch = arguments.get(tool.branch_argument) if tool.branch_argument else None
    if branch is not None:
        branch = _spelt(tool.name, spelling.branch, branch)
    environment = arguments.get(tool.environment_argument) if tool.environment_argument else None
    if environment is not None:
        environment = _spelt(tool.name, spelling.environment, environment)
    repository = arguments.get(tool.repository_argument) if tool.repository_argument else None
    if repository is not None:
        repository = _repository(repository, own_repository)
    return Names(paths, repository, branch, environment)


def digest_of_anything(arguments: Mapping[str, Any]) -> Digest:
    """For the record of a call that is refused: of the canonical spelling if there is one, else of an escaped one."""
    try:
        return digest_of(arguments)
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        return digest_bytes(json.dumps(arguments, default=repr).encode())
    except (ValueError, TypeError, RecursionError):
        return digest_bytes(b"arguments without any spelling")


class _Plain:
    """Looks at every value once, and counts them. Raises Refusal."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self.values = 0

    def look(self, value: Any, *, depth: int) -> None:
        self.values += 1
        if depth > MAX_DEPTH:
            raise _misfit(self._tool, "arguments/depth", f"they are nested more than {MAX_DEPTH} deep")
        if self.values > MAX_VALUES:
            raise _misfit(self._tool, "arguments/size", f"they hold more than {MAX_VALUES} values")
        if isinstance(value, Mapping):
            for name, inner in value.items():
                _text(self._tool, name)
                self.look(inner, depth=depth + 1)
        elif isinstance(value, list):
            for inner in value:
                self.look(inner, depth=depth + 1)
        else:
            _scalar(self._tool, value)


def _scalar(tool: str, value: Any) -> None:
    match value:
        case None | bool():
            return
        case str():
            _text(tool, value)
        case int() if abs(value) <= MAX_INTEGER:
            return
        case int() | float():
            raise _misfit(tool, "arguments/number", "numbers are whole, and small enough to be exact")
        case _:
            raise _misfit(tool, "arguments/type", "a value is no JSON")


def _text(tool: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _misfit(tool, "arguments/type", "a name is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _misfit(tool, "arguments/text", "a text is not valid Unicode") from None


def _spelt(tool: str, check: Callable[[str], str], raw: str) -> str:
    try:
        return check(raw)
    except Refused as no:
        told = f"{shown(raw)} was refused: {no.message}."
        raise Refusal(no.rules, f"{tool}: {no.message}", told) from no


def _repository(raw: str, own: str) -> str:
    try:
        return spelling.repository(raw)
    except Refused as no:
        raise Refusal(no.rules, no.message, not_open(raw, own)) from no


def _misfit(tool: str, rule: str, why: str) -> Refusal:
    return Refusal((rule,), f"arguments of {tool}: {why}", f"The arguments of {tool} do not fit: {why}.")
