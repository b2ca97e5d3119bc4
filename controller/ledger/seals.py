"""Sealed text: redacted, then AES-256-GCM under a key of its month or its subject; the ciphertext is a blob.

A person's own words lie under that person's key, a delivery's under the delivery's where it has one, everything else
under the key of the month it was sealed in: erasing one person, or ageing out a month, takes the words of nobody else.
The key's name is the additional authenticated data: a ciphertext opens only under the name it was sealed under. Random
96-bit nonces bound one key to 2^32 messages (NIST SP 800-38D, section 8.3). The log holds key name and digest only, so
every proof and every fold stays as it was when a key is gone.

People are named by HMAC-SHA256 under a key of its own, which outlives all others. Their real names, where somebody
remembers them, lie in `names/`, each under the person's own key: it goes with the key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.domain.sealed import Sealed
from controller.errors import Permanent, Unavailable
from controller.ledger.key_store import NONCE_BYTES, KeyStore, erase_file, made, named
from controller.ledger.redaction import Redactor
from controller.ports import Blobs

PSEUDONYM_KEY = "pseudonym.key"
REDACTION_KEY = "redaction.key"
NAMES = "names"
MAX_NAME_BYTES = 400


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LocalSeals:
    """The port `Seals`, its keys being files in `directory` (see `key_store`).

    `now` says which month it is. `random_bytes` makes keys and nonces: only a seeded simulation passes its own.
    """

    def __init__(
        self,
        directory: Path,
        blobs: Blobs,
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._random = random_bytes
        self._now = now
        self.keys = KeyStore(directory, random_bytes=random_bytes)

    @cached_property
    def redactor(self) -> Redactor:
        return Redactor(self.keys.own(REDACTION_KEY))

    async def seal(self, text: str, *, subject: str | None = None) -> Sealed:
        """The ciphertext is a durable blob when this returns. Secrets in the text are replaced by marks before.

        `subject` is whose text it is: a person's principal ("person:<12 hex>") or "delivery/<id>". None: nobody's in
        particular, and it goes with its month. `size` counts what was sealed, marks included.
        """
        scope = subject.replace(":", "/", 1) if subject is not None else f"month/{self._now().astimezone(UTC):%Y-%m}"
        plain = self.redactor.redact(text).text.encode()
        key = self.keys.of_scope(scope)
        name = named(scope, key)
        digest = await self._blobs.put(_encrypted(key, self._random(NONCE_BYTES), plain, name))
        return Sealed(key_id=name, digest=digest, size=len(plain))

    async def open(self, sealed: Sealed) -> str:
        """Raises Permanent when the key has been destroyed, or the ciphertext is gone or not what was sealed."""
        key = self.keys.find(sealed.key_id)
        if key is None:
            raise Permanent(
                f"text {sealed.digest} was sealed under key {sealed.key_id}, which has been destroyed",
                "It cannot be read again",
            )
        plain = _decrypted(key, await self._blobs.get(sealed.digest), sealed.key_id)
        if plain is None:
            raise Permanent(
                f"blob {sealed.digest} is no text sealed under key {sealed.key_id}", "Look for the entry's own blob"
            )
        return plain

    def pseudonym(self, person: str) -> str:
        """The form is "person:<12 hex>".

        The same person has the same pseudonym for as long as the pseudonym key lives: also after they were forgotten,
        so that a hold or an approval stays one person's. Who holds that key can test a name that they know already.
        """
        found = hmac.digest(self.keys.own(PSEUDONYM_KEY), person.encode(), "sha256")
        return f"person:{found.hex()[:12]}"

    # --- names --------------------------------------------------------------------------------------------------------

    def remember(self, person: str) -> None:
        """Keep the name behind a pseudonym, for people who may see it. A second time changes nothing."""
        path, scope = self._name_of(self.pseudonym(person))
        if self.name(self.pseudonym(person)) is not None:
            return
        key = self.keys.of_scope(scope)
        erase_file(path)  # under an earlier key of theirs, nobody could read it
        made(path, _encrypted(key, self._random(NONCE_BYTES), person.encode()[:MAX_NAME_BYTES], named(scope, key)))

    def name(self, pseudonym: str) -> str | None:
        """None: it was never kept, or they have been forgotten."""
        path, scope = self._name_of(pseudonym)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error}", "Give this user the right to read it") from error
        key = self.keys.existing(scope)
        return None if key is None else _decrypted(key, content, named(scope, key))

    def forget(self, pseudonym: str) -> None:
        """Take their row out of the table of names."""
        erase_file(self._name_of(pseudonym)[0])

    def _name_of(self, pseudonym: str) -> tuple[Path, str]:
        scope = pseudonym.replace(":", "/", 1)
        return self._directory / NAMES / f"{scope.rpartition('/')[2]}.name", scope


def _encrypted(key: bytes, nonce: bytes, plain: bytes, name: str) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, plain, name.encode())


def _decrypted(key: bytes, content: bytes, name: str) -> str | None:
    """None: it was not encrypted under this key and this name."""
    try:
        return AESGCM(key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], name.encode()).decode()
    except (InvalidTag, ValueError):
        return None
