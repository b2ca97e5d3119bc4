"""What may be broken in one node of the syntax tree: each function gives the edits of its kind.

The kinds are those of Offutt et al. (1996), "An experimental determination of sufficient mutant operators", and of the
mutation tools in use, less those that every test run kills anyway (a deleted assignment of a local name) or that no
test can be asked to notice (words in messages).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from .edits import Edit, Source

COMPARISONS: dict[type, tuple[str, list[tuple[str, str]]]] = {
    ast.Lt: ("<", [("<=", "compare/boundary"), (">=", "compare/swap")]),
    ast.LtE: ("<=", [("<", "compare/boundary"), (">", "compare/swap")]),
    ast.Gt: (">", [(">=", "compare/boundary"), ("<=", "compare/swap")]),
    ast.GtE: (">=", [(">", "compare/boundary"), ("<", "compare/swap")]),
    ast.Eq: ("==", [("!=", "compare/swap")]),
    ast.NotEq: ("!=", [("==", "compare/swap")]),
    ast.Is: ("is", [("is not", "compare/swap")]),
    ast.IsNot: (r"is\s+not", [("is", "compare/swap")]),
    ast.In: ("in", [("not in", "compare/swap")]),
    ast.NotIn: (r"not\s+in", [("in", "compare/swap")]),
}
ARITHMETIC: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
NO_NUMBERS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Set, ast.Dict)


def compare(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            word, instead = COMPARISONS[type(op)]
            pattern = word if word[0].isalpha() else re.escape(word)
            yield from _between(source, left, right, pattern, instead)


def arithmetic(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _joins(node.left, node.right):
        word, instead = ARITHMETIC[type(node.op)]
        yield from _between(source, node.left, node.right, re.escape(word), [(instead, "arithmetic/swap")])
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC and not _joins(node.value):
        word, instead = ARITHMETIC[type(node.op)]
        yield from _between(source, node.target, node.value, re.escape(word), [(instead, "arithmetic/swap")])


def boolean(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.BoolOp):
        word, instead = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            yield from _between(source, left, right, word, [(instead, "boolean/swap")])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        length, name = (3, "boolean/not") if isinstance(node.op, ast.Not) else (1, "arithmetic/sign")
        yield Edit(source.start(node), source.start(node) + length, b"", name)


def constant(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if value is True or value is False:
        yield source.replaced(node, b"False" if value else b"True", "constant/boolean")
    elif isinstance(value, int):
        yield source.replaced(node, str(value + 1).encode(), "constant/off-by-one")
    elif isinstance(value, float):
        yield source.replaced(node, repr(value + 1.0).encode(), "constant/off-by-one")
    elif isinstance(value, (str, bytes)) and value:
        yield source.replaced(node, b'""' if isinstance(value, str) else b'b""', "constant/emptied")


def returned(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Return) or node.value is None or isinstance(node.value, ast.Constant):
        return
    if isinstance(node.value, (ast.Compare, ast.BoolOp)):
        yield source.replaced(node.value, b"(not (" + source.text(node.value) + b"))", "return/negated")
    else:
        yield source.statement(node, b"return None", "return/none")


def deleted(source: Source, node: ast.AST) -> Iterator[Edit]:
    """Statements that are there for their effect. A local name's first assignment is missed by whatever runs next."""
    called = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await) else None
    if isinstance(node, ast.Expr) and isinstance(called or node.value, ast.Call):
        yield source.statement(node, b"pass", "statement/call-deleted")
    elif isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Assign) and any(isinstance(to, (ast.Attribute, ast.Subscript)) for to in node.targets)
    ):
        yield source.statement(node, b"pass", "statement/assignment-deleted")
    elif isinstance(node, ast.Raise):
        yield source.statement(node, b"pass", "raise/removed")


def forced(source: Source, node: ast.AST) -> Iterator[Edit]:
    tests: list[ast.expr] = []
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = list(node.ifs)
    for test in tests:
        if isinstance(test, ast.Constant):
            continue
        if not isinstance(node, ast.While):  # which would run for ever
            yield source.replaced(test, b"True", "condition/true")
        yield source.replaced(test, b"False", "condition/false")


def loops(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Break):
        yield source.replaced(node, b"continue", "loop/continue")
    elif isinstance(node, ast.Continue):
        yield source.replaced(node, b"break", "loop/break")


OPERATORS: tuple[Callable[[Source, ast.AST], Iterator[Edit]], ...] = (
    compare,
    arithmetic,
    boolean,
    constant,
    returned,
    deleted,
    forced,
    loops,
)


def _between(
    source: Source, left: ast.expr, right: ast.expr, pattern: str, instead: list[tuple[str, str]]
) -> Iterator[Edit]:
    """Edits of the operator that stands between two operands. None where a comment could be mistaken for it."""
    start, end = source.end(left), source.start(right)
    gap = source.data[start:end]
    found = None if b"#" in gap else re.search(pattern.encode(), gap)
    if found is not None:
        for word, name in instead:
            yield Edit(start + found.start(), start + found.end(), word.encode(), name)


def _joins(*operands: ast.AST) -> bool:
    """Text, lists and unions of types: another operator than theirs fails wherever it runs, whatever the tests."""
    return any(
        isinstance(one, NO_NUMBERS)
        or (isinstance(one, ast.Constant) and (one.value is None or isinstance(one.value, (str, bytes))))
        for one in operands
    )
