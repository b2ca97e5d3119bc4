"""Whom the commits that a session pushes with git must name, as author and as committer.

A name and an address that say which role worked, and for which delivery or program, and that are nobody's: `.invalid`
is reserved for that (RFC 2606). It stays the same from one session of a delivery or a program to its next, so commits
that are rebased or pushed later still carry it. Which session it was stands in the log.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "flyball.invalid"


@dataclass(frozen=True, slots=True)
class GitIdentity:
    name: str
    email: str

    @property
    def spelt(self) -> str:
        return f"{self.name} <{self.email}>"


def identity_of(role: str, session: str) -> GitIdentity:
    """`session`: "<delivery>/<iteration>", or "client.<name>/<n>" of a program outside."""
    return GitIdentity(f"flyball-{role}", f"{session.partition('/')[0]}@{DOMAIN}")
