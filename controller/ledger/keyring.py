"""The keys that sign the log's checkpoints, in a folder of the signer's own.

A private key is a PEM file that only its owner may read. `keys.json` beside it says which keys there are and were, each
with the sizes of the first and the last checkpoint that it signed: whoever verifies an old checkpoint finds its key
there. Several keys may sign at once; that is how one follows another without a moment in which readers who know only
one of them are left alone. A retired private key is destroyed, its public half stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import ValidationError

from controller.domain.base import Fact
from controller.errors import Permanent, Unavailable
from controller.ledger.files import locked, replace_file
from controller.ledger.note import KeyType, SigningKey, VerifierKey

FIRST_KEY = "key.pem"
PRIVATE, PUBLIC, FOLDER = 0o600, 0o644, 0o755  # others may read what is signed, and never the key
MAX_KEYS = 1_000  # rotated monthly, this is 80 years


class KeyRecord(Fact):
    vkey: str
    file: str
    from_size: int  # of the first checkpoint that it may sign
    to_size: int | None = None  # of the last one that it has signed. None: it still signs
    signs_until: datetime | None = None  # None: no other key has followed it

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey.parse(self.vkey)


class KeyHistory(Fact):
    origin: str
    keys: tuple[KeyRecord, ...]  # oldest first

    @property
    def signing(self) -> tuple[KeyRecord, ...]:
        return tuple(key for key in self.keys if key.to_size is None)

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """All there ever were."""
        return tuple(key.verifier for key in self.keys)


class Keyring:
    """The keys in `folder`. Several processes may use it; `keys.lock` orders those that change it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def history(self) -> KeyHistory | None:
        """None: nothing has been signed here yet."""
        path = self._folder / "keys.json"
        try:
            return KeyHistory.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise Permanent(f"{path} cannot be read: {error}", "Restore it from a backup, or from the log") from error

    def opened(self, origin: str) -> KeyHistory:
        """The history, begun with a new key if there is none.

        Raises Permanent when the keys belong to another log.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=FOLDER)
        with self._changing():
            found = self.history()
            if found is None:
                key = stored_key(self._folder / FIRST_KEY, origin)
                found = KeyHistory(origin=origin, keys=(_record(key, FIRST_KEY, 0),))
                self._keep(found)
        if found.origin != origin:
            raise Permanent(
                f"the keys in {self._folder} sign the log {found.origin}, and this log is {origin}",
                "Give every log a signer's folder of its own",
            )
        return found

    def signing_keys(self, history: KeyHistory) -> tuple[SigningKey, ...]:
        return tuple(read_key(self._folder / key.file, key.verifier) for key in history.signing)

    def pending(self, origin: str) -> tuple[SigningKey, str]:
        """A key that no checkpoint is signed with yet, and its file: one that an unfinished rotation left, or new."""
        with self._changing():
            history = self._must_exist()
            path = self._folder / f"key-{len(history.keys)}.pem"
            return stored_key(path, origin), path.name

    def follow(self, new: SigningKey, file: str, *, from_size: int, old_until: datetime) -> KeyHistory:
        """From checkpoints of `from_size` on `new` signs, and those before it only until `old_until`."""
        with self._changing():
            found = self._must_exist()
            if any(key.vkey == str(new.verifier) for key in found.keys):
                return found
            if len(found.keys) >= MAX_KEYS:
                raise Permanent(f"{self._folder} has had {MAX_KEYS} keys", "Begin a new log")
            ending = tuple(
                key.model_copy(update={"signs_until": old_until}) if key.signs_until is None else key
                for key in found.keys
            )
            after = found.model_copy(update={"keys": (*ending, _record(new, file, from_size))})
            self._keep(after)
            return after

    def retire(self, now: datetime, last_size: int) -> KeyHistory:
        """Destroy the private keys whose overlap is over. `last_size`: of the newest signed checkpoint."""
        with self._changing():
            found = self._must_exist()
            over = [key for key in found.signing if key.signs_until is not None and key.signs_until <= now]
            if over:
                ended = {"to_size": last_size}
                kept = tuple(key.model_copy(update=ended) if key in over else key for key in found.keys)
                found = found.model_copy(update={"keys": kept})
                self._keep(found)
            for key in found.keys:
                if key.to_size is not None:  # also those that a kill kept from being destroyed
                    (self._folder / key.file).unlink(missing_ok=True)
            return found

    def _must_exist(self) -> KeyHistory:
        found = self.history()
        if found is None:
            raise Permanent(f"{self._folder} has no keys yet", "Let the log be signed once: flyball sign --once")
        return found

    def _keep(self, history: KeyHistory) -> None:
        replace_file(self._folder / "keys.json", history.model_dump_json(indent=1).encode(), PUBLIC)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self._folder / "keys.lock", wait=True):
            yield


def stored_key(path: Path, name: str, type_: KeyType = KeyType.ED25519) -> SigningKey:
    """The key in this file, made on first use."""
    if not path.exists():
        private = SigningKey.generate(name, type_).private
        replace_file(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), PRIVATE)
    return _read(path, name, type_)


def read_key(path: Path, expected: VerifierKey) -> SigningKey:
    """Raises Permanent when others may read it or it is not the expected key, Unavailable when it is out of reach."""
    key = _read(path, expected.name, expected.type)
    if key.verifier != expected:
        raise Permanent(f"{path} is not the key {expected}", "Restore it from its backup, or rotate the key")
    return key


def _read(path: Path, name: str, type_: KeyType) -> SigningKey:
    try:
        if path.stat().st_mode & 0o077:
            raise Permanent(f"others may read the private key {path}", f"Run: chmod 600 {path}, and rotate it")
        private = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Unavailable(f"the key {path} cannot be read: {error}", "Run this as the key's owner") from error
    except ValueError as error:
        raise Permanent(f"{path} is no private key: {error}", "Restore it from its backup") from error
    if not isinstance(private, MLDSA44PrivateKey if type_ is KeyType.ML_DSA_44 else Ed25519PrivateKey):
        raise Permanent(f"{path} is no key of type {type_.name}", "Restore it from its backup")
    return SigningKey(name, type_, private)


def _record(key: SigningKey, file: str, from_size: int) -> KeyRecord:
    return KeyRecord(vkey=str(key.verifier), file=file, from_size=from_size)
