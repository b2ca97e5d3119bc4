"""One small edit of a source file, as bytes, so that everything around it stays where it was."""

from __future__ import annotations

import ast
import bisect
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
Place = ast.expr | ast.stmt  # what the parser gives a place


@dataclass(frozen=True)
class Edit:
    """`source[start:end]` becomes `new`. Offsets are bytes of the file's UTF-8."""

    start: int
    end: int
    new: bytes
    operator: str  # such as "compare/boundary"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new + source[self.end :]


@dataclass(frozen=True)
class Mutant:
    """An edit of a line that the change has touched. `function` is its dotted name, "" for the module's own level."""

    path: str
    line: int
    function: str
    edit: Edit

    @property
    def operator(self) -> str:
        return self.edit.operator


class Source:
    """A parsed file. Raises SyntaxError, ValueError, RecursionError or MemoryError, as the parser does."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        data.decode("utf-8")  # offsets are of UTF-8, and a file in another encoding would be cut elsewhere
        self.tree = ast.parse(data)
        self.starts: list[int] = [len(BOM) if data.startswith(BOM) else 0]
        for line in data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        if data.startswith(BOM):
            self.starts[1:] = [start - len(BOM) for start in self.starts[1:]]

    def start(self, node: Place) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: Place) -> int:
        return self.starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    def text(self, node: Place) -> bytes:
        return self.data[self.start(node) : self.end(node)]

    def line_of(self, offset: int) -> int:
        """1-based."""
        return bisect.bisect_right(self.starts, offset)

    def replaced(self, node: Place, new: bytes, operator: str) -> Edit:
        return Edit(self.start(node), self.end(node), new, operator)

    def statement(self, node: ast.stmt, new: bytes, operator: str) -> Edit:
        """Lines below keep their numbers."""
        return self.replaced(node, new + b"\n" * self.text(node).count(b"\n"), operator)
