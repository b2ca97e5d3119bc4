"""A request to the token endpoint, read strictly: one form, each parameter once, one way of saying who asks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request

from tools.assertion import issuer_in

FORM = "application/x-www-form-urlencoded"
MAX_BODY_BYTES = 16 * 1024
MAX_PARAMETERS = 30
BEARER_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Wrong(Exception):  # noqa: N818 - an answer, not an error
    """An error of RFC 6749, section 5.2, as it is told."""

    def __init__(
        self, error: str, way_out: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.way_out = way_out
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client shows of itself, not yet believed."""

    SECRET: ClassVar[str] = "client_secret"  # noqa: S105 - the name of a method
    ASSERTION: ClassVar[str] = "private_key_jwt"
    how: str
    client: str
    proof: str
    challenge: bool = False  # it came in the Authorization header, so the answer to a wrong one challenges


async def form_of(request: Request) -> dict[str, str]:
    """The parameters, each once; empty ones are left out (RFC 6749, section 3.2). Raises Wrong."""
    if request.url.query:
        raise Wrong("invalid_request", "Send parameters in the body: whatever stands in a URL is logged by somebody")
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != FORM:
        raise Wrong("invalid_request", f"Send the parameters as {FORM}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Wrong("invalid_request", "Send the body without an encoding")
    body = bytearray()
    async for chunk in request.stream():
        body.extend(chunk)
        if len(body) > MAX_BODY_BYTES:
            raise Wrong("invalid_request", f"Send at most {MAX_BODY_BYTES} bytes", status=413)
    return _parameters(bytes(body))


def _parameters(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise Wrong("invalid_request", f"Send one form of at most {MAX_PARAMETERS} parameters in UTF-8") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Wrong("invalid_request", "Send each parameter once")
    return {name: value for name, value in found.items() if value}


def credential_in(request: Request, form: Mapping[str, str]) -> Credential | None:
    """How the client says who it is. None: it does not. Raises Wrong for more ways than one."""
    header = request.headers.get("authorization")
    ways = [way for way in (header, form.get("client_secret"), form.get("client_assertion")) if way is not None]
    if len(ways) > 1:
        raise Wrong("invalid_request", "Authenticate in one way: header, client_secret or client_assertion")
    if header is not None:
        return _basic(header, form.get("client_id"))
    if "client_assertion" in form:
        return _asserted(form)
    if "client_secret" in form:
        if "client_id" not in form:
            raise Wrong("invalid_request", "Send client_id beside client_secret")
        return Credential(Credential.SECRET, form["client_id"], form["client_secret"])
    return None


def _basic(header: str, client_id: str | None) -> Credential:
    kind, _, encoded = header.partition(" ")
    try:
        client, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        client, colon, secret = "", "", ""
    if kind.lower() != "basic" or not colon:
        raise unproven(challenge=True)
    client, secret = unquote_plus(client), unquote_plus(secret)  # RFC 6749, section 2.3.1
    if client_id not in (None, client):
        raise Wrong("invalid_request", "Send the client_id of the Authorization header, or none")
    return Credential(Credential.SECRET, client, secret, challenge=True)


def _asserted(form: Mapping[str, str]) -> Credential:
    if form.get("client_assertion_type") != BEARER_ASSERTION:
        raise Wrong("invalid_request", f"Send client_assertion_type={BEARER_ASSERTION}")
    client = issuer_in(form["client_assertion"])
    if client is None or form.get("client_id") not in (None, client):
        raise unproven(challenge=False)
    return Credential(Credential.ASSERTION, client, form["client_assertion"])


def unproven(*, challenge: bool) -> Wrong:
    """One answer for an unknown client, a retired one and a wrong proof."""
    return Wrong(
        "invalid_client",
        "Authenticate as a registered client (flyball rbac clients list) with its secret, or an assertion of its key",
        status=401,
        headers={"WWW-Authenticate": 'Basic realm="flyball"'} if challenge else None,
    )
