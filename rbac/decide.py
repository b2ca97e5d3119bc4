"""May this agent do this, here? One answer, with the names of the rules that gave it; everything unknown is no.

Names are held to one spelling, facts are matched from them, and Cedar (`rbac.cedar`) decides over facts, grants as
entities and a handful of policies; an engine that fails in any way is a no. A default deny names no policy; the facts
that stood in the way of the permits are named instead. Authority that was lent is decided as an intersection: the
caller and everybody along its chain must be allowed the very same call.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from controller.errors import Refused
from rbac import entities
from rbac.catalogue import Role, Sensitivity, Tool, with_mounted
from rbac.cedar import MAX_ANSWERS, Cedar, EngineFailedError
from rbac.entities import question_of
from rbac.explain import Explanation, Stage, explained
from rbac.facts import Facts, facts_of, in_one_spelling
from rbac.load import SHIPPED, RuleSet, load
from rbac.model import EVERY, MAX_CHAIN, Decision, Grant, Request, Served
from rbac.usable import Place, calls, places_of

_ROLES = frozenset(Role)
_ENGINE_ERROR = "engine-error"
_NO_MOUNTS: Mapping[str, Tool] = MappingProxyType({})


class Authority:
    """The rules in force for the repositories served here. `reload` swaps them whole or leaves them alone."""

    def __init__(
        self,
        served: Iterable[Served],
        folder: Path = SHIPPED,
        mounted: Mapping[str, Tool] = _NO_MOUNTS,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`mounted`: tools of other servers, by `<mount>__<tool>`. Raises ConfigError."""
        self._served = {one.repository: one for one in served}
        self._folder = folder
        self._mounted = dict(mounted)
        self._monotonic_ns = monotonic_ns
        self.catalogue = with_mounted(mounted)  # every tool that can be granted here, ours and mounted
        self._engine = self._compiled()

    def _compiled(self) -> _Engine:
        rules = load(self._folder, self.catalogue)
        return _Engine(rules, self._served, self.catalogue, self._mounted, self._monotonic_ns)

    @property
    def digest(self) -> str:
        """Of every file in force, and of the mounted tools where there are any: "sha256:<64 hex>"."""
        return self._engine.digest

    def reload(self) -> None:
        """Read the files again. Raises ConfigError, and then the former rules stay in force."""
        self._engine = self._compiled()

    def decide(self, request: Request) -> Decision:
        """Never raises: whatever cannot be decided is refused."""
        return self._engine.decide(request)

    def explain(self, request: Request) -> Explanation:
        """The same decision with everything that went into it. Takes some milliseconds; never raises."""
        return self._engine.explain(request)

    def visible_tools(
        self,
        agent: str,
        tools: Iterable[str],
        scopes: frozenset[str] | None = None,
        chain_agents: Iterable[str] = (),
    ) -> tuple[str, ...]:
        """Those of the named tools of which some call by this agent would be allowed, in the given order.

        `scopes`: of the caller's token; None: no token narrows the grants. `chain_agents`: the roles that lent it
        authority; a tool is seen where the places of all of them meet. Which branches and files they share is left to
        the call.
        """
        engine, agents = self._engine, (agent, *chain_agents)
        return tuple(
            tool
            for tool in tools
            if tool in self.catalogue
            and (scopes is None or self.catalogue[tool].scope in scopes)
            and engine.some_call_is_allowed(agents, tool)
        )

    def scope_of(self, tool: str) -> str | None:
        """None: there is no such tool, or it is a verb of the loop, which no token reaches."""
        found = self.catalogue.get(tool)
        return found.scope or None if found else None

    def sensitivity_of(self, tool: str) -> Sensitivity:
        """Of what the tool gives back. Of one that is not known any more, the worst."""
        found = self.catalogue.get(tool)
        return found.sensitivity if found else Sensitivity.CONFIDENTIAL

    def scopes_for(self, agent: str) -> frozenset[str]:
        """Every scope with which a token of this agent could do something."""
        found = {self.catalogue[tool].scope for tool in self.visible_tools(agent, self.catalogue)}
        return frozenset(found - {""})


