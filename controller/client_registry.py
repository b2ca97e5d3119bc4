"""How people let programs in and put them out again. Each act is an event with a person's name on it.

A client is one program, as one role, in one repository. What it proves itself with is kept as a digest (a secret) or in
clear (a public key): nothing in the log opens a door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controller.client_records import CLIENT_NAME, Records
from controller.domain import events as e
from controller.domain.client import Client, evolve_client
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, Repository, client_stream, kind_of, rest_of
from controller.errors import Refused, Unavailable
from controller.ports import Log, Rejected, Seals
from rbac import tokens
from rbac.catalogue import AGENT_TOOLS, Role
from rbac.decide import Authority
from rbac.patterns import check_pattern

CLIENT_ROLES = (Role.CONTRIBUTOR, Role.ON_CALL, Role.COMPLIANCE)  # the others are the loop's own steps
ACT = "clients"  # as people's standing names it
MAX_PATHS = 50
MAX_CLIENTS = 500  # that may come in at the same time
MAX_REASON = 600  # characters
MAX_KEY = 4_096  # characters
ATTEMPTS = 10  # at an append whose stream moves on meanwhile


class Standing(Protocol):
    @property
    def digest(self) -> Digest: ...

    def may_person(self, person: str, act: str, repository: str | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants to let in."""

    name: str
    role: str
    repository: Repository
    scopes: tuple[str, ...] = ()  # empty: all that the role's grants give
    allowed_paths: tuple[str, ...] = ()  # empty: those that tasks of the repository may touch
    with_secret: bool = True
    public_key: str | None = None  # PEM. None: it signs nothing


@dataclass(frozen=True, slots=True)
class Registered:
    client: Client
    secret: str | None  # shown here once and kept nowhere. None: it has none, or this very request was kept before


