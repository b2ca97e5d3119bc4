"""What hides from whoever reads a change or tests it.

Lines that do not read as they run, text that is run, code that asks whether it is tested, a repository inside the
tree. Only what the change adds counts. None of it is a fault by itself, and an honest change may need any of it once:
each finding asks for a person. Python is read off its syntax tree, other languages by line patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from controller.domain.change import FileStatus, Role
from controller.facts import hidden_characters, suspicious_lines, suspicious_python
from controller.facts.languages import Language, language_of
from controller.facts.tree import ChangedFile, Noted

_OF_TESTS = frozenset({Role.TEST, Role.TEST_CONFIG, Role.SNAPSHOT})
_GIT_HEAD = re.compile(r"\s*(?:ref:\s*\S+|[0-9a-f]{40}(?:[0-9a-f]{24})?)\s*")
_GIT_CONFIG = re.compile(r"^\s*\[core\]", re.IGNORECASE | re.MULTILINE)


def suspicious(file: ChangedFile, roles: frozenset[Role]) -> Iterator[Noted]:
    """Raises SyntaxError, ValueError or RecursionError for Python that cannot be parsed."""
    yield from _git_inside(file)
    if not file.after or not file.added:
        return
    added = frozenset(file.added)
    code = Role.DOCS not in roles and language_of(file.path) is not None
    found = [*hidden_characters.invisible(file.after, added), *hidden_characters.mixed(file.after, added)]
    if code:
        found += _in_code(file, added, tests=bool(roles & _OF_TESTS))
    yield from (Noted(rule=rule, path=file.path, line=line, words=words) for rule, line, words in found)


def _in_code(file: ChangedFile, added: frozenset[int], *, tests: bool) -> Iterator[tuple[str, int, str]]:
    language = language_of(file.path) or Language.OTHER
    if language is Language.PYTHON:
        found = suspicious_python.found_in(file.after or "", tests=tests)
        yield from (one for one in found if one[1] in added)
    else:
        lines = enumerate((file.after or "").split("\n"), start=1)
        yield from suspicious_lines.found_in(
            language, [(number, text) for number, text in lines if number in added], tests=tests
        )


def _git_inside(file: ChangedFile) -> Iterator[Noted]:
    """A folder with HEAD, objects and refs is a repository to git, which runs what its `config` says."""
    if file.status is FileStatus.DELETED or file.after is None:
        return
    name = file.path.rpartition("/")[2].lower()
    if name == "head" and _GIT_HEAD.fullmatch(file.after):
        yield Noted(rule="repository-inside/head", path=file.path)
    elif name in ("config", "config.worktree") and _GIT_CONFIG.search(file.after):
        yield Noted(rule="repository-inside/config", path=file.path)
