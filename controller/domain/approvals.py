"""Whose consent counts: owners of paths for what they own, and nobody for what they asked for themselves.

People stand in settings by their names and in the log by pseudonyms, so every question takes the function that turns
one into the other. Where one person is all that is configured, that person is asker, owner and approver at once: the
product stays usable on one's own machine, and what comes of it is labelled as approved by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controller.domain.change import OwnedPath

Pseudonym = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    people: frozenset[str] = frozenset()  # everybody who is configured. Empty: whoever runs the command
    policy_owners: frozenset[str] = frozenset()  # may approve for any owner
    code_owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "@team" to people's names

    def alone(self, who: str, pseudonym: Pseudonym) -> bool:
        """Whether nobody else could approve."""
        return all(pseudonym(name) == who for name in self.people)

    def speaks_for(self, owner: str, who: str, pseudonym: Pseudonym) -> bool:
        """`owner`: as CODEOWNERS names it. Whoever is mapped to it, bears its name, or owns the policy."""
        if self.alone(who, pseudonym):
            return True
        names = {*self.code_owners.get(owner, ()), owner, owner.removeprefix("@"), *self.policy_owners}
        return any(pseudonym(name) == who for name in names)

    def unapproved(
        self, owned: Iterable[OwnedPath], consented: Iterable[str], pseudonym: Pseudonym
    ) -> tuple[OwnedPath, ...]:
        """Owned paths for which no owner is among those who consented."""
        people = tuple(consented)
        return tuple(
            one
            for one in owned
            if not any(self.speaks_for(owner, who, pseudonym) for owner in one.owners for who in people)
        )
