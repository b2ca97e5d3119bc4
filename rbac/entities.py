"""What Cedar is told: grants and places as entities once, and of each call names, facts and its tool's annotations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rbac.catalogue import Direction, Role, Sensitivity, Tool
from rbac.facts import Facts
from rbac.model import EVERY, Grant, Request, RoleGrants

WORLD = {"type": "World", "id": "world"}
ANNOTATIONS = ("forward", "production_impacting", "broadcasts", "public", "confidential", "taints")


@dataclass(frozen=True, slots=True)
class Question:
    """All that Cedar is asked of a call. Names and booleans only, so there are few different ones."""

    agent: str
    tool: str
    repository: str | None  # None: the call names none
    own_repository: str | None  # None: the caller is not tied to one
    environment: str | None  # None: the call names none
    tainted: bool
    read_confidential: bool
    lends: bool  # this agent does not call: it is asked as one whose authority the caller was lent
    facts: Facts


@dataclass(frozen=True, slots=True)
class Answer:
    allowed: bool
    rules: tuple[str, ...]


def question_of(request: Request, facts: Facts, *, lends: bool) -> Question:
    return Question(
        agent=request.agent,
        tool=request.tool,
        repository=request.repository,
        own_repository=request.own_repository,
        environment=request.environment,
        tainted=request.tainted,
        read_confidential=request.read_confidential,
        lends=lends,
        facts=facts,
    )


def annotations_of(tool: Tool) -> frozenset[str]:
    """A tool's annotations as the action groups that rules name them by."""
    true_of_it = {
        "forward": tool.direction is Direction.FORWARD,
        "production_impacting": tool.production_impacting,
        "broadcasts": tool.broadcasts,
        "public": tool.sensitivity is Sensitivity.PUBLIC,
        "confidential": tool.sensitivity is Sensitivity.CONFIDENTIAL,
        "taints": tool.taints,
    }
    return frozenset(group for group, is_true in true_of_it.items() if is_true)


def cedar_request(question: Question) -> dict[str, Any]:
    facts, repository = question.facts, question.repository
    context: dict[str, Any] = {
        "tool": question.tool,
        "branch_granted": facts.branch_granted,
        "branch_protected": facts.branch_protected,
        "paths_granted": facts.paths_granted,
        "paths_in_task": facts.paths_in_task,
        "path_never": facts.path_never,
        "path_never_tainted": facts.path_never_tainted,
        "path_protected": facts.path_protected,
        "tainted": question.tainted,
        "read_confidential": question.read_confidential,
        "lends": question.lends,
    }
    if question.environment is not None:
        context["environment"] = reference("Environment", question.environment)
    if question.own_repository is not None:
        context["own_repository"] = reference("Repository", question.own_repository)
    return {
        "principal": {"type": "Agent", "id": question.agent},
        "action": {"type": "Action", "id": question.tool},
        "resource": {"type": "Repository", "id": repository} if repository is not None else WORLD,
        "context": context,
    }


def places(repositories: Iterable[str], environments: Iterable[str]) -> list[dict[str, Any]]:
    """The world, and everything in it that a grant may name."""
    named = [entity("Repository", name) for name in repositories]
    return [entity("World", "world"), *named, *(entity("Environment", name) for name in sorted(environments))]


def agent_with_grants(
    role: Role, found: RoleGrants, repositories: Iterable[str], environments: Iterable[str]
) -> list[dict[str, Any]]:
    """An agent's tags lead from each granted tool to its grant."""
    grants = [grant_entity(role, grant, repositories, environments) for grant in found.grants]
    tags = {tool: reference("Grant", f"{role}/{grant.name}") for grant in found.grants for tool in grant.tools}
    return [*grants, {**entity("Agent", role), "tags": tags}]


def grant_entity(role: str, grant: Grant, repositories: Iterable[str], environments: Iterable[str]) -> dict[str, Any]:
    return entity(
        "Grant",
        f"{role}/{grant.name}",
        repositories=[reference("Repository", name) for name in _named(grant.repositories, repositories)],
        every_repository=EVERY in grant.repositories,
        environments=[reference("Environment", name) for name in _named(grant.environments, environments)],
        every_environment=EVERY in grant.environments,
    )


def _named(names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """For "*" nothing: it has a flag of its own, because a decision takes longer the longer a set is."""
    return () if EVERY in names else spelt_out(names, known)


def spelt_out(names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """What is granted of what is known: "*" is all of it, and a name that is not served is nothing."""
    return tuple(sorted(name for name in known if EVERY in names or name in names))


def actions_for(mounted: Mapping[str, Tool]) -> str:
    """Cedar schema text: one action a mounted tool. Their names are held to letters, digits, `_` and `-` before."""
    return "\n".join(
        f'action "{name}" in {json.dumps(["reads" if tool.reads else "effects", *sorted(annotations_of(tool))])}\n'
        "  appliesTo { principal: Agent, resource: [Repository, World], context: Call };"
        for name, tool in sorted(mounted.items())
    )


def catalogued(mounted: Mapping[str, Tool]) -> dict[str, Any]:
    """The mounted tools as plain values, for the digest of what is in force."""
    return {name: asdict(tool) | {"needs": sorted(tool.needs)} for name, tool in sorted(mounted.items())}


def entity(kind: str, name: str, **attributes: Any) -> dict[str, Any]:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}


def reference(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": name}}
