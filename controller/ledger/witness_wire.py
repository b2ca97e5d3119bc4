"""What a log says to a witness, and what it hears (c2sp.org/tlog-witness): `add-checkpoint` as text.

The size that the log believes the witness knows ("old 17"), the hashes of the proof from there in base64, each a line;
an empty line; the new checkpoint, a signed note.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.ledger.checkpoint import MAX_SIZE, MalformedNote, base64_bytes
from controller.ledger.merkle import HASH_BYTES
from controller.ledger.note import KEY_ID_BYTES, VerifierKey, signature_lines

MAX_PROOF = 63  # hashes
MAX_REQUEST_BYTES = 256 * 1024  # 63 hashes, and 16 signatures of the longest kind several times over
MAX_ANSWER_BYTES = 64 * 1024
SIZE_TYPE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    old_size: int
    proof: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        proof = "".join(f"{base64.b64encode(node).decode()}\n" for node in self.proof)
        return f"old {self.old_size}\n{proof}\n{self.note}"

    @staticmethod
    def parse(body: bytes) -> AddCheckpoint:
        """Raises MalformedNote for anything else."""
        try:
            head, separator, note = body.decode().partition("\n\n")
        except UnicodeDecodeError as error:
            raise _malformed("it is no UTF-8") from error
        first, *lines = head.split("\n")
        old = _OLD.fullmatch(first)
        if not separator or old is None or int(old[1]) > MAX_SIZE:
            raise _malformed('it does not begin with "old" and a size, hashes, and an empty line')
        if len(lines) > MAX_PROOF:
            raise _malformed(f"its proof has more than {MAX_PROOF} hashes")
        proof = tuple(base64_bytes(line) for line in lines)
        if any(len(node) != HASH_BYTES for node in proof):
            raise _malformed(f"a hash of its proof has not {HASH_BYTES} bytes")
        return AddCheckpoint(int(old[1]), proof, note)


def size_told(body: str) -> int:
    """The size in a 409. Raises MalformedNote when there is none."""
    found = _SIZE.fullmatch(body)
    if found is None or int(found[1]) > MAX_SIZE:
        raise _malformed("the witness's answer says no size")
    return int(found[1])


def origin_hash(origin: str) -> str:
    """How a witness's checkpoint of a log is asked for: GET /<this>/checkpoint."""
    return hashlib.sha256(origin.encode()).hexdigest()


def lines_by(note: str, keys: Iterable[VerifierKey]) -> dict[VerifierKey, str]:
    """The last signature line in the name of each of these keys, unverified: open the note first."""
    known = {(key.name, key.id): key for key in keys}
    found: dict[VerifierKey, str] = {}
    for line in signature_lines(note):
        _, name, encoded = line.rstrip("\n").split(" ")
        key = known.get((name, base64.b64decode(encoded)[:KEY_ID_BYTES]))
        if key is not None:
            found[key] = line
    return found


def joined(lines: Sequence[str]) -> bytes:
    return "".join(lines).encode()


def _malformed(what: str) -> MalformedNote:
    return MalformedNote(f"this is no message between a log and its witness: {what}", "Look at c2sp.org/tlog-witness")
