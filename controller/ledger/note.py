"""Notes: text signed by one or more keys (c2sp.org/signed-note), and the cosignatures of witnesses on checkpoints.

A note is its text, an empty line, and one line per signature: an em dash, the key's name, base64 of the key's id and
the signature. A line of a key that the reader does not know is passed over; that is how keys are rotated and how
witnesses are added. A line of a known key must hold, or nothing in the note is believed.

Three kinds of keys: a log's Ed25519 key signs the text as it stands; a witness signs a checkpoint together with the
time at which it had seen no longer tree (c2sp.org/tlog-cosignature), with Ed25519 or with ML-DSA-44, which also
withstands a quantum computer.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from controller.errors import Permanent
from controller.ledger.checkpoint import Checkpoint, MalformedNote, base64_bytes

# Both are the limits of golang.org/x/mod/sumdb/note, which every log of that family is read with.
MAX_SIGNATURES = 100
MAX_NOTE_BYTES = 1_000_000
MAX_NAME_BYTES = 255  # c2sp.org/tlog-cosignature: cosigner_name<1..2^8-1>
MAX_TIME_S = 253_402_300_799  # the end of year 9999; the specification's own limit is 2^63 - 1
KEY_ID_BYTES = 4
_TIME_BYTES = 8
_MARK = "\u2014 "
_UNFIT = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # control characters but the newline; no UTF-8


class NotSigned(Permanent):  # noqa: N818 - read where it is raised, as its parent
    """No trusted key signed this, or a line in a trusted key's name does not hold."""


class KeyType(IntEnum):
    """The byte that says how a key signs, and how long its public half is."""

    ED25519 = 0x01
    COSIGNATURE = 0x04  # Ed25519 over a checkpoint and a time
    ML_DSA_44 = 0x06  # ML-DSA-44 over a checkpoint, a time and the witness's name

    @property
    def public_bytes(self) -> int:
        return 1312 if self is KeyType.ML_DSA_44 else 32

    @property
    def timed(self) -> bool:
        return self is not KeyType.ED25519


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """What it takes to believe a signature. `str` gives the vkey that people exchange."""

    name: str
    type: KeyType
    public: bytes

    def __post_init__(self) -> None:
        named = 0 < len(self.name.encode()) <= MAX_NAME_BYTES and "+" not in self.name
        if not named or any(letter.isspace() or letter < " " for letter in self.name):
            raise _malformed(f"{self.name!r} is no key name: it has a space, a plus or no letter, or is too long")
        if len(self.public) != self.type.public_bytes:
            raise _malformed(f"a key of type {self.type.name} has {self.type.public_bytes} bytes")

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart; no protection against anybody."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.type]) + self.public).decode()}"

    @staticmethod
    def parse(text: str) -> VerifierKey:
        """Raises MalformedNote for anything but a vkey whose id fits its key."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - name, id, key
            raise _malformed(f"{text[:60]!r} is no NAME+ID+KEY")
        name, key_id, material = parts[0], parts[1], base64_bytes(parts[2])
        try:
            key = VerifierKey(name, KeyType(material[0] if material else 0), material[1:])
        except ValueError as error:
            raise _malformed(f"the key of {name} is of no type that this Flyball knows") from error
        if key.id.hex() != key_id:
            raise _malformed(f"the key of {name} has id {key.id.hex()}, not {key_id}")
        return key


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature that holds."""

    key: VerifierKey
    at: datetime | None  # when a witness signed; None: a log's signature, which says no time


