"""Bearer tokens of programs outside: what one looks like, what is kept of it, how long it may live.

A token names its session openly, so that whoever is shown one knows where to look, and carries 32 random bytes, so that
nobody can make one: `fb1.<session>.<secret>`, both base64url. Only the digest of the whole token is ever kept; under
another session's name it is another token, and nobody's. A plain hash is enough for a secret that nobody chose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from controller.errors import ConfigError

PREFIX = "fb1"
SECRET_BYTES = 32
MAX_TOKEN = 400  # characters
MAX_SECONDS = 86_400  # of a token's life: a day
_SESSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}/[1-9][0-9]{0,8}")


def mint(session: str) -> tuple[str, str]:
    """A new token for this session, and its digest. Raises ConfigError for a session that no token can name."""
    if not _SESSION.fullmatch(session):
        raise ConfigError(f"{session!r} is no session", "A session is named NAME/NUMBER")
    token = f"{PREFIX}.{_encoded(session.encode())}.{_encoded(secrets.token_bytes(SECRET_BYTES))}"
    return token, digest_of(token)


def session_in(token: object) -> str | None:
    """The session that a token names. None: it is no token of ours, whatever else it may be. Never raises."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        return None
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != PREFIX:  # noqa: PLR2004 - prefix, session, secret
        return None
    session, secret = _decoded(parts[1]), _decoded(parts[2])
    if session is None or secret is None or len(secret) != SECRET_BYTES:
        return None
    name = session.decode("ascii", errors="replace")
    return name if _SESSION.fullmatch(name) else None


def new_secret() -> str:
    """A secret for a client: 32 random bytes, which a person copies once."""
    return f"{PREFIX}s_{_encoded(secrets.token_bytes(SECRET_BYTES))}"


def digest_of(token: str) -> str:
    """What is kept of a token or a secret: "sha256:<64 hex>"."""
    return "sha256:" + hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def same(digest: str, other: str) -> bool:
    """Compared in a time that tells nothing of where they differ."""
    return hmac.compare_digest(digest.encode(), other.encode())


def expiry(now: datetime, seconds: object) -> datetime:
    """When a token ends that is good for so many seconds.

    Raises ConfigError for one that would be good for nothing, for ever, or for more than a day.
    """
    if type(seconds) is not int or not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(
            f"a token cannot be good for {seconds!r} seconds", f"Give it a life of 1 to {MAX_SECONDS} seconds (a day)"
        )
    return now + timedelta(seconds=seconds)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes | None:
    """None: not base64url without padding, or not in its one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if _encoded(raw) == text else None
