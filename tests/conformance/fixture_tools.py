"""The suite's own tools, as far as a result in words can carry them, and the grant that gives them to the author.

They stand on the belt like any other tool: in the catalogue of this process, in a copy of the shipped rules, in front
of the desk. `carried_out` counts what has run, because the suite takes a refusal in words for an answer of the tool.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from controller.ports import ToolDefinition, ToolResult
from rbac.catalogue import TOOLS, Direction, Need
from rbac.catalogue import Tool as Annotated
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Served
from tools.belt import Call, NotPossible, Tool

carried_out: Counter[str] = Counter()

_GRANT = """
  - name: conformance
    tools: [{tools}]
    repositories: ["*"]
    branches: ["{{own}}"]
    paths:
      allowed: ["**"]
"""
_ACTIONS = """
action {tools} in ["reads"]
  appliesTo {{ principal: Agent, resource: [Repository, World], context: Call }};
"""
# As the suite's scenario json-schema-2020-12 spells it: a client must get every keyword of it.
_RICH_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


async def _text(call: Call) -> ToolResult:
    carried_out["test_simple_text"] += 1
    return ToolResult(f"This is a simple text response for testing {call.badge.repository}.")


async def _error(_: Call) -> ToolResult:
    carried_out["test_error_handling"] += 1
    raise NotPossible("this tool intentionally returns an error for testing")


async def _rich(call: Call) -> ToolResult:
    carried_out["json_schema_2020_12_tool"] += 1
    return ToolResult(f"called with {sorted(call.arguments)}")


def _tool(name: str, description: str, schema: dict[str, Any], run: Any) -> Tool:
    return Tool(ToolDefinition(name, description, schema, "read"), run)


FIXTURES = (
    _tool("test_simple_text", "Answers in one line of text.", _NOTHING, _text),
    _tool("test_error_handling", "Always fails.", _NOTHING, _error),
    _tool("json_schema_2020_12_tool", "Takes a rich schema.", _RICH_SCHEMA, _rich),
)
NAMES = tuple(tool.definition.name for tool in FIXTURES)


def authority(folder: Path, served: tuple[Served, ...]) -> Authority:
    """The shipped rules, copied into `folder`, and one more grant of the author's."""
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, folder / part)
    TOOLS.update({name: Annotated(Direction.SAFE, frozenset({Need.REPOSITORY})) for name in NAMES})
    _append(folder / "grants" / "author.yaml", _GRANT.format(tools=", ".join(NAMES)))
    quoted = ", ".join(f'"{name}"' for name in NAMES)
    _append(next((folder / "policy").glob("*.cedarschema")), _ACTIONS.format(tools=quoted))
    return Authority(served, folder)


def _append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)
