"""The gateway's own small authorization server: what it is and where (RFC 8414, RFC 9728), and one token endpoint.

Two grants: `client_credentials` for a registered program, which proves itself by its secret or by an assertion that its
key has signed (RFC 7523), and token exchange (RFC 8693), by which a session lends a part of its authority to another.
There is nobody to send to a browser. A token is good for this gateway only (RFC 8707).

Attempts are counted per client in what all controllers share: those that fail and those that succeed apart, so that a
stranger's guesses lock nobody out. When the count cannot be reached, nobody gets a token.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from controller.client_registry import CLIENT_ROLES
from controller.client_sessions import Issued, Loan
from controller.clients import Clients
from controller.domain.events import ClientRegistered, HowIssued
from controller.errors import ConfigError, Refused, Unavailable
from controller.ports import Badge, Desk, Limits
from rbac import tokens
from rbac.catalogue import SCOPES
from tools.assertion import ALGORITHMS, verified
from tools.oauth_form import Credential, Wrong, credential_in, form_of, unproven

RESOURCE_METADATA = "/.well-known/oauth-protected-resource/mcp"
SERVER_METADATA = "/.well-known/oauth-authorization-server"
TOKEN = "/token"  # noqa: S105 - a path
AUTHORIZE = "/authorize"  # clients' libraries ask for its address and never need it
OAUTH_PATHS = frozenset({RESOURCE_METADATA, SERVER_METADATA, TOKEN, AUTHORIZE})
CREDENTIALS_GRANT = "client_credentials"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
ATTEMPTS, ATTEMPTS_WINDOW_S = 30, 60  # of one client, failed ones and others apart
FOR_EVER_S = 2**40  # a window of the shared count that never turns: what is taken once in it is taken
RETRY_S = 5
MAX_TELLING = 400  # characters of an error_description
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# What the clients' rules are called on the wire (RFC 6749 5.2, RFC 8693 2.2.2).
ERRORS = {
    "clients/scope": "invalid_scope",
    "clients/unknown": "invalid_client",
    "clients/over": "invalid_grant",
    "clients/repository": "unauthorized_client",
}
NO_CLIENT = tokens.digest_of("")  # compared with where there is no secret, so that a wrong name takes as long


@dataclass(frozen=True, slots=True)
class TokenDesk:
    """What the endpoint works with. `resource` is the gateway's URL; `issuer` an external one's, "" without."""

    clients: Clients
    desk: Desk
    limits: Limits
    resource: str
    token_seconds: int
    issuer: str = ""

    @property
    def origin(self) -> str:
        return origin_of(self.resource)


def origin_of(resource: str) -> str:
    """Scheme and host of the gateway's URL: who issues its tokens."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}"


def oauth_app(tokens_of: TokenDesk) -> ASGIApp:
    """ASGI, to stand behind the gateway's door."""

    async def resource(_: Request) -> Response:
        return JSONResponse(resource_metadata(tokens_of), headers={"Cache-Control": "max-age=300"})

    async def server(_: Request) -> Response:
        return JSONResponse(server_metadata(tokens_of), headers={"Cache-Control": "max-age=300"})

    async def token(request: Request) -> Response:
        return await _answered(lambda: _token(tokens_of, request))

    async def authorize(_: Request) -> Response:
        return _told(Wrong("unsupported_response_type", "Nobody signs in here by browser: use client_credentials"))

    return Starlette(
        routes=[
            Route(RESOURCE_METADATA, resource, methods=["GET"]),
            Route(SERVER_METADATA, server, methods=["GET"]),
            Route(TOKEN, token, methods=["POST"]),
            Route(AUTHORIZE, authorize, methods=["GET"]),
        ]
    )


def resource_metadata(of: TokenDesk) -> dict[str, Any]:
    return {
        "resource": of.resource,
        "resource_name": "Flyball",
        "authorization_servers": [of.origin, *([of.issuer] if of.issuer else [])],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
    }


def server_metadata(of: TokenDesk) -> dict[str, Any]:
    return {
        "issuer": of.origin,
        "token_endpoint": of.origin + TOKEN,
        "authorization_endpoint": of.origin + AUTHORIZE,
        "response_types_supported": [],
        "grant_types_supported": [CREDENTIALS_GRANT, EXCHANGE_GRANT],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "scopes_supported": list(SCOPES),
    }


async def _answered(work: Callable[[], Awaitable[Mapping[str, Any]]]) -> Response:
    try:
        return JSONResponse(await work(), headers=NO_STORE)
    except Wrong as wrong:
        return _told(wrong)
    except Unavailable as broken:
        headers = {"Retry-After": str(RETRY_S)}
        return _told(Wrong("temporarily_unavailable", str(broken), status=503, headers=headers))
    except Refused as no:
        error = next((ERRORS[rule] for rule in no.rules if rule in ERRORS), "invalid_request")
        return _told(Wrong(error, str(no), status=401 if error == "invalid_client" else 400))
    except ConfigError as wrong_value:
        return _told(Wrong("invalid_request", str(wrong_value)))


