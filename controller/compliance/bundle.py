"""Evidence as a folder that can be checked without Flyball: entries, what ties them to a signed checkpoint, a manifest.

A window of the log is tied to its root by the hashes of the largest whole subtrees before and after it, some forty of
them for any window of any log; entries out of the middle each get a receipt (c2sp.org/tlog-proof). Files are written
as a stream and digested on the way, so that a million entries take no more memory than one. The folder has its name
only when it is complete. `verify.py`, which lies in every folder, is `verify_alone.py` as it stands here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from controller.compliance import verify_alone
from controller.compliance.verify_alone import FORMAT, UNWITNESSED
from controller.errors import Permanent, Unavailable
from controller.ledger.checkpoint import Checkpoint, origin_of
from controller.ledger.merkle import HASH_BYTES, fold
from controller.ledger.note import VerifierKey
from controller.ledger.proof import LogProof
from controller.ledger.publication import Publication
from controller.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TreeReader, consistency, inclusion, root_at, tile

ENTRIES, CHECKPOINT, KEYS = "entries.jsonl", "checkpoint", "keys.txt"
MANIFEST, VERIFIER = "manifest.json", "verify.py"
UNSIGNED = "unsigned: no process signs this log, so nothing ties these entries to anybody's word"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the log has been signed and witnessed at: evidence speaks of this size, and of nothing after it."""

    checkpoint: Checkpoint
    note: str  # the checkpoint with its signatures. Without any: nobody signs this log
    witnesses: tuple[str, ...] = ()  # names of those that have co-signed
    vkeys: tuple[str, ...] = ()  # of log and witnesses, as this log itself gives them

    @property
    def signed(self) -> bool:
        return self.note != self.checkpoint.text()

    @property
    def words(self) -> str:
        """What a page and a manifest must say of it."""
        if not self.signed:
            return UNSIGNED
        return f"witnessed by {', '.join(self.witnesses)}" if self.witnesses else UNWITNESSED


def standing_of(log: TreeReader, publication: Publication, witnesses: Sequence[VerifierKey] = ()) -> Standing:
    """As signed and witnessed last; the log's own word where nobody signs it. `witnesses`: keys to name beside it.

    Raises Permanent when the log no longer gives the root that was signed.
    """
    latest = publication.latest()
    if latest is None:
        size = log.size()
        origin = origin_of(log.leaf(0)) if size else "flyball/empty"
        found = Checkpoint(origin, size, root_at(log, size))
        return Standing(found, found.text())
    signed = Checkpoint.parse(latest.note.rpartition("\n\n")[0] + "\n")
    if signed.size > log.size() or root_at(log, signed.size) != signed.root:
        raise Permanent(
            f"the log is not the one that was signed at {signed.size} entries: it has been rolled back or rewritten",
            "Keep log.db and signer/ as evidence, run `flyball log verify`, and ask the witness what it has seen",
        )
    vkeys = tuple(str(key) for key in (*publication.keys(), *witnesses))
    return Standing(signed, latest.note, latest.witnesses, vkeys)


