"""Which files the build and start commands reach, outside the tests' sandbox.

Two steps deep: paths that a command names, and paths that those files name, in either tree. A word counts if it is the
path of a file there; `-m package` is `package/__main__.py` or `package.py`. What a start command names in a programming
language is the service itself, which is tested and goes out as a canary; shell scripts and the like that start it are
not. What those files call by other means (an import, a variable, a glob) is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pygit2

from controller.facts.roles import is_script

MOST_SCRIPT_BYTES = 256 << 10
MOST_REACHED = 500
_WORD = re.compile(r"[\w@+./-]{1,200}")
Commands = Sequence[tuple[str, ...]]


def reached_by(
    repo: pygit2.Repository, trees: Sequence[pygit2.Tree], build: Commands, start: Commands
) -> tuple[str, ...]:
    """Sorted. Only words are looked at: nothing here is parsed or run."""
    found: set[str] = set()
    for tree in trees:
        first = {path for command in build for path in _named_by_command(tree, command)}
        first |= {path for command in start for path in _named_by_command(tree, command) if is_script(path)}
        second = {path for script in sorted(first) for path in _named_by_file(repo, tree, script) if path not in first}
        found |= first | {path for path in second if is_script(path) or path.endswith((".py", ".js", ".rb", ".pl"))}
    return tuple(sorted(found)[:MOST_REACHED])


def _named_by_command(tree: pygit2.Tree, command: tuple[str, ...]) -> Iterator[str]:
    for at, word in enumerate(command):
        if at and command[at - 1] == "-m":
            module = word.replace(".", "/")
            yield from (path for path in (f"{module}/__main__.py", f"{module}.py") if _is_file(tree, path))
        yield from (path for path in _paths(tree, word))


def _named_by_file(repo: pygit2.Repository, tree: pygit2.Tree, script: str) -> Iterator[str]:
    entry = tree[script]
    blob = repo[entry.id]
    if isinstance(blob, pygit2.Blob) and blob.size <= MOST_SCRIPT_BYTES:
        text = blob.data.decode(errors="replace")
        folder = script.rpartition("/")[0]
        for word in dict.fromkeys(_WORD.findall(text)):
            yield from _paths(tree, word)
            if folder:
                yield from _paths(tree, f"{folder}/{word}")


def _paths(tree: pygit2.Tree, words: str) -> Iterator[str]:
    for word in _WORD.findall(words):
        path = word.removeprefix("./").strip("/")
        if path and ".." not in path and "//" not in path and _is_file(tree, path):
            yield path


def _is_file(tree: pygit2.Tree, path: str) -> bool:
    try:
        return isinstance(tree[path], pygit2.Blob)
    except KeyError:
        return False
