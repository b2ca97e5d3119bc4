"""Whether a change of Python sources says anything that the base did not say: what no new test can be asked for.

Comments, docstrings, formatting and plain annotations say nothing; nor does a definition that moves from one changed
file to another with the imports that go with it, or one that the task asks to remove and nothing names any more. A
module is taken apart into its imports, its definitions (functions and classes, each as a whole) and its other
statements, which run in their order. Whatever does not fit is new.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from controller.facts import dependencies
from controller.facts.languages import Language, language_of
from controller.facts.tree import ChangedFile

_INERT = (
    ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.Load,
)  # fmt: skip
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class _Module:
    """One side of one file. `imports` holds (module, name, bound name); a plain import has no name."""

    path: str
    imports: set[tuple[str, str, str]] = field(default_factory=set)
    definitions: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name and spelling
    others: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # every identifier in it, and every string that could be one

    @property
    def defined(self) -> set[str]:
        return {name for name, _ in self.definitions}

    @property
    def has_anything(self) -> bool:
        return bool(self.imports or self.definitions or self.others)

    def spelt(self, name: str) -> list[str]:
        return sorted(spelling for one, spelling in self.definitions.elements() if one == name)

    @property
    def stem(self) -> str:
        parts = self.path.removesuffix(".py").split("/")
        return parts[-2] if parts[-1] == "__init__" and len(parts) > 1 else parts[-1]


def says_nothing_new(sources: Sequence[ChangedFile], task: str) -> bool:
    """`sources`: the changed files of source. False where one of them is not Python or was not read.

    Raises SyntaxError, ValueError, RecursionError.
    """
    if not sources or not all(_is_readable(one) for one in sources):
        return False
    texts = [text for one in sources for text in (one.before, one.after) if text is not None]
    described = not any("__doc__" in text for text in texts)
    sides = [
        (
            _Module(one.former) if one.before is None else _module(one.former, one.before, described),
            _Module(one.path) if one.after is None else _module(one.path, one.after, described),
        )
        for one in sources
    ]
    before, after = [old for old, _ in sides], [new for _, new in sides]
    return _same_definitions(sides, task) and _same_order(before, after) and _known_imports(sides)


def _is_readable(file: ChangedFile) -> bool:
    has_text = file.before is not None or file.after is not None
    return not file.unread and has_text and language_of(file.path) is language_of(file.former) is Language.PYTHON


def _same_definitions(sides: list[tuple[_Module, _Module]], task: str) -> bool:
    """None is new, none has changed places with a namesake, and those that went were asked to and are not missed."""
    if any(old.spelt(name) != new.spelt(name) for old, new in sides for name in old.defined & new.defined):
        return False
    before = sum((old.definitions for old, _ in sides), Counter[tuple[str, str]]())
    after = sum((new.definitions for _, new in sides), Counter[tuple[str, str]]())
    named = {name for _, new in sides for name in new.names | new.defined}
    return not after - before and all(
        dependencies.names(task, name) and name not in named for name, _ in before - after
    )


def _same_order(before: list[_Module], after: list[_Module]) -> bool:
    """Statements that run on import are all there, and those of a file stood in one file, in the same order."""
    if Counter(one for module in before for one in module.others) != Counter(
        one for module in after for one in module.others
    ):
        return False
    return all(not new.others or any(_within(new.others, old.others) for old in before) for new in after)


def _within(some: Iterable[str], whole: Iterable[str]) -> bool:
    rest = iter(whole)
    return all(one in rest for one in some)


def _known_imports(sides: list[tuple[_Module, _Module]]) -> bool:
    """Each is known in its file, or to another that changed; or it fetches what the change has moved, by its name."""
    known = {imported for old, _ in sides for imported in old.imports}
    before, after = (Counter(name for side in sides for name in side[n].defined) for n in (0, 1))
    moved = {(new.stem, name) for _, new in sides for name in new.defined if before[name] == after[name] == 1}
    stems = {new.stem for old, new in sides if not old.has_anything}
    for old, new in sides:
        bound_before = old.defined | {bound for _, _, bound in old.imports}
        for module, name, bound in new.imports - old.imports:
            is_moved = bound == name and ((module.rpartition(".")[2], name) in moved or name in stems)
            is_taken_along = (module, name, bound) in known and bound not in bound_before
            if not is_moved and not is_taken_along:
                return False
    return True


def _module(path: str, text: str, described: bool) -> _Module:
    found = _Module(path)
    tree = ast.parse(text)
    for one in ast.walk(tree):
        found.names |= set(_names(one))
    if described:
        _undescribe(tree)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imports |= set(_imports(statement))
        elif isinstance(statement, Definition):
            _unannotate(statement)
            found.definitions[statement.name, ast.dump(statement)] += 1
        elif not _is_for_checkers(statement):
            found.others.append(ast.dump(statement))
    return found


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name():
            yield node.id
        case ast.Attribute():
            yield node.attr
        case ast.alias():
            yield node.name.rpartition(".")[2]
        case ast.Constant(value=str()):
            yield str(node.value)


def _imports(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    if isinstance(statement, ast.Import):
        yield from ((one.name, "", one.asname or one.name) for one in statement.names)
    else:
        module = "." * statement.level + (statement.module or "")
        yield from ((module, one.name, one.asname or one.name) for one in statement.names)


def _undescribe(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Pass):
        tree.body = []


def _unannotate(definition: Definition) -> None:
    """A decorator may read annotations; one that is more than a name may do anything."""
    read = {id(one) for holder in ast.walk(definition) if isinstance(holder, Definition) and holder.decorator_list
            for one in ast.walk(holder)}  # fmt: skip
    for node in ast.walk(definition):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or id(node) in read:
            continue
        if node.returns is not None and _is_inert(node.returns):
            node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None and _is_inert(argument.annotation):
                argument.annotation = None


def _is_inert(annotation: ast.expr) -> bool:
    return all(isinstance(one, _INERT) for one in ast.walk(annotation))


def _is_for_checkers(statement: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` without an `else`: it does not run."""
    match statement:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
        case _:
            return False
