"""Arguments held against a tool's schema: here, or in a child with limits where that could take long.

A check costs at most every part of the schema for every value of the arguments, and of another server's tool both are
somebody else's: nine hundred alternatives for thirty thousand numbers keep a checker busy for a minute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from controller.confined import confined
from controller.ports import ToolDefinition

CHECKED = "controller.desk_schema:checked"
MAX_CHECKS_HERE = 20_000  # parts of a schema times values of the arguments: some 40 ms; our own tools have up to 2,000
CHECKED_WITHIN_S = 5.0
MAX_VALIDATORS = 1_000  # definitions whose schema is kept compiled
MAX_WORDS = 300  # of a misfit, told back

Misfit = tuple[str, str, str]  # the keyword that is broken, where, and in words


async def misfit(tool: ToolDefinition, arguments: dict[str, Any], values: int) -> Misfit | None:
    """The first that does not fit. None: they fit. Raises NotParsed if that cannot be found out within bounds.

    `values`: how many the arguments have.
    """
    validator, parts = _validator_of(tool)
    if parts * values <= MAX_CHECKS_HERE:
        return _first(validator, arguments)
    payload = json.dumps({"schema": validator.schema, "arguments": arguments}).encode()
    found = json.loads(await confined(CHECKED, payload, seconds=CHECKED_WITHIN_S, asker=f"arguments of {tool.name}"))
    return None if found is None else (found[0], found[1], found[2])


def checked(payload: bytes) -> bytes:
    """`misfit` in a process of its own."""
    asked = json.loads(payload)
    return json.dumps(_first(Draft202012Validator(asked["schema"]), asked["arguments"])).encode()


def parts_of(schema: Any) -> int:
    """Every value in it, names included: each can cost one check."""
    if isinstance(schema, Mapping):
        return 1 + sum(1 + parts_of(inner) for inner in schema.values())
    if isinstance(schema, list | tuple):
        return 1 + sum(parts_of(inner) for inner in schema)
    return 1


def _first(validator: Draft202012Validator, arguments: Any) -> Misfit | None:
    wrong = next(iter(validator.iter_errors(arguments)), None)
    return None if wrong is None else (str(wrong.validator), wrong.json_path, wrong.message[:MAX_WORDS])


def _validator_of(tool: ToolDefinition) -> tuple[Draft202012Validator, int]:
    """Made once for a definition: another one of the same name, however alike, gets its own."""
    known = _VALIDATORS.get(tool.name)
    if known is None or known[0] is not tool:
        if len(_VALIDATORS) >= MAX_VALIDATORS:
            _VALIDATORS.clear()
        made = Draft202012Validator({**tool.input_schema, "additionalProperties": False})
        known = _VALIDATORS[tool.name] = (tool, made, parts_of(made.schema))
    return known[1], known[2]


_VALIDATORS: dict[str, tuple[ToolDefinition, Draft202012Validator, int]] = {}
