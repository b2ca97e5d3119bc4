"""All mutants of a file's changed lines, and the places where no mutant is worth its run.

Left out: annotations, docstrings, decorators, `if TYPE_CHECKING` and `if __name__ == ...`, `__repr__` and its like,
logging and printing, assertions, what a `raise` says, `__all__` and its like. A test that noticed those would be a
worse test.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from .edits import Edit, Mutant, Source
from .operators import OPERATORS

SHOWN_ONLY = {"__repr__", "__str__", "__format__", "__rich__", "__rich_repr__", "__doc__"}
NAMES_ONLY = {"__all__", "__slots__", "__version__", "__author__", "__match_args__"}
LOG_METHODS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log"}
TELLS = {"print", "warn", "TypeVar", "ParamSpec", "NewType", "namedtuple", "NamedTuple", "getLogger", "cast"}
WORDS_FOR_PEOPLE = {"help", "description", "message", "doc", "title", "msg", "metavar", "reason"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def mutants_of(source: Source, lines: Collection[int]) -> list[Mutant]:
    """In the order of the file. `lines`: 1-based, those that the change has touched."""
    wanted, found, seen = set(lines), [], set()
    for node, function in _walk(source.tree, ()):
        for operator in OPERATORS:
            for edit in operator(source, node):
                line = _changed_line(source, edit, wanted)
                if line is not None and (edit.start, edit.end, edit.new) not in seen and not _alone(node, edit):
                    seen.add((edit.start, edit.end, edit.new))
                    found.append(Mutant(source.path, line, ".".join(function), edit))
    return sorted(found, key=lambda one: (one.edit.start, one.edit.end, one.edit.new))


def _changed_line(source: Source, edit: Edit, wanted: set[int]) -> int | None:
    first, last = source.line_of(edit.start), source.line_of(max(edit.start, edit.end - 1))
    return next((line for line in range(first, last + 1) if line in wanted), None)


def _alone(node: ast.AST, edit: Edit) -> bool:
    """An abstract method that only raises: nothing calls it, and no test should."""
    return edit.operator == "raise/removed" and "NotImplementedError" in ast.dump(node)


def _walk(node: ast.AST, function: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    for child in _children(node):
        if _left_out(child):
            continue
        named = (*function, child.name) if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else function
        yield child, named
        if not isinstance(child, ast.Raise):
            yield from _walk(child, named)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "type_comment", "bases", "keywords"} and (
            name != "keywords" or isinstance(node, ast.ClassDef)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _docstring(node, child):
                yield child


def _docstring(parent: ast.AST, child: ast.AST) -> bool:
    """A bare string says something to readers, wherever it stands."""
    del parent
    return isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)


def _left_out(node: ast.AST) -> bool:
    if isinstance(node, FUNCTIONS):
        return node.name in SHOWN_ONLY
    if isinstance(node, (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)):
        return True
    if isinstance(node, ast.If):
        return _never_tested(node.test)
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(one, ast.Name) and one.id in NAMES_ONLY for one in targets)
    if isinstance(node, ast.keyword):
        return node.arg in WORDS_FOR_PEOPLE
    return _only_tells(node.value if isinstance(node, ast.Expr) else node)


def _never_tested(test: ast.AST) -> bool:
    names = {one.id for one in ast.walk(test) if isinstance(one, ast.Name)}
    names |= {one.attr for one in ast.walk(test) if isinstance(one, ast.Attribute)}
    return bool(names & {"TYPE_CHECKING", "__name__"})


def _only_tells(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in TELLS
    if not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in TELLS:
        return True
    owner = ast.dump(node.func.value).lower()
    return node.func.attr in LOG_METHODS and "log" in owner
