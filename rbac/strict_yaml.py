"""YAML without surprises: nothing twice, nothing aliased, nothing tagged, and every value knows its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from controller.errors import ConfigError
from rbac.nesting import MAX_DEPTH, check_brackets

MAX_BYTES = 100_000
_TAG = "tag:yaml.org,2002:"
_READ = frozenset(_TAG + kind for kind in ("map", "seq", "str", "int", "bool", "null"))
Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    content: Any
    lines: dict[Location, int]  # 1-based line of every value, by its place

    def line_of(self, location: Location) -> int:
        """The line of the value there, or of the nearest value around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)


def parse(text: str, file: str, *, any_text: bool = False) -> Document:
    """Raises ConfigError naming file and line.

    `any_text`: what an escape spells need not be valid Unicode, as in a collection of texts that others may send.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigError(f"{file} is not valid Unicode", "Write it in UTF-8")
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_BYTES} bytes", "Split it, or cut it down")
    check_brackets(text, file)
    try:
        # composing reads aliases as shared nodes, so anchors are refused on the events first
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) is not None:
                raise _error(file, event.start_mark, "anchors and aliases are not read", "Write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _error(file, event.start_mark, f"values are nested more than {MAX_DEPTH} deep", "Flatten them")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as wrong:
        problem = " ".join(filter(None, (wrong.context, wrong.problem)))
        raise _error(file, wrong.problem_mark or wrong.context_mark, problem, "Correct the YAML") from wrong
    except (yaml.YAMLError, ValueError, OverflowError) as wrong:  # the parser turns numbers over without a look
        raise ConfigError(f"{file}: {wrong}", "Correct the YAML") from wrong
    if root is None:
        raise ConfigError(f"{file}:1: the file is empty", "Write the role and its grants, or delete the file")
    lines: dict[Location, int] = {}
    content = _value(root, (), lines, file)
    if not any_text:
        _must_be_text(content, (), lines, file)
    return Document(content, lines)


def _value(node: yaml.Node, at: Location, lines: dict[Location, int], file: str) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if node.tag not in _READ:
        kind = node.tag.removeprefix(_TAG)
        raise _error(file, node.start_mark, f"a value of kind {kind} is not read", "Quote it if it is text")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, at, lines, file)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*at, index), lines, file) for index, child in enumerate(node.value)]
    try:
        value = yaml.SafeLoader("").construct_object(node)
        str(value)  # a number that cannot be told in decimal is none
    except (ValueError, KeyError, OverflowError) as wrong:
        kind, begin = node.tag.removeprefix(_TAG), str(node.value)[:40]
        raise _error(file, node.start_mark, f"{begin!r} is no value of kind {kind}", "Correct the value") from wrong
    return value


def _must_be_text(value: Any, at: Location, lines: dict[Location, int], file: str) -> None:
    """Half of a character is none. Raises ConfigError."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _must_be_text(key, (*at, key), lines, file)
            _must_be_text(inner, (*at, key), lines, file)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _must_be_text(inner, (*at, index), lines, file)
    elif isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise ConfigError(f"{file}:{lines.get(at, 1)}: a text is not valid Unicode", "Write whole characters")


def _mapping(node: yaml.MappingNode, at: Location, lines: dict[Location, int], file: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if key_node.tag != _TAG + "str":
            raise _error(file, key_node.start_mark, "a key is a plain word", "Quote it")
        if key in found:
            raise _error(file, key_node.start_mark, f"key {key!r} stands here a second time", "Keep one of them")
        lines[(*at, key)] = key_node.start_mark.line + 1
        found[key] = _value(value_node, (*at, key), lines, file)
    return found


def _error(file: str, mark: Any, message: str, way_out: str) -> ConfigError:
    """`mark` is a YAML mark of either parser, or None where the parser knows no place."""
    return ConfigError(f"{file}:{mark.line + 1 if mark else 1}: {message}", way_out)
