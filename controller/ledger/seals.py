"""Sealed text: AES-256-GCM under one local key, the ciphertext a blob, its digest in the log.

A key is named after its own digest, so text sealed under a destroyed key cannot be mistaken for text under the key that
replaced it. The name is also the additional authenticated data: a ciphertext opens only under the name it was sealed
under. Random 96-bit nonces bound one key to 2^32 messages (NIST SP 800-38D, section 8.3). People are named by
HMAC-SHA256 under a second key, so that destroying the first one leaves the pseudonyms as they are.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.domain.sealed import Sealed
from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import sync_folder
from controller.ports import Blobs

KEY_BYTES = 32
NONCE_BYTES = 12
SEALING_KEY = "sealing.key"
PSEUDONYM_KEY = "pseudonym.key"


class LocalSeals:
    """The port `Seals`, its two keys being files of 32 bytes in `directory`.

    Keys are made on first use, readable by their owner only. A key is read for every use, so destroying its file takes
    effect at once. `random_bytes` makes keys and nonces: only a seeded simulation passes its own.
    """

    def __init__(
        self, directory: Path, blobs: Blobs, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._random = random_bytes

    async def seal(self, text: str) -> Sealed:
        """The ciphertext is a durable blob when this returns."""
        key = self._key(SEALING_KEY)
        nonce, plain = self._random(NONCE_BYTES), text.encode()
        name = key_id(key)
        digest = await self._blobs.put(nonce + AESGCM(key).encrypt(nonce, plain, name.encode()))
        return Sealed(key_id=name, digest=digest, size=len(plain))

    async def open(self, sealed: Sealed) -> str:
        """Raises Permanent when the key has been destroyed, or the ciphertext is gone or not what was sealed."""
        key = _stored(self._directory / SEALING_KEY)
        if key is None or key_id(key) != sealed.key_id:
            raise Permanent(
                f"text {sealed.digest} was sealed under key {sealed.key_id}, which has been destroyed",
                "It cannot be read again",
            )
        content = await self._blobs.get(sealed.digest)
        nonce, ciphertext = content[:NONCE_BYTES], content[NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, sealed.key_id.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Permanent(
                f"blob {sealed.digest} is no text sealed under key {sealed.key_id}", "Look for the entry's own blob"
            ) from error

    def pseudonym(self, person: str) -> str:
        """The form is "person:<12 hex>".

        The same person has the same pseudonym for as long as the pseudonym key lives.
        """
        found = hmac.digest(self._key(PSEUDONYM_KEY), person.encode(), "sha256")
        return f"person:{found.hex()[:12]}"

    def _key(self, name: str) -> bytes:
        path = self._directory / name
        return _stored(path) or _made(path, self._random(KEY_BYTES))


def key_id(key: bytes) -> str:
    """What the log calls a key. 64 bits of its digest say nothing about the key itself."""
    return "local:" + hashlib.sha256(b"flyball key id\x00" + key).hexdigest()[:16]


def _stored(path: Path) -> bytes | None:
    """None: there is no key, because it was never made or because it has been destroyed."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"key {path} cannot be read: {error}", "Give this user the right to read it") from error
    if len(key) != KEY_BYTES:
        raise Permanent(f"key {path} has {len(key)} bytes, not {KEY_BYTES}", "Restore it from its backup")
    return key


def _made(path: Path, key: bytes) -> bytes:
    """A new key, whole and durable before it has its name.

    Of two processes that make it at once, one wins and both use its key.
    """
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        _named_unless_taken(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(
            f"key {path} cannot be made: {error}", "Make its folder writable and free some space"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return _stored(path) or key


def _named_unless_taken(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)  # unlike a rename, a link never replaces what is there
    except FileExistsError:
        return
