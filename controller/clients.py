"""Sessions of programs outside, and the tokens that speak for them.

A client has one session a day: a token that it asks for continues it, or begins the next one from the repository's tip
on a branch of its own. A session may lend its authority to another, for less: no wider scopes or paths, no longer, no
deeper than the bound, and never once it has read an outsider's text. What a lent session may do is decided along its
whole chain on every call, so nothing here needs to be believed later.

Only digests of tokens are written down. Every controller on the log knows every token, and sees a retired client, an
ended session or parent on its next look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from controller.client_records import MAX_OPEN, Records
from controller.client_registry import CLIENT_ROLES, narrowed
from controller.client_sessions import (
    SESSION_S,
    Issued,
    Loan,
    Place,
    Proven,
    begun,
    branch_of,
    continues,
    issued_in,
    over_of,
    scopes_held,
    within,
)
from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.client import Client, ClientSession
from controller.domain.entry import Caller, Draft
from controller.domain.ids import (
    CLIENTS,
    Branch,
    Commit,
    Digest,
    Repository,
    SessionId,
    agent_stream,
    client_stream,
)
from controller.errors import ConfigError, Refused, Unavailable
from controller.ports import Badge, Clock, Log, Rejected, Visit
from rbac import tokens
from rbac.decide import Authority

ATTEMPTS = 10  # at an append whose streams move on meanwhile

Tip = Callable[[Repository, Branch], Awaitable[Commit | None]]


class Clients:
    """`ports.Visitors`, and what the token endpoint and the command line give tokens by.

    `resource` is the URL that tokens are good for; "" as long as nobody knows it, and then none is given or taken.
    """

    def __init__(
        self,
        *,
        log: Log,
        clock: Clock,
        records: Records,
        authority: Authority,
        tip: Tip,
        bounds: Bounds,
        resource: Callable[[], str],
    ) -> None:
        self._log = log
        self._clock = clock
        self._records = records
        self._authority = authority
        self._tip = tip
        self._bounds = bounds
        self._resource = resource

    def now(self) -> datetime:
        return self._clock.now()

    async def registered(self, name: str) -> e.ClientRegistered | None:
        """None: there is no such client, or it has been retired."""
        client = await self._records.client(name)
        return client.registered if client.retired is None else None

    # --- tokens ------------------------------------------------------------------------------------------------------

    async def sign_in(
        self, name: str, *, seconds: object, how: e.HowIssued, scopes: tuple[str, ...] = (), by: Caller | None = None
    ) -> Issued:
        """A token for a client's session of the day. `scopes` empty: all of its. `by=None`: it asked for itself.

        Raises Refused for a client that may not come in or scopes that it has not got, and ConfigError for a life that
        no token has.
        """
        for _ in range(ATTEMPTS):
            client, registered = await self._open(name)
            until = tokens.expiry(self.now(), seconds)
            given = within(scopes, registered.scopes)
            place = await self._own_place(client, registered, until, by)
            issued = await self._issue(place, given, until, how)
            if issued is not None:
                return issued
        raise _busy(name)

    async def lend(self, parent: Badge, loan: Loan, *, until: datetime) -> Issued:
        """A session under this one. `until` is when the caller's own token ends: see `life_of`. Raises Refused."""
        self._lendable(parent, loan)
        now = self.now()
        ends = min(tokens.expiry(now, loan.seconds), until)
        revoked = await self._records.revoked()
        gone = any(link.session in revoked for link in parent.chain)
        if gone or ends <= now or await self._records.badge(parent.session, now) is None:
            raise Refused("the session that would lend has ended", "Authenticate again", rules=("clients/over",))
        if (await self._tainted(parent)) or any(link.tainted for link in parent.chain):
            raise Refused(
                "this session has read text by somebody outside, so it lends its authority to nobody",
                "Let a session that has not read it lend",
                rules=("clients/tainted",),
            )
        for _ in range(ATTEMPTS):
            place = await self._lent_place(parent, loan, ends)
            issued = await self._issue(place, loan.scopes or scopes_held(parent), ends, "token_exchange")
            if issued is not None:
                return issued
        raise _busy(parent.session)

    async def life_of(self, badge: Badge, token: str) -> datetime | None:
        """When the token ends that this session came with; of a session of Flyball's own, when that is over.

        None: it was given no such token.
        """
        if not badge.session.startswith(CLIENTS):
            return await self._records.life_of(SessionId(badge.session))
        issued = issued_in(await self._records.session(SessionId(badge.session)), token)
        return issued.expires_at if issued else None

    # --- who comes in ------------------------------------------------------------------------------------------------

    async def visitor(self, token: str, now: datetime) -> Visit | None:
        """See `ports.Visitors`."""
        session = tokens.session_in(token)
        if session is None or not session.startswith(CLIENTS):
            return None
        issued = issued_in(await self._records.session(SessionId(session)), token)
        return await self._visit(session, issued, now) if issued else None

    async def admitted(self, token: str, proven: Proven, now: datetime) -> Visit | None:
        """As `visitor`, for a token by an external issuer, which is written down when it is first seen.

        None: its client may not come in here, or the token no longer counts.
        """
        for _ in range(ATTEMPTS):
            registered = await self.registered(proven.client)
            if registered is None or now >= proven.expires_at:
                return None
            for state in await self._records.open_sessions(proven.client):
                if (known := issued_in(state, token)) is not None:
                    return await self._visit(state.id, known, now)
            client, registered = await self._open(proven.client)
            until = min(proven.expires_at, now + timedelta(seconds=tokens.MAX_SECONDS))
            place = await self._own_place(client, registered, until, None)
            scopes = tuple(sorted(set(proven.scopes) & set(registered.scopes)))
            await self._issue(place, scopes, until, "external_issuer", token=token)
        raise _busy(proven.client)

    async def standing(self, badge: Badge) -> bool:
        """See `ports.Visitors`."""
        return await self._records.standing(badge)

    async def _visit(self, session: str, issued: e.TokenIssued, now: datetime) -> Visit | None:
        if now >= issued.expires_at or not issued.audience or issued.audience != self._resource():
            return None
        badge = await self._records.badge(session, now, scopes=issued.scopes)
        return Visit(badge, issued.audience, issued.expires_at) if badge else None

    # --- which session -----------------------------------------------------------------------------------------------

    async def _open(self, name: str) -> tuple[Client, e.ClientRegistered]:
        client = await self._records.client(name)
        if client.registered is None or client.retired is not None:
            raise Refused(
                "there is no such client, or it has been retired",
                "Ask a person to register one: flyball rbac clients add",
                rules=("clients/unknown",),
            )
        return client, client.registered

    async def _own_place(
        self, client: Client, registered: e.ClientRegistered, until: datetime, by: Caller | None
    ) -> Place:
        """Its session of the day, or the next."""
        now, revoked = self.now(), await self._records.revoked()
        sessions = await self._records.open_sessions(client.name)
        root = client_stream(client.name)
        for state in sessions:
            if state.id not in revoked and continues(state, now, until):
                by_it = by or self._caller(registered.role, state.id, registered.by)
                return Place(state.id, by_it, (), {root: client.version, agent_stream(state.id): state.version})
        repository = self._records.repository(registered.repository)
        session = await self._next(client.name, sessions, now, revoked)
        started = e.ClientSessionStarted(
            client=client.name,
            role=registered.role,
            repository=repository.name,
            base=await self._base(repository.name, repository.branch),
            branch=branch_of(session),
            scopes=registered.scopes,
            allowed_paths=registered.allowed_paths,
            on_behalf_of=registered.by,
            parent=None,
            expires_at=now + timedelta(seconds=SESSION_S),
        )
        by_it = by or self._caller(registered.role, session, registered.by)
        return begun(Place(session, by_it, expect={root: client.version}), started, over_of(sessions, now, revoked))

    async def _lent_place(self, parent: Badge, loan: Loan, ends: datetime) -> Place:
        name = parent.delivery.removeprefix(CLIENTS)
        client, now, revoked = await self._records.client(name), self.now(), await self._records.revoked()
        sessions = await self._records.open_sessions(name)
        lent = [one for one in sessions if one.started and one.started.parent == parent.session]
        if len([one for one in lent if one not in over_of(sessions, now, revoked)]) >= self._bounds.fan_out_per_root:
            raise Refused(
                f"this session lends to {self._bounds.fan_out_per_root} others already",
                "Wait until one of them has ended",
                rules=("clients/too-many",),
            )
        session = await self._next(name, sessions, now, revoked)
        started = e.ClientSessionStarted(
            client=name,
            role=loan.role,
            repository=parent.repository,
            base=parent.base,
            branch=branch_of(session),
            scopes=loan.scopes or scopes_held(parent),
            allowed_paths=loan.allowed_paths or parent.allowed,
            on_behalf_of=parent.on_behalf_of,
            parent=SessionId(parent.session),
            expires_at=ends,
        )
        by = self._caller(parent.role, parent.session, parent.on_behalf_of)
        root = {client_stream(name): client.version}
        return begun(Place(session, by, expect=root), started, over_of(sessions, now, revoked))

    async def _next(
        self, name: str, sessions: list[ClientSession], now: datetime, revoked: frozenset[str]
    ) -> SessionId:
        if len(sessions) - len(over_of(sessions, now, revoked)) >= MAX_OPEN:
            raise Refused(
                f"{name} has {MAX_OPEN} open sessions",
                "Wait until one has ended, or ask for shorter lives",
                rules=("clients/too-many",),
            )
        return await self._records.next_session(name)

    async def _base(self, repository: Repository, branch: Branch) -> Commit:
        tip = await self._tip(repository, branch)
        if tip is None:
            raise Refused(
                f"repository {repository} has no branch {branch} here",
                "Bring it in first: flyball serve, or flyball run",
                rules=("clients/repository",),
            )
        return tip

    # --- lending -----------------------------------------------------------------------------------------------------

    def _lendable(self, parent: Badge, loan: Loan) -> None:
        """Raises Refused for a loan that would be wider or deeper than what its lender has."""
        if loan.role not in CLIENT_ROLES:
            raise Refused(
                f"no session is lent as {loan.role!r}", f"Choose {', '.join(CLIENT_ROLES)}", rules=("clients/role",)
            )
        if len(parent.chain) > self._bounds.spawn_depth:
            raise Refused(
                f"this session stands {len(parent.chain) - 1} deep, and the bound is {self._bounds.spawn_depth}",
                "Let a session nearer to the first one lend",
                rules=("clients/depth",),
            )
        within(loan.scopes, scopes_held(parent))
        narrowed(loan.allowed_paths, parent.allowed)

    async def _tainted(self, parent: Badge) -> bool:
        """By what the log says of the chain; what one process knows beyond that stands on the badges."""
        links = [SessionId(link.session) for link in parent.chain if link.session.startswith(CLIENTS)]
        return any([(await self._records.session(link)).tainted for link in links])

    # --- writing it down ---------------------------------------------------------------------------------------------

    async def _issue(
        self, place: Place, scopes: tuple[str, ...], until: datetime, how: e.HowIssued, *, token: str = ""
    ) -> Issued | None:
        """`token=""`: a new one. None: somebody else wrote first."""
        audience = self._resource()
        if not audience:
            raise ConfigError(
                "nobody knows which URL a token would be good for", "Set gateway.port or gateway.public_url"
            )
        given = token or tokens.mint(place.session)[0]
        event = e.TokenIssued(
            token=Digest(tokens.digest_of(given)), audience=audience, scopes=scopes, expires_at=until, how=how
        )
        drafts = [*place.drafts, Draft(agent_stream(place.session), event)]
        kept = await self._log.append(drafts, expect=place.expect, by=place.by)
        return None if isinstance(kept, Rejected) else Issued(given, place.session, scopes, until)

    def _caller(self, role: str, session: str, on_behalf_of: str) -> Caller:
        return Caller(f"agent:{role}/{session}", Digest(self._authority.digest), on_behalf_of)


def _busy(who: str) -> Unavailable:
    return Unavailable(f"{who} is too busy to write to", "Try again")
