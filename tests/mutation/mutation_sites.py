"""Where a source file can be changed so that it means something else, and what it then reads.

Each operator undoes one thing that a programmer decided: which side of a bound is allowed, whether a guard stands,
whether a condition counts, what is answered, how much, and whether something is said or done at all. Words are left
alone (strings, lengths to which text is cut, functions that only word a decision), and so is a guard against a state
that the log admits to no stream.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SUMS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
EMPTY = {"list": "[]", "tuple": "()", "dict": "{}", "frozenset": "frozenset()"}
VERIFY = "Run `flyball log verify`"
WORDS_ONLY = frozenset({"Decision", "Claim", "str"})  # functions that return these word a reason
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Functions and classes are scopes of their own; the rest are words, and lengths to which words are cut.
LEFT_ALONE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Slice)


@dataclass(frozen=True)
class Mutant:
    file: str  # from the project's root
    function: str  # "": at module level
    line: int
    lines: frozenset[int]  # whoever executes one of these may notice
    around: frozenset[int]  # of the whole function: whoever comes to its rarest lines notices most
    operator: str
    start: int  # bytes
    end: int
    replacement: str
    was: str  # whole lines, stripped
    becomes: str

    def source(self, original: bytes) -> bytes:
        return original[: self.start] + self.replacement.encode() + original[self.end :]

    @property
    def diff(self) -> str:
        return f"- {self.was}\n+ {self.becomes}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is, wherever it has moved to."""
        return (self.file, self.function, self.was, self.becomes)


@dataclass(frozen=True)
class _Change:
    node: ast.expr | ast.stmt
    operator: str
    text: str
    seen_at: int = 0  # the only line whose execution can tell; 0: those of the node


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """In the order of the file."""
    source = path.read_bytes()
    tree = ast.parse(source)
    return _Sites(str(path.relative_to(root)), source, tree).found()


class _Sites:
    def __init__(self, file: str, source: bytes, tree: ast.Module) -> None:
        self.file, self.source, self.tree = file, source, tree
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def found(self) -> list[Mutant]:
        found = [mutant for scope in _scopes(self.tree, "") for mutant in self._of(*scope)]
        unique = {(one.start, one.end, one.replacement): one for one in found}
        return sorted(unique.values(), key=lambda one: (one.start, one.end, one.replacement))

    def _of(self, name: str, body: list[ast.stmt], function: Function | None) -> Iterator[Mutant]:
        if function is not None and _only_words(function):
            return
        for statement in body:
            for node in _own_nodes(statement):
                for change in _changes(node, function):
                    yield self._mutant(name, function, change)

    def _mutant(self, name: str, function: Function | None, change: _Change) -> Mutant:
        node = change.node
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        first, last = self.starts[node.lineno - 1], self.starts[node.end_lineno or node.lineno]
        whole = self.source[first:last].decode()
        mutated = (self.source[first:start] + change.text.encode() + self.source[end:last]).decode()
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        around = range(function.lineno, (function.end_lineno or function.lineno) + 1) if function else lines
        here = frozenset({change.seen_at} if change.seen_at else lines)
        seen = here if function else self._uses(node)
        return Mutant(
            file=self.file,
            function=name,
            line=node.lineno,
            lines=seen,
            around=frozenset(around),
            operator=change.operator,
            start=start,
            end=end,
            replacement=change.text,
            was=" ".join(whole.split()),
            becomes=" ".join(mutated.split()),
        )

    def _uses(self, node: ast.AST) -> frozenset[int]:
        """Lines at which a module's or a class's value is used. Empty: nowhere by name, so everywhere in the file."""
        owner = next(
            (one for one in ast.walk(self.tree) if isinstance(one, ast.Assign | ast.AnnAssign) and _within(node, one)),
            None,
        )
        targets = owner.targets if isinstance(owner, ast.Assign) else [owner.target] if owner else []
        names = {one.id for one in targets if isinstance(one, ast.Name)}
        used = (one for one in ast.walk(self.tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load))
        return frozenset(one.lineno for one in used if one.id in names)


def _within(node: ast.AST, outer: ast.stmt) -> bool:
    return any(one is node for one in ast.walk(outer))