def _told(wrong: Wrong) -> Response:
    """RFC 6749 allows printable ASCII without quotes and backslashes in a description."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in wrong.way_out)[:MAX_TELLING]
    body = {"error": wrong.error, "error_description": plain}
    return JSONResponse(body, wrong.status, {**NO_STORE, **wrong.headers})


async def _token(of: TokenDesk, request: Request) -> Mapping[str, Any]:
    form = await form_of(request)
    for name in ("resource", "audience"):
        if form.get(name, of.resource) != of.resource:
            raise Wrong("invalid_target", f"Leave {name} out, or send {of.resource}: tokens are good for nothing else")
    credential = credential_in(request, form)
    match form.get("grant_type"):
        case "client_credentials":
            return await _credentials(of, form, credential)
        case "urn:ietf:params:oauth:grant-type:token-exchange":
            return await _exchange(of, form, credential)
        case None:
            raise Wrong("invalid_request", f"Send grant_type={CREDENTIALS_GRANT}, or token exchange's")
        case _:
            raise Wrong("unsupported_grant_type", f"Use {CREDENTIALS_GRANT} or {EXCHANGE_GRANT}")


# --- client_credentials -----------------------------------------------------------------------------------------------


async def _credentials(of: TokenDesk, form: Mapping[str, str], credential: Credential | None) -> Mapping[str, Any]:
    if credential is None:
        raise unproven(challenge=False)
    client, how = await _proven(of, credential)
    asked = form.get("scope", "").split()
    scopes = tuple(scope for scope in client.scopes if scope in asked) if asked else client.scopes
    if not scopes:
        raise Wrong("invalid_scope", f"Ask for some of: {' '.join(client.scopes)}")
    issued = await of.clients.sign_in(client.client, seconds=_seconds(of, form), how=how, scopes=scopes)
    return _issued(of, issued)


async def _proven(of: TokenDesk, credential: Credential) -> tuple[ClientRegistered, HowIssued]:
    """The client, and how it showed that it is. Raises Wrong, and Unavailable when attempts cannot be counted."""
    client = await of.clients.registered(credential.client)
    who = client.client if client else "(unknown)"
    if credential.how == Credential.SECRET:
        known = client.secret if client and client.secret else NO_CLIENT
        right = tokens.same(tokens.digest_of(credential.proof), known) and known != NO_CLIENT
        how: HowIssued = "client_secret"
    else:
        right, how = await _asserted(of, client, credential.proof), "private_key_jwt"
    await _counted(of.limits, f"token/{'given' if right else 'failed'}/{who}")
    if client is None or not right:
        raise unproven(challenge=credential.challenge)
    return client, how


async def _asserted(of: TokenDesk, client: ClientRegistered | None, assertion: str) -> bool:
    if client is None or client.public_key is None:
        return False
    found = verified(
        assertion,
        client=client.client,
        public_key=client.public_key,
        audiences=(of.origin, of.origin + TOKEN),
        now=of.clients.now(),
    )
    if found is None:
        return False
    once = hashlib.sha256(found.id.encode(errors="surrogatepass")).hexdigest()
    return await of.limits.take(f"assertion/{client.client}/{once}", limit=1, window_s=FOR_EVER_S) == 0


async def _counted(limits: Limits, who: str) -> None:
    wait_s = await limits.take(who, limit=ATTEMPTS, window_s=ATTEMPTS_WINDOW_S)
    if wait_s > 0:
        raise Wrong(
            "temporarily_unavailable",
            f"A client may ask {ATTEMPTS} times a minute: keep the token until it expires",
            status=429,
            headers={"Retry-After": str(math.ceil(wait_s))},
        )


# --- token exchange ---------------------------------------------------------------------------------------------------


async def _exchange(of: TokenDesk, form: Mapping[str, str], credential: Credential | None) -> Mapping[str, Any]:
    if credential is not None:
        raise Wrong("invalid_request", "Send the subject_token alone: the session that lends speaks for itself")
    if "actor_token" in form or form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise Wrong("invalid_request", f"Ask for {ACCESS_TOKEN}, without an actor_token")
    if form.get("subject_token_type") != ACCESS_TOKEN or "subject_token" not in form:
        raise Wrong("invalid_request", f"Send subject_token and subject_token_type={ACCESS_TOKEN}")
    badge, until = await _lender(of, form["subject_token"])
    role = form.get("role", badge.role)
    if role not in CLIENT_ROLES:
        raise Wrong("invalid_request", f"Send role, one of {', '.join(CLIENT_ROLES)}")
    loan = Loan(
        role=role,
        seconds=_seconds(of, form),
        scopes=tuple(form.get("scope", "").split()),
        allowed_paths=tuple(form.get("paths", "").split()),
    )
    issued = await of.clients.lend(badge, loan, until=until)
    return {**_issued(of, issued), "issued_token_type": ACCESS_TOKEN}


async def _lender(of: TokenDesk, token: str) -> tuple[Badge, datetime]:
    """The session that lends, and when its token ends."""
    badge = await of.desk.authenticated(token)
    if badge is None:
        await _counted(of.limits, "token/failed/(unknown)")
        raise Wrong("invalid_grant", "Send the access token of a session that lives")
    await _counted(of.limits, f"token/lent/{badge.session}")
    until = await of.clients.life_of(badge, token)
    if until is None:
        raise Wrong("invalid_grant", "Send the access token of a session that the log knows")
    tainted = any(of.desk.tainted(link.session) for link in badge.chain)
    return replace(badge, tainted=badge.tainted or tainted), until


def _seconds(of: TokenDesk, form: Mapping[str, str]) -> int:
    """`expires_in` may ask for a shorter life than is usual here."""
    asked = form.get("expires_in")
    if asked is None:
        return of.token_seconds
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 6 and 0 < int(asked) <= of.token_seconds):  # noqa: PLR2004
        raise Wrong("invalid_request", f"Ask for expires_in of 1 to {of.token_seconds} seconds, or leave it out")
    return int(asked)


def _issued(of: TokenDesk, issued: Issued) -> dict[str, Any]:
    return {
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": max(1, math.floor((issued.expires_at - of.clients.now()).total_seconds())),
        "scope": " ".join(issued.scopes),
    }
