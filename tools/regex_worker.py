"""One regular expression over some texts, in a process of its own: nothing else stops one that backtracks without end.

Run as a script, isolated and without site-packages. In on stdin: {"pattern": ..., "texts": [...], "limit": ...}; out on
stdout: [[text, line], ...] counted from 0 and from 1, or {"error": ...} when the pattern is none.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any


def matching_lines(pattern: str, texts: list[str], limit: int) -> Any:
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


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(matching_lines(asked["pattern"], asked["texts"], asked["limit"]), sys.stdout)
