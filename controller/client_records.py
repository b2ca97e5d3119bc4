"""What the log says of programs outside: who was let in, which sessions they have, and who stands behind a session.

A session is folded once and followed from there: what is kept is a fold by stream and version, and may be forgotten at
any time. Whether somebody still stands is never kept: it is asked of the streams' rows each time.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta

from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.client import Client, ClientSession, evolve_session, fold_client
from controller.domain.ids import (
    CLIENTS,
    Repository,
    SessionId,
    StreamId,
    agent_stream,
    client_session,
    client_stream,
    rest_of,
    session_stream,
)
from controller.errors import Refused
from controller.ports import Badge, Log, RepositoryConfig

CLIENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")  # no dash: the deliveries that lend have one, and share the streams
KEPT_SESSIONS = 512
MAX_OPEN = 20  # sessions of one client, lent ones included


class Records:
    """`own_badge` makes the badge of one of Flyball's own sessions from the log; it is asked of sessions that live."""

    def __init__(
        self,
        log: Log,
        repositories: Mapping[Repository, RepositoryConfig],
        own_badge: Callable[[str], Awaitable[Badge]],
        bounds: Bounds,
    ) -> None:
        self._log = log
        self._repositories = repositories
        self._own_badge = own_badge
        self._bounds = bounds
        self._kept: OrderedDict[SessionId, ClientSession] = OrderedDict()

    async def client(self, name: str) -> Client:
        """As nobody if it is not registered."""
        if not CLIENT_NAME.fullmatch(name):
            return Client(name)
        return fold_client(name, await self._log.read(client_stream(name)))

    async def session(self, session: SessionId) -> ClientSession:
        state = self._kept.get(session, ClientSession(session))
        for entry in await self._log.read(agent_stream(session), after=state.version):
            state = evolve_session(state, entry)
        self._kept[session] = state
        self._kept.move_to_end(session)
        if len(self._kept) > KEPT_SESSIONS:
            self._kept.popitem(last=False)
        return state

    async def open_sessions(self, client: str) -> list[ClientSession]:
        """Those that have not ended, newest first; the time of some may be over."""
        rows = await self._log.live(f"{client_stream(client)}/")
        sessions = [SessionId(f"{CLIENTS}{rest_of(row.stream)}") for row in rows]
        return [await self.session(one) for one in sorted(sessions, key=number_of, reverse=True)]

    async def next_session(self, client: str) -> SessionId:
        """Numbers have no gaps, so the first free one is found by doubling and halving."""
        taken, free = 0, 1
        while await self._begun(client, free):
            taken, free = free, 2 * free
        while free - taken > 1:
            middle = (taken + free) // 2
            taken, free = (middle, free) if await self._begun(client, middle) else (taken, middle)
        return client_session(client, free)

    async def revoked(self) -> frozenset[str]:
        """Sessions that a person has revoked."""
        rows = await self._log.control()
        return frozenset(
            row.scope.removeprefix("session:")
            for row in rows
            if row.state == "revoked" and row.scope.startswith("session:")
        )

    def repository(self, name: Repository) -> RepositoryConfig:
        found = self._repositories.get(name)
        if found is None:
            raise Refused(
                f"repository {name} is not served here",
                f"Served are {', '.join(sorted(self._repositories)) or 'none'}: see [repository] in flyball.toml",
                rules=("clients/repository",),
            )
        return found

    async def life_of(self, session: SessionId) -> datetime | None:
        """When one of Flyball's own sessions is over at the latest. None: it has not begun."""
        entries = await self._log.read(session_stream(session))
        return entries[0].time + timedelta(seconds=self._bounds.session_seconds) if entries else None

    # --- who stands behind a session ---------------------------------------------------------------------------------

    async def badge(self, session: str, now: datetime, *, scopes: tuple[str, ...] | None = None) -> Badge | None:
        """The badge of a session with everyone's whose authority it was lent. `scopes`: of the token; None: all of its.

        None: it, or somebody in its chain, has ended, is over, was retired, or has no repository here any more.
        """
        return await self._link(session, now, scopes, self._bounds.spawn_depth)

    async def _link(self, session: str, now: datetime, scopes: tuple[str, ...] | None, depth: int) -> Badge | None:
        if not session.startswith(CLIENTS):
            return await self._own_badge(session) if await self._live([agent_stream(session)]) else None
        state = await self.session(SessionId(session))
        started = state.started
        if started is None or started.repository not in self._repositories or now >= started.expires_at:
            return None
        if state.ended is not None or not await self._live(_roots(started.client)):
            return None
        parent = None
        if started.parent is not None:
            parent = await self._link(started.parent, now, None, depth - 1) if depth > 0 else None
            if parent is None:
                return None
        return _badge(state, started, scopes, self._repositories[started.repository], parent)

    async def standing(self, badge: Badge) -> bool:
        """Whether nobody in its chain has been retired or has ended. One row per session and one per client."""
        streams = dict.fromkeys(link.stream for link in badge.chain)
        outside = [link.delivery.removeprefix(CLIENTS) for link in badge.chain if link.session.startswith(CLIENTS)]
        roots = [root for client in outside for root in _roots(client)]
        return await self._live([*dict.fromkeys(roots), *streams])

    async def _live(self, streams: Iterable[StreamId]) -> bool:
        for stream in streams:
            row = await self._log.stream(stream)
            if row is None or row.terminal:
                return False
        return True

    async def _begun(self, client: str, number: int) -> bool:
        return await self._log.stream(agent_stream(client_session(client, number))) is not None


def number_of(session: SessionId) -> int:
    return int(session.rpartition("/")[2])


def _roots(client: str) -> list[StreamId]:
    """Where a client is registered. None at all for a delivery that lent its authority: its own session stands."""
    return [client_stream(client)] if CLIENT_NAME.fullmatch(client) else []


def _badge(
    state: ClientSession,
    started: e.ClientSessionStarted,
    scopes: tuple[str, ...] | None,
    repository: RepositoryConfig,
    parent: Badge | None,
) -> Badge:
    return Badge(
        session=state.id,
        role=started.role,
        delivery=f"{CLIENTS}{started.client}",
        repository=started.repository,
        branch=started.branch,
        base=started.base,
        allowed=started.allowed_paths,
        protected=repository.protected,
        on_behalf_of=started.on_behalf_of,
        tainted=state.tainted,
        scopes=frozenset(started.scopes if scopes is None else scopes),
        parent=parent,
    )
