"""A client's signed word that it is itself (RFC 7523, `private_key_jwt`), and which keys may sign one.

Only asymmetric algorithms are read, and only the one that the registered key is made for: a public key is never taken
for a shared secret. The assertion lives minutes, names this server, and is good once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from controller.errors import ConfigError

ALGORITHMS = ("ES256", "EdDSA", "PS256", "RS256")
MAX_LIFE_S = 300  # from now to its `exp`
LEEWAY_S = 30  # that two clocks may differ
MAX_ASSERTION = 8_192  # characters
MAX_JTI = 200
ED25519_BYTES = 32
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 8_192
BINDING = frozenset({"act", "cnf"})  # of a key that was not shown, or by another than its subject
TYPES = frozenset({"JWT", "client-authentication+jwt"})


@dataclass(frozen=True, slots=True)
class Assertion:
    client: str
    id: str  # `jti`: no other assertion of this client has it


def issuer_in(assertion: str) -> str | None:
    """Whose word it claims to be, not yet believed. None: nobody's."""
    try:
        claims = jwt.decode(assertion[:MAX_ASSERTION], options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    found = claims.get("iss")
    return found if isinstance(found, str) else None


def verified(
    assertion: str, *, client: str, public_key: str, audiences: tuple[str, ...], now: datetime
) -> Assertion | None:
    """None: it is not this client's word to this server now. Times are checked against `now`, not the machine's."""
    if len(assertion) > MAX_ASSERTION:
        return None
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        header = jwt.get_unverified_header(assertion)
        if (
            "crit" in header
            or header.get("typ", "JWT") not in TYPES
            or header.get("alg") not in algorithms_of(public_key)
        ):
            return None
        options["require"] = ["iss", "sub", "aud", "exp", "jti"]
        claims = jwt.decode(
            assertion, public_key, algorithms=[header["alg"]], audience=list(audiences), issuer=client, options=options
        )
    except (jwt.PyJWTError, ConfigError, ValueError, TypeError, RecursionError):
        return None
    return _in_time(claims, client, now)


def _in_time(claims: dict[str, Any], client: str, now: datetime) -> Assertion | None:
    at, ends, jti = now.timestamp(), claims["exp"], claims["jti"]
    begins, issued = claims.get("nbf", 0), claims.get("iat", 0)
    if claims["sub"] != client or any(type(time) not in (int, float) for time in (ends, begins, issued)):
        return None
    if BINDING & claims.keys() or max(begins, issued) > at + LEEWAY_S:
        return None
    if not at < ends <= at + MAX_LIFE_S + LEEWAY_S:
        return None
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
        return None
    return Assertion(client, jti)


def algorithms_of(public_key: str) -> tuple[str, ...]:
    """Those that this public key (PEM) is made for. Raises ConfigError for anything that no client may sign with."""
    for algorithms, family in ((("RS256", "PS256"), "RS256"), (("ES256",), "ES256"), (("EdDSA",), "EdDSA")):
        key = _loaded(public_key, family)
        if key is not None:
            return algorithms
    raise ConfigError(
        "this is no public key that a client can sign with",
        f"Give one RSA ({MIN_RSA_BITS} to {MAX_RSA_BITS} bits), P-256 or Ed25519 public key in PEM: "
        "openssl pkey -in private.pem -pubout",
    )


def _loaded(public_key: str, algorithm: str) -> Any:
    """None: it is not a public key of this family, or too weak."""
    if "PUBLIC KEY" not in public_key or "PRIVATE KEY" in public_key:
        return None
    try:
        key: Any = jwt.get_algorithm_by_name(algorithm).prepare_key(public_key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if _strong(algorithm, key) else None


def _strong(algorithm: str, key: Any) -> bool:
    match algorithm:
        case "RS256":
            return bool(MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS)
        case "ES256":
            return bool(key.curve.name == "secp256r1")
        case _:
            return len(key.public_bytes_raw()) == ED25519_BYTES
