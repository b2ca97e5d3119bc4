"""May this person do this? Cedar decides, over groups of people that a team names and a handful of policies.

People are known to the engine by the names that the door they came through gave them; whoever is in no group, and every
act that the schema does not know, is refused, as is whatever the engine fails on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import cedarpy

from controller.errors import ConfigError
from rbac.model import Decision

SHIPPED = Path(__file__).parent
POLICY, SCHEMA = "people_rules/people.cedar", "people_rules/people.cedarschema"
MAX_PEOPLE = 10_000
_WORLD = {"type": "World", "id": "world"}


class Group(StrEnum):
    REQUESTERS = "requesters"
    APPROVERS = "approvers"
    OPERATORS = "operators"
    OWNERS = "owners"


class People:
    """Immutable. `members`: who is in which group."""

    def __init__(self, members: Mapping[Group, tuple[str, ...]], folder: Path = SHIPPED) -> None:
        """A folder of rules without a policy for people is completed by the one shipped. Raises ConfigError."""
        here = folder if (folder / POLICY).exists() else SHIPPED
        policy, schema = (_text(here / name) for name in (POLICY, SCHEMA))
        names = {name for group in members.values() for name in group}
        if len(names) > MAX_PEOPLE:
            raise ConfigError(f"policy names {len(names)} people", f"Name at most {MAX_PEOPLE}")
        _check(policy, schema)
        self._policy = cedarpy.PolicySet.from_str(policy)
        self._schema = cedarpy.Schema.from_str(schema)
        self._names = frozenset(names)
        self._members = {group: frozenset(members.get(group, ())) for group in Group}
        self.digest = _digest(policy, schema, self._members)
        self.may = lru_cache(maxsize=4_096)(self._decided)

    def _decided(self, person: str, act: str, repository: str | None) -> Decision:
        """Never raises: whatever cannot be decided is refused. `repository=None`: the act is about none."""
        if person not in self._names:
            return Decision(allowed=False, rules=("unknown-person",), reason="nobody has put this person into a group")
        resource = _WORLD if repository is None else {"type": "Repository", "id": repository}
        asked: dict[str, Any] = {
            "principal": {"type": "Person", "id": person},
            "action": {"type": "Action", "id": act},
            "resource": resource,
            "context": {},
        }
        try:
            answer = cedarpy.is_authorized(asked, self._policy, json.dumps(self._entities(person)), self._schema)
            errors, allowed = answer.diagnostics.errors, answer.allowed
            rules = tuple(sorted(answer.diagnostics.id_annotations_by_reason.values()))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as broken:  # noqa: BLE001 - a panic is no Exception; whatever broke, the answer is no
            reason = f"the engine failed: {type(broken).__name__}"
            return Decision(allowed=False, rules=("engine-error",), reason=reason)
        if errors:
            return Decision(allowed=False, rules=("engine-error",), reason=f"the engine failed: {errors[0]}")
        if allowed and rules:
            return Decision(allowed=True, rules=rules, reason=f"{act}: granted by {', '.join(rules)}")
        return Decision(allowed=False, rules=rules or ("people/default-deny",), reason=f"no group gives {act}")

    def _entities(self, person: str) -> list[dict[str, Any]]:
        groups = [group for group in Group if person in self._members[group]]
        parents = [{"type": "Group", "id": group.value} for group in groups]
        return [{"uid": {"type": "Person", "id": person}, "attrs": {}, "parents": parents}]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"{file} cannot be read: {wrong}", "Restore the file that Flyball ships") from wrong


def _check(policy: str, schema: str) -> None:
    try:
        cedarpy.Schema.from_str(schema)
        found = cedarpy.validate_policies(policy, schema)
    except ValueError as wrong:
        raise ConfigError(f"{SCHEMA}: {wrong}", "Correct the schema") from wrong
    if not found.validation_passed:
        raise ConfigError(f"{POLICY}: {found.errors[0].error}", "Correct the policy; the schema beside it helps")


def _digest(policy: str, schema: str, members: Mapping[Group, frozenset[str]]) -> str:
    said = {"policy": policy, "schema": schema, "members": {group: sorted(names) for group, names in members.items()}}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
