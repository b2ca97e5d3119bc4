"""Which removals the task asks for: what is gone, and the task speaks of removing and of it.

The task is a person's words, and identifiers are not: `wrapping` is spoken of by "gift wrapping" and "wrapped gifts".
A word that means nothing in particular speaks of nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

_REMOVING = re.compile(
    r"\b(?:remov\w*|delet\w*|drop(?:s|ped|ping)?|retir\w*|sunset\w*|eliminat\w*|get rid of"
    r"|no longer|take out|strip(?:s|ped|ping)?|deprecat\w*)\b"
)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_WORDS = re.compile(r"[a-z]+")
_ENDING = re.compile(r"(?:ings?|ed|es|s|ers?|e)$")
LEAST = 4  # letters of a part that says something
_SAYS_NOTHING = frozenset(
    {
        *("remove", "delete", "drop", "retire", "test", "tests", "check", "make", "from", "with", "that", "this"),
        *("code", "file", "function", "class", "module", "data", "unused", "dead", "base", "main", "util", "utils"),
        *("feature", "value", "values", "result", "default", "none", "name", "names", "type", "types", "longer"),
    }
)


def removes(task: str) -> bool:
    return _REMOVING.search(task.lower()) is not None


def speaks_of(task: str, name: str) -> bool:
    """Whether every part of the identifier that says something stands in the task, in whatever form."""
    wanted = {_stem(one) for one in _telling(part.lower() for part in _PARTS.findall(name))}
    return bool(wanted) and wanted <= {_stem(word) for word in _telling(_WORDS.findall(task.lower()))}


def _telling(words: Iterable[str]) -> Iterator[str]:
    return (word for word in words if len(word) >= LEAST and word not in _SAYS_NOTHING)


def _stem(word: str) -> str:
    """Short of its ending, and of a letter that is doubled before it: "wrapping" and "wraps" are one."""
    cut = _ENDING.sub("", word)
    cut = cut if len(cut) >= LEAST - 1 else word
    return cut[:-1] if len(cut) > LEAST and cut[-1] == cut[-2] else cut


def only_removes(before: str, after: str, asked: frozenset[str]) -> bool:
    """Whether nothing but whole definitions that are `asked` for went from a Python file, and imports that they used.

    Raises SyntaxError, ValueError or RecursionError.
    """
    old, new = ast.parse(before).body, ast.parse(after).body
    went = [node for node in old if _names(node) & asked]
    kept = [ast.dump(node) for node in old if not _is_import(node) and node not in went]
    if not went or kept != [ast.dump(node) for node in new if not _is_import(node)]:
        return False
    used = asked | {one.id for node in went for one in ast.walk(node) if isinstance(one, ast.Name)}
    imports, stayed = dict(_imports(old)), dict(_imports(new))
    return stayed.keys() <= imports.keys() and all(imports[one] in used for one in imports.keys() - stayed.keys())


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _imports(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Each import by itself, and the name that it binds."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            where = f"{'.' * node.level}{node.module}" if isinstance(node, ast.ImportFrom) else ""
            yield from ((f"{where} {ast.dump(one)}", one.asname or one.name.partition(".")[0]) for one in node.names)


def _names(node: ast.stmt) -> frozenset[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset({name})
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return frozenset({name})
    return frozenset()
