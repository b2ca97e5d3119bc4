"""Which changed lines the tests executed, and which copy of a changed file they imported.

Before anything of the tree is imported, the loader of source files is taught to add a mark in front of each changed
statement of the changed files; nothing else is slowed down. A mark is noted the first time that each test passes it.
At the end every loaded module that bears a changed file's name is asked where it came from. This runs in the process
of the tests: it proves against mistakes (an installed copy under test, a file that nothing imports), and not against an
author who writes the marks.
"""

# ruff: noqa: PTH118, PTH206

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import os
import sys
from typing import Any

MARK = "__flyball_ran__"
MOST_OTHERS = 20


class Watch:
    """`lines`: changed file, relative to `root`, to the first lines of its changed statements."""

    def __init__(self, root: str, lines: dict[str, list[int]]) -> None:
        self.root = os.path.realpath(root)
        self.files = {os.path.join(self.root, *name.split("/")): name for name in lines}
        self.lines = lines
        self.marks: list[tuple[str, int]] = []
        self.seen: set[int] = set()
        self.now: set[int] = set()
        self.imported: set[str] = set()

    def install(self) -> None:
        setattr(builtins, MARK, self.now.add)
        loader: Any = importlib.machinery.SourceFileLoader
        plain = loader.source_to_code

        def source_to_code(this: Any, data: Any, path: Any, *rest: Any, **named: Any) -> Any:
            return plain(this, self.marked(data, path), path, *rest, **named)

        loader.source_to_code = source_to_code

    def marked(self, data: Any, path: Any) -> Any:
        name = self.files.get(os.path.realpath(os.fspath(path))) if isinstance(path, str) else None
        if name is None:
            return data
        self.imported.add(name)
        try:
            tree = ast.parse(data, path) if not isinstance(data, ast.AST) else data
        except SyntaxError:
            return data  # the import says so, better than we could
        Marker(self, name).visit(tree)
        return ast.fix_missing_locations(tree)

    def mark(self, name: str, line: int) -> int:
        self.marks.append((name, line))
        return len(self.marks) - 1

    def test_begins(self) -> None:
        self.seen |= self.now
        self.now.clear()

    def test_ends(self) -> list[int]:
        return sorted(self.now)[:100]

    def found(self) -> dict[str, Any]:
        self.test_begins()
        lines: dict[str, list[int]] = {}
        for number in sorted(self.seen):
            if 0 <= number < len(self.marks):
                lines.setdefault(self.marks[number][0], []).append(self.marks[number][1])
        return {"lines": lines, "imported": sorted(self.imported), "others": self.others(), "equal": self.equal()}

    def others(self) -> list[str]:
        """Changed files of which a copy outside the tree was imported instead."""
        roots = {
            self.root,
            os.path.join(self.root, "src"),
            *(p for p in map(os.path.realpath, sys.path) if self.below(p)),
        }
        found = []
        for path, name in self.files.items():
            for dotted in {dotted_of(path, root) for root in roots if path.startswith(root + os.sep)}:
                file = getattr(sys.modules.get(dotted), "__file__", None)
                if name not in self.imported and file and not self.below(os.path.realpath(file)):
                    found.append(name)
        return sorted(set(found))[:MOST_OTHERS]

    def below(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + os.sep)

    def equal(self) -> list[str]:
        """Changed classes whose objects say that they equal whatever they are compared with."""
        found = []
        for module in list(sys.modules.values()):
            name = self.files.get(os.path.realpath(getattr(module, "__file__", None) or os.devnull))
            kinds = [one for one in list(vars(module).values()) if isinstance(one, type)] if name else []
            liars = [one for one in kinds if self.changed(name or "", one.__dict__.get("__eq__")) and equals_all(one)]
            found += [f"{name}: {one.__qualname__}"[:300] for one in liars]
        return sorted(set(found))[:MOST_OTHERS]

    def changed(self, name: str, function: Any) -> bool:
        code = getattr(function, "__code__", None)
        if code is None or os.path.realpath(code.co_filename) not in self.files:
            return False
        span = {code.co_firstlineno, *(line for *_, line in code.co_lines() if line)}
        return bool(span & set(self.lines[name]))


def equals_all(kind: type) -> bool:
    try:
        compare: Any = kind.__eq__
        return compare(object.__new__(kind), object()) is True
    except Exception:  # noqa: BLE001  whatever the tree's own code raises, it did not say "equal"
        return False


def dotted_of(path: str, root: str) -> str:
    words = os.path.relpath(path, root)[: -len(".py")].split(os.sep)
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


class Marker(ast.NodeVisitor):
    def __init__(self, watch: Watch, name: str) -> None:
        self.watch, self.name = watch, name
        self.wanted = set(watch.lines[name])

    def generic_visit(self, node: ast.AST) -> None:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                setattr(node, field, self.with_marks(node, body))

    def with_marks(self, node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for place, statement in enumerate(body):
            if statement.lineno in self.wanted and not must_stand_first(node, statement, place):
                found.append(self.mark_before(statement))
            found.append(statement)
        return found

    def mark_before(self, statement: ast.stmt) -> ast.stmt:
        call = ast.Call(ast.Name(MARK, ast.Load()), [ast.Constant(self.watch.mark(self.name, statement.lineno))], [])
        return ast.copy_location(ast.Expr(ast.copy_location(call, statement)), statement)


def must_stand_first(node: ast.AST, statement: ast.stmt, place: int) -> bool:
    """A docstring, or an import from `__future__`."""
    if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
        return True
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return documented and place == 0 and text
