"""Calls that stand for all calls of a granted tool: if none of them is allowed in a place, none is allowed there.

A pattern's stars are filled with a letter that no pattern of the grant has, so a pattern that keeps such a name away
keeps away every name of that shape; and `**` is tried at every depth at which the grant's exclusions can still tell
names apart. A tool is on an agent's list when the very decision that a call would get says yes to one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rbac.catalogue import Need, Tool
from rbac.entities import spelt_out
from rbac.model import DELIVERY, OWN_BRANCH, PROTECTED_BRANCH, Grant, Paths, Request, Served

FRESH = "some-delivery"
LETTERS = "zqxjkvwybghpmfudlcrsinotae0123456789=_"  # of paths and branches alike, those first that few names have
MAX_DEPTH = 12  # folders that "**" is tried with


@dataclass(frozen=True, slots=True)
class Place:
    repository: str | None  # None: the call names none
    environment: str | None  # None: the call names none


def places_of(tool: Tool, grant: Grant, served: Iterable[str], environments: Iterable[str]) -> Iterator[Place]:
    """Where a grant lets a tool be used. A call that need name no repository may name one, and be allowed for it."""
    nowhere: tuple[str | None, ...] = () if Need.REPOSITORY in tool.needs else (None,)
    in_environments: tuple[str | None, ...] = (None,)
    if Need.ENVIRONMENT in tool.needs:
        in_environments = spelt_out(grant.environments, environments)
    for repository in (*nowhere, *spelt_out(grant.repositories, served)):
        for environment in in_environments:
            yield Place(repository, environment)


def calls(agent: str, name: str, tool: Tool, grant: Grant, *, place: Place, served: Served | None) -> Iterator[Request]:
    """`served` None: the place is no repository."""
    for branch, own in _branches(tool, grant, served):
        for paths in _paths(tool, grant.paths):
            yield Request(
                agent=agent,
                tool=name,
                repository=place.repository,
                environment=place.environment,
                branch=branch,
                own_branch=own,
                delivery=FRESH,
                paths=paths,
            )


def _branches(tool: Tool, grant: Grant, served: Served | None) -> Iterator[tuple[str | None, str | None]]:
    """Each with the caller's own branch, where it is that one."""
    if Need.BRANCH not in tool.needs:
        yield None, None
        return
    fresh = _unnamed(grant.branches)
    for pattern in grant.branches:
        if pattern == OWN_BRANCH:
            yield FRESH, FRESH
        elif pattern == PROTECTED_BRANCH:
            yield (served.branch if served else FRESH), None
        else:
            for depth in (1, 0, 2):
                yield _filled(pattern.replace(DELIVERY, FRESH), depth, fresh), None


def _paths(tool: Tool, rules: Paths) -> Iterator[tuple[str, ...]]:
    if Need.PATHS not in tool.needs:
        yield ()
        return
    deepest = min(MAX_DEPTH, 1 + max((pattern.count("/") + 1 for pattern in rules.never), default=1))
    fresh = _unnamed(rules.allowed + rules.never)
    for pattern in rules.allowed:
        for depth in (1, 0, *range(2, deepest + 1)) if "**" in pattern else (1,):
            yield (_filled(pattern, depth, fresh),)


def _unnamed(patterns: tuple[str, ...]) -> str:
    """A name of a letter that no pattern has in it, as long as one is left."""
    taken = "".join(patterns).lower()
    return 2 * next((letter for letter in LETTERS if letter not in taken), LETTERS[0])


def _filled(pattern: str, depth: int, fresh: str) -> str:
    """The pattern with `*` as letters that nothing names, and `**` as that many folders; the last one is a file."""
    segments = pattern.split("/")
    filled = [fresh] * max(1, depth) if segments[-1] == "**" else [segments[-1].replace("*", fresh)]
    before = [part for segment in segments[:-1] for part in ([fresh] * depth if segment == "**" else [segment])]
    return "/".join([*(part.replace("*", fresh) for part in before), *filled])
