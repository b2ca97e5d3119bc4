"""A foreign tool's words and input schema, made fit for a model and for our own checker.

A schema from outside is a program that our checker would run: a reference can name an address to fetch, references to
references can make it run for ever, a pattern can stall on a short text, and a description deep inside it is read by a
model like any other. So it is rebuilt from the keywords that are known: references within the schema are written out,
all others refuse the tool; patterns are left to the server; objects that list their properties take no others; texts
are bounded and rid of what nobody sees. A tool whose schema cannot be rebuilt is not used, and the reason is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]

from controller.domain.ids import canonical
from controller.errors import Permanent

MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_PARTS = 1_000  # subschemas, after references have been written out
MAX_WORDS = 2_000  # characters of a tool's description
MAX_NOTE = 500  # characters of any text within a schema
MAX_NUMBER = 2**53 - 1

# Controls but for tab and line feed, and what is drawn as nothing: soft hyphens, fillers, joiners, direction marks,
# variation selectors, tags, private use (Unicode 16, categories Cc, Cf and Co, and Default_Ignorable_Code_Point).
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
_TEXTS = frozenset({"title", "description"})
_VALUES = frozenset(
    {"type", "enum", "const", "default", "required", "format", "dependentRequired", "deprecated", "readOnly"}
)
_NUMBERS = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
    }
)
_ONE = frozenset({"items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"})
_LISTS = frozenset({"prefixItems", "allOf", "anyOf", "oneOf"})
_NAMED = frozenset({"properties", "dependentSchemas"})
_COMPOSING = frozenset({"allOf", "anyOf", "oneOf", "if", "dependentSchemas"})
_REFUSED = frozenset(
    {
        "$dynamicRef",
        "$recursiveRef",
        "$anchor",
        "$dynamicAnchor",
        "$recursiveAnchor",
        "patternProperties",
        "$vocabulary",
    }
)


class Unusable(Permanent):
    """A definition that cannot be shown to a model or checked by us. The message says why, in our words."""


def plain(text: str) -> str:
    """Without what nobody sees."""
    return _UNSEEN.sub("", text)


def unseen(text: str) -> int:
    """How many characters `plain` leaves out."""
    return len(_UNSEEN.findall(text))


def rebuilt(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments as we check it. Raises Unusable."""
    try:
        size = len(canonical(schema))
    except (ValueError, RecursionError):
        raise Unusable("its schema has no one spelling in JSON") from None
    if size > MAX_SCHEMA_BYTES:
        raise Unusable(f"its schema is larger than {MAX_SCHEMA_BYTES} bytes")
    found = _Rebuilding(schema).whole()
    if found.get("type") != "object":
        raise Unusable("its schema is not of an object")
    try:
        Draft202012Validator.check_schema(found)
    except SchemaError as error:
        raise Unusable(f"its schema is none of JSON Schema 2020-12, at {error.json_path[:100]}") from None
    return found


class _Rebuilding:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0
        self._within: list[str] = []  # references that are being written out

    def whole(self) -> dict[str, Any]:
        found = self._one(self._root, depth=0, closed=True)
        return found if isinstance(found, dict) else {}

    def _one(self, schema: Any, *, depth: int, closed: bool) -> dict[str, Any] | bool:
        """`closed`: an object here takes only the properties that it lists."""
        self._parts += 1
        if self._parts > MAX_PARTS or depth > MAX_DEPTH:
            raise Unusable(f"its schema has more than {MAX_PARTS} parts, or is nested more than {MAX_DEPTH} deep")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise Unusable("a part of its schema is no schema")
        if found := sorted(_REFUSED & schema.keys()):
            raise Unusable(f"its schema has {found[0]}")
        kept = self._keywords(schema, depth=depth, closed=closed)
        if "$ref" in schema:
            kept = self._written_out(schema["$ref"], kept, depth=depth, closed=closed)
        return _closed(kept) if closed else kept

    def _keywords(self, schema: Mapping[str, Any], *, depth: int, closed: bool) -> dict[str, Any]:
        """Those that are known. Patterns, uniqueness and the like are for the server to check: they could stall us."""
        kept: dict[str, Any] = {}
        for word, value in schema.items():
            if word in _TEXTS and isinstance(value, str):
                kept[word] = plain(value)[:MAX_NOTE]
            elif word in _VALUES:
                kept[word] = _seen(value)
            elif word in _NUMBERS:
                kept[word] = _number(word, value)
            elif word in _ONE:
                kept[word] = self._one(value, depth=depth + 1, closed=closed and word == "items")
            elif word in _LISTS:
                kept[word] = [self._one(one, depth=depth + 1, closed=False) for one in _a(list, word, value)]
            elif word in _NAMED:
                inner = closed and word == "properties"
                parts = _a(dict, word, value).items()
                kept[word] = {_seen(name): self._one(one, depth=depth + 1, closed=inner) for name, one in parts}
        return kept

    def _written_out(self, ref: Any, beside: dict[str, Any], *, depth: int, closed: bool) -> dict[str, Any]:
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise Unusable("its schema refers to something outside itself, or to all of itself")
        if ref in self._within:
            raise Unusable("its schema refers to itself in a circle")
        self._within.append(ref)
        found = self._one(_at(self._root, ref), depth=depth + 1, closed=closed)
        self._within.pop()
        meant = found if isinstance(found, dict) else {"allOf": [found]}
        if beside.keys() <= _TEXTS | {"default", "deprecated"}:
            return meant | beside
        return {**beside, "allOf": [*beside.get("allOf", []), meant]}


def _at(root: Mapping[str, Any], ref: str) -> Any:
    """RFC 6901, within the schema."""
    found: Any = root
    for step in ref.removeprefix("#/").split("/"):
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise Unusable("its schema refers to a part that it does not have")
        found = found[name]
    return found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """What lists no properties at all is a free map by its own words, and stays one."""
    if "properties" not in schema or isinstance(schema.get("additionalProperties"), dict):
        return schema
    if _COMPOSING & schema.keys():
        schema.pop("additionalProperties", None)
        return {**schema, "unevaluatedProperties": False}
    return {**schema, "additionalProperties": False}


def _seen(value: Any) -> Any:
    """Names and values mean what they say, so one with something unseen in it is not mended. Raises Unusable."""
    match value:
        case str() if len(value) > MAX_NOTE or _UNSEEN.search(value):
            raise Unusable("its schema has a name or value with characters that nobody sees, or a very long one")
        case list():
            return [_seen(inner) for inner in value]
        case dict():
            return {_seen(name): _seen(inner) for name, inner in value.items()}
        case int() | float() if not isinstance(value, bool):
            return _number("a value", value)
        case _:
            return value


def _number(word: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MAX_NUMBER:
        raise Unusable(f"its schema has {word} without a number that is exact")
    if word == "multipleOf" and (not isinstance(value, int) or value < 1):
        raise Unusable("its schema has multipleOf something that is not a whole number")
    return value


def _a(kind: type, word: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise Unusable(f"its schema has a wrong {word}")
    return value
