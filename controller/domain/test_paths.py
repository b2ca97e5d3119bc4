"""Which tests depend on a file, and whether two versions of a configuration tell tests the same. Pure.

What a file is for says `controller.facts.roles`; here is what CI must know besides, to run no more than it must.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import PurePosixPath

PYTHON_TEST = re.compile(r"tests?\.py|test_.+\.py|.+_tests?\.py")
MIXED = frozenset({"pyproject.toml", "setup.cfg", "tox.ini"})  # hold other things too: their sections for tests count
TOML_TABLES = ("pytest", "coverage", "tox", "nox")
INI_SECTION = re.compile(r"(tool:)?(pytest|coverage:.+|tox|testenv.*)")
MOST_CHARS = 512 * 1024  # of a configuration that is read; a longer one is alike to itself only


def is_test_module(path: str) -> bool:
    """A Python file that pytest collects by its name: other tests do not depend on it."""
    return bool(PYTHON_TEST.fullmatch(PurePosixPath(path).name))


def configures_alike(path: str, one: str, other: str) -> bool:
    """Two texts of a test configuration tell tests the same. Text that is not valid is alike to itself only."""
    if one == other:
        return True
    name = PurePosixPath(path).name
    if name not in MIXED or max(len(one), len(other)) > MOST_CHARS:
        return False
    try:
        return _sections(name, one) == _sections(name, other)
    except (tomllib.TOMLDecodeError, configparser.Error, RecursionError):
        return False


def _sections(name: str, text: str) -> object:
    if name.endswith(".toml"):
        tool = tomllib.loads(text).get("tool", {})
        return {table: tool[table] for table in TOML_TABLES if table in tool} if isinstance(tool, dict) else tool
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    return {title: dict(parser.items(title)) for title in parser.sections() if INI_SECTION.fullmatch(title)}
