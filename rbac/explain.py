"""Why a call is allowed or refused, with everything that went into it, for whoever reviews or is told no.

Forbids that match are all named by the engine. For a permit that did not speak the question is put again with its
grant widened, one shortfall left out at a time: what still gets a no without a repair was lacking that repair. So the
explanation asks the engine in force and cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rbac.entities import entity, grant_entity, reference
from rbac.load import RuleSet
from rbac.model import EVERY, Closed, Decision, Grant, Request

World = list[dict[str, Any]]
Ask = Callable[[str, Mapping[str, Any], World], bool]  # one permit alone, of this call, in this world: does it allow?


class Permit(Closed):
    policy: str  # its @id
    place: str  # "<file>:<line>"
    why: str
    allows: bool
    fell_short: tuple[str, ...] = ()  # each must be otherwise before it allows; () and no: not about calls like this


class Forbid(Closed):
    policy: str
    place: str
    why: str


class Explanation(Closed):
    """One decision laid open. Made for JSON: `model_dump_json`."""

    decision: Decision  # of the whole call, its chain included
    rules_digest: str
    grant: str | None = None  # "<role>/<name>", the one that could cover the call. None: refused before grants counted
    granted_at: str | None = None  # "<file>:<line>" of that grant. None: as above
    question: dict[str, Any] | None = None  # as Cedar was asked it. None: it was not
    entities: tuple[dict[str, Any], ...] = ()  # those that the call reaches
    forbids: tuple[Forbid, ...] = ()  # all that match
    permits: tuple[Permit, ...] = ()  # all that there are
    chain: tuple[Explanation, ...] = ()  # of each that lent the authority, nearest first


@dataclass(frozen=True, slots=True)
class Stage:
    request: Request
    decision: Decision  # of this link alone
    grant: Grant
    rules: RuleSet
    digest: str
    asked: Mapping[str, Any]  # the question as Cedar is asked it
    repositories: Iterable[str]  # served here
    environments: Iterable[str]  # likewise


def explained(stage: Stage, ask: Ask) -> Explanation:
    """Raises whatever `ask` raises."""
    notes = stage.rules.policy_notes
    grant = f"{stage.request.agent}/{stage.grant.name}"
    return Explanation(
        decision=stage.decision,
        rules_digest=stage.digest,
        grant=grant,
        granted_at=stage.rules.grant_places[grant],
        question=dict(stage.asked),
        entities=tuple(_world(stage, stage.grant)),
        forbids=tuple(
            Forbid(policy=rule, place=notes[rule].place, why=notes[rule].why)
            for rule in stage.decision.rules
            if rule in notes and notes[rule].effect == "forbid"
        ),
        permits=tuple(_permit(stage, ask, name) for name, note in notes.items() if note.effect == "permit"),
    )


def _permit(stage: Stage, ask: Ask, policy: str) -> Permit:
    note = stage.rules.policy_notes[policy]
    allows = ask(policy, stage.asked, _world(stage, stage.grant))
    fell_short = () if allows else _lacking(stage, ask, policy)
    return Permit(policy=policy, place=note.place, why=note.why, allows=allows, fell_short=fell_short)


_ALL_REPAIRS = frozenset(
    {"repository-not-granted", "environment-not-granted", "branch-not-granted", "path-not-granted"}
)


def _lacking(stage: Stage, ask: Ask, policy: str) -> tuple[str, ...]:
    if not _would_allow(stage, ask, policy, _ALL_REPAIRS):
        return ()
    return tuple(one for one in sorted(_ALL_REPAIRS) if not _would_allow(stage, ask, policy, _ALL_REPAIRS - {one}))


def _would_allow(stage: Stage, ask: Ask, policy: str, repairs: frozenset[str]) -> bool:
    wider = {"repositories": "repository-not-granted", "environments": "environment-not-granted"}
    granted = stage.grant.model_copy(update={field: (EVERY,) for field, repair in wider.items() if repair in repairs})
    facts = {"branch_granted": "branch-not-granted", "paths_granted": "path-not-granted"}
    context = stage.asked["context"] | {fact: True for fact, repair in facts.items() if repair in repairs}
    return ask(policy, {**stage.asked, "context": context}, _world(stage, granted))


def _world(stage: Stage, grant: Grant) -> World:
    """The entities that a call reaches: its agent, the grant for its tool, and every place that it names."""
    asked, role = stage.asked, stage.request.agent
    tags = {stage.request.tool: reference("Grant", f"{role}/{grant.name}")}
    context = asked["context"]
    named = [
        asked["resource"],
        *(context[key]["__entity"] for key in ("environment", "own_repository") if key in context),
    ]
    places = {(one["type"], one["id"]): entity(one["type"], one["id"]) for one in named}
    return [
        {**entity("Agent", role), "tags": tags},
        grant_entity(role, grant, stage.repositories, stage.environments),
        *places.values(),
    ]