@dataclass
class Bundle:
    """A folder under way. Everything goes through `file`, so that the manifest names all of it."""

    folder: Path
    standing: Standing
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaves: dict[str, Any] = field(default_factory=dict)
    consistency: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def file(self, name: str) -> Iterator[Digesting]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as raw:
            writing = Digesting(raw)
            yield writing
            self.files[name] = {"sha256": writing.sha256.hexdigest(), "bytes": writing.count}

    def text(self, name: str, content: str) -> None:
        with self.file(name) as writing:
            writing.write(content.encode())

    def window(self, log: TreeReader, start: int, stop: int) -> Iterator[bytes]:
        """Write the entries [start, stop), giving each out for whoever else reads them on the way."""
        size = self.standing.checkpoint.size
        with self.file(ENTRIES) as writing:
            for leaf in log.leaves(start, stop):
                writing.write(leaf + b"\n")
                yield leaf
        sides = {"left": spans(log, 0, start), "right": spans(log, stop, size)}
        self.leaves = {"how": "range", "start": start, "stop": stop, **{side: _base64(h) for side, h in sides.items()}}

    def chosen(self, log: TreeReader, indices: Sequence[int]) -> Iterator[bytes]:
        """Write these entries, each with its receipt."""
        size = self.standing.checkpoint.size
        with self.file(ENTRIES) as writing:
            for index in indices:
                leaf = log.leaf(index)
                writing.write(leaf + b"\n")
                proof = LogProof(index, tuple(inclusion(log, index, size)), self.standing.note)
                self.text(f"receipts/{index:09d}.tlog-proof", proof.text())
                yield leaf
        self.leaves = {"how": "chosen", "count": len(indices)}

    def grew_from(self, log: TreeReader, old: int) -> None:
        """Prove that the log has grown from `old` entries, for whoever holds evidence of that size."""
        if 0 < old < self.standing.checkpoint.size:
            path = consistency(log, old, self.standing.checkpoint.size)
            self.consistency.append({"size": old, "path": _base64(path)})

    def finish(self, about: str, made_at: datetime) -> None:
        """Checkpoint, keys, the verifier, a page that says how to use it, and the manifest of all that."""
        self.text(CHECKPOINT, self.standing.note)
        self.text(KEYS, "".join(f"{vkey}\n" for vkey in self.standing.vkeys))
        self.text("README.txt", _README.format(about=about, words=self.standing.words))
        head = self.standing.checkpoint
        manifest = {
            "format": FORMAT,
            "about": about,
            "made_at": made_at.isoformat(),
            "log": {"origin": head.origin, "size": head.size, "root": head.root.hex()},
            "standing": self.standing.words,
            "leaves": self.leaves,
            "consistency": self.consistency,
            "files": dict(sorted(self.files.items())),
        }
        shutil.copyfile(verify_alone.__file__, self.folder / VERIFIER)  # in no manifest: it would vouch for itself
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


class Digesting:
    """A file that knows its own digest when it has been written."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self.sha256, self.count = raw, hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        self._raw.write(content)
        self.sha256.update(content)
        self.count += len(content)


@contextmanager
def bundle(target: Path, standing: Standing) -> Iterator[Bundle]:
    """A new folder at `target`, there when all of it is.

    Raises Permanent when something stands there already, and Unavailable when the disk says no.
    """
    if target.exists():
        raise Permanent(f"{target} exists already", "Name a folder that does not: evidence is never written over")
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
        yield Bundle(unfinished, standing)
        unfinished.rename(target)
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error}", "Free space there, or name another folder") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def spans(log: TreeReader, start: int, stop: int) -> list[bytes]:
    """The roots of the largest whole subtrees that [start, stop) is made of, from left to right."""
    found = []
    while start < stop:
        height = (stop - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        found.append(_subtree(log, start >> height, height))
        start += 1 << height
    return found


def _subtree(log: TreeReader, number: int, height: int) -> bytes:
    level, above = divmod(height, TILE_HEIGHT)
    in_tile, offset = divmod(number << above, TILE_WIDTH)
    width = offset + (1 << above)
    return fold(tile(log, level, in_tile, width)[offset * HASH_BYTES :])


def _base64(hashes: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(one).decode() for one in hashes]


_README = """{about}

Evidence from a Flyball log: entries as they were stored, and what ties them to a signed checkpoint of the log.
To check it you need Python 3.11 or newer and the package "cryptography", and nothing of Flyball:

    python verify.py . --key KEY --witness KEY

Have the keys from somebody you trust. Those in keys.txt are what the log says of itself, and prove nothing by lying
here. verify.py too should come from elsewhere when much depends on it: it is the file
controller/compliance/verify_alone.py of Flyball.

{words}
"""
