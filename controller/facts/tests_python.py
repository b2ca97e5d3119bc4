"""The tests of a Python file, read off its syntax tree, by the discovery rules of pytest and unittest.

An assertion is an `assert` statement, a call of a method named assert..., or a block that expects an exception. Rows of
a `parametrize` with literal values are put in place of their names, so that three tests turned into three rows assert
what they asserted before.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator

from controller.facts.functions import Assertion, TestFile, TestFunction

Function = ast.FunctionDef | ast.AsyncFunctionDef
MOST_ROWS = 200  # of a parametrize that are put in place
_NOT_THE_PROGRAM = sys.stdlib_module_names | frozenset({"pytest", "hypothesis", "mock", "freezegun", "syrupy"})
_OFF = {
    "skip": "skip",
    "skipif": "skip",
    "skipUnless": "skip",
    "skipIf": "skip",
    "xfail": "xfail",
    "expectedFailure": "xfail",
}
_OFF_CALLS = frozenset({"skip", "skipTest", "xfail", "importorskip", "exit"})
_RAISES = frozenset(
    {"raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex", "assertWarns", "assertLogs"}
)
_WEAK_METHODS = frozenset({"assertTrue", "assertIsNotNone", "assertIsInstance", "assertIn", "assertGreaterEqual"})
_PATCHING = frozenset(
    {"setattr", "patch", "setitem", "delattr", "object", "MagicMock", "Mock", "AsyncMock", "stub", "create_autospec"}
)


_EXITS = frozenset(
    {"os._exit", "os.abort", "os.kill", "os.execv", "os.execve", "os.execvp", "sys.exit", "exit", "quit", "_exit"}
)
_DECIDES = frozenset(  # unittest's and pytest's own names for what chooses and runs tests
    {"load_tests", "setUpModule", "run", "debug", "__call__", "__init_subclass__", "__getattribute__"}
    | {"countTestCases", "defaultTestResult", "_callTestMethod"}
)


def tests_of(text: str) -> TestFile:
    """Raises SyntaxError, ValueError or RecursionError for text that is no Python of this interpreter."""
    tree = ast.parse(text)
    tests = tuple(_read(function, prefix) for function, prefix in _found(tree))
    found = {id(function) for function, _ in _found(tree)}
    names = frozenset(word for node in _helpers(tree.body, found) for word in _words(node))
    helpers = [node for node in _helpers(tree.body, found) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    asserted = tuple(one for node in helpers for one in _assertions(node.body, swallowed=False))
    return TestFile(
        tests,
        asserted,
        tuple(_file_off(tree)),
        ends=tuple(_ends(tree)),
        outside=tuple(_outside(tree.body, found)),
        names=names,
        imported=frozenset(_imported(tree)),
    )


def _outside(body: list[ast.stmt], tests: set[int]) -> Iterator[str]:
    """Functions and statements that are no tests, imports and words, each in one spelling."""
    for node in _helpers(body, tests):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield ast.unparse(node)


def _ends(tree: ast.Module) -> Iterator[str]:
    """Where nobody asked: below `if __name__ == "__main__"` and where SystemExit is expected it is let be."""
    for node in [one for stmt in tree.body if not _is_main(stmt) for one in _unexpected(stmt)]:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _EXITS:
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
            yield "SystemExit"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _DECIDES:
            yield node.name


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _unexpected(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without blocks that expect the end."""
    yield node
    if isinstance(node, ast.With) and any("SystemExit" in ast.unparse(item.context_expr) for item in node.items):
        return
    for inner in ast.iter_child_nodes(node):
        yield from _unexpected(inner)


