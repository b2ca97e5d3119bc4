"""What a source file defines, and what of it others can use.

It tells a feature that went from a test that was in the way, and an interface that somebody may still call. Python is
read off its syntax tree, with signatures. JavaScript and TypeScript, Go, Rust, Java, Kotlin and C# are read by lines,
names only. Protocol buffers and OpenAPI documents are read by lines as well. Other languages are not measured.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.facts.languages import Language, language_of

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Signature:
    required: tuple[str, ...] = ()  # positional parameters without a default, in order
    optional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()  # keyword-only ones without a default
    open: bool = False  # takes whatever else is given

    def narrower_than(self, old: Signature) -> bool:
        """Whether a call that was right under `old` may be wrong under this one."""
        if len(self.required) > len(old.required) or set(self.keywords) - set(old.keywords):
            return True
        taken = {*self.required, *self.optional, *self.keywords}
        known = {*old.required, *old.optional}
        return not self.open and not known <= taken


@dataclass(frozen=True, slots=True)
class Definitions:
    """Names to lines. `public` are those that others may use; `bound` is all that can be had under the file's name."""

    lines: dict[str, int] = field(default_factory=dict)
    public: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    signatures: dict[str, Signature] = field(default_factory=dict)


def definitions_of(path: str, text: str) -> Definitions | None:
    """None: not measured for this kind of file. Raises SyntaxError, ValueError or RecursionError."""
    language = language_of(path)
    if language is Language.PYTHON:
        return _python(text)
    pattern = _LINES.get(path.rpartition(".")[2].lower()) or _BY_LANGUAGE.get(language or Language.OTHER)
    if re.search(r"(?:openapi|swagger)[\w.-]*\.(?:ya?ml|json)$", path.lower()):
        pattern = _OPENAPI
    return _by_lines(pattern, text) if pattern else None


def _python(text: str) -> Definitions:
    tree = ast.parse(text)
    lines, bound = dict[str, int](), set[str]()
    signatures = dict[str, Signature]()
    listed = _listed(tree)
    for name, node in _defined(tree.body):
        bound.add(name)
        if isinstance(node, Function | ast.ClassDef):
            lines[name] = node.lineno
            signatures |= {name: _signature(node, method=False)} if isinstance(node, Function) else {}
            if isinstance(node, ast.ClassDef):
                _methods(node, lines, bound, signatures)
    public = {name for name in bound if not any(part.startswith("_") for part in name.split("."))}
    known = {name for name in public if name.partition(".")[0] in listed} if listed is not None else public
    own = {name for name in known if name in lines or (listed is not None and name in listed)}
    return Definitions(lines, frozenset(own | (listed or set())), frozenset(bound), signatures)


def _methods(node: ast.ClassDef, lines: dict[str, int], bound: set[str], signatures: dict[str, Signature]) -> None:
    for name, inner in _defined(node.body):
        bound.add(f"{node.name}.{name}")
        if isinstance(inner, Function):
            lines[f"{node.name}.{name}"] = inner.lineno
            static = any(ast.unparse(one) == "staticmethod" for one in inner.decorator_list)
            signatures[f"{node.name}.{name}"] = _signature(inner, method=not static)


def _defined(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Assign(targets=targets):
                yield from ((one.id, node) for one in targets if isinstance(one, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((one.asname or one.name.partition(".")[0], node) for one in names)
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _defined([*inner, *other])


def _listed(tree: ast.Module) -> set[str] | None:
    """`__all__`. None: there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node).partition("=")[0]:
            parts = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else []
            return {one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return None


def _signature(node: Function, *, method: bool) -> Signature:
    arguments = node.args
    positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][1 if method else 0 :]
    cut = len(positional) - min(len(arguments.defaults), len(positional))
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    needed = tuple(one.arg for one, default in pairs if default is None)
    optional = (*positional[cut:], *(one.arg for one in arguments.kwonlyargs if one.arg not in needed))
    return Signature(tuple(positional[:cut]), optional, needed, open=bool(arguments.vararg and arguments.kwarg))


_C = re.compile
_OPENAPI = _C(r"\s{0,8}[\"']?(/[^\s\"':]{0,200})[\"']?\s*:")
_LINES = {
    "proto": _C(
        r"\s*(?:message|service|enum|rpc)\s+(\w+)|\s*(?:repeated |optional "
        r"|required )?[\w.<>, ]+\s(\w+)\s*=\s*\d+\s*[;\[]"
    )
}
_BY_LANGUAGE = {
    Language.JAVASCRIPT: _C(
        r"\s*export\s+(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?"
        r"(?:function\*?|class|const|let|var|interface|type|enum)\s+(\w+)|\s*(?:module\.)?exports\.(\w+)\s*="
    ),
    Language.GO: _C(r"func (?:\([^)]{1,100}\) )?([A-Z]\w*)\s*[(\[]|type ([A-Z]\w*)\s|(?:var|const) ([A-Z]\w*)\s"),
    Language.RUST: _C(
        r"\s*pub (?:async |const |unsafe |extern \"C\" )*(?:fn|struct|enum|trait"
        r"|const|static|type|mod|union)\s+(\w+)"),
    Language.JVM: _C(
        r"\s*public\s+(?:(?:static|final|abstract|synchronized|default|sealed|native)\s+)*(?:class|interface|enum|record)?\s*"
            r"(?:<[^>]{1,100}>\s*)?(?:[\w.<>\[\],?]+\s+)?(\w+)\s*[({<]|(?:open "
            r"|data |sealed |inline )*(?:fun|class|object|interface)\s+(\w+)"
    ),
    Language.CSHARP: _C(
        r"\s*public\s+(?:(?:static|virtual|abstract|async|sealed|override|readonly|partial)\s+)*"
        r"(?:class|interface|enum|record|struct)?\s*(?:[\w.<>\[\],?]+\s+)?(\w+)\s*[({<:]"
    ),
}  # fmt: skip
_ANY_DEFINITION = _C(
    r"\s*(?:[\w<>\[\]*&:.,?@]+\s+){0,5}(?:func|fn|function|def|class|struct|interface|type|const|let|var|fun|enum)\s+(?:\([^)]{0,100}\)\s*)?(\w+)"
)
_JS_LIST = _C(r"\s*export\s*\{([^}]{1,1000})\}")


def _by_lines(pattern: re.Pattern[str], text: str) -> Definitions:
    """Also what is not public, for a test may name it: by the words that languages begin definitions with."""
    public, lines = set[str](), dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        if found := pattern.match(line[:2_000]):
            name = next(one for one in found.groups() if one is not None)
            public.add(name)
            lines.setdefault(name, number)
        elif found := _ANY_DEFINITION.match(line[:400]):
            lines.setdefault(found[1], number)
    for listed in _JS_LIST.findall(text):
        public |= {part.split(" as ")[-1].strip() for part in listed.split(",") if part.strip()}
    return Definitions(lines, frozenset(public), frozenset({*lines, *public}))
