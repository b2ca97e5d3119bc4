"""Access tokens by an external issuer (RFC 9068): verified by its published keys, and mapped to a client known here.

The issuer says which program it is; what that program may do is registered here, and its token's scopes can only
narrow it. Only asymmetric algorithms count. Keys are fetched within bounds of time and size, kept for ten minutes, and
fetched again at most once a minute for a key that nobody knows. Without keys nobody can tell, and nobody is let in.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt

from controller.client_sessions import Proven
from controller.clients import Clients
from controller.errors import ConfigError, Unavailable
from controller.ports import Badge, Clock, Visit
from controller.settings import IssuerSection
from rbac import tokens

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_TOKEN = 16 * 1024  # characters
MAX_KEYS_BYTES = 256 * 1024
MAX_KEYS = 100
FETCH_S = 5.0
KEPT_S = 600
AGAIN_S = 60
MAX_SCOPES = 100
LEEWAY_S = 30  # that two clocks may differ
# Claims that make a token less than a bearer's: bound to a key that its sender must show (RFC 7800, RFC 9449), or used
# by another than its subject (RFC 8693). Neither is checked here, so such a token counts for nothing.
BINDING = frozenset({"cnf", "act"})
WAY_OUT = "Look at gateway.issuer in flyball.toml, and whether the issuer answers"


NEVER = datetime.min.replace(tzinfo=UTC)
Jwk = dict[str, Any]


@dataclass(slots=True)
class _Keys:
    known: dict[str, Jwk] = field(default_factory=dict)  # by `kid`
    fetched_at: datetime = NEVER  # with success
    asked_at: datetime = NEVER


class IssuerTokens:
    """`audience` is the gateway's own URL, by which tokens must name it."""

    def __init__(self, section: IssuerSection, audience: str, clock: Clock) -> None:
        """Raises ConfigError for keys that would travel in clear."""
        address = urlsplit(section.keys_url)
        if address.scheme != "https" and (address.scheme != "http" or address.hostname not in LOOPBACK):
            raise ConfigError(f"gateway.issuer.keys_url is {section.keys_url!r}", "Give an https URL")
        self._section = section
        self._audience = audience
        self._clock = clock
        self._keys = _Keys()
        self._one_at_a_time = asyncio.Lock()
        self._http = httpx2.AsyncClient(timeout=FETCH_S, follow_redirects=False, trust_env=False)

    async def client_of(self, token: str) -> Proven | None:
        """What the token proves. None: it is not one of this issuer's for us, or its time is over.

        Raises Unavailable when the issuer's keys cannot be had.
        """
        header = _header(token)
        if header is None or _unverified(token).get("iss") != self._section.url:
            return None
        key = await self._key(header["kid"])
        claims = self._verified(token, header["alg"], key) if key is not None else None
        return self._proven(claims) if claims is not None else None

    async def close(self) -> None:
        await self._http.aclose()

    def _verified(self, token: str, algorithm: str, key: Jwk) -> dict[str, Any] | None:
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["iss", "aud", "exp"]}
        if key.get("alg", algorithm) != algorithm:
            return None
        try:
            return jwt.decode(
                token,
                jwt.PyJWK(key, algorithm),
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._section.url,
                options=options,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None

    def _proven(self, claims: dict[str, Any]) -> Proven | None:
        """Times are checked against the clock of the house: never a token that is good for ever."""
        at = self._clock.now().timestamp()
        client, scope = claims.get(self._section.client_claim), claims.get("scope", "")
        if not isinstance(client, str) or not isinstance(scope, str):
            return None
        if BINDING & claims.keys() or not _now(claims, at) or not self._speaks_for(client, claims.get("sub")):
            return None
        ends = min(claims["exp"], at + tokens.MAX_SECONDS)
        return Proven(client, tuple(scope.split()[:MAX_SCOPES]), datetime.fromtimestamp(ends, UTC))

    def _speaks_for(self, client: str, subject: object) -> bool:
        """A token of another subject lets a program act for a person, which nobody here has agreed to."""
        return subject == self._section.subjects.get(client, client)

    # --- keys --------------------------------------------------------------------------------------------------------

    async def _key(self, kid: str) -> Jwk | None:
        """None: the issuer has no such key."""
        async with self._one_at_a_time:
            now, keys = self._clock.now(), self._keys
            stale = now - keys.fetched_at >= timedelta(seconds=KEPT_S)
            if (stale or kid not in keys.known) and now - keys.asked_at >= timedelta(seconds=AGAIN_S):
                keys.asked_at = now
                keys.known, keys.fetched_at = await self._fetched(), now
            elif stale:
                raise Unavailable(f"the keys of {self._section.url} could not be had a moment ago", WAY_OUT)
            return keys.known.get(kid)

    async def _fetched(self) -> dict[str, Jwk]:
        try:
            async with asyncio.timeout(FETCH_S):
                body = await self._downloaded()
            return _read(body)
        except (httpx2.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            raise Unavailable(f"the keys of {self._section.url} cannot be had: {error!r}", WAY_OUT) from error

    async def _downloaded(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._section.keys_url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body.extend(chunk)
                if len(body) > MAX_KEYS_BYTES:
                    raise ValueError(f"more than {MAX_KEYS_BYTES} bytes")
        return bytes(body)


class Outsiders:
    """`ports.Visitors` for both kinds of tokens: ours, and an external issuer's."""

    def __init__(self, clients: Clients, issuer: IssuerTokens) -> None:
        self._clients = clients
        self._issuer = issuer

    async def visitor(self, token: str, now: datetime) -> Visit | None:
        if tokens.session_in(token) is not None:
            return await self._clients.visitor(token, now)
        proven = await self._issuer.client_of(token)
        return await self._clients.admitted(token, proven, now) if proven is not None else None

    async def standing(self, badge: Badge) -> bool:
        return await self._clients.standing(badge)


def _now(claims: dict[str, Any], at: float) -> bool:
    """Whether the token's own times have it count now. One that was issued later is of a clock that is wrong."""
    ends, begins, issued = claims["exp"], claims.get("nbf", 0), claims.get("iat", 0)
    if any(type(time) not in (int, float) for time in (ends, begins, issued)):
        return False
    return bool(begins <= at < ends < 2**40 and issued <= at + LEEWAY_S)


def _header(token: str) -> dict[str, str] | None:
    """None: nothing that an issuer could have signed for us."""
    if not 0 < len(token) <= MAX_TOKEN or token.count(".") != 2:  # noqa: PLR2004 - header, claims, signature
        return None
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    kind, algorithm, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in TYPES or "crit" in header:
        return None  # we understand none of the extensions that may be critical
    return header if algorithm in ALGORITHMS and isinstance(kid, str) and kid else None


def _unverified(token: str) -> dict[str, Any]:
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}


def _read(body: bytes) -> dict[str, Jwk]:
    """The keys that we can use. Others (encryption, algorithms of tomorrow) may stand beside them."""
    found = json.loads(body)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError("no JWK set")
    keys: dict[str, Jwk] = {}
    for one in listed:
        if isinstance(one, dict) and isinstance(one.get("kid"), str) and one.get("use", "sig") == "sig":
            keys[one["kid"]] = one
    return keys
