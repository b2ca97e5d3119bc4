"""What each agent can reach, by asking: every role, tool, repository, environment, branch, path and circumstance.

Nothing here reads a rule to guess its meaning. The authority that decides real calls is asked about every witness
(`rbac.witnesses`), and what it allows is the permission: mistakes in grants, in policies and in their interplay show
alike. A tool that no grant gives is asked about once, because nothing but a grant can make it allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from controller.errors import Permanent
from rbac.catalogue import Need, Role, Tool
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Request, Served
from rbac.witnesses import (
    NEIGHBOUR,
    THIS_BRANCH,
    THIS_DELIVERY,
    Circumstance,
    Witnesses,
    circumstances,
    in_circumstance,
)

NO_MOUNTS: Mapping[str, Tool] = MappingProxyType({})  # no tools of other servers
MAX_CELLS = 200_000  # questions to one rule set; some 10 s


class Cell(NamedTuple):
    """One call that is allowed. An empty name: the call names none."""

    agent: str
    tool: str
    repository: str
    environment: str
    branch: str
    path: str
    circumstance: Circumstance


@dataclass(frozen=True, slots=True)
class Reach:
    """`cells` are the calls that were allowed, of `asked`."""

    cells: frozenset[Cell]
    asked: int


def asked_about(served: Iterable[Served], folder: Path = SHIPPED, mounted: Mapping[str, Tool] = NO_MOUNTS) -> Authority:
    """An authority over these rules that also knows the neighbour of `rbac.witnesses`. Raises ConfigError."""
    return Authority((*served, NEIGHBOUR), folder, mounted)


def reach(
    authority: Authority,
    served: Iterable[Served],
    tried: Witnesses,
    *,
    roles: Iterable[Role] = Role,
) -> Reach:
    """Ask about everything. `authority` is one of `asked_about` the same repositories.

    Raises Permanent beyond MAX_CELLS questions and where the engine fails: part of a table would look like all of it.
    """
    places = tuple(served)
    allowed: set[Cell] = set()
    asked = 0
    for agent, (name, tool) in product(roles, authority.catalogue.items()):
        for cell, request in _calls(agent, name, tool, places, tried):
            asked += 1
            if asked > MAX_CELLS:
                raise Permanent(
                    f"there are more than {MAX_CELLS} different calls to ask about",
                    "Ask about fewer repositories, or make fewer patterns of those in the grants",
                )
            decision = authority.decide(request)
            if decision.allowed:
                allowed.add(cell)
            elif "tool-not-granted" in decision.rules:
                break
            elif "engine-error" in decision.rules:
                raise Permanent(f"the engine fails on these rules: {decision.reason}", "See docs/grants.md")
    return Reach(frozenset(allowed), asked)


def _calls(
    agent: Role, name: str, tool: Tool, places: tuple[Served, ...], tried: Witnesses
) -> Iterator[tuple[Cell, Request]]:
    branches = tuple(tried.branches) if Need.BRANCH in tool.needs else (None,)
    paths = tuple(tried.paths) if Need.PATHS in tool.needs else (None,)
    for served, environment in _grounds(tool, places):
        for branch, path in product(branches, paths):
            call = Request(
                agent=agent,
                tool=name,
                repository=served.repository if served else None,
                environment=environment,
                branch=branch,
                paths=(path,) if path else (),
                delivery=THIS_DELIVERY,
                own_branch=THIS_BRANCH,
                own_repository=served.repository if served else None,
            )
            for circumstance in circumstances(tool):
                yield _cell(call, circumstance), in_circumstance(call, circumstance, served)


def _grounds(tool: Tool, places: tuple[Served, ...]) -> Iterator[tuple[Served | None, str | None]]:
    """Repository and environment of a call. A tool that needs no repository is also used from one by a session."""
    for served in places if Need.REPOSITORY in tool.needs else (None, *places):
        if Need.ENVIRONMENT not in tool.needs:
            yield served, None
            continue
        for environment in sorted({name for one in places for name in one.environments}):
            yield served, environment


def _cell(call: Request, circumstance: Circumstance) -> Cell:
    return Cell(
        agent=call.agent,
        tool=call.tool,
        repository=call.repository or "",
        environment=call.environment or "",
        branch=call.branch or "",
        path=call.paths[0] if call.paths else "",
        circumstance=circumstance,
    )
