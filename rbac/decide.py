"""May this agent do this, here? One answer, with the names of the rules that gave it; everything unknown is no.

Names are held to one spelling, facts are matched from them, and Cedar decides over facts, grants as entities and a
handful of policies. Cedar skips a `forbid` that errs and may then allow, so an allow with any error beside it is a
no, as is an engine that fails in any way. A default deny names no policy; the facts that stood in the way of the
permits are named instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cedarpy

from controller.errors import ConfigError, Refused
from rbac.catalogue import TOOLS, Need, Role
from rbac.facts import Facts, facts_of, in_one_spelling
from rbac.load import SHIPPED, RuleSet, load
from rbac.model import EVERY, PROTECTED_BRANCH, Decision, Grant, Request, Served

MAX_ANSWERS = 8192  # remembered per rule set; about 1 kB each
_WORLD = {"type": "World", "id": "world"}
_ROLES = frozenset(Role)


@dataclass(frozen=True, slots=True)
class _Question:
    """All that Cedar sees of a call. Names and booleans only, so there are few different ones."""

    agent: str
    tool: str
    repository: str | None  # None: the call names none
    own_repository: str | None  # None: the caller is not tied to one
    environment: str | None  # None: the call names none
    tainted: bool
    facts: Facts


@dataclass(frozen=True, slots=True)
class _Answer:
    allowed: bool
    rules: tuple[str, ...]


class _EngineFailedError(Exception):
    """The engine has no answer that counts."""


class Authority:
    """The rules in force for the repositories served here. `reload` swaps them whole or leaves them alone."""

    def __init__(self, served: Iterable[Served], folder: Path = SHIPPED) -> None:
        """Raises ConfigError."""
        self._served = {one.repository: one for one in served}
        self._folder = folder
        self._engine = _Engine(load(folder), self._served)

    @property
    def digest(self) -> str:
        """Of every file in force: "sha256:<64 hex>"."""
        return self._engine.rules.digest

    def reload(self) -> None:
        """Read the files again. Raises ConfigError, and then the former rules stay in force."""
        self._engine = _Engine(load(self._folder), self._served)

    def decide(self, request: Request) -> Decision:
        """Never raises: whatever cannot be decided is refused."""
        return self._engine.decide(request)

    def visible_tools(self, agent: str, tools: Iterable[str]) -> tuple[str, ...]:
        """Those of the named tools of which some call by this agent would be allowed, in the given order."""
        return tuple(tool for tool in tools if self._engine.some_call_is_allowed(agent, tool))


class _Engine:
    """One rule set, compiled. Immutable."""

    def __init__(self, rules: RuleSet, served: Mapping[str, Served]) -> None:
        self.rules = rules
        self._served = served
        self._environments = frozenset(name for one in served.values() for name in one.environments)
        self._grants = {
            role: {tool: grant for grant in found.grants for tool in grant.tools} for role, found in rules.roles.items()
        }
        _check(rules)
        self._schema = cedarpy.Schema.from_str(rules.schema)
        self._policies = cedarpy.PolicySet.from_str("\n".join(rules.policies.values()))
        # An answer depends on the question, the policies and the entities alone, and the latter two never change here.
        self._answer = lru_cache(maxsize=MAX_ANSWERS)(self._evaluate)
        self._entities = cedarpy.Entities.from_json_str(json.dumps(self._entity_list()), self._schema)

    def decide(self, request: Request) -> Decision:
        try:
            grant = self._known(request)
            served = self._served[request.repository] if request.repository is not None else None
            facts = facts_of(request, grant, served)
            return self._ask(request, grant, facts)
        except Refused as no:
            return Decision(allowed=False, rules=no.rules, reason=no.message)

    def _known(self, request: Request) -> Grant:
        """The one grant that could cover the call. Raises Refused; values that might be free text are not repeated."""
        if request.agent not in _ROLES:
            raise Refused("there is no such agent role", rules=("unknown-agent",))
        if request.tool not in TOOLS:
            raise Refused("there is no such tool", rules=("unknown-tool",))
        in_one_spelling(request)
        for repository in (request.repository, request.own_repository):
            if repository is not None and repository not in self._served:
                raise Refused("this repository is not served here", rules=("unknown-repository",))
        if request.environment is not None and request.environment not in self._environments:
            raise Refused("this environment is not served here", rules=("unknown-environment",))
        grant = self._grants.get(Role(request.agent), {}).get(request.tool)
        if grant is None:
            raise Refused(f"no grant gives {request.tool} to {request.agent}", rules=("no-permit", "tool-not-granted"))
        return grant

    def _ask(self, request: Request, grant: Grant, facts: Facts) -> Decision:
        what = f"{request.agent} and {request.tool}"
        try:
            answer = self._answer(_question(request, facts))
        except _EngineFailedError as broken:
            return Decision(allowed=False, rules=("engine-error",), reason=f"the engine failed on {what}: {broken}")
        if answer.allowed:
            reason = f"{what}: granted by {grant.name}, forbidden by nothing"
            return Decision(allowed=True, rules=answer.rules, reason=reason)
        if answer.rules:
            reason = f"{what}: forbidden by {', '.join(answer.rules)}"
            return Decision(allowed=False, rules=answer.rules, reason=reason)
        missing = _not_granted(request, grant, facts)
        reason = f"{what}: grant {grant.name} does not cover it: {', '.join(missing)}"
        return Decision(allowed=False, rules=("no-permit", *missing), reason=reason)

    def _evaluate(self, question: _Question) -> _Answer:
        """Ask Cedar. Raises _EngineFailedError, which is never remembered."""
        try:
            answer = cedarpy.is_authorized(_cedar_request(question), self._policies, self._entities, self._schema)
            errors, allowed = answer.diagnostics.errors, answer.allowed
            rules = tuple(sorted(answer.diagnostics.id_annotations_by_reason.values()))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as broken:  # a panic inside the engine is no Exception; whatever broke, the answer is no
            raise _EngineFailedError(type(broken).__name__) from broken
        if errors:
            raise _EngineFailedError(errors[0])
        if allowed and not rules:
            raise _EngineFailedError("allowed by no policy that has a name")
        return _Answer(allowed, rules)

    def some_call_is_allowed(self, agent: str, tool: str) -> bool:
        """Asks Cedar about the most favourable call that the grant's own patterns leave possible."""
        grant = self._grants.get(Role(agent), {}).get(tool) if agent in _ROLES and tool in TOOLS else None
        if grant is None:
            return False
        return any(
            self._ask(request, grant, _best_case(grant, request)).allowed
            for request in self._possible_calls(agent, tool, grant)
        )

    def _possible_calls(self, agent: str, tool: str, grant: Grant) -> Iterable[Request]:
        needs = TOOLS[tool].needs
        if (Need.BRANCH in needs and not grant.branches) or (Need.PATHS in needs and not grant.paths.allowed):
            return
        environments = _spelt_out(grant.environments, self._environments) if Need.ENVIRONMENT in needs else (None,)
        repositories = (None,) if Need.REPOSITORY not in needs else _spelt_out(grant.repositories, self._served)
        for repository in repositories:
            for environment in environments:
                yield Request(agent=agent, tool=tool, repository=repository, environment=environment)

    def _entity_list(self) -> list[dict[str, Any]]:
        entities = [_entity("World", "world")]
        entities += [_entity("Repository", name) for name in self._served]
        entities += [_entity("Environment", name) for name in sorted(self._environments)]
        for role, found in self.rules.roles.items():
            entities += [self._grant_entity(role, grant) for grant in found.grants]
            tags = {tool: _reference("Grant", f"{role}/{grant.name}") for tool, grant in self._grants[role].items()}
            entities.append({**_entity("Agent", role), "tags": tags})
        return entities

    def _grant_entity(self, role: Role, grant: Grant) -> dict[str, Any]:
        return _entity(
            "Grant",
            f"{role}/{grant.name}",
            repositories=[_reference("Repository", name) for name in _spelt_out(grant.repositories, self._served)],
            every_repository=EVERY in grant.repositories,
            environments=[
                _reference("Environment", name) for name in _spelt_out(grant.environments, self._environments)
            ],
        )


