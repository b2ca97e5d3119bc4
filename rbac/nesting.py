"""How deep a text is nested, counted before any parser sees it: parsers go as deep as the text does, and some crash.

Brackets count wherever they stand, in comments and quotes too, so nothing can be hidden from the count; what people
write stays far below the bounds.
"""

from __future__ import annotations

import re

from controller.errors import ConfigError

MAX_DEPTH = 40  # of brackets of all kinds; the rules that are shipped have 4
MAX_CONDITIONALS = 200  # in one file of policies: `if` nests without a bracket; the engine overflows its stack at 8,000
_BRACKETS = re.compile(r"[\[\](){}]")
_IF = re.compile(r"\bif\b")


def check_brackets(text: str, file: str) -> None:
    """Raises ConfigError naming file and line."""
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth = depth + 1 if bracket[0] in "[({" else max(0, depth - 1)
        if depth > MAX_DEPTH:
            line = text.count("\n", 0, bracket.start()) + 1
            raise ConfigError(
                f"{file}:{line}: brackets are nested more than {MAX_DEPTH} deep", "Write it with less nesting"
            )


def check_conditionals(text: str, file: str) -> None:
    """Raises ConfigError naming file."""
    found = len(_IF.findall(text))
    if found > MAX_CONDITIONALS:
        raise ConfigError(
            f"{file} has `if` {found} times, at most {MAX_CONDITIONALS} are read", "Write several policies instead"
        )
