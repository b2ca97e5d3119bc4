"""`flyball rbac pin` against a real server: what is new, what has changed, and the lines to paste."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from click.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from hostile_servers import CREATE, FIND, OtherServer, honest_tools, tool
from mount_kit import KEY, running

from controller.adapters.mounts import definition_digest
from controller.commands.pin import EXIT_CHANGED, pin
from controller.domain.ids import Digest


@pytest.fixture
async def there() -> AsyncIterator[OtherServer]:
    async with running() as server:
        yield server


async def _pin(folder: Path, *more: str) -> Any:
    runner = CliRunner(env={"TRACKER_KEY": KEY})
    return await asyncio.to_thread(runner.invoke, pin, ["tracker", "--repo", str(folder), *more])


def _settings(folder: Path, url: str, lines: str = "") -> None:
    head = f'[gateway.mounts.tracker]\nurl = "{url}"\nsecret_env = "TRACKER_KEY"\n\n'
    (folder / "flyball.toml").write_text(head + lines)


async def test_pinning_prints_lines_that_pin_and_later_says_what_is_different(
    tmp_path: Path, there: OtherServer
) -> None:
    _settings(tmp_path, there.url)
    first = await _pin(tmp_path)
    lines = first.output[first.output.index("[gateway.mounts.tracker.tools") :]
    _settings(tmp_path, there.url, lines)
    second = await _pin(tmp_path, "--json")
    changed = tool(CREATE, "Open an issue, loudly.", {"title": {"type": "string"}, "to": {"type": "string"}})
    there.tools = [changed]
    third = await _pin(tmp_path)
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 0, EXIT_CHANGED)
    assert lines.count('tool_class = "effect"') == lines.count("taints = true") == lines.count("broadcasts = true") == 2
    assert {look["state"] for look in json.loads(second.output)["tools"]} == {"same"}
    for expected in (
        'its description was "Open an issue in the tracker.", is "Open an issue, loudly."',
        'argument to is new: {"type": "string"}',
        "argument title was",
        "find_issue: gone",
        definition_digest(changed),
    ):
        assert expected in third.output
    assert KEY not in first.output + second.output + third.output


async def test_pinning_shows_that_something_is_hidden_and_moves_no_cursor(tmp_path: Path, there: OtherServer) -> None:
    there.tools = [tool(FIND, "Look up.\x1b[2K\u200b", {}), tool("ev\x1bil", "Name.", {})]
    _settings(tmp_path, there.url)
    found = await _pin(tmp_path)
    assert "characters that nobody sees" in found.output
    assert "cannot be used" in found.output
    assert "\x1b" not in found.output
    assert "\u200b" not in found.output


async def test_pinning_a_server_that_is_not_there_says_so(tmp_path: Path, there: OtherServer) -> None:
    _settings(tmp_path, there.url)
    await there.stop()
    found = await _pin(tmp_path)
    assert found.exit_code == 1
    assert "cannot be reached" in found.output


def test_the_digest_covers_all_that_a_reader_is_shown() -> None:
    base = honest_tools()[0]
    changes: list[dict[str, Any]] = [
        {"name": "x"},
        {"title": "x"},
        {"description": "x"},
        {"input_schema": {"type": "object"}},
        {"output_schema": {"type": "object"}},
        {"annotations": types.ToolAnnotations(read_only_hint=True)},
    ]
    digests: set[Digest] = {definition_digest(base.model_copy(update=change)) for change in changes}
    assert len(digests | {definition_digest(base)}) == len(changes) + 1
