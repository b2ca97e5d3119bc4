"""Grants as the gate asks for them: a verb and its caller as one request to the authority."""

from __future__ import annotations

import getpass

from controller.domain.ids import Digest, StreamId, kind_of, rest_of, session_behind
from controller.domain.verbs import Verb
from controller.gate import Grant
from rbac.decide import Authority
from rbac.model import Request


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
    """Who may ask, approve and stop: those listed, or, when nobody is, whoever runs Flyball on this machine."""

    def __init__(self, people: tuple[str, ...], digest: Digest) -> None:
        self._people = people or (getpass.getuser(),)
        self._digest = digest

    @property
    def digest(self) -> Digest:
        return self._digest

    def may_person(self, person: str, act: str, repository: str | None) -> bool:
        del act, repository  # one list for all acts, until people have grants of their own
        return person in self._people
