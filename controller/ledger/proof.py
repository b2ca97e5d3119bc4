"""A receipt: one entry's place in the log, checked offline against keys alone (c2sp.org/tlog-proof).

It carries the entry's index, the sibling hashes up to the root, and a signed checkpoint. Whoever has the entry's exact
bytes and the log's key needs nothing else: no log, no network, nobody's word.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from controller.errors import Permanent
from controller.ledger.checkpoint import Checkpoint, MalformedNote, base64_bytes
from controller.ledger.merkle import HASH_BYTES, includes
from controller.ledger.note import MAX_NOTE_BYTES, NotSigned, Opened, VerifierKey, open_note
from controller.ledger.tiles import TreeReader, inclusion

FIRST_LINE = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63  # siblings in a tree of 2^63 leaves
MAX_EXTRA_BYTES = 65_536
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class NotIncluded(Permanent):  # noqa: N818 - read where it is raised, as its parent
    """The checkpoint holds, and the entry is not in its tree at that place."""


@dataclass(frozen=True, slots=True)
class LogProof:
    """A receipt as a value. `text` is what is stored, by convention in a file named *.tlog-proof."""

    index: int  # from 0
    path: tuple[bytes, ...]  # sibling hashes from the leaf up
    note: str  # the signed checkpoint, verbatim
    extra: bytes | None = None  # whatever the caller put beside it, believed by nobody; None: nothing

    def __post_init__(self) -> None:
        if self.index < 0 or len(self.path) > MAX_HASHES or any(len(node) != HASH_BYTES for node in self.path):
            raise _malformed(f"index {self.index} with {len(self.path)} hashes")
        if len(self.extra or b"") > MAX_EXTRA_BYTES:
            raise _malformed(f"more than {MAX_EXTRA_BYTES} bytes of extra data")

    def text(self) -> str:
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        path = [base64.b64encode(node).decode() for node in self.path]
        return "\n".join([FIRST_LINE, *extra, f"index {self.index}", *path, "", self.note])

    @staticmethod
    def parse(text: str) -> LogProof:
        """Raises MalformedNote for anything but the one spelling that `text` gives."""
        if len(text) > MAX_NOTE_BYTES:
            raise _malformed(f"it has more than {MAX_NOTE_BYTES} bytes")
        head, separator, note = text.partition("\n\n")
        first, *lines = head.split("\n")
        if first != FIRST_LINE or not separator:
            raise _malformed(f"it does not begin with {FIRST_LINE}, or carries no checkpoint")
        extra = base64_bytes(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
        index = _INDEX.fullmatch(lines[0]) if lines else None
        if index is None:
            raise _malformed("it does not say which index it is about")
        return LogProof(int(index[1]), tuple(base64_bytes(line) for line in lines[1:]), note, extra)

    def check(self, leaf: bytes, keys: Sequence[VerifierKey], origin: str) -> Opened:
        """Who says so, when `leaf` is at this index in the log named `origin`. `keys`: the log's and its witnesses'.

        Raises MalformedNote, NotSigned when none of the keys that bear the log's name signed (a witness alone does not
        speak for a log), and NotIncluded when the leaf is not there.
        """
        opened = open_note(self.note, keys)
        seen = Checkpoint.parse(opened.text)
        if seen.origin != origin:
            raise NotSigned(f"the checkpoint is one of {seen.origin}, not of {origin}", "Ask for the receipt again")
        if origin not in opened.by:
            raise NotSigned(f"no key of {origin} signed the checkpoint", "Ask for the receipt again")
        if not includes(seen.root, seen.size, self.index, leaf, self.path):
            raise NotIncluded(
                f"the entry is not at index {self.index} of the {seen.size} entries that {origin} signed",
                "Believe neither the entry nor the receipt; ask where they come from",
            )
        return opened


def receipt(reader: TreeReader, index: int, note: str, extra: bytes | None = None) -> LogProof:
    """The receipt of an entry under a signed checkpoint, whose size may be smaller than the log's is by now.

    Raises MalformedNote when the note's text is no checkpoint, and IndexError when the entry is not under it.
    """
    seen = Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
    return LogProof(index, tuple(inclusion(reader, index, seen.size)), note, extra)


def _malformed(what: str) -> MalformedNote:
    return MalformedNote(f"this is no proof of an entry: {what}", "Ask for the receipt again")