def _scopes(tree: ast.AST, prefix: str) -> Iterator[tuple[str, list[ast.stmt], Function | None]]:
    """Every function with its name, and what stands outside of them under the name of the class, or none."""
    body: list[ast.stmt] = getattr(tree, "body", [])
    outside = [one for one in body if not isinstance(one, Function | ast.ClassDef)]
    if isinstance(tree, ast.Module | ast.ClassDef):
        yield prefix.rstrip("."), outside, None
    for one in ast.walk(tree) if isinstance(tree, Function) else body:
        if one is not tree and isinstance(one, Function):
            yield f"{prefix}{one.name}", one.body, one
            if not isinstance(tree, Function):
                yield from _scopes(one, f"{prefix}{one.name}.")
        elif isinstance(one, ast.ClassDef):
            yield from _scopes(one, f"{prefix}{one.name}.")


def _own_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """The statement and what is in it, without types, decorators and whatever is left alone."""
    if isinstance(statement, LEFT_ALONE) or _never_happens(statement):
        return
    yield statement
    for field, value in ast.iter_fields(statement):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.AST):
                yield from _own_nodes(one)


def _never_happens(statement: ast.AST) -> bool:
    """A guard against what `admit` lets into no log. It is there for the types, and no world reaches it."""
    match statement:
        case ast.If(body=[ast.Raise(exc=ast.Call() as raised)], orelse=[]):
            return ast.unparse(raised).startswith("TypeError(") or VERIFY in ast.unparse(raised)
        case _:
            return False


def _only_words(function: Function) -> bool:
    return function.returns is not None and ast.unparse(function.returns) in WORDS_ONLY


def _changes(node: ast.AST, function: Function | None) -> Iterator[_Change]:  # noqa: C901, PLR0912 - one flat table
    match node:
        case ast.Compare():
            for index, op in enumerate(node.ops):
                ops = [*node.ops[:index], SWAPS[type(op)](), *node.ops[index + 1 :]]
                yield _expression(node, "compare", ast.Compare(node.left, ops, node.comparators))
        case ast.BoolOp():
            for index in range(len(node.values)):
                rest = [*node.values[:index], *node.values[index + 1 :]]
                yield _expression(node, "drop-condition", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        case ast.UnaryOp(op=ast.Not()):
            yield _expression(node, "drop-not", node.operand)
        case ast.If():
            no = ast.BoolOp(ast.And(), [node.test, ast.Constant(value=False)])
            yield replace(_expression(node.test, "never", no), seen_at=node.body[0].lineno)
        case ast.IfExp():
            yield _expression(node.test, "negate", ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension():
            for test in node.ifs:
                yield _expression(test, "always", ast.BoolOp(ast.Or(), [test, ast.Constant(value=True)]))
        case ast.match_case(guard=ast.expr() as guard):
            no = ast.BoolOp(ast.And(), [guard, ast.Constant(value=False)])
            yield replace(_expression(guard, "never", no), seen_at=node.body[0].lineno)
            yield _expression(guard, "always", ast.BoolOp(ast.Or(), [guard, ast.Constant(value=True)]))
        case ast.Return(value=ast.expr() as value) if function is not None and function.returns is not None:
            for text in _other_answers(ast.unparse(function.returns), ast.unparse(value)):
                yield _Change(value, "answer", text)
        case ast.Constant(value=bool() as value):
            yield _Change(node, "constant", str(not value))
        case ast.Constant(value=int() | float() as number):
            yield _Change(node, "constant", repr(number + 1))
        case ast.BinOp() if type(node.op) in SUMS and not _is_text(node):
            yield _expression(node, "arithmetic", ast.BinOp(node.left, SUMS[type(node.op)](), node.right))
        case ast.Call(func=ast.Name(id=name)) if name in OPPOSITES:
            yield _Change(node.func, "opposite", OPPOSITES[name])
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise():
            yield _Change(node, "silence", "pass")
        case _:
            return


def _expression(old: ast.expr, operator: str, new: ast.expr) -> _Change:
    return _Change(old, operator, f"({ast.unparse(new)})")


def _other_answers(returns: str, value: str) -> Iterator[str]:
    if returns in ("bool", "TypeGuard[Any]"):
        yield from (one for one in ("True", "False") if one != value)
    if returns.endswith("| None") and value != "None":
        yield "None"
    empty = EMPTY.get(returns.partition("[")[0])
    if empty is not None and "None" not in returns and value not in (empty, f"({empty})"):
        yield empty


def _is_text(node: ast.AST) -> bool:
    texts = (one for one in ast.walk(node) if isinstance(one, ast.JoinedStr | ast.Constant))
    return any(isinstance(one, ast.JoinedStr) or isinstance(one.value, str | bytes) for one in texts)