class ClientRegistry:
    def __init__(self, *, log: Log, seals: Seals, standing: Standing, authority: Authority, records: Records) -> None:
        self._log = log
        self._seals = seals
        self._standing = standing
        self._authority = authority
        self._records = records

    def allow(self, person: str, repository: Repository) -> Caller:
        """Who they are in the log. Raises Refused when they may not say who comes in there."""
        if not self._standing.may_person(person, ACT, repository):
            raise Refused(
                f"{person} may not say which programs are let into {repository}",
                "Ask whoever owns the policy (policy.people)",
                rules=("people/default-deny",),
            )
        return Caller(self._seals.pseudonym(person), self._standing.digest)

    async def register(self, person: str, wanted: Wanted, *, event_id: str) -> Registered:
        """Let a program in. The same `event_id` is one registration, whose secret only its first answer holds."""
        by = self.allow(person, wanted.repository)
        scopes, paths = self._checked(wanted)
        secret = tokens.new_secret() if wanted.with_secret else None
        event = e.ClientRegistered(
            client=wanted.name,
            role=wanted.role,
            repository=wanted.repository,
            scopes=scopes,
            allowed_paths=paths,
            secret=Digest(tokens.digest_of(secret)) if secret else None,
            public_key=wanted.public_key,
            by=by.principal,
            event_id=event_id,
        )
        if len([one for one in await self._log.live("client/") if "/" not in rest_of(one.stream)]) >= MAX_CLIENTS:
            raise Refused(f"{MAX_CLIENTS} clients are registered", "Retire those that nobody uses")
        stream = client_stream(wanted.name)
        kept = await self._log.append([Draft(stream, event)], expect={stream: 0}, by=by)
        known = await self._records.client(wanted.name)
        if isinstance(kept, Rejected):
            _same_act(known, event_id)
            return Registered(known, None)
        return Registered(known, secret)

    async def retire(self, person: str, name: str, reason: str, *, event_id: str) -> None:
        """None of its tokens counts on its next call, nor of those it lent its authority to. A second time is once."""
        for _ in range(ATTEMPTS):
            client = await self._records.client(name)
            if client.registered is None:
                raise unknown(name)
            by = self.allow(person, client.registered.repository)
            if client.retired is not None:
                return
            event = e.ClientRetired(by=by.principal, reason=reason[:MAX_REASON], event_id=event_id)
            stream = client_stream(name)
            kept = await self._log.append([Draft(stream, event)], expect={stream: client.version}, by=by)
            if not isinstance(kept, Rejected):
                return
        raise Unavailable(f"client {name} is too busy to write to", "Try again")

    async def listed(self) -> list[Client]:
        """Every client that was ever let in, by name."""
        found: dict[str, Client] = {}
        async for entry in self._log.scan(kinds=frozenset({"ClientRegistered", "ClientRetired"})):
            if kind_of(entry.stream) == "client":
                name = rest_of(entry.stream)
                found[name] = evolve_client(found.get(name, Client(name)), entry)
        return [found[name] for name in sorted(found)]

    def _checked(self, wanted: Wanted) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Its scopes and paths, spelled out. Raises Refused for what nobody can be let in as."""
        if not CLIENT_NAME.fullmatch(wanted.name):
            raise Refused(
                f"{wanted.name!r} is no name of a client",
                "Use 1 to 31 of [a-z0-9_], beginning with a letter",
            )
        if wanted.role not in CLIENT_ROLES:
            raise Refused(
                f"a program outside cannot be {wanted.role!r}",
                f"Choose {', '.join(CLIENT_ROLES)}: the other roles are those of the loop's own steps",
            )
        if wanted.public_key is not None and len(wanted.public_key) > MAX_KEY:
            raise Refused(f"a public key has at most {MAX_KEY} characters", "Use one RSA, P-256 or Ed25519 key in PEM")
        return self._scopes(wanted), self._paths(wanted)

    def _scopes(self, wanted: Wanted) -> tuple[str, ...]:
        given = scopes_of(self._authority, wanted.role)
        over = sorted(set(wanted.scopes) - given)
        if over:
            raise Refused(
                f"the grants of {wanted.role} give nothing under scope {', '.join(over)}",
                f"Choose among {', '.join(sorted(given))}",
                rules=("clients/scope",),
            )
        return tuple(sorted(set(wanted.scopes) or given))

    def _paths(self, wanted: Wanted) -> tuple[str, ...]:
        allowed = self._records.repository(wanted.repository).allowed
        return narrowed(wanted.allowed_paths, allowed)


def scopes_of(authority: Authority, role: str) -> frozenset[str]:
    """Every scope under which the grants give this role a tool."""
    return frozenset(AGENT_TOOLS[tool].scope for tool in authority.visible_tools(role, tuple(AGENT_TOOLS)))


def narrowed(wanted: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """`wanted`, or `allowed` where nothing is. Raises Refused for a pattern that none of `allowed` covers plainly."""
    if len(wanted) > MAX_PATHS:
        raise Refused(f"{len(wanted)} path patterns", f"Use at most {MAX_PATHS}", rules=("clients/paths",))
    for pattern in wanted:
        _plain(pattern)
        if not any(covers(wide, pattern) for wide in allowed):
            raise Refused(
                f"paths {pattern!r} are not within {', '.join(allowed)}",
                "Use one of these patterns, or one that begins with such a folder",
                rules=("clients/paths",),
            )
    return wanted or allowed


def covers(wide: str, narrow: str) -> bool:
    """Whether everything under `narrow` lies under `wide`, as far as their spelling shows it."""
    folder = wide.removesuffix("**")
    return wide in ("**", narrow) or (wide.endswith("/**") and "*" not in folder and narrow.startswith(folder))


def _plain(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except ValueError as wrong:
        raise Refused(str(wrong), "Correct the pattern", rules=("clients/paths",)) from wrong


def _same_act(known: Client, event_id: str) -> None:
    if known.registered is None or known.registered.event_id != event_id:
        raise Refused(
            f"there is a client {known.name} already, or there was one",
            "Choose another name: a retired one is never given again. See them: flyball rbac clients list",
        )


def unknown(name: str) -> Refused:
    return Refused(
        f"there is no client {name!r}, or it has been retired",
        "See them: flyball rbac clients list",
        rules=("clients/unknown",),
    )
