"""What every belt promises, in process and over MCP: the same tools, the same answers, the same refusals."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import MAIN, OWN, SESSION, SHOP, World

from controller.adapters.mcp_client import McpTools
from controller.domain.ids import effect_stream
from controller.errors import Permanent
from controller.ports import Belt, ToolResult, Tools
from tools.gateway import Gateway
from tools.local import LocalTools

AUTHORS_TOOLS = [
    "delete_file",
    "edit_file",
    "git_push",
    "list_files",
    "read_ci_failures",
    "read_ci_log",
    "read_ci_results",
    "read_file",
    "read_own_record",
    "read_policy",
    "record_reasoning",
    "run_tests",
    "search",
    "write_file",
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["local", "mcp"])
async def tools(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Tools]:
    if request.param == "local":
        yield LocalTools(world.desk, world.toolbox, world.badge_for)
        return
    gateway = Gateway(world.desk, world.toolbox)
    yield McpTools(await gateway.start(), world.desk, world.badge_for)
    await gateway.stop()


@pytest.fixture
async def belt(world: World, tools: Tools) -> AsyncIterator[Belt]:
    await world.begin()
    opened = await tools.belt(SESSION, "author")
    yield opened
    await opened.close()


async def call(belt: Belt, name: str, *, turn: int = 1, index: int = 0, **arguments: Any) -> ToolResult:
    return await belt.call(name, arguments, turn=turn, index=index)


async def done(belt: Belt, name: str, *, turn: int = 1, index: int = 0, **arguments: Any) -> str:
    result = await call(belt, name, turn=turn, index=index, **arguments)
    assert not result.error, result.text
    return result.text


async def not_done(belt: Belt, name: str, **arguments: Any) -> str:
    result = await call(belt, name, **arguments)
    assert (result.error, result.refused) == (True, False), result.text
    return result.text


async def refused(belt: Belt, name: str, **arguments: Any) -> str:
    result = await call(belt, name, **arguments)
    assert (result.error, result.refused) == (True, True), result.text
    return result.text


# --- who -------------------------------------------------------------------------------------------------------------


async def test_a_belt_shows_the_tools_of_its_role_by_name(world: World, belt: Belt) -> None:
    shown = await belt.tools()
    assert [tool.name for tool in shown] == AUTHORS_TOOLS
    for tool in shown:
        assert tool.description == world.definitions[tool.name].description
        assert tool.input_schema == world.definitions[tool.name].input_schema


async def test_a_closed_belt_answers_nothing_and_closing_again_is_fine(belt: Belt) -> None:
    await belt.close()
    await belt.close()
    with pytest.raises(Permanent, match="not signed in"):
        await call(belt, "list_files")
    with pytest.raises(Permanent, match="not signed in"):
        await belt.tools()


async def test_a_session_that_is_signed_out_elsewhere_has_no_belt_any_more(world: World, belt: Belt) -> None:
    world.desk.sign_out(SESSION)
    with pytest.raises(Permanent, match="not signed in"):
        await call(belt, "list_files")


async def test_opening_a_sessions_belt_again_ends_the_former_one(tools: Tools, belt: Belt) -> None:
    again = await tools.belt(SESSION, "author")
    with pytest.raises(Permanent, match="not signed in"):
        await call(belt, "list_files")
    await belt.close()
    assert "README.md" in await done(again, "list_files")
    await again.close()


async def test_a_belt_is_not_opened_under_another_role_than_the_badge_says(world: World, tools: Tools) -> None:
    await world.begin()
    with pytest.raises(Permanent, match="no badge for merger"):
        await tools.belt(SESSION, "merger")


async def test_a_revoked_session_is_refused_on_its_next_call(world: World, belt: Belt) -> None:
    await done(belt, "list_files")
    await world.revoke()
    assert "stopped from outside" in await refused(belt, "list_files")


async def test_an_agent_cannot_tell_a_forbidden_tool_from_an_unknown_one(belt: Belt) -> None:
    assert await refused(belt, "launch_rocket", to="moon") == (
        'There is no tool "launch_rocket" on this belt. Refusals are final: go on without it.'
    )


async def test_another_repository_reads_the_same_whether_it_exists_or_not(belt: Belt) -> None:
    existing = await refused(belt, "read_file", path="src/cart.py", repository="billing")
    assert existing.replace("billing", "X") == (
        await refused(belt, "read_file", path="src/cart.py", repository="nowhere")
    ).replace("nowhere", "X")


# --- look ------------------------------------------------------------------------------------------------------------


async def test_files_are_listed_by_pattern_and_never_gits_own(world: World, belt: Belt) -> None:
    (world.root() / ".git").mkdir()
    (world.root() / ".git/config").write_text("x")
    assert (await done(belt, "list_files")).split("\n") == [
        "README.md",
        ".github/workflows/ci.yml",
        "config/.env",
        "src/app.py",
        "src/cart.py",
        "tests/test_cart.py",
    ]
    assert (await done(belt, "list_files", pattern="src/*.py")).split("\n") == ["src/app.py", "src/cart.py"]
    assert await done(belt, "list_files", pattern="nowhere/**") == "No files."
    assert "no segment" in await not_done(belt, "list_files", pattern="../**")


async def test_a_file_is_read_with_line_numbers_page_by_page(belt: Belt) -> None:
    await done(belt, "write_file", path="src/long.py", content="".join(f"line {n}\n" for n in range(1, 1_001)))
    page = (await done(belt, "read_file", path="src/long.py", offset=400, limit=2)).split("\n")
    assert page == ["   400\tline 400", "   401\tline 401", "[lines 400 to 401 of 1000; read on with offset 402]"]
    assert (await done(belt, "read_file", path="src/long.py", offset=1_000)) == "  1000\tline 1000"
    assert "there is no line 1001" in await not_done(belt, "read_file", path="src/long.py", offset=1_001)


async def test_what_is_no_text_is_not_read_as_text(world: World, belt: Belt) -> None:
    (world.root() / "logo.png").write_bytes(b"\x89PNG\0\0")
    (world.root() / "old.txt").write_bytes("Preis: 5 €".encode("cp1252"))
    (world.root() / "empty.py").touch()
    os.mkfifo(world.root() / "pipe")
    assert "is no text" in await not_done(belt, "read_file", path="logo.png")
    assert "no UTF-8 text: byte 9" in await not_done(belt, "read_file", path="old.txt")
    assert "no regular file" in await not_done(belt, "read_file", path="pipe")
    assert "is a folder" in await not_done(belt, "read_file", path="src")
    assert "there is no file src/gone.py" in await not_done(belt, "read_file", path="src/gone.py")
    assert await done(belt, "read_file", path="empty.py") == "(an empty file)"


async def test_a_file_that_is_too_large_is_not_read(world: World, belt: Belt) -> None:
    (world.root() / "data.csv").write_bytes(b"1" * (1024 * 1024 + 1))
    assert "the bound is 1048576" in await not_done(belt, "read_file", path="data.csv")


async def test_search_finds_lines_by_text_or_expression_and_beneath_a_folder(belt: Belt) -> None:
    assert (await done(belt, "search", pattern="total(")).split("\n") == [
        "src/app.py:3: print(cart.total([1, 2]))",
        "src/cart.py:1: def total(prices):",
        "tests/test_cart.py:1: def test_total():",
    ]
    assert await done(belt, "search", pattern=r"^def \w+\(\)", regex=True) == "tests/test_cart.py:1: def test_total():"
    assert await done(belt, "search", pattern="total", path="tests") == "tests/test_cart.py:1: def test_total():"
    assert await done(belt, "search", pattern="sum", path="src/cart.py") == "src/cart.py:2: return sum(prices)"
    assert await done(belt, "search", pattern="nothing has this") == "No hits."
    assert "no regular expression" in await not_done(belt, "search", pattern="(", regex=True)


async def test_search_does_not_show_what_may_not_be_read(belt: Belt) -> None:
    await refused(belt, "read_file", path="config/.env")
    assert await done(belt, "search", pattern="total-secret") == "No hits."
    assert await done(belt, "search", pattern="total-secre.", regex=True) == "No hits."


async def test_an_expression_that_backtracks_without_end_is_given_up(
    belt: Belt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.search.REGEX_S", 1.0)
    await done(belt, "write_file", path="src/a.txt", content="a" * 60 + "!\n")
    began = time.monotonic()
    assert "took longer than 1 s" in await not_done(belt, "search", pattern="^(a+)+$", regex=True)
    assert time.monotonic() - began < 10


# --- change ----------------------------------------------------------------------------------------------------------


async def test_an_edit_replaces_what_stands_there_exactly_once(world: World, belt: Belt) -> None:
    (world.root() / "src/cart.py").chmod(0o755)
    said = await done(belt, "edit_file", path="src/cart.py", old="return sum(prices)", new="return sum(prices) or 0")
    assert said == "Edited src/cart.py at line 2."
    assert (world.root() / "src/cart.py").read_text() == "def total(prices):\n    return sum(prices) or 0\n"
    assert (world.root() / "src/cart.py").stat().st_mode & 0o777 == 0o755


async def test_an_edit_that_does_not_fit_says_how_to_make_it_fit(belt: Belt) -> None:
    fit = {"path": "src/cart.py", "new": "x"}
    assert "stands 2 times in src/cart.py (lines 1, 2)" in await not_done(belt, "edit_file", old="prices", **fit)
    assert "with other spaces it is at line 2" in await not_done(belt, "edit_file", old="return  sum( prices )", **fit)
    assert "copy the lines exactly" in await not_done(belt, "edit_file", old="return max(prices)", **fit)
    assert "the same" in await not_done(belt, "edit_file", path="src/cart.py", old="x", new="x")


async def test_files_are_written_and_deleted_with_their_folders(world: World, belt: Belt) -> None:
    wrote = await done(belt, "write_file", path="docs/deep/a.md", content="one\ntwo\n")
    assert wrote == "Wrote docs/deep/a.md: 2 lines."
    assert await done(belt, "write_file", path="docs/deep/a.md", content="") == "Replaced docs/deep/a.md: 0 lines."
    assert await done(belt, "delete_file", path="docs/deep/a.md") == "Deleted docs/deep/a.md."
    assert "there is no file" in await not_done(belt, "delete_file", path="docs/deep/a.md")
    assert "is a folder" in await not_done(belt, "delete_file", path="docs/deep")
    assert list((world.root() / "docs/deep").iterdir()) == []


LOOK_OR_CHANGE: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {}),
    ("write_file", {"content": "mine"}),
    ("edit_file", {"old": "secret", "new": "mine"}),
    ("delete_file", {}),
    ("search", {"pattern": "secret"}),
]


async def test_a_symlink_in_the_tree_is_not_followed(world: World, belt: Belt, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("total = 'secret'\n")
    (world.root() / "src/link.py").symlink_to(outside / "secret.py")
    (world.root() / "src/folder").symlink_to(outside)
    for path in ("src/link.py", "src/folder/secret.py"):
        for name, rest in LOOK_OR_CHANGE:
            result = await call(belt, name, path=path, **rest)
            assert "secret'" not in result.text, (name, path)
            assert "symbolic link" in result.text or result.text == "No hits.", (name, path, result.text)
    assert (outside / "secret.py").read_text() == "total = 'secret'\n"
    assert "secret" not in await done(belt, "search", pattern="secret", path="src")
    assert "src/link.py (symbolic link, not followed)" in await done(belt, "list_files")
    assert "src/folder/secret.py" not in await done(belt, "list_files")


async def test_a_protected_path_cannot_be_written_whatever_its_spelling(world: World, belt: Belt) -> None:
    for path in ("src/payments/a.py", "src/Payments/a.py", "src/x/../payments/a.py", "./src/payments/a.py"):
        await refused(belt, "write_file", path=path, content="x")
    assert not (world.root() / "src/payments").exists()
    assert not (world.root() / "src/Payments").exists()


async def test_tests_run_in_a_copy_of_the_sessions_own_folder(world: World, belt: Belt) -> None:
    one = "tests/test_cart.py::test_total"
    assert (await done(belt, "run_tests")).startswith("ran everything")
    await done(belt, "write_file", path="src/new.py", content="x = 1\n")
    assert (await done(belt, "run_tests", target=one)).startswith(f"ran {one}")
    assert [target for _, target in world.ran] == ["", one]
    assert world.root() not in [folder for folder, _ in world.ran]
    assert not any(folder.exists() for folder, _ in world.ran)
    assert "src/new.py" in world.files_run[1]
    assert "config/.env" not in world.files_run[0]
    for target in ("-p evil", "--rootdir=/", "../x", "a; b"):
        await refused(belt, "run_tests", target=target)


async def test_a_tool_that_breaks_says_nothing_of_the_machine(world: World, belt: Belt) -> None:
    world.broken = RuntimeError(f"no sandbox in {world.root()}")
    told = await not_done(belt, "run_tests")
    assert told == "The tool itself failed, which is no fault of the call. It may work later."
    (record,) = await world.desk.turn_records(SESSION, 1)
    assert (record.allowed, record.error) == (True, True)


async def test_a_session_whose_workspace_is_gone_is_told_so(world: World, belt: Belt) -> None:
    await world.workspaces.discard(SESSION)
    for name in ("run_tests", "list_files"):
        assert "no workspace" in await not_done(belt, name)


async def test_a_long_answer_is_cut_in_the_middle(world: World, belt: Belt) -> None:
    text = "".join(f"{'x' * 90} {n}\n" for n in range(1_000))
    await done(belt, "write_file", path="src/long.py", content=text)
    told = await done(belt, "read_file", path="src/long.py", limit=1_000)
    assert len(told.encode()) <= world.bounds.tool_result_bytes
    assert "bytes left out" in told
    assert told.endswith("999")


# --- ci and forge ----------------------------------------------------------------------------------------------------


async def test_the_failures_of_the_last_ci_run_can_be_read(world: World, belt: Belt) -> None:
    assert await done(belt, "read_ci_failures") == "No CI failures are known for this task."
    await world.red_ci("tests/test_cart.py::test_total", "assert 3 == 4")
    assert await done(belt, "read_ci_failures") == "tests/test_cart.py::test_total failed (defect):\nassert 3 == 4"


async def test_a_push_is_an_effect_under_the_sessions_own_name(world: World, belt: Belt) -> None:
    await done(belt, "write_file", path="src/new.py", content="x = 1\n")
    said = await done(belt, "git_push", turn=2, index=1, branch=OWN)
    tip = await world.forge.tip(SHOP, OWN)
    assert tip is not None
    assert said == f"Pushed {tip[:12]} to {OWN} (1 files, 1 lines)."
    assert world.files_at(tip)["src/new.py"] == "x = 1\n"
    (record,) = await world.desk.turn_records(SESSION, 2)
    assert record.effect is not None
    intended, done_ = await world.log.read(effect_stream(record.effect))
    assert (intended.kind, done_.kind) == ("EffectIntended", "EffectDone")
    assert (intended.principal, intended.on_behalf_of) == (f"agent:author/{SESSION}", "person:0123456789ab")


async def test_the_same_push_made_again_is_the_same_effect(world: World, belt: Belt) -> None:
    await done(belt, "write_file", path="src/new.py", content="x = 1\n")
    first = await done(belt, "git_push", turn=2, index=0, branch=OWN)
    assert await done(belt, "git_push", turn=2, index=0, branch=OWN) == first
    assert (await world.kinds()).count("EffectIntended") == 1


async def test_a_second_push_follows_the_first(world: World, belt: Belt) -> None:
    await done(belt, "write_file", path="src/new.py", content="x = 1\n")
    await done(belt, "git_push", turn=2, index=0, branch=OWN)
    await done(belt, "write_file", path="src/new.py", content="x = 2\n")
    await done(belt, "git_push", turn=2, index=1, branch=OWN)
    tip = await world.forge.tip(SHOP, OWN)
    assert tip is not None
    assert world.files_at(tip)["src/new.py"] == "x = 2\n"


async def test_there_is_nothing_to_push_before_a_change(belt: Belt) -> None:
    assert "nothing has been changed" in await not_done(belt, "git_push", branch=OWN)


async def test_a_push_to_main_is_refused_and_recorded_before_the_agent_hears_of_it(world: World, belt: Belt) -> None:
    before = await world.forge.tip(SHOP, MAIN)
    await done(belt, "write_file", path="src/new.py", content="x = 1\n")
    told = await refused(belt, "git_push", branch="main")
    assert told.startswith(f'Branch "main" is not this session\'s; its own branch is {OWN}.')
    (event,) = await world.refusals()
    assert (event.tool, event.count) == ("git_push", 1)
    assert await world.forge.tip(SHOP, MAIN) == before
    assert "EffectIntended" not in await world.kinds()
