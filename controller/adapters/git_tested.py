"""What of a repository decides what its tests are, beside their own files: the test command's scripts, data, doctests.

Scripts: files that `test.command` names, what those name, and so on, `STEPS` deep, in either tree; of a Makefile and of
`package.json` only what the named target or script says. Data: changed files in no programming language that stand
outside the tests and that a test of the base names, by their name or their folder's. Only words are looked at; what a
script calls by an import, a variable or a pattern is not followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import pygit2

from controller.domain.test_paths import is_test_module
from controller.facts.languages import is_docs, is_test, language_of
from controller.facts.roles import is_script

STEPS = 3
MOST_BYTES = 256 << 10  # of one script, or of one file of tests
MOST_TESTS = 3_000
MOST_TEXTS_BYTES = 8 << 20  # of all files of tests
MOST_DATA = 100  # changed files that are looked for; a change of so many asks for a person by its size
MOST_REACHED = 200
SHORTEST_NAME = 3  # of a folder that a test names: a shorter one turns up in any text
_WORD = re.compile(r"[\w@+./-]{1,200}")
_PROGRAMS = (".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".php")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_RUNNERS = {"make": _MAKEFILES, "gmake": _MAKEFILES} | dict.fromkeys(("npm", "yarn", "pnpm", "bun"), ("package.json",))
_CONFIGS = ("pytest.ini", ".pytest.ini", "pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")
_RULE = re.compile(r"([\w./-]{1,100}(?:\s+[\w./-]{1,100}){0,20})\s*::?(?!=)\s*([^#=]*)")


def commanded(trees: Sequence[pygit2.Tree], command: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted paths. Modules that pytest collects are tests, and are judged as such."""
    found: set[str] = set()
    for tree in trees:
        texts = [" ".join(command), *_runner(tree, command)]
        for _ in range(STEPS):
            named = {path for text in texts for path in _named(tree, text)} - found
            found |= set(sorted(named)[:MOST_REACHED])
            texts = [_text(tree, path) for path in sorted(named)]
    return tuple(sorted(path for path in found if not is_test_module(path)))


def compared(base: pygit2.Tree, paths: Sequence[str]) -> tuple[str, ...]:
    """Of these paths of the base, those of data that a test of the base names."""
    data = [path for path in paths if language_of(path) is None and not is_docs(path) and not is_test(path)]
    if not data:
        return ()
    tests = _texts(base, _test_files(base))
    return tuple(path for path in data[:MOST_DATA] if _is_named(path, tests))


def _texts(tree: pygit2.Tree, paths: list[str]) -> str:
    parts, left = list[str](), MOST_TEXTS_BYTES
    for path in paths:
        parts.append(_text(tree, path))
        left -= len(parts[-1])
        if left <= 0:
            break
    return "\n".join(parts)


def is_pytest(command: tuple[str, ...]) -> bool:
    """Whether CI runs it under its own parent, with the base's tests as a second verdict."""
    named = bool(command) and command[0].rpartition("/")[2] in {"pytest", "py.test"}
    return named or command[1:3] == ("-m", "pytest")


def runs_doctests(base: pygit2.Tree, command: tuple[str, ...]) -> bool:
    return "doctest" in " ".join(command) or any("doctest" in _text(base, path) for path in _CONFIGS)


def _is_named(path: str, tests: str) -> bool:
    folder, _, name = path.rpartition("/")
    if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", tests):
        return True
    last = folder.rpartition("/")[2]
    return len(last) >= SHORTEST_NAME and re.search(rf"[\"'/]{re.escape(last)}[\"'/]", tests) is not None


def _test_files(tree: pygit2.Tree) -> list[str]:
    return [path for path in _walk(tree, "") if is_test(path) and language_of(path) is not None][:MOST_TESTS]


def _walk(tree: pygit2.Tree, prefix: str) -> Iterator[str]:
    for entry in tree:
        path = f"{prefix}{entry.name}"
        if isinstance(entry, pygit2.Tree):
            yield from _walk(entry, f"{path}/")
        else:
            yield path


# --- the command ------------------------------------------------------------------------------------------------------


def _named(tree: pygit2.Tree, text: str) -> Iterator[str]:
    """Files of the tree that can be run and that these words name; `-m package.module` too."""
    words = _WORD.findall(text)
    for at, word in enumerate(words):
        path = word.removeprefix("./").strip("/")
        module = path.replace(".", "/")
        spelt = (f"{module}/__main__.py", f"{module}.py") if at and words[at - 1] == "-m" else (path,)
        for one in spelt:
            if (is_script(one) or one.endswith(_PROGRAMS)) and _is_file(tree, one):
                yield one


def _runner(tree: pygit2.Tree, command: tuple[str, ...]) -> Iterator[str]:
    runner = command[0].rpartition("/")[2] if command else ""
    wanted = [word for word in command[1:] if not word.startswith("-") and word != "run"]
    file = next((one for one in _RUNNERS.get(runner, ()) if _is_file(tree, one)), None)
    if file is not None:
        yield (_script if file == "package.json" else _recipe)(_text(tree, file), wanted)


def _script(text: str, names: list[str]) -> str:
    try:
        scripts = json.loads(text or "{}").get("scripts", {})
    except (ValueError, AttributeError, RecursionError):
        return ""
    asked = [f"{before}{name}" for name in names or ["test"] for before in ("", "pre", "post")]
    return "\n".join(str(scripts[name]) for name in asked if isinstance(scripts, dict) and name in scripts)


def _recipe(text: str, targets: list[str]) -> str:
    """Of the targets and of all that they need."""
    recipes, needs, current = dict[str, list[str]](), dict[str, list[str]](), list[str]()
    for line in text.splitlines():
        if line.startswith("\t"):
            for target in current:
                recipes[target].append(line)
        elif (rule := _RULE.match(line)) is not None:
            current = rule[1].split()
            for target in current:
                recipes.setdefault(target, [])
                needs.setdefault(target, []).extend(_WORD.findall(rule[2]))
    waiting, seen = [*(targets or list(recipes)[:1])], list[str]()
    while waiting:
        if (target := waiting.pop()) not in seen:
            seen.append(target)
            waiting += needs.get(target, [])
    return "\n".join(line for target in seen for line in recipes.get(target, []))


def _text(tree: pygit2.Tree, path: str) -> str:
    """Empty: no such file, or too large a one."""
    if not _is_file(tree, path):
        return ""
    blob = tree[path]
    return blob.data.decode(errors="replace") if isinstance(blob, pygit2.Blob) and blob.size <= MOST_BYTES else ""


def _is_file(tree: pygit2.Tree, path: str) -> bool:
    if not path or ".." in path or "//" in path:
        return False
    try:
        return isinstance(tree[path], pygit2.Blob)
    except KeyError:
        return False
