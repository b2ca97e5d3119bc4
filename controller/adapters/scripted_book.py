"""What a scripted model says next: a pure function of the conversation, so a restarted server goes on in the middle.

A script is chosen by a pattern found in the system prompt or the first message. Three kinds: `turns` (said one after
the other, some only when a pattern is found in the last tool results), `task` (looks around, edits, runs the tests,
sums up) and `attempts` (tries what it may not, and reports how it was refused). Nothing here thinks: it plays the part
of a model for demonstrations and tests, and every reply says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from controller.domain.base import Fact
from controller.errors import ConfigError

TESTS_FAILED = re.compile(r"\b[1-9]\d* (failed|errors?)\b|\bFAILED\b|^(failed|broken):", re.MULTILINE)
QUOTED_CHARS = 300  # of a tool's answer, when it is repeated in words


# --- the conversation, as a script sees it ----------------------------------------------------------------------------


class ToolCall(Fact):
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """A call and what came back."""

    tool: str
    arguments: Mapping[str, Any]
    text: str
    error: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    system: str
    first: str  # text of the first user message
    exchanges: tuple[tuple[Heard, ...], ...]  # one for every reply that called tools

    @property
    def last(self) -> tuple[Heard, ...]:
        return self.exchanges[-1] if self.exchanges else ()

    @property
    def failed(self) -> Heard | None:
        """The first call of the last reply that failed. None: none did."""
        return next((heard for heard in self.last if heard.error), None)


@dataclass(frozen=True, slots=True)
class Said:
    """The next reply. Without calls it is the last one."""

    text: str
    calls: tuple[ToolCall, ...] = ()


def read_conversation(request: Mapping[str, Any]) -> Conversation:
    """Of a request that has been found valid."""
    messages: Sequence[Mapping[str, Any]] = request["messages"]
    results = {
        block["tool_use_id"]: block
        for message in messages
        for block in _blocks(message["content"])
        if block["type"] == "tool_result"
    }
    exchanges = (
        tuple(_heard(block, results) for block in _blocks(message["content"]) if block["type"] == "tool_use")
        for message in messages
        if message["role"] == "assistant"
    )
    return Conversation(
        system=text_of(request.get("system", "")),
        first=text_of(messages[0]["content"]),
        exchanges=tuple(exchange for exchange in exchanges if exchange),
    )


def text_of(content: Any) -> str:
    return "\n".join(block["text"] for block in _blocks(content) if block["type"] == "text")


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _heard(use: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> Heard:
    result = results[use["id"]]
    return Heard(use["name"], use["input"], text_of(result.get("content", "")), bool(result.get("is_error")))


# --- scripts ----------------------------------------------------------------------------------------------------------


class ScriptedTurn(Fact):
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    when: str | None = None  # pattern that the last tool results must show, or the turn is left out; None: always said


class TurnsScript(Fact):
    """`turns`, one after the other."""

    match: str
    turns: tuple[ScriptedTurn, ...]
    summary: str = "Done."
    on_error: Literal["stop", "go on"] = "stop"

    def says(self, talk: Conversation) -> Said:
        if talk.failed is not None and self.on_error == "stop":
            return stopped(talk.failed)
        position = 0
        before: tuple[Heard, ...] = ()
        for exchange in talk.exchanges:
            position, before = self._due(position, before) + 1, exchange
        position = self._due(position, before)
        if position >= len(self.turns):
            return Said(self.summary)
        turn = self.turns[position]
        return Said(turn.text, turn.calls)

    def _due(self, position: int, before: tuple[Heard, ...]) -> int:
        """The first turn from `position` on whose pattern is found in what came back before it."""
        shown = "\n".join(heard.text for heard in before)
        while position < len(self.turns):
            when = self.turns[position].when
            if when is None or re.search(when, shown):
                return position
            position += 1
        return position


class Edit(Fact):
    path: str
    old: str | None = None  # None: the file is written whole
    new: str | None = None  # None: the file is written whole
    content: str | None = None  # None: `old` becomes `new`

    def call(self) -> ToolCall:
        if self.content is not None:
            return ToolCall(tool="write_file", arguments={"path": self.path, "content": self.content})
        return ToolCall(tool="edit_file", arguments={"path": self.path, "old": self.old or "", "new": self.new or ""})


class TaskScript(Fact):
    """A task file: the edits that fulfil a task, made the way an agent makes them."""

    match: str = ""  # empty: the task's own words
    task: str
    summary: str
    edits: tuple[Edit, ...]
    forward_edits: tuple[Edit, ...] = ()  # instead of `edits` where every file that `edits` would create exists already
    regression_test: str | None = None  # None: the whole suite is run once, and nothing before it

    def says(self, talk: Conversation) -> Said:
        if not talk.exchanges:
            return Said("I look at what is there first.", (ToolCall(tool="list_files"),))
        heard = talk.failed or next((one for one in talk.last if _tests_failed(one)), None)
        if heard is not None:
            return stopped(heard)
        plan = self._plan({line.strip() for line in talk.exchanges[0][0].text.splitlines()})
        done = len(talk.exchanges) - 1
        return plan[done] if done < len(plan) else Said(self.summary)

    def _plan(self, listed: set[str]) -> list[Said]:
        edits = self._edits(listed)
        known = [path for path in _paths(edits) if path in listed or _needs_file(edits, path)]
        plan = [Said("I read the files concerned.", tuple(_reading(path) for path in known))] if known else []
        for path in _paths(edits):
            calls = tuple(edit.call() for edit in edits if edit.path == path)
            plan.append(Said(f"I change {path}.", calls))
        if self.regression_test:
            run = ToolCall(tool="run_tests", arguments={"target": self.regression_test})
            plan.append(Said("I run the test that would have caught it.", (run,)))
        return [*plan, Said("I run the tests.", (ToolCall(tool="run_tests"),))]

    def _edits(self, listed: set[str]) -> tuple[Edit, ...]:
        created = {edit.path for edit in self.edits if edit.content is not None} - {self.regression_test}
        there_already = bool(created) and created <= listed
        return self.forward_edits if self.forward_edits and there_already else self.edits


class AttemptsScript(Fact):
    """Tries one thing after the other, whatever comes back, and reports what was refused."""

    match: str
    attempts: tuple[ToolCall, ...]
    summary: str = "I could not do what I was asked to."

    def says(self, talk: Conversation) -> Said:
        done = len(talk.exchanges)
        if done < len(self.attempts):
            attempt = self.attempts[done]
            return Said(f"I try {attempt.tool}.", (attempt,))
        heard = [one for exchange in talk.exchanges for one in exchange]
        lines = [f"- {one.tool}: {'refused' if one.error else 'allowed'}: {one.text[:QUOTED_CHARS]}" for one in heard]
        return Said("\n".join([self.summary, *lines]))


Script = TurnsScript | TaskScript | AttemptsScript


def stopped(heard: Heard) -> Said:
    """Stop politely: say what stood in the way, and do nothing more."""
    return Said(f"I stop here. {heard.tool} answered:\n{heard.text[:QUOTED_CHARS]}")


def _tests_failed(heard: Heard) -> bool:
    return heard.tool == "run_tests" and TESTS_FAILED.search(heard.text) is not None


def _paths(edits: tuple[Edit, ...]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(edit.path for edit in edits))


def _needs_file(edits: tuple[Edit, ...], path: str) -> bool:
    return any(edit.path == path and edit.content is None for edit in edits)


def _reading(path: str) -> ToolCall:
    return ToolCall(tool="read_file", arguments={"path": path})


# --- the book ---------------------------------------------------------------------------------------------------------


class ScriptBook(Fact):
    """Scripts in order of precedence: the first whose pattern is found speaks."""

    scripts: tuple[Annotated[Script, Field(union_mode="left_to_right")], ...]

    def script_for(self, talk: Conversation) -> Script | None:
        """None: no script knows this conversation."""
        told = _spaced(f"{talk.system}\n{talk.first}")
        return next((script for script in self.scripts if re.search(_pattern(script), told)), None)


def _pattern(script: Script) -> str:
    if isinstance(script, TaskScript) and not script.match:
        return re.escape(_spaced(script.task))
    return script.match


def _spaced(text: str) -> str:
    return " ".join(text.split())


def task_script(path: Path, match: str = "") -> TaskScript:
    """One task file. `match` is a pattern for prompts that do not quote the task; empty: the task itself."""
    with _explained(path):
        return TypeAdapter(TaskScript).validate_python({**_yaml(path), **({"match": match} if match else {})})


def load_book(path: Path) -> ScriptBook:
    """A YAML list of scripts; `{file: task.yaml, match: pattern}` takes in a task file beside it."""
    scripts: list[Any] = []
    for raw in _yaml(path):
        named = isinstance(raw, dict) and "file" in raw
        scripts.append(task_script(path.parent / raw["file"], raw.get("match", "")) if named else raw)
    with _explained(path):
        return ScriptBook(scripts=tuple(scripts))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValidationError, TypeError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in first["loc"]) if first else "the file"
        why = first["msg"] if first else "it is no mapping of keys"
        raise ConfigError(
            f"the script file {path} makes no sense: {where}: {why}", "See docs/scripted-agents.md"
        ) from error


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the script file {path} cannot be read: {error}", "Name a YAML file of scripts") from error
