"""What differs between the base's tree and the head's, as far as CI must know it: tests, and lines to watch.

Both trees are ours: exported from git, and read before anything of them has run.
"""

from __future__ import annotations

import ast
import difflib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from controller.domain.change import Role
from controller.domain.test_paths import configures_alike, is_test_module
from controller.facts.roles import roles_of

MOST_LINES = 20_000  # of a file; a longer one counts as changed in every line
LONG_LINES = 2_000  # beyond, lines that repeat all over the file are not aligned: exact is quadratic
MOST_WATCHED = 200  # files
MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class Compared:
    tests: tuple[str, ...] = ()  # paths of tests and of their configuration that differ; those on one side included
    whole: bool = False  # one of them is more than a test module: every test may depend on it
    watched: dict[str, list[int]] = field(default_factory=dict)  # changed Python files: their changed statements
    unwatched: bool = False  # more Python files changed than are watched

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(path for path in self.tests if is_test_module(path))


def compare(base: Path, head: Path) -> Compared:
    changed = differing(base, head)
    tests = tuple(path for path in changed if _is_of_tests(base, head, path))
    sources = [path for path in changed if path not in tests and (head / path).is_file()]
    python = [path for path in sources if path.endswith(".py") and not (head / path).is_symlink()]
    return Compared(
        tests,
        any(not is_test_module(path) for path in tests),
        {path: changed_statements(base / path, head / path) for path in python[:MOST_WATCHED]},
        unwatched=len(python) > MOST_WATCHED,
    )


def differing(base: Path, head: Path) -> list[str]:
    return sorted(path for path in {*files_of(base), *files_of(head)} if not _same(base / path, head / path))


def files_of(tree: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(tree):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name).relative_to(tree).as_posix() for name in (*names, *links)]
    return found


def _same(one: Path, other: Path) -> bool:
    if not os.path.lexists(one) or not os.path.lexists(other):
        return False
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if not one.is_file() or not other.is_file():
        return one.is_dir() and other.is_dir()
    before, after = one.stat(), other.stat()
    same_kind = (before.st_mode & 0o111) == (after.st_mode & 0o111) and before.st_size == after.st_size
    return same_kind and one.read_bytes() == other.read_bytes()


def _is_of_tests(base: Path, head: Path, path: str) -> bool:
    roles = roles_of(path)
    if Role.TEST_CONFIG in roles:
        return not configures_alike(path, _text(base / path), _text(head / path))
    return bool(roles & {Role.TEST, Role.SNAPSHOT})


def _text(path: Path) -> str:
    """Empty: it is not there, or no plain file."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return ""
    return path.read_text(errors="replace")


def changed_statements(before: Path, after: Path) -> list[int]:
    """Lines on which changed statements begin. Empty: none is (a comment, a removal), or it cannot be read."""
    old, new = _text(before).splitlines(), _text(after).splitlines()
    changed = set(range(1, len(new) + 1)) if max(len(old), len(new)) > MOST_LINES else changed_lines(old, new)
    try:
        tree = ast.parse("\n".join(new))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sorted({node.lineno for node in statements if changed & set(_own_lines(node)) and not _is_text(node)})


def changed_lines(old: list[str], new: list[str]) -> set[int]:
    """Of `new`, counted from 1."""
    found: set[int] = set()
    for kind, _, _, first, last in difflib.SequenceMatcher(
        None, old, new, autojunk=len(new) > LONG_LINES
    ).get_opcodes():
        if kind in {"replace", "insert"}:
            found.update(range(first + 1, last + 1))
    return found


def _own_lines(node: ast.stmt) -> range:
    """Of a compound statement its head only: what is below has statements of its own."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if not isinstance(body, list):
        return range(first, (node.end_lineno or first) + 1)
    below = body[0].pattern.lineno if isinstance(body[0], ast.match_case) else body[0].lineno
    return range(first, max(first + 1, below))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def put_tests_of(base: Path, tree: Path, tests: tuple[str, ...]) -> None:
    """`tree` has the base's version of each of them; those that the base does not have are gone."""
    for path in tests:
        target = tree / path
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        if os.path.lexists(base / path):
            _put(base / path, target, tree)


def _put(source: Path, target: Path, tree: Path) -> None:
    for folder in reversed(target.relative_to(tree).parents):
        place = tree / folder
        if place.is_symlink() or place.is_file():
            place.unlink()  # a test's folder has become something else on the head
        place.mkdir(exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False) if not source.is_dir() else target.mkdir(exist_ok=True)
