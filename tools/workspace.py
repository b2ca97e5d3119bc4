"""The belt for a session's own disposable tree: look, change, run the tests. Nothing here is visible outside.

Paths arrive canonical and allowed; `Tree` keeps them beneath the workspace whatever they lead through. Answers say what
the agent needs for its next call: line numbers, where to read on, why an edit did not fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.domain.ids import Commit, Repository
from controller.ports import Badge, ToolDefinition, ToolResult
from rbac.patterns import check_pattern, matches
from tools.belt import Call, NotPossible, Tool, lines_of, schema, text_schema, whole_schema
from tools.runs import Runs
from tools.search import Searcher, search
from tools.tree import MAX_FILE_BYTES, Found, Tree

MAX_LISTED = 1_000
MAX_LINES = 1_000  # in one read
MAX_LINE_CHARS = 1_000
DEFAULT_LINES = 400
BINARY_PROBE = 8_192  # bytes in which a zero byte means: no text (as git has it)
TARGET = r"^(?!.*(\.\.|//))[A-Za-z0-9_][A-Za-z0-9_./:\[\],-]*$"

Readable = Callable[[Badge, str], Awaitable[bool]]
Ignored = Callable[[Repository, Commit, Sequence[str]], Awaitable[frozenset[str]]]

_PATH = text_schema(
    minLength=1, maxLength=1024, description="File path relative to the repository, with / between folders"
)
_CONTENT = text_schema(maxLength=MAX_FILE_BYTES)


@dataclass(frozen=True, slots=True)
class WorkspaceBelt:
    """`root` gives a session's folder or raises NotPossible; `readable` says which files it may read at all.

    `ignored`: which new files the .gitignore of the session's base names.
    """

    root: Callable[[Badge], Awaitable[Path]]
    readable: Readable
    runs: Runs
    ignored: Ignored
    tests_limit_s: float = 600.0

    def tools(self) -> list[Tool]:
        return [
            Tool(LIST_FILES, self.list_files),
            Tool(READ_FILE, self.read_file),
            Tool(SEARCH, self.search),
            Tool(EDIT_FILE, self.edit_file),
            Tool(WRITE_FILE, self.write_file),
            Tool(DELETE_FILE, self.delete_file),
            Tool(RUN_TESTS, self.run_tests, limit_s=self.tests_limit_s),
        ]

    async def list_files(self, call: Call) -> ToolResult:
        pattern = call.arguments.get("pattern", "**")
        try:
            check_pattern(pattern)
        except ValueError as wrong:
            raise NotPossible(str(wrong)) from None
        return ToolResult(await asyncio.to_thread(_listed, await self._tree(call), pattern))

    async def read_file(self, call: Call) -> ToolResult:
        if call.arguments.get("repository", call.badge.repository) != call.badge.repository:
            raise NotPossible("only the session's own repository has a workspace here")
        text = await asyncio.to_thread(_text, await self._tree(call), call.arguments["path"])
        return ToolResult(_page(text, call.arguments.get("offset", 1), call.arguments.get("limit", DEFAULT_LINES)))

    async def search(self, call: Call) -> ToolResult:
        found = await search(
            await self._tree(call),
            call.arguments["pattern"],
            call.arguments.get("path", ""),
            regex=call.arguments.get("regex", False),
            by=Searcher(
                call.badge.session,
                lambda paths: self.runs.desk.unreadable(call.badge, paths),
                lambda path: self.readable(call.badge, path),
            ),
        )
        return ToolResult(found)

    async def edit_file(self, call: Call) -> ToolResult:
        path, old, new = (call.arguments[name] for name in ("path", "old", "new"))
        return ToolResult(await asyncio.to_thread(_edited, await self._tree(call), path, old, new))

    async def write_file(self, call: Call) -> ToolResult:
        path, content = call.arguments["path"], call.arguments["content"]
        if path in await self.ignored(call.badge.repository, call.badge.base, [path]):
            raise NotPossible(f"{path} is named by .gitignore, so no change can hold it; write another file")
        return ToolResult(await asyncio.to_thread(_written, await self._tree(call), path, content))

    async def delete_file(self, call: Call) -> ToolResult:
        await asyncio.to_thread((await self._tree(call)).delete, call.arguments["path"])
        return ToolResult(f"Deleted {call.arguments['path']}.")

    async def run_tests(self, call: Call) -> ToolResult:
        return await self.runs.tests(call, await self.root(call.badge), call.arguments.get("target", ""))

    async def _tree(self, call: Call) -> Tree:
        return Tree(await self.root(call.badge))


def _listed(tree: Tree, pattern: str) -> str:
    found: list[Found] = []
    for one in tree.walk():
        if matches(pattern, one.path):
            found.append(one)
        if len(found) >= MAX_LISTED:
            break
    lines = [f"{one.path} (symbolic link, not followed)" if one.is_link else one.path for one in found]
    if len(found) >= MAX_LISTED:
        lines.append(f"[the first {MAX_LISTED}; ask with a narrower pattern]")
    return "\n".join(lines) or "No files."


def _text(tree: Tree, path: str) -> str:
    content = tree.read(path)
    if b"\0" in content[:BINARY_PROBE]:
        raise NotPossible(f"{path} is no text ({len(content)} bytes)")
    try:
        return content.decode()
    except UnicodeDecodeError as wrong:
        raise NotPossible(f"{path} is no UTF-8 text: byte {wrong.start}") from None


def _page(text: str, offset: int, limit: int) -> str:
    lines = lines_of(text)
    if not lines:
        return "(an empty file)"
    if offset > len(lines):
        raise NotPossible(f"the file has {len(lines)} lines, there is no line {offset}")
    shown = lines[offset - 1 : offset - 1 + limit]
    numbered = [f"{number:6}\t{_short(line)}" for number, line in enumerate(shown, offset)]
    last = offset + len(shown) - 1
    if last < len(lines):
        numbered.append(f"[lines {offset} to {last} of {len(lines)}; read on with offset {last + 1}]")
    return "\n".join(numbered)


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]} [{len(line)} characters]"


def _edited(tree: Tree, path: str, old: str, new: str) -> str:
    if old == new:
        raise NotPossible("old and new are the same")
    text = _text(tree, path)
    at = [number for number, start in _places(text, old)]
    if len(at) != 1:
        raise NotPossible(_why_not(path, text, old, at))
    tree.write(path, text.replace(old, new, 1).encode())
    return f"Edited {path} at line {at[0]}."


def _places(text: str, old: str) -> list[tuple[int, int]]:
    """Line number and position of each occurrence, overlapping ones too."""
    places: list[tuple[int, int]] = []
    start = text.find(old)
    while start >= 0 and len(places) < MAX_LINES:
        places.append((text.count("\n", 0, start) + 1, start))
        start = text.find(old, start + 1)
    return places


def _why_not(path: str, text: str, old: str, at: list[int]) -> str:
    if at:
        lines = ", ".join(map(str, at[:10]))
        return f"old stands {len(at)} times in {path} (lines {lines}); add lines around it until it stands once"
    if near := _nearly(text, old):
        return (
            f"old is not in {path} as it is; with other spaces it is at line {near}: read it there and copy it exactly"
        )
    return f"old is not in {path}; read the file and copy the lines exactly, without their numbers"


def _nearly(text: str, old: str) -> int | None:
    """The first line where old would match if spaces did not count. None: nowhere."""
    wanted = ["".join(line.split()) for line in lines_of(old.strip())]
    lines = ["".join(line.split()) for line in lines_of(text)]
    if not any(wanted):
        return None
    # one search of one text: comparing at every line takes the product of their lengths
    start = "\n".join(["", *lines, ""]).find("\n".join(["", *wanted, ""]))
    return None if start < 0 else "\n".join(["", *lines]).count("\n", 0, start + 1)


def _written(tree: Tree, path: str, content: str) -> str:
    known = tree.exists(path)
    tree.write(path, content.encode())
    return f"{'Replaced' if known else 'Wrote'} {path}: {len(lines_of(content))} lines."


LIST_FILES = ToolDefinition(
    "list_files",
    "List the repository's files. pattern: * is anything within one folder, ** any folders, e.g. src/**/*.py",
    schema(pattern=text_schema(minLength=1, maxLength=300)),
    tool_class="read",
)
READ_FILE = ToolDefinition(
    "read_file",
    "Read a text file with line numbers, from line offset on, at most limit lines.",
    schema(
        ("path",),
        path=_PATH,
        offset=whole_schema("First line, from 1", minimum=1, maximum=10_000_000),
        limit=whole_schema(f"Lines, {DEFAULT_LINES} if not given", minimum=1, maximum=MAX_LINES),
        repository=text_schema(minLength=1, maxLength=100),
    ),
    tool_class="read",
    path_arguments=("path",),
    repository_argument="repository",
)
SEARCH = ToolDefinition(
    "search",
    "Find lines that contain pattern, everywhere or beneath path. regex: true takes it as a Python regular expression.",
    schema(
        ("pattern",),
        pattern=text_schema(minLength=1, maxLength=500),
        path=_PATH,
        regex={"type": "boolean"},
    ),
    tool_class="read",
    path_arguments=("path",),
)
EDIT_FILE = ToolDefinition(
    "edit_file",
    "Replace old by new in a file. old must stand in it exactly once, to the character, without line numbers.",
    schema(("path", "old", "new"), path=_PATH, old=text_schema(minLength=1, maxLength=MAX_FILE_BYTES), new=_CONTENT),
    tool_class="contained",
    path_arguments=("path",),
)
WRITE_FILE = ToolDefinition(
    "write_file",
    "Write a whole file, new or replaced. Missing folders are made.",
    schema(("path", "content"), path=_PATH, content=_CONTENT),
    tool_class="contained",
    path_arguments=("path",),
)
DELETE_FILE = ToolDefinition(
    "delete_file",
    "Delete one file.",
    schema(("path",), path=_PATH),
    tool_class="contained",
    path_arguments=("path",),
)
RUN_TESTS = ToolDefinition(
    "run_tests",
    "Run the tests on a copy of the workspace: all, or one target such as tests/test_cart.py::test_total. What a run"
    " writes is thrown away.",
    schema(target=text_schema(minLength=1, maxLength=300, pattern=TARGET)),
    tool_class="contained",
)
