"""Cedar, as far as it is needed: one rule set compiled, questions answered, and every failure said to be one.

The only file that knows the engine. Policies are held against the schema, their ids against what a reader of the files
finds, and the schema's groups of annotations against the catalogue, before any of them counts. Cedar skips a `forbid`
that errs and may then allow, so an answer with any error beside it is no answer, as is one of an engine that breaks,
panics or keeps a clock waiting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any

import cedarpy

from controller.errors import ConfigError
from rbac.catalogue import Role, Tool
from rbac.entities import ANNOTATIONS, Answer, Question, actions_for, annotations_of, cedar_request
from rbac.facts import Facts
from rbac.load import RuleSet

MAX_ANSWERS = 8192  # remembered per rule set; about 1 kB each
MAX_DECISION_NS = 5 * 10**9  # a decision takes 0.1 ms; one of 5 s was given by a machine, or a clock, in trouble
_ANY_FACTS = Facts(
    branch_granted=False,
    branch_protected=False,
    paths_granted=False,
    paths_in_task=False,
    path_never=False,
    path_never_tainted=False,
    path_protected=False,
)


class EngineFailedError(Exception):
    """The engine has no answer that counts."""


class Cedar:
    """Policies, schema and entities of one rule set. Immutable."""

    def __init__(
        self,
        rules: RuleSet,
        entities: list[dict[str, Any]],
        catalogue: Mapping[str, Tool],
        mounted: Mapping[str, Tool],
        monotonic_ns: Callable[[], int],
    ) -> None:
        """Raises ConfigError."""
        schema = f"{rules.schema}\n{actions_for(mounted)}"
        _check(rules, schema, catalogue)
        self._monotonic_ns = monotonic_ns
        self._text = "\n".join(rules.policies.values())
        self._schema = cedarpy.Schema.from_str(schema)
        self._entities = self._as_entities(entities)
        self._policies = self._by_tool(catalogue)
        # An answer depends on the question, the policies and the entities alone, and the latter two never change here.
        self.answer = lru_cache(maxsize=MAX_ANSWERS)(self.ask)

    def ask(self, question: Question) -> Answer:
        """`answer` is the same with a memory for answers, never for failures. Raises EngineFailedError."""
        return self._ask(cedar_request(question), self._policies[question.tool], self._entities)

    def permits_alone(self, permit: str, asked: Mapping[str, Any], world: list[dict[str, Any]]) -> bool:
        """Whether this one permit, with no other policy, would allow that in such a world. Raises EngineFailedError."""
        return self._ask(dict(asked), self._alone[permit], self._as_entities(world)).allowed

    def _ask(self, asked: dict[str, Any], policies: cedarpy.PolicySet, world: cedarpy.Entities) -> Answer:
        began = self._monotonic_ns()
        try:
            answer = cedarpy.is_authorized(asked, policies, world)
            errors, allowed = answer.diagnostics.errors, answer.allowed
            rules = tuple(sorted(answer.diagnostics.id_annotations_by_reason.values()))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as broken:  # a panic inside the engine is no Exception; whatever broke, the answer is no
            raise EngineFailedError(type(broken).__name__) from broken
        if not 0 <= self._monotonic_ns() - began <= MAX_DECISION_NS:
            raise EngineFailedError("it took too long, or the clock jumped")
        if errors:
            raise EngineFailedError(errors[0])
        if allowed and not rules:
            raise EngineFailedError("allowed by no policy that has a name")
        return Answer(allowed, rules)

    @cached_property
    def _alone(self) -> dict[str, cedarpy.PolicySet]:
        """Each permit as a set of its own, by its @id."""
        found = json.loads(cedarpy.policies_to_json_str(self._text))["staticPolicies"]
        return {
            policy["annotations"]["id"]: _policy_set({name: policy})
            for name, policy in found.items()
            if policy["effect"] == "permit"
        }

    def _as_entities(self, found: list[dict[str, Any]]) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(json.dumps(found), self._schema)

    def _by_tool(self, catalogue: Mapping[str, Tool]) -> dict[str, cedarpy.PolicySet]:
        """For each tool the policies whose scope has its action: no other can speak, and each costs every call 2 us.

        Asks the engine itself, with every policy stripped to its action, so its groups are read in one way only.
        Raises ConfigError where schema and catalogue annotate a tool differently.
        """
        found = json.loads(cedarpy.policies_to_json_str(self._text))["staticPolicies"]
        stripped = {name: _bare_permit(policy["action"]) for name, policy in found.items()}
        groups = {group: _bare_permit({"op": "in", "entity": {"type": "Action", "id": group}}) for group in ANNOTATIONS}
        bare = _policy_set(stripped | groups)
        sets: dict[frozenset[str], cedarpy.PolicySet] = {}
        by_tool = {}
        for name, tool in catalogue.items():
            speaking = self._speaking(bare, name)
            _check_annotations(name, tool, speaking & {*ANNOTATIONS})
            relevant = speaking - {*ANNOTATIONS}
            if relevant not in sets:
                sets[relevant] = _policy_set({policy: found[policy] for policy in sorted(relevant)})
            by_tool[name] = sets[relevant]
        return by_tool

    def _speaking(self, bare: cedarpy.PolicySet, tool: str) -> frozenset[str]:
        """Asked with everything that a question has and held against the schema, which calls then need not be."""
        question = Question(
            agent=Role.AUTHOR,
            tool=tool,
            repository="any",
            own_repository="any",
            environment="any",
            tainted=False,
            read_confidential=False,
            lends=False,
            facts=_ANY_FACTS,
        )
        try:
            answer = cedarpy.is_authorized(cedar_request(question), bare, self._entities, self._schema)
        except Exception as broken:
            raise ConfigError(
                f"the engine cannot be asked about {tool}: {broken}", "Restore the former rules"
            ) from broken
        if answer.diagnostics.errors or answer.decision is cedarpy.Decision.NoDecision:
            raise ConfigError(
                f"policy/*.cedarschema: a call of {tool} does not fit it: {answer.diagnostics.errors}",
                "Let the type Call have the fields that rbac/entities.py gives it",
            )
        return frozenset(answer.diagnostics.reasons)


def _bare_permit(action: Any) -> dict[str, Any]:
    anything = {"op": "All"}
    return {"effect": "permit", "principal": anything, "action": action, "resource": anything, "conditions": []}


def _policy_set(policies: Mapping[str, Any]) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})
    )


def _check_annotations(name: str, tool: Tool, found: frozenset[str]) -> None:
    wanted = annotations_of(tool)
    if found != wanted:
        raise ConfigError(
            f"policy/*.cedarschema: {name} stands in {sorted(found)} of the groups of annotations, and is catalogued"
            f" as {sorted(wanted)}",
            "Let the schema and rbac/catalogue.py say the same of it",
        )


def _check(rules: RuleSet, schema: str, catalogue: Iterable[str]) -> None:
    """Every policy fits the schema, and every tool has its action. Raises ConfigError naming the file."""
    try:
        cedarpy.Schema.from_str(schema)
    except ValueError as wrong:
        raise ConfigError(f"policy/*.cedarschema: {wrong}", "Correct the schema") from wrong
    for name, text in rules.policies.items():
        _validate(name, text, schema)
        _check_ids(name, text, rules)
    every_action = "\n".join(f'permit(principal, action == Action::"{tool}", resource);' for tool in catalogue)
    _validate("policy/*.cedarschema against rbac/catalogue.py", every_action, schema)


def _validate(name: str, policies: str, schema: str) -> None:
    found = cedarpy.validate_policies(policies, schema)
    if not found.validation_passed:
        first = found.errors[0]
        policy = found.id_annotations_by_policy_id.get(first.policy_id, "")
        raise ConfigError(
            f"{name}: {policy} {first.error}".strip(), "Correct the policy; the schema beside it lists what it may ask"
        )


def _check_ids(name: str, policies: str, rules: RuleSet) -> None:
    """The engine reads the same policies as the reader of lines did, which a comment or a crowded line could fool."""
    found = json.loads(cedarpy.policies_to_json_str(policies))
    ids = [policy.get("annotations", {}).get("id") for policy in found["staticPolicies"].values()]
    noted = [known for known, note in rules.policy_notes.items() if note.place.startswith(f"{name}:")]
    if found["templates"] or sorted(map(str, ids)) != sorted(noted):
        raise ConfigError(
            f"{name}: the policies that Cedar reads are not those that begin a line with their @id",
            "Begin each permit and forbid on a line of its own, after its @id and @why, and write no templates",
        )
