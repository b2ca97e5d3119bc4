"""Check evidence from a Flyball log without Flyball: this one file, Python 3.11 and the package `cryptography`.

    python verify.py FOLDER --key VKEY [--witness VKEY] [--earlier FOLDER]

FOLDER is an export or a packet. VKEY is a public key as one line, or a file of such lines; have it from somebody you
trust and not out of the folder. What is checked: that the log's key signed the checkpoint; that every entry is in the
log of that checkpoint at its place (RFC 6962, RFC 9162); which of the witnesses you trust have seen it, and when; that
the log of an earlier export is the beginning of this one. The formats are those of c2sp.org: signed-note,
tlog-checkpoint, tlog-cosignature, tlog-proof. Nothing is fetched, nothing is written.

Exit code 0: everything that you asked for was proven. 1: something is wrong, or nobody signed. 2: it cannot be checked.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "flyball-evidence/1"
MAX_LEAF_BYTES = 65_535  # the length of an entry in a C2SP bundle is a uint16
MAX_TEXT_BYTES = 16_000_000  # of a manifest, a note or a receipt
MAX_WRONG = 100
PROVEN, WRONG, UNCHECKABLE = 0, 1, 2
ED25519, COSIGNED_ED25519, COSIGNED_ML_DSA_44 = 1, 4, 6
MARK = "\u2014 "  # how the line of a signature begins
UNWITNESSED = (
    "unwitnessed: no witness that you trust has seen this log, so whoever runs it and holds its key could have "
    "rewritten all of it and signed again"
)
_DIGEST = re.compile(rb"sha256:([0-9a-f]{64})")


class CannotBeCheckedError(Exception):
    """Something is missing or unreadable, so that nothing can be said."""


@dataclass
class Report:
    proven: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)  # what was not proven
    wrong: list[str] = field(default_factory=list)

    def found(self, what: str) -> None:
        if len(self.wrong) < MAX_WRONG:
            self.wrong.append(what)

    def check(self, holds: bool, what: str, otherwise: str) -> None:
        self.proven.append(what) if holds else self.found(otherwise)


# --- keys and signatures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    name: str
    id: bytes
    type: int
    public: bytes


def key_of(vkey: str) -> Key:
    """NAME+ID+KEY, the id being the first four bytes of SHA-256(name, newline, type and public key)."""
    try:
        name, key_id, encoded = vkey.strip().split("+", 2)
        material = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise CannotBeCheckedError(f"{vkey[:60]!r} is no public key of the form NAME+ID+KEY") from error
    known = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
    if known.hex() != key_id or material[:1] not in (b"\x01", b"\x04", b"\x06"):
        raise CannotBeCheckedError(f"the key of {name} is damaged: its id does not fit, or its type is unknown")
    return Key(name, known, material[0], material[1:])


def keys_of(given: Sequence[str], types: Sequence[int]) -> list[Key]:
    """Keys, and files of keys, with spaces or lines between them. Those of other types are passed over."""
    found = []
    for one in given:
        read = [key_of(word) for word in (_text(Path(one)) if _is_file(one) else one).split()]
        fitting = [key for key in read if key.type in types]
        if not fitting:
            raise CannotBeCheckedError(
                f"{one[:60]!r} has no key of this kind: logs and witnesses have keys of their own"
            )
        found += fitting
    return found


def signatures_of(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a note, and who is said to have signed it."""
    body, parted, lines = note.rpartition("\n\n")
    if not parted:
        return note, []
    found = []
    for line in lines.splitlines():
        name, _, encoded = line.removeprefix(MARK).partition(" ")
        if not line.startswith(MARK) or not name:
            raise CannotBeCheckedError(f"the checkpoint has a line that is no signature: {line[:60]!r}")
        found.append((name, base64.b64decode(encoded, validate=True)))
    return body + "\n", found


def holds(key: Key, raw: bytes, text: str, head: Head) -> tuple[bool, int]:
    """Whether a signature fits, and the second of 1970 at which a witness signed (0: a log's key says no time)."""
    if key.type == ED25519:
        return _verified(Ed25519PublicKey.from_public_bytes(key.public), raw, text.encode()), 0
    seconds = int.from_bytes(raw[:8], "big")
    if key.type == COSIGNED_ED25519:
        message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
        return _verified(Ed25519PublicKey.from_public_bytes(key.public), raw[8:], message), seconds
    name, origin = key.name.encode(), head.origin.encode()
    message = b"subtree/v1\n\0" + bytes([len(name)]) + name + raw[:8] + bytes([len(origin)]) + origin
    message += bytes(8) + head.size.to_bytes(8, "big") + head.root
    return _verified(_ml_dsa_44(key), raw[8:], message), seconds


