"""One regular expression over some texts, by name in a process of its own (`controller.confined`).

Nothing else stops an expression that backtracks without end: it holds the interpreter's lock.
"""

from __future__ import annotations

import json
import re
from typing import Any

MATCHING = "tools.regex_worker:matching"


def matching(payload: bytes) -> bytes:
    """In: {"pattern": ..., "texts": [...], "limit": ...}. Out: [[text, line], ...], or {"error": ...}.

    Texts are counted from 0 and lines from 1; an error says why the pattern is not valid.
    """
    asked = json.loads(payload)
    return json.dumps(_matching_lines(asked["pattern"], asked["texts"], asked["limit"])).encode()


def _matching_lines(pattern: str, texts: list[str], limit: int) -> Any:
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as wrong:
        return {"error": str(wrong)}
    found: list[list[int]] = []
    for at, text in enumerate(texts):
        for number, line in enumerate(text.split("\n"), 1):
            if expression.search(line):
                found.append([at, number])
                if len(found) >= limit:
                    return found
    return found
