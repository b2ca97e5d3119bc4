"""Who is signed in: badges by the hash of their tokens, each for a time, and what is known of each session.

A session of Flyball's own signs in here and is known to this process only. A program outside comes with a token that
the log knows: it is looked up once, remembered by its hash, and asked of the log on every call whether it still stands.
Time never runs backwards here, so a clock that is set back revives no token.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from controller.desk_record import Kept, SessionRecord
from controller.errors import ConfigError, Unavailable
from controller.ports import Badge, Clock, Log, Visit, Visitors
from rbac.model import Request

MAX_SESSIONS = 1_000  # signed in at once
MAX_VISITS = 4_000  # tokens of programs outside that are remembered
MAX_TOKEN_SECONDS = 86_400
TOKEN_BYTES = 32


@dataclass(slots=True)
class Session:
    """What this process knows of a session beyond its badge. Several tokens may stand for one session."""

    record: SessionRecord
    tainted: bool
    calls: dict[tuple[int, int], Kept] = field(default_factory=dict)  # allowed or refused, and not recorded yet
    crowded: asyncio.Event = field(default_factory=asyncio.Event)  # enough calls wait to be written down
    one_writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    waits_until: datetime | None = None  # None: not over its rate
    token: str = ""  # hash of the one token of a session of our own; "": of a program outside


@dataclass(frozen=True, slots=True)
class _Known:
    badge: Badge
    expires_at: datetime


class Sessions:
    def __init__(
        self, log: Log, clock: Clock, visitors: Visitors | None, resource: Callable[[], str], default_seconds: int
    ) -> None:
        """`visitors=None`: no program outside is let in. `resource`: the audience that their tokens must name."""
        self._log = log
        self._clock = clock
        self._visitors = visitors
        self._resource = resource
        self._default_seconds = default_seconds
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._sessions: dict[str, Session] = {}
        self._own: dict[str, _Known] = {}  # by the hash of the token
        self._visits: OrderedDict[str, _Known] = OrderedDict()

    def now(self) -> datetime:
        """The clock's time, or the latest that it has shown if it has been set back."""
        now = self._clock.now()
        self._latest = max(now, self._latest)
        return self._latest

    def sign_in(self, badge: Badge, seconds: int | None) -> str:
        """See `ports.Desk.sign_in`. Signing in again ends the session's former token."""
        life = self._default_seconds if seconds is None else seconds
        if not 0 < life <= MAX_TOKEN_SECONDS:
            raise ConfigError(
                f"a token for {life} seconds is none",
                f"Give it 1 to {MAX_TOKEN_SECONDS} seconds; it cannot be for ever",
            )
        if len(self._sessions) >= MAX_SESSIONS and badge.session not in self._sessions:
            raise Unavailable(f"{MAX_SESSIONS} sessions are signed in already", "Wait until one has ended")
        facts_of(badge)
        self.sign_out(badge.session)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        hashed = hash_of(token)
        self._sessions[badge.session] = Session(SessionRecord(self._log, badge.stream), badge.tainted, token=hashed)
        self._own[hashed] = _Known(badge, self.now() + timedelta(seconds=life))
        return token

    def sign_out(self, session: str) -> Session | None:
        """At once, and with everything that was kept of it. None: it was not signed in."""
        gone = self._sessions.pop(session, None)
        if gone is not None:
            self._own.pop(gone.token, None)
            for hashed in [token for token, known in self._visits.items() if known.badge.session == session]:
                del self._visits[hashed]
        return gone

    def badge(self, token: str) -> Badge | None:
        known = self._own.get(hash_of(token))
        return known.badge if known is not None and self.now() < known.expires_at else None

    def badge_of(self, session: str) -> Badge | None:
        """The badge of a session that is signed in here. None: it is not."""
        if (found := self._sessions.get(session)) is None:
            return None
        if found.token:
            return self._own[found.token].badge
        return next((known.badge for known in self._visits.values() if known.badge.session == session), None)

    async def authenticated(self, token: str) -> Badge | None:
        own = self.badge(token)
        return own if own is not None or self._visitors is None else await self._visiting(self._visitors, token)

    async def _visiting(self, visitors: Visitors, token: str) -> Badge | None:
        hashed, now = hash_of(token), self.now()
        known = self._visits.get(hashed)
        if known is None:
            visit = await visitors.visitor(token, now)
            if visit is None or visit.audience != self._resource():
                return None
            known = self._remember(hashed, visit)
        if now >= known.expires_at or not await visitors.standing(known.badge):
            self._visits.pop(hashed, None)
            return None
        return known.badge

    def _remember(self, hashed: str, visit: Visit) -> _Known:
        badge = visit.badge
        facts_of(badge)
        if badge.session not in self._sessions:
            self._make_room()
            if len(self._sessions) >= MAX_SESSIONS:
                raise Unavailable(f"{MAX_SESSIONS} sessions are signed in already", "Wait until one has ended")
            self._sessions[badge.session] = Session(SessionRecord(self._log, badge.stream), badge.tainted)
        known = self._visits[hashed] = _Known(badge, visit.expires_at)
        if len(self._visits) > MAX_VISITS:
            self._visits.popitem(last=False)
        return known

    def get(self, session: str) -> Session | None:
        """None: it is not signed in here."""
        return self._sessions.get(session)

    def visitors(self) -> list[tuple[Badge, Session]]:
        """Programs outside, each session once."""
        badges = {known.badge.session: known.badge for known in self._visits.values()}
        return [(badge, self._sessions[session]) for session, badge in badges.items() if session in self._sessions]

    def _make_room(self) -> None:
        """Forget tokens that have expired, and the sessions of which no token is left."""
        now = self.now()
        for hashed in [token for token, known in self._visits.items() if now >= known.expires_at]:
            del self._visits[hashed]
        live = {known.badge.session for known in self._visits.values()}
        for name, session in list(self._sessions.items()):
            if not session.token and not session.calls and name not in live:
                del self._sessions[name]


def facts_of(badge: Badge) -> Request:
    """What a decision wants of a badge and its chain. Raises ConfigError for one that nothing can rest on."""
    try:
        return Request(
            agent=badge.role,
            tool="",
            repository=badge.repository,
            tainted=badge.tainted,
            delivery=badge.delivery,
            own_repository=badge.repository,
            own_branch=badge.branch,
            task_paths=badge.allowed,
            protected_paths=badge.protected,
            scopes=badge.scopes,
        )
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the badge of session {badge.session}: {place}: {first['msg']}", "Correct the pattern"
        ) from wrong


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
