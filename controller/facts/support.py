"""What tests rest on outside their own files: helpers in the program that assert, and examples in words.

The base's own tests run against the head with the head's helpers, so a helper that has stopped asserting makes them
pass. Seen are functions that raise AssertionError or call what asserts, everything in a module that imports a testing
tool, and `assert` statements that compare. A helper that fails by other means is not known as one.

Examples (doctest) count where the repository's test configuration or command speaks of doctests.
"""

from __future__ import annotations

import ast
import doctest
from collections import Counter
from collections.abc import Iterator

from controller.facts import tests_python
from controller.facts.languages import Language, language_of
from controller.facts.tree import ChangedFile, Noted

_TOOLS = frozenset({"pytest", "unittest", "hypothesis", "nose", "nose2", "testtools", "behave"})
_NO_CHECKS = frozenset({"assert_never", "assert_type"})  # for type checkers
_EXAMPLES_IN = (".md", ".rst", ".txt", ".markdown")
COMPARES = 2  # an assertion of this strength
Function = ast.FunctionDef | ast.AsyncFunctionDef


def helpers_changed(file: ChangedFile) -> Iterator[Noted]:
    """Of a module of the program that was there before. Raises as `ast.parse` does."""
    if language_of(file.former) is not Language.PYTHON or file.before is None:
        return
    before = ast.parse(file.before)
    after = ast.parse(file.after or "")
    now = {name: ast.unparse(node) for name, node in _functions(after)}
    everything = _imports_a_tool(before)
    for name, node in _functions(before):
        if (everything or _asserts(node)) and now.get(name) != ast.unparse(node):
            yield Noted(rule="weakened/helper-changed", path=file.path, line=node.lineno, words=name)
    kept = Counter(one.text for one in tests_python.assertions_in(after))
    for one in tests_python.assertions_in(before):
        if one.strength >= COMPARES and not kept[one.text]:
            yield Noted(rule="weakened/assertion-removed", path=file.path, line=one.line, words=one.text)


def _functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """With the names of the classes that they stand in."""
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, Function):
                yield f"{prefix}{inner.name}", inner
            elif isinstance(inner, ast.ClassDef):
                waiting.append((f"{prefix}{inner.name}.", inner))


def _imports_a_tool(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        if any(name.partition(".")[0] in _TOOLS for name in names):
            return True
    return False


def _asserts(function: Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == "AssertionError":
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if (name.startswith("assert") and name not in _NO_CHECKS) or name == "fail":
                return True
    return False


# --- examples in words ------------------------------------------------------------------------------------------------


def examples_lost(file: ChangedFile) -> Iterator[tuple[str, str, int]]:
    """Of examples that the base had: source, what comes out of it now ("": it is gone), and line.

    Raises ValueError for examples that are none.
    """
    after = _examples(file.path, file.after or "")
    kept, now = Counter((one.source, one.want) for one in after), {one.source: one.want for one in after}
    for one in _examples(file.former, file.before or ""):
        if not kept[(one.source, one.want)]:
            yield one.source.strip(), now.get(one.source, "").strip(), one.lineno + 1


def _examples(path: str, text: str) -> list[doctest.Example]:
    """Line by line: where a docstring begins does not matter, as an example ends with its quotes."""
    if language_of(path) is not Language.PYTHON and not path.lower().endswith(_EXAMPLES_IN):
        return []
    read = doctest.DocTestParser()
    texts = [text] if language_of(path) is not Language.PYTHON else [*_docstrings(text)]
    return [one for words in texts for one in read.get_examples(words)]


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function | ast.ClassDef | ast.Module):
            yield ast.get_docstring(node, clean=False) or ""
