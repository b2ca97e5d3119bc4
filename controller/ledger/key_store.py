"""The keys that sealed text lies under: one a scope, each wrapped by one master key, each destroyed on its own.

A scope is `month/2026-11`, `person/<pseudonym>` or `delivery/<id>`; its key is the file `<scope>.key`, 32 random bytes
under AES-256-GCM with the master key, the scope being the additional data: a wrapped key opens under its own name only.
The log calls a key `<scope>:<8 hex of its digest>`, so that text under a destroyed key is never taken for text under
the key that follows it in the same scope. Keys are read for every use: destroying one takes effect at once, in every
process.

`sealing.key` is the one key that sealed everything before there were scopes: still read, never made again.

Destroying overwrites a file once, then removes it. A disk that moves blocks (SSD, copy-on-write, snapshots, backups)
may keep the old bytes: they are a wrapped key, worth nothing without `master.key`, which is why that is not backed up
beside them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.errors import Permanent, Unavailable
from controller.ledger.blobs import sync_folder

KEY_BYTES = 32
NONCE_BYTES = 12
MASTER_KEY = "master.key"
SEALING_KEY = "sealing.key"
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + 16  # and the tag
KINDS = ("month", "person", "delivery")
ERASED = ".erased-"  # how the name of a file begins that is being destroyed
LOCAL = "local"  # the scope of what lies under `sealing.key`

_SCOPE = re.compile(r"month/\d{4}-(?:0[1-9]|1[0-2])|person/[0-9a-f]{12}|delivery/[a-z0-9][a-z0-9._-]{0,119}")


class KeyStore:
    """A folder of keys, readable by their owner only. `random_bytes` makes keys and nonces."""

    def __init__(self, directory: Path, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._directory = directory
        self._random = random_bytes

    def own(self, name: str) -> bytes:
        """A key that is no scope's and lies here unwrapped, made on first use."""
        path = self._directory / name
        return stored(path, KEY_BYTES) or made(path, self._random(KEY_BYTES))

    def of_scope(self, scope: str) -> bytes:
        """The key to seal with, made on first use."""
        found = self.existing(scope)
        if found is not None:
            return found
        nonce, key = self._random(NONCE_BYTES), self._random(KEY_BYTES)
        wrapped = nonce + AESGCM(self._master()).encrypt(nonce, key, scope.encode())
        return self._unwrapped(scope, made(self._path(scope), wrapped))  # of two at once, the one that was first

    def existing(self, scope: str) -> bytes | None:
        """The key of a scope, never made. None: there is none."""
        if scope == LOCAL:
            return stored(self._directory / SEALING_KEY, KEY_BYTES)
        wrapped = stored(self._path(scope), WRAPPED_BYTES)
        return None if wrapped is None else self._unwrapped(scope, wrapped)

    def find(self, key_id: str) -> bytes | None:
        """The key that the log calls so. None: it has been destroyed."""
        scope = scope_of(key_id)
        key = self.existing(scope)
        return key if key is not None and named(scope, key) == key_id else None

    def held(self) -> list[str]:
        """The ids of all keys of scopes that are here, by name; that of `sealing.key` too."""
        keys = {scope: self.existing(scope) for scope in (LOCAL, *self._scopes())}
        return sorted(named(scope, key) for scope, key in keys.items() if key is not None)

    def destroy(self, key_id: str) -> bool:
        """For good. False: it was not here any more; what a process killed half-way has left of it goes too."""
        scope = scope_of(key_id)
        path = self._directory / SEALING_KEY if scope == LOCAL else self._path(scope)
        there = self.find(key_id) is not None
        if there:
            erase_file(path)
        elif path.parent.is_dir():
            finish_erasing(path.parent)
        return there

    def _scopes(self) -> Iterator[str]:
        for kind in KINDS:
            for path in sorted((self._directory / kind).glob("*.key")):
                if _SCOPE.fullmatch(scope := f"{kind}/{path.name.removesuffix('.key')}"):
                    yield scope

    def _path(self, scope: str) -> Path:
        if not _SCOPE.fullmatch(scope):
            raise Permanent(f"{scope!r} is no scope of a key", f"Use one of {', '.join(f'{k}/...' for k in KINDS)}")
        return self._directory / f"{scope}.key"

    def _unwrapped(self, scope: str, wrapped: bytes) -> bytes:
        try:
            return AESGCM(self._master()).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], scope.encode())
        except InvalidTag as error:
            raise Permanent(
                f"the key of {scope} does not open under {MASTER_KEY}", "Restore both from the same backup"
            ) from error

    def _master(self) -> bytes:
        """Raises Permanent where it is missing beside keys that it wraps: another one would open none of them."""
        path = self._directory / MASTER_KEY
        key = stored(path, KEY_BYTES)
        if key is None and next(self._scopes(), None) is not None:
            key = stored(path, KEY_BYTES)  # another process may have made it, and a first key, between the two looks
            if key is None:
                raise Permanent(f"{path} is missing", "Restore it from its backup: no sealed text opens without it")
        return key or made(path, self._random(KEY_BYTES))


def scope_of(key_id: str) -> str:
    """`month/2026-11:1a2b3c4d` lies in `month/2026-11`, `local:...` in `local`."""
    return key_id.rpartition(":")[0]


def named(scope: str, key: bytes) -> str:
    """What the log calls a key. A few bits of its digest say nothing about the key itself."""
    digest = hashlib.sha256(b"flyball key id\x00" + key).hexdigest()
    return f"{scope}:{digest[: 16 if scope == LOCAL else 8]}"


def stored(path: Path, size: int) -> bytes | None:
    """None: there is no such file, because it was never made or because it has been destroyed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"key {path} cannot be read: {error}", "Give this user the right to read it") from error
    if len(content) != size:
        raise Permanent(f"key {path} has {len(content)} bytes, not {size}", "Restore it from its backup")
    return content


def made(path: Path, content: bytes) -> bytes:
    """A new file, whole and durable before it has its name; its content as it stands.

    Of two processes that make it at once, one wins and both use its content.
    """
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(unfinished, content)
        _named_unless_taken(unfinished, path)
        sync_folder(path.parent)
        sync_folder(path.parent.parent)
    except OSError as error:
        raise Unavailable(
            f"key {path} cannot be made: {error}", "Make its folder writable and free some space"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return stored(path, len(content)) or content


def write_new(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def erase_file(path: Path) -> None:
    """Taken out of its name, overwritten with random bytes, removed. A file that is gone stays gone.

    Without its name first: a reader at the same moment must find nothing rather than half of something.
    """
    erased = path.with_name(f"{ERASED}{path.name}-{secrets.token_hex(8)}")
    try:
        path.rename(erased)
        sync_folder(path.parent)
        finish_erasing(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"{path} cannot be destroyed: {error}", "Give this user the right to write it") from error


def finish_erasing(folder: Path) -> None:
    """Also what a process that was killed half-way has left."""
    for path in folder.glob(f"{ERASED}*"):
        try:
            _overwrite(path)
            path.unlink()
        except FileNotFoundError:  # another process is at it
            continue
    sync_folder(folder)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(secrets.token_bytes(size))
        file.flush()
        os.fsync(file.fileno())


def _named_unless_taken(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)  # unlike a rename, a link never replaces what is there
    except FileExistsError:
        return
