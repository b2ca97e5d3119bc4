"""Python that runs text, and Python that asks whether it is tested: by its syntax tree, whatever names it goes under.

A name that is put together while the program runs is not followed: `getattr` on a module that could run text, and a
computed name where a module is imported, count by themselves.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from controller.facts.hidden_characters import Found, passes_for_ascii

_BUILTINS = frozenset({"exec", "eval", "compile", "__import__", "__builtins__"})
_RUNS_ALWAYS = {  # in tests as well
    **dict.fromkeys((f"builtins.{name}" for name in _BUILTINS), "code"),
    **dict.fromkeys(("marshal.load", "marshal.loads", "types.CodeType", "types.FunctionType"), "code"),
    **dict.fromkeys(("code.InteractiveInterpreter", "code.InteractiveConsole", "codeop.compile_command"), "code"),
}
_RUNS = {
    **dict.fromkeys(("pickle.load", "pickle.loads", "pickle.Unpickler", "shelve.open", "joblib.load"), "objects"),
    **dict.fromkeys(("dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads"), "objects"),
    **dict.fromkeys(("jsonpickle.decode", "yaml.unsafe_load", "yaml.UnsafeLoader", "yaml.Loader"), "objects"),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), "shell"),
    **dict.fromkeys(("asyncio.create_subprocess_shell", "pty.spawn", "commands.getoutput"), "shell"),
    **dict.fromkeys(("runpy.run_path", "runpy.run_module", "importlib.util.spec_from_file_location"), "module"),
    **dict.fromkeys(("importlib.machinery.SourceFileLoader", "imp.load_source", "zipimport.zipimporter"), "module"),
    **dict.fromkeys(("sys.meta_path", "sys.path_hooks", "ctypes.CDLL", "ctypes.cdll", "ctypes.PyDLL"), "module"),
}
_MAY_RUN = frozenset({"builtins", "os", "sys", "subprocess", "importlib", "marshal", "pickle", "ctypes", "posix"})
_TOOLS = re.compile(r"\S*pytest\S*|py\.test|unittest\S*|PYTEST\w*|FLYBALL\w*")
_INNER = frozenset({"__globals__", "__builtins__", "f_globals", "f_builtins"})
_TOOL_MODULES = frozenset({"pytest", "_pytest", "unittest", "nose", "nose2", "hypothesis", "coverage"})
_OUR_TESTS = re.compile(r"(?:tests?|conftest|test_\w+)$")
_CI = re.compile(
    r"CI|CONTINUOUS_INTEGRATION|GITHUB_ACTIONS|GITLAB_CI|JENKINS_\w+|TRAVIS|CIRCLECI|BUILDKITE|TF_BUILD|TEAMCITY_\w+"
    r"|TOX_\w+|(?:\w+_)?TEST(?:ING|S|_MODE)?(?:_\w+)?"
)
_ASKS = {"sys.gettrace", "sys.getprofile", "sys.monitoring", "threading.gettrace", "sys.settrace", "sys.setprofile"}


def found_in(text: str, *, tests: bool) -> Iterator[Found]:
    """`tests`: only tests run it. Raises SyntaxError, ValueError or RecursionError."""
    tree = ast.parse(text)
    names = _Names(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if kind := _runs(node, names, tests=tests):
            yield f"runs-text/{kind}", line, _short(node)
        if not tests and (kind := _asks(node, names)):
            yield f"asks-if-tested/{kind}", line, _short(node)
    yield from _lookalikes(text)


def _short(node: ast.AST) -> str:
    return ast.unparse(node)[:200]


class _Names:
    """What the names of a file stand for: `np` for numpy, `run` for subprocess.run."""

    def __init__(self, tree: ast.Module) -> None:
        self.known: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for one in node.names:
                    self.known[one.asname or one.name.partition(".")[0]] = (
                        one.name if one.asname else one.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.known |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        self.own = defined | {
            one.asname or one.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module != "builtins"
            for one in node.names
        }

    def of(self, node: ast.AST) -> str:
        """The dotted name under which everybody knows it. "": it has none, or is being bound here."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in _BUILTINS and node.id not in self.own:
                return f"builtins.{node.id}"
            return self.known.get(node.id, "")
        match node:
            case ast.Attribute(value=value, attr=attr):
                inner = self.of(value)
                return f"{inner}.{attr}" if inner else ""
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if self.of(value) == "sys.modules":
                return key
        return ""


# --- text that is run -------------------------------------------------------------------------------------------------


def _runs(node: ast.AST, names: _Names, *, tests: bool) -> str:
    """Which kind of running text it is. "": none."""
    name = names.of(node)
    if name in _RUNS_ALWAYS:
        return _RUNS_ALWAYS[name]
    if _opens_inside(node):
        return "code"
    if isinstance(node, ast.Call):
        return _called(node, names, tests=tests)
    if isinstance(node, ast.Assign | ast.AugAssign) and not tests and _replaces_module(node, names):
        return "module"
    return _RUNS.get(name, "") if not tests and isinstance(node, ast.Name | ast.Attribute) else ""


