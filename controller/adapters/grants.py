"""Grants as the gate asks for them: a verb and its caller as one request to the authority."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from controller.domain.ids import Digest, StreamId, digest_of, kind_of, rest_of, session_behind
from controller.domain.verbs import Verb
from controller.gate import Grant
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Request
from rbac.people import Group, People

NO_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class RbacGrants:
    """`gate.Grants` over `rbac`."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    @property
    def digest(self) -> Digest:
        return Digest(self._authority.digest)

    def may(self, agent: str, verb: Verb, subject: StreamId) -> Grant:
        """What the verb acts on comes from its own arguments, which the effect's key binds.

        The delivery comes from the stream it is done for.
        """
        request = Request(
            agent=agent,
            tool=verb.name,
            repository=verb.repository_scope,
            branch=getattr(verb, "branch", None),
            environment=getattr(verb, "environment", None),
            delivery=delivery_of(subject),
        )
        decision = self._authority.decide(request)
        return Grant(decision.allowed, decision.rules, decision.reason)


def delivery_of(subject: StreamId) -> str | None:
    """The delivery that a stream belongs to. None: to none."""
    if (session := session_behind(subject)) is not None:
        return session.partition("/")[0]
    return rest_of(subject).partition("/")[0] if kind_of(subject) in ("delivery", "people") else None


class ListedPeople:
    """`intake.Standing`: people in groups, decided by Cedar. Those listed plainly are owners.

    When nobody is named at all, whoever runs Flyball on this machine is the owner.
    """

    def __init__(
        self,
        people: tuple[str, ...],
        digest: Digest,
        groups: Mapping[str, tuple[str, ...]] = NO_GROUPS,
        folder: Path = SHIPPED,
    ) -> None:
        """`digest`: of the rules for agents, beside which those for people stand. Raises ConfigError."""
        owners = people if people or groups else (getpass.getuser(),)
        members = {Group(name): names for name, names in groups.items()}
        members[Group.OWNERS] = (*members.get(Group.OWNERS, ()), *owners)
        self._people = People(members, folder)
        self._digest = digest_of({"agents": digest, "people": self._people.digest})

    @property
    def digest(self) -> Digest:
        return self._digest

    def may_person(self, person: str, act: str, repository: str | None) -> bool:
        return self._people.may(person, act, repository).allowed
