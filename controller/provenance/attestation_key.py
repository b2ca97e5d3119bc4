"""The key that vouches for commits: Ed25519, in a file of its own, used for nothing else.

Whoever steals the log's key can sign no statement about a commit with it, and the other way round. The public half is
named as the log's keys are (c2sp.org/signed-note), so that people exchange all of them in one form.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from controller.errors import Permanent, Unavailable
from controller.provenance import dsse

FILE = "attestation.pem"
NAME = "flyball-attestation"
_ED25519 = b"\x01"  # the type byte of a note's key
_ID_BYTES = 4
_KEY_BYTES = 32


def vkey_of(key: Ed25519PublicKey, name: str = NAME) -> str:
    """`<name>+<8 hex>+<base64 of type and key>`."""
    material = _ED25519 + key.public_bytes_raw()
    named = hashlib.sha256(name.encode() + b"\n" + material).digest()[:_ID_BYTES]
    return f"{name}+{named.hex()}+{base64.b64encode(material).decode()}"


def public_key(vkey: str) -> Ed25519PublicKey:
    """Raises Permanent for anything but an Ed25519 vkey whose id fits its key."""
    name, _, rest = vkey.strip().partition("+")
    try:
        material = base64.b64decode(rest.partition("+")[2], validate=True)
    except ValueError as error:
        raise _no_key(vkey) from error
    if len(material) != 1 + _KEY_BYTES or material[:1] != _ED25519:
        raise _no_key(vkey)
    key = Ed25519PublicKey.from_public_bytes(material[1:])
    if vkey_of(key, name) != vkey.strip():
        raise _no_key(vkey)
    return key


@dataclass(frozen=True, slots=True)
class FileAttestor:
    """`ports.Attestor` over a private key in memory. Never printed, never logged."""

    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"FileAttestor({self.vkey})"

    @property
    def vkey(self) -> str:
        return vkey_of(self.private.public_key())

    def envelope(self, statement: bytes) -> bytes:
        return dsse.sign(statement, self.private)


def attestor_in(keys: Path) -> FileAttestor:
    """The key in this folder, made on first use and readable by its owner only.

    Of two processes that make it at once, one wins and both use its key. Raises Permanent for a file that is no such
    key, Unavailable where it can be neither read nor made.
    """
    path = keys / FILE
    try:
        if not path.exists():
            _make(path)
        content = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"key {path} can be neither read nor made: {error}", "Check the folder's rights") from error
    return FileAttestor(_read(content, path))


def _read(content: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise Permanent(f"{path} is no private key in PEM", "Restore it from its backup") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Permanent(f"{path} is no Ed25519 key", "Restore it from its backup")
    return private


def _make(path: Path) -> None:
    """Whole and durable before it has its name; a link never replaces what is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        _named_unless_taken(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _named_unless_taken(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return


def _no_key(vkey: str) -> Permanent:
    return Permanent(f"{vkey[:80]!r} is no key that signs statements", "It stands in every MergeAttested of the log")