def _called(node: ast.Call, names: _Names, *, tests: bool) -> str:
    name = names.of(node.func)
    if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "vars") and node.args:
        return "code" if _reaches(names.of(node.args[0]), node.args[1:2]) else ""
    if tests:
        return ""
    if name in ("importlib.import_module", "importlib.__import__") and node.args and not _is_named(node.args[0]):
        return "module"
    shell = next((one.value for one in node.keywords if one.arg == "shell"), None)
    switched = shell is not None and not (isinstance(shell, ast.Constant) and not shell.value)
    return "shell" if switched and name.startswith("subprocess.") else ""


def _opens_inside(node: ast.AST) -> bool:
    """What a function was defined with, the builtins by their name as text, or all names of a module that runs text."""
    match node:
        case ast.Attribute(attr=attr):
            return attr in _INNER
        case ast.Constant(value=str(value)):
            return value in ("__builtins__", "__import__")
        case ast.ImportFrom(module=str(module), names=[ast.alias(name="*")]):
            return module in _MAY_RUN
    return False


def _reaches(module: str, attribute: list[ast.expr]) -> bool:
    """By `getattr` or `vars`: a computed name, or one that runs text."""
    if attribute and isinstance(attribute[0], ast.Constant):
        reached = f"{module}.{attribute[0].value!s}"
        return reached in _RUNS_ALWAYS or reached in _RUNS
    return module in _MAY_RUN


def _is_named(node: ast.expr) -> bool:
    """A literal, or a name that begins inside one package that is written out."""
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str(begins)), *_]):
            return "." in begins
    return isinstance(node, ast.Constant)


def _replaces_module(node: ast.Assign | ast.AugAssign, names: _Names) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(one, ast.Subscript) and names.of(one.value) == "sys.modules" for one in targets)


# --- whether it is tested ---------------------------------------------------------------------------------------------


def _asks(node: ast.AST, names: _Names) -> str:
    """Which way of asking it is. "": none."""
    if names.of(node) in _ASKS:
        return "tracing"
    match node:
        case ast.Constant(value=str(value)) if _TOOLS.fullmatch(value):
            return "name-of-a-tool"
        case ast.Import(names=modules):
            return _imported([one.name for one in modules])
        case ast.ImportFrom(module=str(module)):
            return _imported([module])
        case ast.BinOp(op=ast.Add()) if (value := _added_up(node)) and _TOOLS.fullmatch(value):
            return "name-of-a-tool"
    return _asks_by_key(node, names)


def _asks_by_key(node: ast.AST, names: _Names) -> str:
    """Words that are nothing special but where they are looked up."""
    if _asks_for_module(node, names):
        return "name-of-a-tool"
    return "environment" if any(_CI.fullmatch(key) for key in _keys_of_environment(node)) else ""


def _asks_for_module(node: ast.AST, names: _Names) -> bool:
    """Words that mean something else elsewhere: `hypothesis` of statistics, `coverage` of an insurance."""
    match node:
        case ast.Compare(left=ast.Constant(value=str(value)), comparators=[where]):
            return value in _TOOL_MODULES and names.of(where) == "sys.modules"
        case ast.Call(func=func, args=[ast.Constant(value=str(value)), *_]):
            asked = names.of(func)
            return value in _TOOL_MODULES and asked in ("sys.modules.get", "importlib.util.find_spec")
    return False


def _imported(modules: list[str]) -> str:
    first = {one.partition(".")[0] for one in modules}
    if first & _TOOL_MODULES:
        return "imports-a-tool"
    return "imports-tests" if any(_OUR_TESTS.match(one) for one in first) else ""


def _added_up(node: ast.expr) -> str:
    """Literals that are added. "": something else is among them."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = _added_up(left), _added_up(right)
            return one + other if one and other else ""
    return ""


def _keys_of_environment(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=func, args=[ast.Constant(value=str(key)), *_]) if _reads_environment(func):
            yield key
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if _is_environment(value):
            yield key
        case ast.Compare(left=ast.Constant(value=str(key)), comparators=[value]) if _is_environment(value):
            yield key


def _reads_environment(func: ast.expr) -> bool:
    if isinstance(func, ast.Attribute):
        return func.attr == "getenv" or (func.attr in ("get", "pop", "setdefault") and _is_environment(func.value))
    return isinstance(func, ast.Name) and func.id == "getenv"


def _is_environment(node: ast.expr) -> bool:
    named = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return named.lower() in ("environ", "environment", "env")


# --- names that look like others --------------------------------------------------------------------------------------


def _lookalikes(text: str) -> Iterator[Found]:
    """Identifiers as they stand in the text: Python itself reads some letters as their plain form."""
    if text.isascii():
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and passes_for_ascii(token.string):
                yield "lookalike/name", token.start[0], token.string
    except tokenize.TokenError as error:
        raise ValueError(str(error)) from error