def _ml_dsa_44(key: Key) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey  # noqa: PLC0415 - newer ones only
    except ImportError as error:
        raise CannotBeCheckedError(f"{key.name} signs with ML-DSA-44: install cryptography 50 or newer") from error
    return MLDSA44PublicKey.from_public_bytes(key.public)


def _verified(public: Any, signature: bytes, message: bytes) -> bool:
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


# --- the checkpoint ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """What a log of one size hashes to."""

    origin: str
    size: int
    root: bytes


def head_of(text: str) -> Head:
    lines = text.split("\n")
    if len(lines) < 4 or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):  # noqa: PLR2004 - three lines, each ended
        raise CannotBeCheckedError("the checkpoint has no origin, size and root")
    return Head(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))


def check_checkpoint(note: str, asked: Asked, report: Report) -> Head:
    """Who signed it. A key that is not trusted counts for nothing, a line of a trusted one must hold."""
    text, signatures = signatures_of(note)
    head, signed, seen = head_of(text), set[str](), dict[str, int]()
    known = {(key.name, key.id): key for key in (*asked.keys, *asked.witnesses)}
    for name, raw in signatures:
        key = known.get((name, raw[:4]))
        if key is None:
            continue
        fits, seconds = holds(key, raw[4:], text, head)
        if not fits:
            report.found(f"BAD SIGNATURE: the line of {name} does not fit the checkpoint")
        elif key not in asked.keys:
            seen[name] = seconds
        elif name == head.origin:
            signed.add(f"{name} (key {key.id.hex()})")
    what = f"checkpoint of {head.origin}: {head.size} entries, root {head.root.hex()}"
    names = ", ".join(sorted(signed))
    report.check(bool(signed), f"{what}, signed by {names}", f"NOT SIGNED by a key of this log that you gave: {what}")
    _check_witnesses(seen, asked, report)
    return head


def _check_witnesses(seen: dict[str, int], asked: Asked, report: Report) -> None:
    for name, seconds in sorted(seen.items()):
        report.proven.append(f"witnessed by {name} at {_when(seconds)}: it had seen no other history of this log")
    if not seen:
        report.open.append(UNWITNESSED)
    if len(seen) < asked.quorum:
        report.found(f"NOT WITNESSED: you asked for {asked.quorum} of your witnesses, {len(seen)} signed")
    if asked.not_before is not None:
        fresh = [name for name, seconds in seen.items() if seconds >= asked.not_before.timestamp()]
        what = f"seen by a witness after {asked.not_before.isoformat()}"
        report.check(bool(fresh), what, f"STALE: not {what}; entries since then may have been kept from you")


# --- the tree ---------------------------------------------------------------------------------------------------------


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass
class Tree:
    """Grows from the left by whole subtrees; keeps one hash per bit of its size."""

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    def add(self, found: bytes, height: int = 0) -> None:
        """A subtree of 2^height leaves, at a place that is a multiple of its size."""
        if self.size % (1 << height):
            raise CannotBeCheckedError("the hashes beside the entries do not fit their number")
        at = self.size >> height
        while at & 1:
            found, at = node_hash(self.nodes.pop(), found), at >> 1
        self.nodes.append(found)
        self.size += 1 << height

    def fill(self, stop: int, hashes: list[bytes]) -> None:
        """Up to `stop` leaves, by the roots of the largest subtrees that fit."""
        for found in hashes:
            height = min(
                (self.size & -self.size).bit_length() - 1 if self.size else 63, (stop - self.size).bit_length() - 1
            )
            if height < 0:
                raise CannotBeCheckedError("there are more hashes beside the entries than needed")
            self.add(found, height)
        if self.size != stop:
            raise CannotBeCheckedError("hashes beside the entries are missing")

    def root(self) -> bytes:
        found = self.nodes[-1] if self.nodes else hashlib.sha256(b"").digest()
        for left in reversed(self.nodes[:-1]):
            found = node_hash(left, found)
        return found