@dataclass(frozen=True, slots=True)
class Opened:
    """A note whose signatures hold."""

    text: str
    signed: tuple[Signed, ...]

    @property
    def by(self) -> tuple[str, ...]:
        """The names of the keys, each once, in the note's order."""
        return tuple(dict.fromkeys(signed.key.name for signed in self.signed))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A name and its private key. Never printed, never logged."""

    name: str
    type: KeyType
    private: Ed25519PrivateKey | MLDSA44PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.name}, {self.type.name})"

    @staticmethod
    def generate(name: str, type_: KeyType = KeyType.ED25519) -> SigningKey:
        """Raises Permanent for ML-DSA-44 where the cryptographic library has none."""
        try:
            private = MLDSA44PrivateKey if type_ is KeyType.ML_DSA_44 else Ed25519PrivateKey
            return SigningKey(name, type_, private.generate())
        except UnsupportedAlgorithm as error:
            raise Permanent("this machine's cryptography has no ML-DSA-44", "Use an Ed25519 key") from error

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.type, self.private.public_key().public_bytes_raw())

    def line(self, text: str, at: datetime | None = None) -> str:
        """The signature line over a note's text, with its newline.

        `at` is when a witness signs (aware, whole seconds count); None is for a log's key, which says no time.
        Raises Permanent when time and type of key do not go together, MalformedNote when a witness is to sign what is
        no checkpoint.
        """
        if self.type.timed is (at is None):
            raise Permanent(f"a key of type {self.type.name} signs with a time or not at all", "Mend the caller")
        seconds = None if at is None else int(at.timestamp())
        stamp = b"" if seconds is None else seconds.to_bytes(_TIME_BYTES, "big")
        key = self.verifier
        signature = self.private.sign(_message(key, text, seconds))
        return f"{_MARK}{self.name} {base64.b64encode(key.id + stamp + signature).decode()}\n"


def sign_note(text: str, keys: Sequence[SigningKey], at: datetime | None = None) -> str:
    """The note of this text, signed by each key in turn. `at`: see `SigningKey.line`."""
    _check_letters(text)
    if not text.endswith("\n"):
        raise _malformed("its text does not end in a newline")
    return f"{text}\n" + "".join(key.line(text, at if key.type.timed else None) for key in keys)


def open_note(note: str, keys: Sequence[VerifierKey]) -> Opened:
    """The text of a note and who of `keys` signed it.

    Raises MalformedNote for what is no note, and NotSigned when none of the keys signed or a line of one does not hold.
    """
    text, lines = _split(note)
    known = {(key.name, key.id): key for key in keys}
    signed = []
    for line in lines:
        name, raw = _signature(line)
        key = known.get((name, raw[:KEY_ID_BYTES]))
        if key is not None:
            signed.append(_checked(key, text, raw[KEY_ID_BYTES:]))
    if not signed:
        names = ", ".join(sorted({key.name for key in keys})) or "nobody"
        raise NotSigned(f"the note is signed by none of the keys that are trusted here: {names}", "Get the log's key")
    return Opened(text, tuple(dict.fromkeys(signed)))


def signature_lines(note: str) -> tuple[str, ...]:
    """The signature lines of a note as they stand, each with its newline, verified by nobody."""
    return tuple(f"{line}\n" for line in _split(note)[1])


def _split(note: str) -> tuple[str, list[str]]:
    _check_letters(note)
    body, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise _malformed("it has no empty line before signatures, or does not end in a newline")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"it has more than {MAX_SIGNATURES} signatures")
    for line in lines:
        _signature(line)
    return f"{body}\n", lines


def _check_letters(text: str) -> None:
    if len(text) > MAX_NOTE_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_NOTE_BYTES:
        raise _malformed(f"it has more than {MAX_NOTE_BYTES} bytes")
    if _UNFIT.search(text):
        raise _malformed("it has control characters, or is no UTF-8")


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not name or "+" in name or any(letter.isspace() for letter in name):
        raise _malformed(f"{line[:60]!r} is no signature line")
    raw = base64_bytes(encoded)
    if len(raw) <= KEY_ID_BYTES:
        raise _malformed(f"the signature of {name} is too short")
    return name, raw


def _checked(key: VerifierKey, text: str, raw: bytes) -> Signed:
    """Raises NotSigned when the signature does not hold."""
    stamp, signature = (raw[:_TIME_BYTES], raw[_TIME_BYTES:]) if key.type.timed else (b"", raw)
    seconds = int.from_bytes(stamp, "big") if key.type.timed else None
    way_out = "Believe nothing in it; ask who gave it to you"
    if seconds is not None and not 0 < seconds <= MAX_TIME_S:
        raise NotSigned(f"the signature of {key.name} says no time that can be", way_out)
    try:
        _public(key).verify(signature, _message(key, text, seconds))
    except (InvalidSignature, ValueError) as error:
        raise NotSigned(f"the signature of {key.name} does not fit the text", way_out) from error
    except UnsupportedAlgorithm as error:
        raise Permanent(
            "this machine's cryptography has no ML-DSA-44", "Verify on another, or with another key"
        ) from error
    return Signed(key, None if seconds is None else datetime.fromtimestamp(seconds, UTC))


def _public(key: VerifierKey) -> Ed25519PublicKey | MLDSA44PublicKey:
    if key.type is KeyType.ML_DSA_44:
        return MLDSA44PublicKey.from_public_bytes(key.public)
    return Ed25519PublicKey.from_public_bytes(key.public)


def _message(key: VerifierKey, text: str, seconds: int | None) -> bytes:
    """What a key of this type signs. `seconds` since 1970; None: the type says no time."""
    if seconds is None:
        return text.encode()
    if key.type is KeyType.COSIGNATURE:
        Checkpoint.parse(text)
        return f"cosignature/v1\ntime {seconds}\n{text}".encode()
    seen = Checkpoint.parse(text)
    numbers = (0).to_bytes(8, "big") + seen.size.to_bytes(8, "big")  # the subtree [0, size) is the whole tree
    name, origin, stamp = key.name.encode(), seen.origin.encode(), seconds.to_bytes(_TIME_BYTES, "big")
    return b"subtree/v1\n\0" + bytes([len(name)]) + name + stamp + bytes([len(origin)]) + origin + numbers + seen.root


def _malformed(what: str) -> MalformedNote:
    return MalformedNote(f"this is no signed note: {what}", "Ask for another copy")