class _Engine:
    """One rule set, compiled. Immutable."""

    def __init__(
        self,
        rules: RuleSet,
        served: Mapping[str, Served],
        catalogue: Mapping[str, Tool],
        mounted: Mapping[str, Tool],
        monotonic_ns: Callable[[], int],
    ) -> None:
        self.rules = rules
        self.digest = _digest(rules, mounted)
        self._served = served
        self._catalogue = catalogue
        self._environments = frozenset(name for one in served.values() for name in one.environments)
        self._grants = {
            role: {tool: grant for grant in found.grants for tool in grant.tools} for role, found in rules.roles.items()
        }
        self._cedar = Cedar(rules, self._entity_list(), catalogue, mounted, monotonic_ns)
        self._is_usable = lru_cache(maxsize=MAX_ANSWERS)(self._usable)

    # --- one call ----------------------------------------------------------------------------------------------------

    def decide(self, request: Request) -> Decision:
        own = self._decide_one(_with_what_was_handed_down(request), lends=False)
        if not own.allowed or not request.chain:
            return own
        return next(iter(self._refusals_along(request)), own)

    def _refusals_along(self, request: Request) -> Iterable[Decision]:
        if len(request.chain) > MAX_CHAIN:
            yield _no("chain/length", f"authority was lent over {len(request.chain)} links, at most {MAX_CHAIN} count")
        for link in request.chain:
            if not _same_call(link, request):
                yield _no("chain/another-call", "a link of the chain was asked about another call")
            decision = self._decide_one(link, lends=True)
            if not decision.allowed:
                name = link.agent if link.agent in _ROLES else "unknown"
                reason = f"authority was lent by {name}, who may not: {decision.reason}"
                yield Decision(allowed=False, rules=(f"chain/{name}", *decision.rules), reason=reason)

    def _decide_one(self, request: Request, *, lends: bool) -> Decision:
        try:
            grant, facts = self._known(request)
            return self._ask(request, grant, facts, lends=lends)
        except Refused as no:
            return Decision(allowed=False, rules=no.rules, reason=no.message)

    def _known(self, request: Request) -> tuple[Grant, Facts]:
        """The one grant that could cover the call, and what is to be decided about.

        Raises Refused; values that might be free text are not repeated.
        """
        grant = self._granted(request)
        in_one_spelling(request, self._catalogue[request.tool])
        for repository in (request.repository, request.own_repository):
            if repository is not None and repository not in self._served:
                raise Refused("this repository is not served here", rules=("unknown-repository",))
        if request.environment is not None and request.environment not in self._environments:
            raise Refused("this environment is not served here", rules=("unknown-environment",))
        served = self._served[request.repository] if request.repository is not None else None
        return grant, facts_of(request, grant, served)

    def _granted(self, request: Request) -> Grant:
        if request.agent not in _ROLES:
            raise Refused("there is no such agent role", rules=("unknown-agent",))
        if request.tool not in self._catalogue:
            raise Refused("there is no such tool", rules=("unknown-tool",))
        scope = self._catalogue[request.tool].scope
        grant = self._grants.get(Role(request.agent), {}).get(request.tool)
        in_scope = request.scopes is None or scope in request.scopes
        if grant is None or (not in_scope and not self._scope_would_help(request, scope)):
            no = f"no grant gives {request.tool} to {request.agent}"
            raise Refused(no, rules=("no-permit", "tool-not-granted"))
        if not in_scope:
            raise Refused(f"{request.tool} needs scope {scope}, which this token lacks", rules=("insufficient-scope",))
        return grant

    def _scope_would_help(self, request: Request, scope: str) -> bool:
        """To say which scope is missing is to say that there is such a tool, so only whoever could use it is told."""
        return bool(scope) and self.some_call_is_allowed((request.agent,), request.tool)

    def _ask(self, request: Request, grant: Grant, facts: Facts, *, lends: bool) -> Decision:
        what = f"{request.agent} and {request.tool}"
        try:
            answer = self._cedar.answer(question_of(request, facts, lends=lends))
        except EngineFailedError as broken:
            return _no(_ENGINE_ERROR, f"the engine failed on {what}: {broken}")
        if answer.allowed:
            reason = f"{what}: granted by {grant.name}, forbidden by nothing"
            return Decision(allowed=True, rules=answer.rules, reason=reason)
        if answer.rules:
            reason = f"{what}: forbidden by {', '.join(answer.rules)}"
            return Decision(allowed=False, rules=answer.rules, reason=reason)
        missing = _not_granted(request, grant, facts)
        reason = (
            f"{what}: grant {grant.name} does not cover it: {', '.join(missing) or 'no permit is about such calls'}"
        )
        return Decision(allowed=False, rules=("no-permit", *missing), reason=reason)

    # --- some call ---------------------------------------------------------------------------------------------------

    def some_call_is_allowed(self, agents: tuple[str, ...], tool: str) -> bool:
        """Whether there is a place in which each of the agents may use the tool on something."""
        try:
            return self._is_usable(agents, tool)
        except EngineFailedError:
            return False

    def _usable(self, agents: tuple[str, ...], tool: str) -> bool:
        """Raises EngineFailedError, which is never remembered."""
        if len(agents) > MAX_CHAIN + 1 or not _ROLES.issuperset(agents):
            return False
        grants = {agent: self._grants.get(Role(agent), {}).get(tool) for agent in agents}
        first = grants[agents[0]]
        if first is None:
            return False
        found = places_of(self._catalogue[tool], first, self._served, self._environments)
        return any(all(self._usable_in(agent, tool, grants[agent], place) for agent in grants) for place in found)

    def _usable_in(self, agent: str, tool: str, grant: Grant | None, place: Place) -> bool:
        """`grant` None: this agent has none for the tool."""
        if grant is None:
            return False
        served = self._served[place.repository] if place.repository is not None else None
        for call in calls(agent, tool, self._catalogue[tool], grant, place=place, served=served):
            decision = self._decide_one(call, lends=False)
            if decision.rules[0] == _ENGINE_ERROR:
                raise EngineFailedError(decision.reason)
            if decision.allowed:
                return True
        return False

    # --- why ---------------------------------------------------------------------------------------------------------

    def explain(self, request: Request) -> Explanation:
        links = [self._explain_one(link, lends=True) for link in request.chain[:MAX_CHAIN]]
        own = self._explain_one(_with_what_was_handed_down(request), lends=False)
        return own.model_copy(update={"decision": self.decide(request), "chain": tuple(links)})

    def _explain_one(self, request: Request, *, lends: bool) -> Explanation:
        decision = self._decide_one(request, lends=lends)
        try:
            grant, facts = self._known(request)
        except Refused:
            return Explanation(decision=decision, rules_digest=self.digest)
        asked = entities.cedar_request(question_of(request, facts, lends=lends))
        stage = Stage(request, decision, grant, self.rules, self.digest, asked, tuple(self._served), self._environments)
        try:
            return explained(stage, self._cedar.permits_alone)
        except EngineFailedError:
            return Explanation(decision=decision, rules_digest=self.digest, question=asked)

    def _entity_list(self) -> list[dict[str, Any]]:
        found = entities.places(self._served, self._environments)
        for role, grants in self.rules.roles.items():
            found += entities.agent_with_grants(role, grants, self._served, self._environments)
        return found


def _digest(rules: RuleSet, mounted: Mapping[str, Tool]) -> str:
    if not mounted:
        return rules.digest
    content = json.dumps({"files": rules.digest, "mounted": entities.catalogued(mounted)}, sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def _no(rule: str, reason: str) -> Decision:
    return Decision(allowed=False, rules=(rule,), reason=reason)


def _same_call(link: Request, request: Request) -> bool:
    """A link has facts of its own about the very same call, and no chain of its own."""
    of_the_call = ("tool", "repository", "paths", "branch", "environment", "direction")
    return not link.chain and all(getattr(link, name) == getattr(request, name) for name in of_the_call)


def _with_what_was_handed_down(request: Request) -> Request:
    """Whoever lends authority also says what to do with it, so what a lender has read counts as read by the caller."""
    if not request.chain:
        return request
    read = {
        name: any(getattr(one, name) for one in (request, *request.chain)) for name in ("tainted", "read_confidential")
    }
    return request.model_copy(update=read)


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
