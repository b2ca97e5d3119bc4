"""A checkpoint: what a log of one size hashes to, as the lines that its key signs (c2sp.org/tlog-checkpoint).

Origin, size, root in base64, each a line. The text is parsed strictly: there is exactly one spelling of every
checkpoint, so that two that differ in a byte differ in what they claim.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from controller.errors import Permanent
from controller.ledger.merkle import EMPTY_ROOT, HASH_BYTES

MAX_SIZE = 2**63 - 1  # what SQLite and Postgres can count
MAX_ORIGIN_BYTES = 255  # c2sp.org/tlog-cosignature: log_origin<1..2^8-1>
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")


class MalformedNote(Permanent):  # noqa: N818 - read where it is raised, as its parent
    """The text is no note, checkpoint, key or proof of the format that it claims."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. `extensions` are opaque lines of other logs; ours has none."""

    origin: str  # names the log for ever
    size: int  # leaves
    root: bytes  # 32 bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.origin.encode()) <= MAX_ORIGIN_BYTES or _CONTROL.search(self.origin):
            raise _malformed(f"{self.origin!r} is no origin of at most {MAX_ORIGIN_BYTES} bytes on one line")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise _malformed(f"size {self.size} with a root of {len(self.root)} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise _malformed("an empty log has the root of the empty tree, this one another")
        if any(not line or _CONTROL.search(line) for line in self.extensions):
            raise _malformed("an extension line is empty or has control characters")

    def text(self) -> str:
        """What is signed, with its last newline."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @staticmethod
    def parse(text: str) -> Checkpoint:
        """Raises MalformedNote for anything but the one spelling that `text` gives."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] != "":  # noqa: PLR2004 - three lines and what follows the last newline
            raise _malformed("a checkpoint has at least three lines and ends in a newline")
        origin, size, root, *extensions = lines[:-1]
        if not _SIZE.fullmatch(size):
            raise _malformed(f"{size!r} is no tree size")
        return Checkpoint(origin, int(size), base64_bytes(root), tuple(extensions))


def origin_of(first_leaf: bytes) -> str:
    """The origin of a log that was given none: it names itself after its first entry."""
    return f"flyball/{hashlib.sha256(first_leaf).hexdigest()[:16]}"


def base64_bytes(text: str) -> bytes:
    """Standard base64 (RFC 4648, section 4) in its one canonical spelling. Raises MalformedNote for any other."""
    try:
        found = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _malformed(f"{text[:60]!r} is no base64: {error}") from error
    if base64.b64encode(found).decode() != text:
        raise _malformed(f"{text[:60]!r} is not the canonical base64 of its bytes")
    return found


def _malformed(what: str) -> MalformedNote:
    return MalformedNote(f"this is no checkpoint: {what}", "Ask its log for another copy")