def assertions_in(tree: ast.Module) -> list[Assertion]:
    """Every `assert` statement of a module, wherever it stands; of calls none."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return [_assertion(one.test, one.lineno, _strength(one.test), swallowed=False) for one in found]


def _helpers(body: list[ast.stmt], tests: set[int]) -> Iterator[ast.stmt]:
    """What stands beside the tests and could be used by them, imports apart."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _helpers(node.body, tests)
        elif id(node) not in tests and not isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def _imported(tree: ast.Module) -> Iterator[str]:
    """Neither Python's own nor the tools that tests are written with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            module_names = [(one.name, one.asname or one.name.partition(".")[0]) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            module_names = [(node.module or "", one.asname or one.name) for one in node.names]
        else:
            continue
        yield from (name for module, name in module_names if module.partition(".")[0] not in _NOT_THE_PROGRAM)


def _found(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    for node in tree.body:
        if isinstance(node, Function) and node.name.startswith("test"):
            yield node, ""
        elif isinstance(node, ast.ClassDef) and _collects(node):
            functions = (inner for inner in node.body if isinstance(inner, Function))
            yield from ((inner, f"{node.name}.") for inner in functions if inner.name.startswith("test"))


def _collects(node: ast.ClassDef) -> bool:
    """Pytest's classes by their name, unittest's by a base that says TestCase; neither with `__test__ = False`."""
    bases = " ".join(ast.unparse(base) for base in node.bases)
    switched_off = any(isinstance(one, ast.Assign) and ast.unparse(one) == "__test__ = False" for one in node.body)
    return (node.name.startswith("Test") or "TestCase" in bases or "Test" in bases) and not switched_off


def _file_off(tree: ast.Module) -> Iterator[str]:
    """A mark on the whole module, or a skip while it is imported."""
    for node in tree.body:
        words = ast.unparse(node) if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr | ast.If) else ""
        if "pytestmark" in words and ("skip" in words or "xfail" in words):
            yield "pytestmark"
        elif isinstance(node, ast.Expr | ast.If) and ("pytest.skip(" in words or "importorskip(" in words):
            yield "module skip"
        elif words.replace(" ", "") == "__test__=False":
            yield "__test__"


def _read(function: Function, prefix: str) -> TestFunction:
    inner = copy.deepcopy(function)
    rows = list(_rows(inner))
    body = [*inner.body]
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # the docstring
    local = set(_defined(inner))
    return TestFunction(
        name=f"{prefix}{function.name}",
        line=function.lineno,
        body="\n".join([*(ast.unparse(one) for one in inner.decorator_list), *(ast.unparse(one) for one in body)]),
        assertions=tuple(_placed(list(_assertions(body, swallowed=False)), rows)),
        names=frozenset(name for name in _words(inner) if name not in local),
        off=tuple(sorted(_offs(inner))),
        patches=sum(_is_patch(node) for node in ast.walk(inner)),
        runner_name=f"{prefix.replace('.', '::')}{function.name}",
    )


def _defined(function: Function) -> Iterator[str]:
    """Names that are the test's own: its variables and functions. Fixtures, which are arguments, are not."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler):
            yield from [node.name] if node.name else []


