"""From the changed files' texts to what they mean: one pure function from bytes to bytes, for a confined process.

Everything here parses what the change's author wrote. A file that cannot be read is named, and nothing is concluded
from it; lists are bounded, and one that is cut says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from controller.domain.change import FileStatus, Role
from controller.facts import config_parts, dependencies, support, tests_lines, tests_python
from controller.facts.brought_in import brought_in
from controller.facts.config_parts import Part, Unreadable
from controller.facts.definitions import Definitions, definitions_of
from controller.facts.functions import TestFile
from controller.facts.interfaces import interfaces_removed
from controller.facts.irreversible import irreversible_steps
from controller.facts.languages import Language, is_test, language_of
from controller.facts.novelty import says_nothing_new
from controller.facts.owners import Owners
from controller.facts.removals import only_removes, removes, speaks_of
from controller.facts.roles import roles_of
from controller.facts.secrets_spelt import secrets_spelt
from controller.facts.suspicious import suspicious
from controller.facts.tree import Analysis, ChangedFile, ChangedTree, Noted, NotedDependency, NotedOwners
from controller.facts.weakened import Context, TestedFile, compared

MOST_NOTED = 200  # of one kind
MOST_WORDS = 300
T = TypeVar("T")
_ROLE_OF_PART = {Part.TESTS: Role.TEST_CONFIG, Part.OUTSIDE: Role.RUNS_OUTSIDE, Part.REST: Role.SOURCE}
_DATA = frozenset({Role.TEST, Role.SNAPSHOT})


def analysed(payload: bytes) -> bytes:
    """`ChangedTree` in, `Analysis` out, both as JSON."""
    return analysis_of(ChangedTree.model_validate_json(payload)).model_dump_json().encode()


@dataclass
class _Work:
    tree: ChangedTree
    roles: dict[str, frozenset[Role]] = field(default_factory=dict)
    unread: list[Noted] = field(default_factory=list)

    def cannot(self, rule: str, file: ChangedFile, error: Exception | None = None) -> None:
        words = "" if error is None else f"{type(error).__name__}: {error}"
        self.unread.append(Noted(rule=f"unread/{rule}", path=file.path, words=words[:MOST_WORDS]))


def analysis_of(tree: ChangedTree) -> Analysis:
    work = _Work(tree)
    for file in tree.files:
        work.roles[file.path] = _roles(file, work)
        if file.unread:
            work.cannot(file.unread, file)
    moved = [one for file in tree.files for one in _dependencies(file, work)]
    tested = [tests for file in tree.files if (tests := _tested(file, work)) is not None]
    sources = [source for file in tree.files if (source := _defined(file, work)) is not None]
    context = _context(sources, tree)
    found = compared(tested, context)
    touched = [*found.touched, *(one for file in tree.files for one in _added_unread(file, work))]
    weakened = [*found.weakened, *(one for file in tree.files for one in _data_changed(file, work))]
    weakened += [one for file in tree.files for one in _support(file, work)]
    irreversible = [one for file in tree.files if _acts(work.roles[file.path]) for one in irreversible_steps(file)]
    interfaces = [one for file, old, new in sources for one in interfaces_removed(file, old, new, tree)]
    owners = Owners(tree.owners)
    owned = [NotedOwners(path=path, owners=who) for path in _paths(tree) if (who := owners.of(path))]
    secrets = [*_secrets(tree)]
    hiding = [one for file in tree.files for one in _suspicious(file, work)]
    hiding += [Noted(rule="ignored/file", path=path) for path in tree.ignored]
    return Analysis(
        roles={path: tuple(sorted(roles)) for path, roles in work.roles.items()},
        dependencies=_bounded(moved, work, "dependencies"),
        irreversible=_bounded(irreversible, work, "irreversible"),
        secrets=_bounded(secrets, work, "secrets"),
        interfaces_removed=_bounded(interfaces, work, "interfaces"),
        weakened=_bounded(weakened, work, "weakened"),
        tests_touched=_bounded(touched, work, "tests"),
        nothing_new=_nothing_new(work),
        owned=_bounded(_all_owners_first(owned), work, "owned"),
        removals=tuple(_removals(sources, context)),
        suspicious=_bounded(hiding, work, "suspicious"),
        unread=tuple(_short(one) for one in work.unread[:MOST_NOTED]),
    )


def _bounded(found: list[T], work: _Work, what: str) -> tuple[T, ...]:
    if len(found) > MOST_NOTED:
        words = f"{len(found)} found, {MOST_NOTED} kept"
        work.unread.append(Noted(rule=f"unread/too-many-{what}", path="", words=words))
    return tuple(_short(one) for one in found[:MOST_NOTED])


def _all_owners_first(owned: list[NotedOwners]) -> list[NotedOwners]:
    """So that a list that is cut still names everybody who must consent, as far as the bound goes."""
    first = {one.owners: one.path for one in reversed(owned)}
    return sorted(owned, key=lambda one: first[one.owners] != one.path)


def _short(one: T) -> T:
    if isinstance(one, Noted) and len(one.words) > MOST_WORDS:
        return one.model_copy(update={"words": one.words[:MOST_WORDS]})
    return one


def _paths(tree: ChangedTree) -> Iterator[str]:
    """Also where a renamed file came from: moving it away is a change there."""
    for file in tree.files:
        yield file.path
        if file.was is not None:
            yield file.was


# --- roles ------------------------------------------------------------------------------------------------------------


def _roles(file: ChangedFile, work: _Work) -> frozenset[Role]:
    """Of both its names: what a file was counts as what it has become."""
    roles = roles_of(file.path, file.after or file.before or "")
    if file.was is not None:
        roles |= roles_of(file.was) - {Role.SOURCE, Role.DOCS}
    try:
        differing = config_parts.parts_that_differ(file.path, file.before, file.after)
    except Unreadable as error:
        work.cannot("configuration", file, error)
        differing = None
    if differing is not None and not file.unread:
        roles = (roles - set(_ROLE_OF_PART.values())) | {
            _ROLE_OF_PART[part] for part in differing if part in _ROLE_OF_PART
        }
    names = {file.path, file.was}
    if names & set(work.tree.commanded):
        roles = (roles - {Role.SOURCE}) | {Role.TEST_CONFIG}
    return roles | ({Role.RUNS_OUTSIDE} if names & set(work.tree.outside) else set())


def _acts(roles: frozenset[Role]) -> bool:
    """Whether its lines may come to be run where data is."""
    return not roles & {Role.DOCS, Role.TEST, Role.SNAPSHOT}


# --- dependencies -----------------------------------------------------------------------------------------------------


def _dependencies(file: ChangedFile, work: _Work) -> Iterator[NotedDependency]:
    if file.unread:
        return
    if _acts(work.roles[file.path]):
        yield from _brought_in(file, work)
    if Role.DEPENDENCIES not in work.roles[file.path]:
        return
    if dependencies.kind_of(file.path) is None:
        if Role.RUNS_OUTSIDE not in work.roles[file.path]:  # a program, such as setup.py, asks for a person as one
            work.cannot("dependencies", file)
        return
    try:
        found = list(dependencies.moved_between(file.path, file.before, file.after, work.tree.task))
    except Unreadable as error:
        work.cannot("dependencies", file, error)
        return
    yield from found


def _brought_in(file: ChangedFile, work: _Work) -> Iterator[NotedDependency]:
    try:
        yield from brought_in(file)
    except ValueError as error:
        work.cannot("dependencies", file, error)


# --- tests and sources ------------------------------------------------------------------------------------------------


def _tested(file: ChangedFile, work: _Work) -> TestedFile | None:
    """None: no tests in it that can be read. A file that ceases to be one of tests has lost them."""
    if file.unread:
        return None
    try:
        before, after = _tests(file.former, file.before), _tests(file.path, file.after)
    except (SyntaxError, ValueError, RecursionError) as error:
        work.cannot("tests", file, error)
        return None
    return TestedFile(file.path, file.former, before, after) if before or after else None


def _tests(path: str, text: str | None) -> TestFile | None:
    """None: it is not there, or is no file of tests in a language whose tests are read."""
    language = language_of(path)
    if text is None or language is None or not (is_test(path) or language is Language.RUST):
        return None
    return tests_python.tests_of(text) if language is Language.PYTHON else tests_lines.tests_of(language, text)


def _nothing_new(work: _Work) -> bool:
    sources = [file for file in work.tree.files if Role.SOURCE in work.roles[file.path]]
    try:
        return says_nothing_new(sources, work.tree.task)
    except (SyntaxError, ValueError, RecursionError):
        return False  # `_defined` has named the file


Defined = tuple[ChangedFile, Definitions, Definitions]


def _defined(file: ChangedFile, work: _Work) -> Defined | None:
    """None: a test, or nothing that is measured."""
    if work.roles[file.path] & {Role.TEST, Role.DOCS, Role.SNAPSHOT} or file.unread:
        return None
    try:
        before = definitions_of(file.former, file.before) if file.before is not None else Definitions()
        after = definitions_of(file.path, file.after) if file.after is not None else Definitions()
    except (SyntaxError, ValueError, RecursionError) as error:
        work.cannot("source", file, error)
        return None
    return None if before is None or after is None else (file, before, after)


def _context(sources: list[Defined], tree: ChangedTree) -> Context:
    """What is gone is defined nowhere in the changed sources any more; modules go with their files."""
    before = {_last(name) for _, old, _ in sources for name in old.bound}
    after = {_last(name) for _, _, new in sources for name in new.bound}
    before |= {_stem(file.former) for file, _, _ in sources if file.before is not None}
    after |= {_stem(file.path) for file, _, _ in sources if file.after is not None}
    gone = frozenset(before - after)
    asked = _asked_to_remove(sources, tree.task, gone)
    return Context(gone, frozenset(after - before), tree.task, tree.second_verdict, asked)


def _asked_to_remove(sources: list[Defined], task: str, gone: frozenset[str]) -> frozenset[str]:
    """What the task speaks of removing, by its own name or by that of the file that went with it."""
    if not removes(task):
        return frozenset()
    files = [(file, old) for file, old, _ in sources if file.status is FileStatus.DELETED]
    whole = [(file, old) for file, old in files if speaks_of(task, _stem(file.path))]
    with_file = {_last(name) for _, old in whole for name in old.bound} | {_stem(file.path) for file, _ in whole}
    return frozenset(name for name in gone if name in with_file or speaks_of(task, name))


def _removals(sources: list[Defined], context: Context) -> Iterator[str]:
    """Files from which nothing went but what the task asks to remove, and to which nothing came."""
    for file, old, _ in sources:
        named = {_last(name) for name in old.lines} | {_stem(file.path)}
        whole = bool(named & context.asked) and named <= context.asked | _private(old)
        if whole if file.status is FileStatus.DELETED else _only_removes(file, context.asked):
            yield file.path


def _only_removes(file: ChangedFile, asked: frozenset[str]) -> bool:
    if not asked or language_of(file.path) is not Language.PYTHON or file.before is None or file.after is None:
        return False
    return only_removes(file.before, file.after, asked)


def _private(old: Definitions) -> frozenset[str]:
    """What only the file itself used goes with it."""
    return frozenset(_last(name) for name in old.lines if any(one.startswith("_") for one in name.split(".")))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _data_changed(file: ChangedFile, work: _Work) -> Iterator[Noted]:
    """What tests compare with, changed or taken away. A new file weakens nothing, nor does one that moved whole."""
    roles, language = work.roles[file.path], language_of(file.path)
    was_test = is_test(file.former) and language_of(file.former) not in (None, Language.OTHER)
    if file.status is FileStatus.ADDED or (file.status is FileStatus.RENAMED and not (file.added or file.removed)):
        return
    if was_test and not is_test(file.path) and file.before is not None:
        yield Noted(rule="weakened/test-file-left", path=file.path, words=file.former)
    unread_language = language is not None and Role.TEST in roles and file.before is not None and not _read(language)
    is_data = language is None and (roles & _DATA or file.former in work.tree.compared)
    if not unread_language and not is_data:
        return
    snapshot = Role.SNAPSHOT in roles
    asked = dependencies.names(work.tree.task, _stem(file.path)) or (snapshot and "snapshot" in work.tree.task.lower())
    rule = "snapshot" if snapshot else "test-file" if unread_language else "test-data"
    gone = file.status is FileStatus.DELETED
    yield Noted(rule=f"weakened/{rule}-{'removed' if gone else 'changed'}", path=file.path, asked=asked)


def _support(file: ChangedFile, work: _Work) -> Iterator[Noted]:
    """What tests rest on in files that are none. A file that cannot be parsed has been noted as such."""
    if file.unread or file.before is None:
        return
    try:
        if Role.SOURCE in work.roles[file.path]:
            for one in support.helpers_changed(file):
                yield one.model_copy(update={"asked": dependencies.names(work.tree.task, _last(one.words))})
        for source, want, line in support.examples_lost(file) if work.tree.doctests else ():
            asked = Context(frozenset(), frozenset(), work.tree.task).states([want])
            yield Noted(rule="weakened/example-changed", path=file.path, line=line, words=source, asked=asked)
    except (SyntaxError, ValueError, RecursionError) as error:
        work.cannot("examples", file, error)


def _added_unread(file: ChangedFile, work: _Work) -> Iterator[Noted]:
    """A new file of tests in a language whose tests are not read counts by its name."""
    language = language_of(file.path)
    if language is not None and not _read(language) and Role.TEST in work.roles[file.path] and file.before is None:
        yield Noted(rule="test/file-added", path=file.path)


def _read(language: Language) -> bool:
    return language is Language.PYTHON or tests_lines.reads(language)


# --- what hides -------------------------------------------------------------------------------------------------------


def _suspicious(file: ChangedFile, work: _Work) -> list[Noted]:
    try:
        return [*suspicious(file, work.roles[file.path])]
    except (SyntaxError, ValueError, RecursionError) as error:
        if all(one.path != file.path for one in work.unread):
            work.cannot("source", file, error)
        return []


# --- secrets ----------------------------------------------------------------------------------------------------------


def _secrets(tree: ChangedTree) -> Iterator[Noted]:
    """In lines that the change adds, or that a commit on the way added. The secret itself is not repeated."""
    for file in tree.files:
        added = set(file.added)
        spelt = secrets_spelt(file.after or "")
        own = {(one.kind, one.first) for one in spelt if added.intersection(range(one.first, one.last + 1))}
        yield from (Noted(rule=f"secret/{kind}", path=file.path, line=line) for kind, line in sorted(own, key=_by_line))
    for passed in tree.passing:
        yield from (Noted(rule=f"secret/{kind}", path=passed.path, words="in an earlier commit of the branch")
                    for kind in sorted({one.kind for one in secrets_spelt(passed.text)}))  # fmt: skip


def _by_line(secret: tuple[str, int]) -> tuple[int, str]:
    return secret[1], secret[0]
