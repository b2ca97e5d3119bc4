"""What scripts say, conversation by conversation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from controller.adapters.scripted_book import (
    Conversation,
    Heard,
    Said,
    Script,
    ScriptBook,
    ScriptedTurn,
    ToolCall,
    TurnsScript,
    load_book,
    task_script,
)
from controller.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "examples"
TASKS = EXAMPLES / "shop_tasks"

Answers = Callable[[str, dict[str, str], ToolCall], tuple[str, bool]]


def shop_files() -> dict[str, str]:
    kept = (path for path in sorted((EXAMPLES / "shop").rglob("*")) if path.suffix in {".py", ".md", ".toml"})
    return {str(path.relative_to(EXAMPLES / "shop")): path.read_text(encoding="utf-8") for path in kept}


def answer(files: dict[str, str], call: ToolCall) -> tuple[str, bool]:
    path = call.arguments.get("path", "")
    match call.tool:
        case "list_files":
            return "\n".join(files), False
        case "read_file":
            return (files[path], False) if path in files else ("There is no such file.", True)
        case "write_file":
            files[path] = call.arguments["content"]
            return "Written.", False
        case "edit_file":
            if files.get(path, "").count(call.arguments["old"]) != 1:
                return f"{path} does not hold that text once.", True
            files[path] = files[path].replace(call.arguments["old"], call.arguments["new"])
            return "Edited.", False
        case _:
            return "passed: 9 passed, 0 failed", False


def played(script: Script, files: dict[str, str], tests: str = "passed: 9 passed, 0 failed") -> tuple[list[Said], Said]:
    """The replies that called tools, and the last one."""
    talk = Conversation("", "", ())
    said: list[Said] = []
    for _ in range(20):
        reply = script.says(talk)
        if not reply.calls:
            return said, reply
        said.append(reply)
        heard = []
        for call in reply.calls:
            text, error = (tests, False) if call.tool == "run_tests" else answer(files, call)
            heard.append(Heard(call.tool, call.arguments, text, error))
        talk = Conversation("", "", (*talk.exchanges, tuple(heard)))
    raise AssertionError("it never ends")


def tools_of(said: list[Said]) -> list[str]:
    return [reply.calls[0].tool for reply in said]


@pytest.mark.parametrize("name", ["good.yaml", "bad.yaml"])
def test_task_looks_edits_tests_and_sums_up(name: str) -> None:
    files = shop_files()
    if name == "bad.yaml":
        played(task_script(TASKS / "good.yaml"), files)
    script = task_script(TASKS / name)
    said, last = played(script, files)
    assert last.text == script.summary
    assert tools_of(said)[:2] == ["list_files", "read_file"]
    assert tools_of(said)[-1] == "run_tests"


def test_fix_goes_forward_where_the_bad_change_still_stands() -> None:
    reverted, standing = shop_files(), shop_files()
    fix = task_script(TASKS / "fix.yaml")
    for files in (reverted, standing):
        played(task_script(TASKS / "good.yaml"), files)
    played(task_script(TASKS / "bad.yaml"), standing)
    for files in (reverted, standing):
        said, last = played(fix, files)
        assert last.text == fix.summary
        assert tools_of(said)[-2:] == ["run_tests", "run_tests"]
        assert said[-2].calls[0].arguments == {"target": fix.regression_test}
    assert reverted == standing


def test_task_stops_politely_where_an_edit_does_not_fit() -> None:
    said, last = played(task_script(TASKS / "bad.yaml"), shop_files())
    assert last.text.startswith("I stop here. edit_file answered:")
    assert "run_tests" not in tools_of(said)


@pytest.mark.parametrize(
    "report", ["failed: 8 passed, 1 failed", "broken: 0 passed, 0 failed", "FAILED tests/test_a.py"]
)
def test_task_does_not_claim_success_when_its_tests_fail(report: str) -> None:
    script = task_script(TASKS / "good.yaml")
    _, last = played(script, shop_files(), tests=report)
    assert last.text.startswith("I stop here. run_tests answered:")


def test_turn_with_a_condition_is_left_out_until_it_is_met() -> None:
    run, look = ToolCall(tool="run_tests"), ToolCall(tool="list_files")
    script = TurnsScript(
        match="x", turns=(ScriptedTurn(calls=(run,)), ScriptedTurn(calls=(look,), when="1 failed")), on_error="go on"
    )
    assert tools_of(played(script, {})[0]) == ["run_tests"]
    assert tools_of(played(script, {}, tests="1 failed")[0]) == ["run_tests", "list_files"]


def test_task_is_known_by_its_own_words_however_they_are_wrapped() -> None:
    good, bad = task_script(TASKS / "good.yaml"), task_script(TASKS / "bad.yaml")
    book = ScriptBook(scripts=(task_script(TASKS / "fix.yaml", match="who repairs a change"), good, bad))
    wrapped = bad.task.replace(" ", "\n  ")
    assert book.script_for(Conversation("You are an engineer.", f"Please:\n{wrapped}", ())) == bad
    repairing = Conversation("You are an engineer who repairs a change.", bad.task, ())
    assert book.script_for(repairing) == book.scripts[0]
    assert book.script_for(Conversation("", "something else", ())) is None


def test_book_is_a_file_that_may_name_task_files(tmp_path: Path) -> None:
    book = tmp_path / "book.yaml"
    (tmp_path / "task.yaml").write_text((TASKS / "good.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    attempts = {"match": "mischief", "attempts": [{"tool": "git_push", "arguments": {"branch": "main"}}]}
    book.write_text(yaml.safe_dump([{"file": "task.yaml", "match": "discount"}, attempts]), encoding="utf-8")
    kinds = [type(script).__name__ for script in load_book(book).scripts]
    assert kinds == ["TaskScript", "AttemptsScript"]
    with pytest.raises(ConfigError, match="cannot be read"):
        load_book(tmp_path / "none.yaml")