def _words(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.alias():
                yield from node.name.split(".")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg(arg=name):
                yield name


# --- assertions -------------------------------------------------------------------------------------------------------


def _assertions(body: list[ast.stmt], *, swallowed: bool) -> Iterator[Assertion]:
    for node in body:
        if isinstance(node, ast.Assert):
            yield _assertion(node.test, node.lineno, _strength(node.test), swallowed=swallowed)
        elif isinstance(node, ast.Expr) and _is_assert_call(node.value):
            yield _assertion(node.value, node.lineno, _call_strength(node.value), swallowed=swallowed)
        elif isinstance(node, ast.With | ast.AsyncWith):
            expected = [item.context_expr for item in node.items if _name(item.context_expr) in _RAISES]
            yield from (_assertion(one, node.lineno, 2, swallowed=swallowed) for one in expected)
            suppresses = any(_name(item.context_expr) == "suppress" for item in node.items)
            yield from _assertions(node.body, swallowed=swallowed or suppresses)
        elif isinstance(node, ast.Try):
            caught = any(_catches_assertions(handler) for handler in node.handlers)
            yield from _assertions(node.body, swallowed=swallowed or caught)
            rest = [*(one for handler in node.handlers for one in handler.body), *node.orelse, *node.finalbody]
            yield from _assertions(rest, swallowed=swallowed)
        elif isinstance(node, ast.If) and _never(node.test):
            yield from _assertions(node.body, swallowed=True)
        else:
            inner = [one for field in ("body", "orelse") for one in getattr(node, field, [])]
            yield from _assertions([one for one in inner if isinstance(one, ast.stmt)], swallowed=swallowed)


def _never(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and not test.value


def _catches_assertions(handler: ast.ExceptHandler) -> bool:
    """And does not raise again."""
    kinds = "" if handler.type is None else ast.unparse(handler.type)
    broad = handler.type is None or any(one in kinds for one in ("AssertionError", "Exception"))
    fails = any(isinstance(one, ast.Raise) for one in ast.walk(handler)) or "fail(" in ast.unparse(handler)
    return broad and not fails


def _name(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _is_assert_call(node: ast.expr) -> bool:
    value = node.value if isinstance(node, ast.Await) else node
    name = _name(value) if isinstance(value, ast.Call) else ""
    return name.startswith(("assert", "expect", "verify", "check_", "fail")) or name in _RAISES


def _strength(test: ast.expr) -> int:  # noqa: PLR0911 - one flat table of shapes
    match test:
        case ast.Constant():
            return 0
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return 1
        case ast.Compare(left=left, comparators=[right]) if ast.unparse(left) == ast.unparse(right):
            return 0
        case ast.BoolOp(op=ast.Or(), values=values):
            return min(_strength(one) for one in values)
        case ast.Name() | ast.Attribute():
            return 1
        case ast.Call() if _name(test) in ("isinstance", "callable", "hasattr", "bool"):
            return 1
    return 2


def _call_strength(node: ast.expr) -> int:
    call = node.value if isinstance(node, ast.Await) else node
    arguments = call.args if isinstance(call, ast.Call) else []
    if arguments and isinstance(arguments[0], ast.Constant) and len(arguments) == 1:
        return 0
    return 1 if _name(call) in _WEAK_METHODS else 2


class _WithoutLiterals(ast.NodeTransformer):
    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Constant(self, node: ast.Constant) -> ast.AST:  # noqa: N802 - as ast wants it
        self.found.append(repr(node.value))
        return ast.copy_location(ast.Name(id="_", ctx=ast.Load()), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:  # noqa: N802 - as ast wants it
        """A formatted string is one literal: its pieces may not be taken apart."""
        self.found.append(ast.unparse(node))
        return ast.copy_location(ast.Name(id="_", ctx=ast.Load()), node)


def _assertion(test: ast.expr, line: int, strength: int, *, swallowed: bool) -> Assertion:
    taken = _WithoutLiterals()
    shape = ast.unparse(taken.visit(copy.deepcopy(test)))
    return Assertion(ast.unparse(test), shape, tuple(taken.found), line, strength, swallowed)


# --- rows of parametrize ----------------------------------------------------------------------------------------------


class _Placing(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:  # noqa: N802 - as ast wants it
        return copy.deepcopy(self.values.get(node.id, node))


def _placed(assertions: list[Assertion], rows: list[dict[str, ast.expr]]) -> Iterator[Assertion]:
    """Each assertion once for each row whose values it uses."""
    for one in assertions:
        used = [row for row in rows if any(name in one.text for name in row)]
        if not used:
            yield one
        for row in used[:MOST_ROWS]:
            placed = _Placing(row).visit(ast.parse(one.text, mode="eval")).body
            yield _assertion(placed, one.line, one.strength, swallowed=one.swallowed)


def _rows(function: Function) -> Iterator[dict[str, ast.expr]]:
    """Of the first `parametrize` with literal rows."""
    for node in function.decorator_list:
        if isinstance(node, ast.Call) and _name(node) == "parametrize" and len(node.args) > 1:
            names = _argument_names(node.args[0])
            table = node.args[1]
            if names and isinstance(table, ast.List | ast.Tuple):
                yield from (row for value in table.elts[:MOST_ROWS] if (row := _row(names, value)))
                return


def _argument_names(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [name.strip() for name in node.value.split(",") if name.strip()]
    parts = node.elts if isinstance(node, ast.Tuple | ast.List) else []
    return [one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _row(names: list[str], value: ast.expr) -> dict[str, ast.expr]:
    if isinstance(value, ast.Call) and _name(value) == "param":
        parts: list[ast.expr] = value.args
    elif len(names) == 1:
        parts = [value]
    else:
        parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    return dict(zip(names, parts, strict=False)) if len(parts) == len(names) else {}


# --- what switches a test off -----------------------------------------------------------------------------------------


def _offs(function: Function) -> Iterator[str]:
    for node in function.decorator_list:
        if (word := _OFF.get(_name(node))) is not None:
            yield word
        for inner in ast.walk(node):  # marks of single rows
            if (
                inner is not node
                and isinstance(inner, ast.Call | ast.Attribute)
                and _name(inner) in ("skip", "skipif", "xfail")
            ):
                yield "row " + _name(inner)
    for inner in ast.walk(function):
        if isinstance(inner, ast.Call) and _name(inner) in _OFF_CALLS and "." in ast.unparse(inner.func):
            yield "call " + _name(inner)
    first = function.body[0] if function.body else None
    if isinstance(first, ast.Return) or (isinstance(first, ast.If) and isinstance(first.body[0], ast.Return)):
        yield "returns at once"


def _is_patch(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or _name(node) not in _PATCHING:
        return False
    return _name(node) != "object" or isinstance(node.func, ast.Attribute)
