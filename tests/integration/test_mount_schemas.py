"""What foreign names and schemas may not do: pass for others, fetch, or stall."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from hostile_servers import FIND, OtherServer, honest_tools, tool
from mount_kit import CREATE_HERE, FIND_HERE, Here, beside, pinned, running, section

from controller.errors import ConfigError
from controller.settings import MountedTool, MountSection
from tools.mount_schema import MAX_PARTS, Unusable, rebuilt
from tools.mounts import catalogue_of


@pytest.fixture
async def there() -> AsyncIterator[OtherServer]:
    async with running() as server:
        yield server


@pytest.fixture
async def here(there: OtherServer, tmp_path: Path) -> AsyncIterator[Here]:
    async with beside(there, tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("mounts", "named"),
    [
        ({"forge": []}, ["gateway.mounts.forge", "forge"]),
        ({"f0rge": []}, ["gateway.mounts.f0rge", "forge"]),
        ({"read-file": []}, ["gateway.mounts.read-file", "read_file"]),
        ({"tracker": ["find", "Find"]}, ["tracker.tools.find", "tracker.tools.Find"]),
        ({"tracker": ["file_1", "file_l"]}, ["tracker.tools.file_1", "tracker.tools.file_l"]),
        ({"tracker": [], "tracken": [], "trackem": [], "trackern": []}, ["trackem", "trackern"]),
        ({"tracker": ["find-it", "find_it"]}, ["find-it", "find_it"]),
        ({"Tracker": []}, ["Tracker"]),
        ({"tra__cker": []}, ["tra__cker"]),
        ({"tracker": ["\u0441reate"]}, ["tracker.tools"]),
        ({"tracker": ["x" * 60]}, ["tracker.tools"]),
    ],
)
def test_names_that_can_be_taken_for_others_are_an_error_at_the_start(
    mounts: dict[str, list[str]], named: list[str]
) -> None:
    pin_of = MountedTool(digest="sha256:0")
    sections = {
        name: MountSection(url="https://x.example/mcp", tools=dict.fromkeys(tools, pin_of))
        for name, tools in mounts.items()
    }
    with pytest.raises(ConfigError) as error:
        catalogue_of(sections)
    assert all(name in str(error.value) for name in named)


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


BOMB = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}}
BAD_SCHEMAS: dict[str, dict[str, Any]] = {
    "a reference to an address": of(x={"$ref": "http://127.0.0.1:1/schema.json"}),
    "a reference to a file": of(x={"$ref": "file:///etc/passwd"}),
    "a reference to nothing": of(x={"$ref": "#/$defs/none"}),
    "a reference to all of itself": of(x={"$ref": "#"}),
    "a circle": of(x={"$ref": "#/$defs/a"}) | {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
    "references to references": of(x={"$ref": "#/$defs/d0"}) | {"$defs": BOMB},
    "a dynamic reference": of(x={"$dynamicRef": "#meta"}),
    "an anchor": of(x={"$anchor": "a"}),
    "patterns for names": {"type": "object", "patternProperties": {"(a+)+$": {}}},
    "too many parts": of(**{f"p{n}": {} for n in range(MAX_PARTS + 1)}),
    "too many bytes": of(x={"const": ["y" * 400] * 200}),
    "a type that is none": of(x={"type": "everything"}),
    "an unseen name": of(**{"na\u200bme": {}}),
    "an unseen value": of(x={"enum": ["a\U000e0041"]}),
    "a step of nearly nothing": of(x={"type": "number", "multipleOf": 1e-300}),
    "no number": of(x={"maximum": float("nan")}),
    "no object": {"type": "string"},
    "tuples of a former draft": of(x={"items": [{"type": "string"}]}),
}


@pytest.mark.parametrize("what", BAD_SCHEMAS)
def test_a_schema_that_could_fetch_or_stall_makes_its_tool_unusable(what: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Unusable):
        rebuilt(BAD_SCHEMAS[what])
    assert time.monotonic() - begun < 2


async def test_a_pinned_tool_with_such_a_schema_is_left_out(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    bad = types.Tool(name=FIND, description="Look up.", input_schema=BAD_SCHEMAS["a reference to an address"])
    here.there.tools = [honest_tools()[0], bad]
    await here.mounted(section(here.there.url, pinned(honest_tools()[0], bad)))
    assert sorted(here.visible()) == [CREATE_HERE]
    assert "cannot be used" in caplog.text


def test_deep_schemas_are_refused_however_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"items": deep}
    with pytest.raises(Unusable):
        rebuilt(of(x=deep))


def test_references_within_are_written_out_patterns_left_out_and_objects_closed() -> None:
    label = {"type": "object", "properties": {"name": {"type": "string", "pattern": "(a+)+$"}}}
    found = rebuilt(
        of(one={"$ref": "#/$defs/label", "description": "One."}, free={"type": "object"}) | {"$defs": {"label": label}}
    )
    assert found == {
        "type": "object",
        "properties": {
            "one": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "additionalProperties": False,
                "description": "One.",
            },
            "free": {"type": "object"},
        },
        "additionalProperties": False,
    }


async def test_a_pattern_that_stalls_is_never_run(here: Here) -> None:
    bomb = tool(FIND, "Look up.", {"number": {"type": "string", "pattern": "^(a+)+$"}})
    here.there.tools = [bomb]
    await here.mounted(section(here.there.url, pinned(bomb)))
    begun = time.monotonic()
    assert not (await here.call(FIND_HERE, number="a" * 40 + "!")).error
    assert time.monotonic() - begun < 5