def path_root(index: int, size: int, found: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that a proof of inclusion leads to (RFC 9162, 2.1.3.2). None: it has the wrong length."""
    node, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return found if last == 0 else None


def grew(old: Head, new: Head, path: Sequence[bytes]) -> bool:
    """Whether `new` begins with the whole of `old`, by a proof of consistency (RFC 9162, 2.1.4.2)."""
    steps = [old.root, *path] if old.size & (old.size - 1) == 0 else list(path)
    if not 0 < old.size < new.size or not steps:
        return False
    node, last = old.size - 1, new.size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = steps[0]
    for sibling in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and (before, after) == (old.root, new.root)


# --- the entries ------------------------------------------------------------------------------------------------------


@dataclass
class Reading:
    """One pass over the entries: order, changes that landed, and the blobs that they name."""

    report: Report
    blobs: set[bytes]
    count: int = 0
    index: int = -1
    time: str = ""
    whole: tuple[str, ...] = ("",)  # how the streams begin of which every entry must be here, from the first one seen
    versions: dict[str, int] = field(default_factory=dict)
    merged: dict[int, tuple[str, str]] = field(default_factory=dict)  # index: leaf hash, commit
    named: set[bytes] = field(default_factory=set)

    def entry(self, leaf: bytes) -> dict[str, Any]:
        raw: dict[str, Any] = json.loads(leaf)
        self._order(raw)
        self.count, self.index, self.time = self.count + 1, raw["index"], raw["time"]
        if raw["kind"] == "Merged":
            self.merged[raw["index"]] = (leaf_hash(leaf).hex(), raw["body"]["commit"])
        if self.blobs:
            self.named.update(name for name in _DIGEST.findall(leaf) if name in self.blobs)
        return raw

    def _order(self, raw: dict[str, Any]) -> None:
        before = self.versions.get(raw["stream"])
        self.versions[raw["stream"]] = raw["version"]
        if raw["index"] <= self.index:
            self.report.found(f"entry {raw['index']} stands after entry {self.index}")
        if raw["time"] < self.time:
            self.report.found(f"time runs backwards at entry {raw['index']}")
        if before is not None and raw["version"] != before + 1 and raw["stream"].startswith(self.whole):
            what = f"{raw['stream']} goes from version {before} to {raw['version']} at entry {raw['index']}"
            self.report.found(f"LEFT OUT: {what}")


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(MAX_LEAF_BYTES + 2):
        if not line.endswith(b"\n"):
            raise CannotBeCheckedError("entries.jsonl is cut off, or a line is longer than an entry can be")
        yield line[:-1]


def check_range(folder: Path, leaves: dict[str, Any], head: Head, reading: Reading, marks: dict[int, bytes]) -> None:
    """All entries of a window, together with the hashes of what stands before and after it.

    `marks` are sizes of the log, and receive the root that it had there.
    """
    start, stop, tree = leaves["start"], leaves["stop"], Tree()
    if not 0 <= start <= stop <= head.size:
        raise CannotBeCheckedError(f"the window {start} to {stop} does not lie in a log of {head.size} entries")
    tree.fill(start, _hashes(leaves["left"]))
    with (folder / "entries.jsonl").open("rb") as file:
        for leaf in lines_of(file):
            _mark(tree, marks)
            raw = reading.entry(leaf)
            if raw["index"] != tree.size:
                reading.report.found(f"entry {raw['index']} stands where entry {tree.size} belongs")
            tree.add(leaf_hash(leaf))
    _mark(tree, marks)
    if tree.size != stop:
        reading.report.found(f"the window has {tree.size - start} entries, not {stop - start}")
        return
    tree.fill(head.size, _hashes(leaves["right"]))
    what = f"{reading.count} entries, {start} to {stop - 1}, are in that log, each at its place, and none between them"
    reading.report.check(tree.root() == head.root, f"{what} is left out", "ALTERED: the entries do not give its root")


def _mark(tree: Tree, marks: dict[int, bytes]) -> None:
    if tree.size in marks:
        marks[tree.size] = tree.root()


def check_chosen(folder: Path, note: str, head: Head, reading: Reading) -> None:
    """Entries out of the middle of the log, each with its receipt (c2sp.org/tlog-proof)."""
    good, reading.whole = 0, ("delivery/", "session/", "people/", "effect/")
    with (folder / "entries.jsonl").open("rb") as file:
        for leaf in lines_of(file):
            raw = reading.entry(leaf)
            index, path, signed = receipt_of(_text(folder / "receipts" / f"{raw['index']:09d}.tlog-proof"))
            included = path_root(index, head.size, leaf_hash(leaf), path) == head.root if index < head.size else False
            if included and index == raw["index"] and signed == note:
                good += 1
            else:
                reading.report.found(f"ALTERED: the receipt of entry {raw['index']} does not fit it and the checkpoint")
    if good == reading.count:
        reading.report.proven.append(f"{good} entries are in that log, each at its place, by a receipt of its own")
    reading.report.open.append("that no other entry is about this: receipts cannot show what was not chosen")


def receipt_of(text: str) -> tuple[int, list[bytes], str]:
    proof, _, note = text.partition("\n\n")
    lines = [line for line in proof.split("\n") if not line.startswith("extra ")]
    if len(lines) < 2 or lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("index "):  # noqa: PLR2004
        raise CannotBeCheckedError("a receipt is no c2sp.org/tlog-proof@v1")
    return int(lines[1].removeprefix("index ")), _hashes(lines[2:]), note


# --- what lies beside the entries -------------------------------------------------------------------------------------


def check_files(folder: Path, listed: dict[str, dict[str, Any]], report: Report) -> None:
    for name, said in sorted(listed.items()):
        path = _inside(folder, name)
        if not path.is_file():
            report.found(f"MISSING: {name}")
        elif _digest(path) != said["sha256"]:
            report.found(f"ALTERED: {name} is not the file that the manifest lists")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if more := sorted(present - listed.keys() - {"manifest.json", "verify.py"}):
        report.open.append(f"anything about files that the manifest does not list: {', '.join(more[:5])}")
    if not report.wrong:
        report.proven.append(f"{len(listed)} files are what the manifest lists")


def check_blobs(reading: Reading) -> None:
    """A blob is named after its own digest, which `check_files` does not know: it must be one that an entry names."""
    for name in sorted(reading.blobs - reading.named):
        reading.report.found(f"blob {name.decode()} is named by none of these entries")
    if reading.blobs and reading.blobs == reading.named:
        reading.report.proven.append(f"{len(reading.blobs)} blobs are what the entries name by digest")


def blobs_in(folder: Path, report: Report) -> set[bytes]:
    found = set()
    for path in sorted((folder / "blobs").glob("*")):
        if _digest(path) != path.name:
            report.found(f"ALTERED: blob {path.name} does not hash to its name")
        found.add(path.name.encode())
    return found


def check_population(folder: Path, reading: Reading) -> None:
    path = folder / "population.csv"
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = {int(row["log_index"]): (row["leaf_hash"], row["commit"]) for row in csv.DictReader(file)}
    same = rows == reading.merged
    what = (
        f"population.csv has the {len(rows)} changes that landed in these entries, each with its commit, and no other"
    )
    reading.report.check(same, what, "population.csv is not the list of changes that landed in these entries")


def check_attestation(folder: Path, reading: Reading, keys: Sequence[Key], report: Report) -> None:
    """A DSSE envelope around an in-toto statement about the commit that landed."""
    path = folder / "attestation.dsse.json"
    if not path.is_file():
        return
    envelope = json.loads(_text(path))
    payload, kind = base64.b64decode(envelope["payload"], validate=True), b"application/vnd.in-toto+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    raw = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
    signed = [
        key.name
        for key in keys
        for one in raw
        if _verified(Ed25519PublicKey.from_public_bytes(key.public), one, message)
    ]
    subjects = {one["digest"].get("gitCommit") for one in json.loads(payload)["subject"]}
    if not keys:
        report.open.append("who signed the attestation: give its key with --attestation-key")
        return
    about = bool(subjects & {commit for _, commit in reading.merged.values()})
    what = f"the attestation is signed by {', '.join(signed)} and is about the commit that landed"
    report.check(bool(signed) and about, what, "the attestation is not signed by the key given, or of another commit")


# --- two exports of one log -------------------------------------------------------------------------------------------


def check_growth(old: Head, new: Head, leaves_root: bytes, manifest: dict[str, Any], report: Report) -> None:
    """`leaves_root`: what the entries themselves give at the old size; empty where they do not reach it."""
    if old.origin != new.origin:
        report.found(f"ANOTHER LOG: the earlier evidence is of {old.origin}, this of {new.origin}")
    elif old.size > new.size:
        what = f"{new.size} entries here, {old.size} in the evidence that you call earlier"
        report.found(f"ROLLED BACK or stale: {what}")
    elif old.size == new.size:
        same = f"the log is the one of the earlier evidence, at the same size of {new.size}"
        report.check(old.root == new.root, same, f"FORK: two different histories of {new.size} entries, both signed")
    else:
        _check_longer(old, new, leaves_root, manifest, report)


def _check_longer(old: Head, new: Head, leaves_root: bytes, manifest: dict[str, Any], report: Report) -> None:
    paths = {one["size"]: one["path"] for one in manifest.get("consistency", [])}
    what = f"the {old.size} entries of the earlier evidence are the beginning of these {new.size}"
    forked = f"FORK: the {old.size} entries of the earlier evidence are not the beginning of this log"
    if leaves_root:
        report.check(leaves_root == old.root, what, forked)
    elif old.size in paths:
        report.check(grew(old, new, _hashes(paths[old.size])), what, forked)
    else:
        report.open.append("that this log grew from the earlier one: ask for an export with --after that evidence")


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    folder: Path
    keys: list[Key]
    witnesses: list[Key]
    quorum: int = 0
    earlier: Path | None = None  # None: nothing to compare with
    not_before: datetime | None = None  # None: any age will do
    attestation_keys: list[Key] = field(default_factory=list)


def verify(asked: Asked) -> Report:
    """Raises CannotBeCheckedError."""
    report = Report()
    manifest = _manifest(asked.folder)
    check_files(asked.folder, manifest["files"], report)
    note = _text(asked.folder / "checkpoint")
    head = check_checkpoint(note, asked, report)
    old = _earlier(asked, report)
    marks = {old.size: b""} if old else {}
    reading = Reading(report, blobs_in(asked.folder, report))
    if manifest["leaves"]["how"] == "range":
        check_range(asked.folder, manifest["leaves"], head, reading, marks)
    else:
        check_chosen(asked.folder, note, head, reading)
    if old is not None:
        check_growth(old, head, marks[old.size], manifest, report)
    check_blobs(reading)
    check_population(asked.folder, reading)
    check_attestation(asked.folder, reading, asked.attestation_keys, report)
    return report


def _earlier(asked: Asked, report: Report) -> Head | None:
    if asked.earlier is None:
        return None
    own = Report()
    head = check_checkpoint(_text(asked.earlier / "checkpoint"), Asked(asked.earlier, asked.keys, []), own)
    for what in own.wrong:
        report.found(f"in the earlier evidence: {what}")
    return head


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        raise CannotBeCheckedError(f"{folder} has no manifest.json: it is no export and no packet of Flyball")
    found = json.loads(_text(folder / "manifest.json"))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CannotBeCheckedError(f"{folder} is of another format than {FORMAT}: use the verify.py that lies in it")
    return found


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise CannotBeCheckedError(f"the manifest names {name!r}, which is not in its folder")
    return path


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise CannotBeCheckedError(f"{path.name} is larger than {MAX_TEXT_BYTES} bytes")
    return content.decode()


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a key may be longer than a name can be
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashes(encoded: Sequence[str]) -> list[bytes]:
    return [base64.b64decode(one, validate=True) for one in encoded]


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check an export or a packet of a Flyball log, offline.")
    add: Callable[..., Any] = parser.add_argument
    add("folder", type=Path)
    add("--key", action="append", default=[], metavar="VKEY", required=True, help="the log's public key, or a file")
    add("--witness", action="append", default=[], metavar="VKEY", help="a witness that you trust; may be repeated")
    add("--quorum", type=int, default=None, metavar="N", help="how many of them must have signed (default: 1 if any)")
    add("--earlier", type=Path, metavar="FOLDER", help="an earlier export of the same log")
    add("--not-before", type=_time, metavar="TIME", help="a witness must have seen it at this time or later")
    add("--attestation-key", action="append", default=[], metavar="VKEY", help="who signs attestations")
    return parser


def main(arguments: Sequence[str] | None = None, out: IO[str] | None = None) -> int:
    """`arguments` None: the command line's. `out` None: standard output."""
    out = out or sys.stdout
    said = _options().parse_args(arguments)
    try:
        witnesses = keys_of(said.witness, (COSIGNED_ED25519, COSIGNED_ML_DSA_44))
        quorum = said.quorum if said.quorum is not None else min(1, len(witnesses))
        keys, attesting = keys_of(said.key, (ED25519,)), keys_of(said.attestation_key, (ED25519,))
        report = verify(Asked(said.folder, keys, witnesses, quorum, said.earlier, said.not_before, attesting))
    except (CannotBeCheckedError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        out.write(f"CANNOT BE CHECKED  {error or type(error).__name__}\n")
        return UNCHECKABLE
    for word, lines in (("PROVEN", report.proven), ("NOT PROVEN", report.open), ("WRONG", report.wrong)):
        out.writelines(f"{word:<11} {line}\n" for line in lines)
    out.write("\nThis evidence is NOT to be relied on.\n" if report.wrong else "\nNothing is wrong with it.\n")
    return WRONG if report.wrong else PROVEN


if __name__ == "__main__":
    sys.exit(main())
