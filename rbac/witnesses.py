"""Names to try rules out on: for every pattern in force some that it matches and near misses, and the known dangerous.

Grants are finite and their patterns come from finite files, so a permission is a finite table once each pattern has
names that stand for it. A difference that no name here shows is possible (a pattern of forty letters differs from
another in the thirtieth), which is why the names come from the patterns of both sides where two are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from rbac.catalogue import Need, Tool
from rbac.load import RuleSet
from rbac.model import DELIVERY, OWN_BRANCH, PROTECTED_BRANCH, Grant, Request, Served

THIS_DELIVERY = "delivery-1"
THIS_BRANCH = f"agent/{THIS_DELIVERY}/1"
NEIGHBOUR = Served(repository="some-other-repository", branch="main")  # what a session may be tied to instead
PLAIN_FILE = "some-folder/some-file.txt"
FILES = (
    PLAIN_FILE,
    "src/app.py",
    "tests/test_app.py",
    "docs/a.md",
    "README.md",
    "pyproject.toml",
    ".env",
    ".github/workflows/x.yml",
    "CODEOWNERS",
    "AGENTS.md",
    "rbac/grants/author.yaml",
    "prompts/author.md",
    "flyball.toml",
    "id_ecdsa",
    ".claude/settings.json",
    "Makefile",
    ".vscode/tasks.json",
    "Dockerfile",
    "conftest.py",
    "src/migrations/0001.py",
)
BRANCHES = {
    THIS_BRANCH: "its own branch",
    f"agent/{THIS_DELIVERY}/2": "another branch of its delivery",
    "agent/delivery-2/1": "another delivery's branch",
    "somebodys-branch": "anybody's branch",
}


class Circumstance(StrEnum):
    """What else is true of the caller. One at a time, and each as unfavourable as it can be."""

    ORDINARY = "in an ordinary run"
    TAINTED = "once it has read an outsider's text"
    TAINTED_CONFIDENTIAL = "once it has read an outsider's text and confidential results"
    LENT_BY_TAINTED = "with authority lent by a run that has read an outsider's text"
    ELSEWHERE = "while tied to another repository"
    OUTSIDE_TASK = "outside its task"
    PROTECTED_FILE = "on files that the repository protects"
    OWN_IS_PROTECTED = "if the release branch were given to it as its own"


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Names to try, and the patterns that they were made from."""

    paths: tuple[str, ...]
    branches: dict[str, str]  # each with the words for it
    path_patterns: tuple[str, ...]
    branch_patterns: dict[str, str]  # as written, and with this delivery in the place of any


def witnesses(rule_sets: Iterable[RuleSet], served: Iterable[Served]) -> Witnesses:
    """For all patterns of all these rules, and for the release branches of what is served."""
    grants = [grant for rules in rule_sets for role in rules.roles.values() for grant in role.grants]
    path_patterns = sorted({pattern for grant in grants for pattern in _path_patterns(grant)})
    branch_patterns = {
        pattern: pattern.replace(DELIVERY, THIS_DELIVERY)
        for grant in grants
        for pattern in sorted(grant.branches)
        if pattern not in {OWN_BRANCH, PROTECTED_BRANCH}
    }
    branches = dict(BRANCHES)
    for one in served:
        branches |= {one.branch: "the release branch", one.branch.upper(): "the release branch in capitals"}
    for name in _made_from(branch_patterns.values()):
        branches.setdefault(name, f"branches like {name}")
    paths = tuple(dict.fromkeys((*FILES, *_made_from(path_patterns))))
    return Witnesses(paths, branches, tuple(path_patterns), branch_patterns)


def _made_from(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        yield from names_like(pattern)
        yield from near_misses(pattern)


def _path_patterns(grant: Grant) -> tuple[str, ...]:
    return grant.paths.allowed + grant.paths.never + grant.paths.never_tainted


def names_like(pattern: str) -> tuple[str, ...]:
    """A short and a deep name that the pattern matches."""
    return tuple(dict.fromkeys((_filled(pattern, deep=False), _filled(pattern, deep=True))))


def near_misses(pattern: str) -> tuple[str, ...]:
    """Names beside those: longer at either end, in capitals, one folder further down, and the folder itself."""
    name = _filled(pattern, deep=False)
    above, slash, last = name.rpartition("/")
    near = [name + "x", f"{above}{slash}x{last}", name.upper(), f"some-folder/{name}"]
    if pattern.endswith("/**"):
        folder = _filled(pattern.removesuffix("/**"), deep=False)
        near += [folder, f"{folder}x/a.txt"]
    return tuple(dict.fromkeys(near))


def _filled(pattern: str, *, deep: bool) -> str:
    return "/".join(_segments(pattern.split("/"), deep=deep))


def _segments(parts: list[str], *, deep: bool) -> Iterator[str]:
    for part in parts[:-1]:
        if part != "**":
            yield _without_stars(part, deep=deep)
        elif deep:
            yield "deep/er"
    last = parts[-1]
    plain = "deep/er/a.txt" if deep else "a.txt"
    yield plain if last == "**" else _without_stars(last, deep=deep)


def _without_stars(segment: str, *, deep: bool) -> str:
    short = segment.replace("*", "")
    return segment.replace("*", "x") if deep or not short or short[-1] in ". " else short


def circumstances(tool: Tool) -> tuple[Circumstance, ...]:
    """Those that can make a difference to a call of this tool."""
    found = [
        Circumstance.ORDINARY,
        Circumstance.TAINTED,
        Circumstance.TAINTED_CONFIDENTIAL,
        Circumstance.LENT_BY_TAINTED,
        Circumstance.ELSEWHERE,
    ]
    if Need.PATHS in tool.needs:
        found += [Circumstance.OUTSIDE_TASK, Circumstance.PROTECTED_FILE]
    if Need.BRANCH in tool.needs:
        found.append(Circumstance.OWN_IS_PROTECTED)
    return tuple(found)


def in_circumstance(call: Request, circumstance: Circumstance, served: Served | None) -> Request:
    """The same call by a caller of whom this is true. `served` None: the call names no repository."""
    facts: dict[Circumstance, dict[str, object]] = {
        Circumstance.ORDINARY: {},
        Circumstance.TAINTED: {"tainted": True},
        Circumstance.TAINTED_CONFIDENTIAL: {"tainted": True, "read_confidential": True},
        Circumstance.LENT_BY_TAINTED: {"chain": (call.model_copy(update={"tainted": True}),)},
        Circumstance.ELSEWHERE: {"own_repository": NEIGHBOUR.repository},
        Circumstance.OUTSIDE_TASK: {"task_paths": ("no-such-folder/**",)},
        Circumstance.PROTECTED_FILE: {"protected_paths": call.paths},
        Circumstance.OWN_IS_PROTECTED: {"own_branch": served.branch if served else None},
    }
    return call.model_copy(update=facts[circumstance])