def _check(rules: RuleSet) -> None:
    """Every policy fits the schema, and every tool has its action. Raises ConfigError naming the file."""
    try:
        cedarpy.Schema.from_str(rules.schema)
    except ValueError as wrong:
        raise ConfigError(f"policy/*.cedarschema: {wrong}", "Correct the schema") from wrong
    for name, text in rules.policies.items():
        _validate(name, text, rules.schema)
    every_action = "\n".join(f'permit(principal, action == Action::"{tool}", resource);' for tool in TOOLS)
    _validate("policy/*.cedarschema against rbac/catalogue.py", every_action, rules.schema)


def _validate(name: str, policies: str, schema: str) -> None:
    found = cedarpy.validate_policies(policies, schema)
    if not found.validation_passed:
        first = found.errors[0]
        policy = found.id_annotations_by_policy_id.get(first.policy_id, "")
        raise ConfigError(
            f"{name}: {policy} {first.error}".strip(), "Correct the policy; the schema beside it lists what it may ask"
        )


def _question(request: Request, facts: Facts) -> _Question:
    return _Question(
        agent=request.agent,
        tool=request.tool,
        repository=request.repository,
        own_repository=request.own_repository,
        environment=request.environment,
        tainted=request.tainted,
        facts=facts,
    )


def _cedar_request(question: _Question) -> dict[str, Any]:
    repository = question.repository
    context: dict[str, Any] = asdict(question.facts)
    context |= {"tool": question.tool, "tainted": question.tainted, "names_repository": repository is not None}
    if question.environment is not None:
        context["environment"] = _reference("Environment", question.environment)
    if question.own_repository is not None:
        context["own_repository"] = _reference("Repository", question.own_repository)
    return {
        "principal": {"type": "Agent", "id": question.agent},
        "action": {"type": "Action", "id": question.tool},
        "resource": {"type": "Repository", "id": repository} if repository is not None else _WORLD,
        "context": context,
    }


def _not_granted(request: Request, grant: Grant, facts: Facts) -> tuple[str, ...]:
    """Why no permit spoke. A repository that is not named is not granted either."""
    covered = {
        "repository-not-granted": EVERY in grant.repositories or request.repository in grant.repositories,
        "environment-not-granted": request.environment is None
        or bool({EVERY, request.environment} & {*grant.environments}),
        "branch-not-granted": facts.branch_granted,
        "path-not-granted": facts.paths_granted,
    }
    return tuple(rule for rule, is_covered in covered.items() if not is_covered)


def _best_case(grant: Grant, request: Request) -> Facts:
    lands_only = (
        bool(grant.branches) and set(grant.branches) == {PROTECTED_BRANCH} and Need.BRANCH in TOOLS[request.tool].needs
    )
    return Facts(
        branch_granted=True,
        branch_protected=lands_only,
        paths_granted=True,
        paths_in_task=True,
        path_never=False,
        path_never_tainted=False,
        path_protected=False,
    )


def _spelt_out(names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """What is granted of what is known: "*" is all of it, and a name that is not served is nothing."""
    return tuple(sorted(name for name in known if EVERY in names or name in names))


def _entity(kind: str, name: str, **attributes: Any) -> dict[str, Any]:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}


def _reference(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": name}}
