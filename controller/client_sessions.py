"""What a session of a program outside is made of, as pure values: where a token is given, how long, how wide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.client_records import number_of
from controller.domain import events as e
from controller.domain.client import ClientSession
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Branch, SessionId, StreamId, agent_stream
from controller.errors import Refused
from controller.ports import Badge
from rbac import tokens
from rbac.catalogue import SCOPES

CONTINUED_S = 86_400  # a session is continued for a day,
SESSION_S = CONTINUED_S + tokens.MAX_SECONDS  # and lasts as long as the last token that can be given in it
MAX_TOKENS = 500  # of one session; then the next is begun
ENDS_AT_ONCE = 5  # sessions whose time is over, ended along with an append


@dataclass(frozen=True, slots=True)
class Issued:
    """A bearer token, told once."""

    token: str
    session: SessionId
    scopes: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Proven:
    """What an external issuer's token says, once it has been verified."""

    client: str
    scopes: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Loan:
    """What a session asks for, for another one that it stands behind."""

    role: str
    seconds: int
    scopes: tuple[str, ...] = ()  # empty: its own
    allowed_paths: tuple[str, ...] = ()  # empty: its own


@dataclass(frozen=True, slots=True)
class Place:
    """The session that a token is for: what must be written to begin it, and what must not have changed meanwhile."""

    session: SessionId
    by: Caller
    drafts: tuple[Draft, ...] = ()  # empty: it goes on
    expect: dict[StreamId, int] = field(default_factory=dict)


def begun(place: Place, started: e.ClientSessionStarted, over: list[ClientSession]) -> Place:
    """With the session's first entry, and the last of some whose time is over."""
    stream, old = agent_stream(place.session), over[:ENDS_AT_ONCE]
    ends = [Draft(agent_stream(one.id), e.ClientSessionEnded(reason="over, or revoked")) for one in old]
    expect = {**place.expect, stream: 0, **{agent_stream(one.id): one.version for one in old}}
    return replace(place, drafts=(*ends, Draft(stream, started)), expect=expect)


def continues(state: ClientSession, now: datetime, until: datetime) -> bool:
    """Whether a token until then may still be given in this session."""
    started, since = state.started, state.since
    return (
        started is not None
        and since is not None
        and started.parent is None
        and now < since + timedelta(seconds=CONTINUED_S)
        and until <= started.expires_at
        and len(state.issued) < MAX_TOKENS
    )


def over_of(sessions: list[ClientSession], now: datetime, revoked: frozenset[str]) -> list[ClientSession]:
    return sorted(
        (one for one in sessions if one.id in revoked or (one.started and now >= one.started.expires_at)),
        key=lambda one: number_of(one.id),
    )


def issued_in(state: ClientSession, token: str) -> e.TokenIssued | None:
    digest = tokens.digest_of(token)
    return next((one for one in state.issued if tokens.same(one.token, digest)), None)


def within(wanted: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """`wanted`, or `given` where nothing is. Raises Refused when it is wider."""
    over = sorted(set(wanted) - set(given))
    if over:
        raise Refused(
            f"scope {', '.join(over)[:200]} is not among those given",
            f"Ask for {' '.join(given)}, or fewer",
            rules=("clients/scope",),
        )
    return tuple(sorted(set(wanted))) or given


def scopes_held(badge: Badge) -> tuple[str, ...]:
    return SCOPES if badge.scopes is None else tuple(sorted(badge.scopes))


def branch_of(session: SessionId) -> Branch:
    return Branch(f"agent/{session}")
