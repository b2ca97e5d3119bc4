"""What a call is, as plain facts: canonical names first, then each pattern matched. Nothing here allows anything."""

from __future__ import annotations

from dataclasses import dataclass

from controller.errors import Refused
from rbac import canonical
from rbac.catalogue import Need, Tool
from rbac.lookalikes import looks_like
from rbac.model import ANY_DELIVERY, DELIVERY, OWN_BRANCH, PROTECTED_BRANCH, Grant, Request, Served
from rbac.path_classes import PathClass, is_in
from rbac.patterns import matches, matches_any, protected_by_any

MAX_PATHS = 1000  # paths in one call


@dataclass(frozen=True, slots=True)
class Facts:
    branch_granted: bool
    branch_protected: bool
    paths_granted: bool
    paths_in_task: bool
    path_never: bool
    path_never_tainted: bool
    path_protected: bool


def in_one_spelling(request: Request, tool: Tool) -> None:
    """Raises Refused unless the call is complete and every name in it, the caller's own included, is canonical."""
    for name in (request.repository, request.own_repository):
        if name is not None:
            canonical.repository(name)
    for name in (request.branch, request.own_branch):
        if name is not None:
            canonical.branch(name)
    if request.environment is not None:
        canonical.environment(request.environment)
    if request.delivery not in {None, ANY_DELIVERY}:
        canonical.delivery(str(request.delivery))
    if len(request.paths) > MAX_PATHS:
        raise Refused(f"a call names at most {MAX_PATHS} paths, this one {len(request.paths)}", rules=("path/count",))
    for path in request.paths:
        canonical.path(path)
    _complete(request, tool)


def _complete(request: Request, tool: Tool) -> None:
    named = {
        Need.REPOSITORY: request.repository is not None,
        Need.BRANCH: request.branch is not None,
        Need.ENVIRONMENT: request.environment is not None,
        Need.PATHS: bool(request.paths),
    }
    for need in sorted(tool.needs):
        if not named[need]:
            raise Refused(f"{request.tool} is not decided without a {need}", rules=(f"missing-{need}",))
    if request.direction not in (None, tool.direction):
        raise Refused(
            f"{request.tool} is a {tool.direction} verb and was asked for as {request.direction}",
            rules=("wrong-direction",),
        )


def facts_of(request: Request, grant: Grant, served: Served | None) -> Facts:
    """`served` None: the call names no repository."""
    rules, task = grant.paths, request.task_paths
    return Facts(
        branch_granted=request.branch is None
        or any(_branch_matches(pattern, request, served) for pattern in grant.branches),
        branch_protected=_is_protected(request.branch, served),
        paths_granted=all(matches_any(rules.allowed, path) for path in request.paths),
        paths_in_task=task is None or all(matches_any(task, path) for path in request.paths),
        path_never=_some_is(request.paths, rules.never, rules.never_classes),
        path_never_tainted=_some_is(request.paths, rules.never_tainted, rules.never_tainted_classes),
        path_protected=_some_is(request.paths, request.protected_paths, ()),
    )


def _some_is(paths: tuple[str, ...], patterns: tuple[str, ...], classes: tuple[PathClass, ...]) -> bool:
    return any(protected_by_any(patterns, one) or is_in(one, classes) for path in paths for one in _shown(path))


def _shown(path: str) -> tuple[str, ...]:
    """The path, and what it looks like where that is something else: what protects a name protects its look-alikes."""
    return (path,) if path.isascii() else (path, looks_like(path))


def _is_protected(branch: str | None, served: Served | None) -> bool:
    """In any spelling: where a file system is blind to case, `Main` is `main`."""
    return branch is not None and served is not None and branch.lower() == served.branch.lower()


def _branch_matches(pattern: str, request: Request, served: Served | None) -> bool:
    branch = request.branch
    if branch is None:
        return False
    if pattern == OWN_BRANCH:
        return branch == request.own_branch
    if pattern == PROTECTED_BRANCH:
        return served is not None and branch == served.branch
    if DELIVERY in pattern:
        if request.delivery is None:
            return False
        pattern = pattern.replace(DELIVERY, request.delivery)
    return matches(pattern, branch)
