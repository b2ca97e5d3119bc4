"""Logs, keys and witnesses from which evidence is made: honest to begin with."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cryptography
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller.compliance.bundle import VERIFIER, Standing
from controller.compliance.export import export_window
from controller.domain import events as e
from controller.domain.entry import Caller, Draft, Entry, decode
from controller.domain.ids import Digest, StreamId
from controller.ledger.checkpoint import Checkpoint, origin_of
from controller.ledger.database import Sync
from controller.ledger.note import KeyType, SigningKey, sign_note
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tiles import root_at

GOLDEN = Path(__file__).parents[1] / "golden" / "first.jsonl"
TAMPERING = Path(__file__).parent / "tampering"
AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
BY = Caller("service:controller", Digest("sha256:" + "0" * 64))
HONEST_SIZE, EARLIER_SIZE = 300, 280
PER_STREAM = 10


@dataclass
class HandClock:
    at: datetime = AT

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def key_named(name: str, kind: KeyType = KeyType.ED25519) -> SigningKey:
    """The same every time. It guards nothing but this evidence."""
    seed = hashlib.sha256(f"kept evidence: {name}".encode()).digest()
    return SigningKey(name, kind, Ed25519PrivateKey.from_private_bytes(seed))


WITNESS = key_named("witness.example/w1", KeyType.COSIGNATURE)


async def make_log(path: Path, said: Sequence[str]) -> None:
    """A log of one note per string, ten to a stream."""
    clock = HandClock()
    log = SqliteLog(path, clock, sync=Sync.OFF, inline=True)
    for number, words in enumerate(said):
        stream, version = StreamId(f"session/shop-{number // PER_STREAM}/1"), number % PER_STREAM
        event = e.SessionResumed(turn=version, from_checkpoint=False, reason=words)
        clock.at += timedelta(seconds=1)
        await log.append([Draft(stream, event)], expect={stream: version}, by=BY)
    log.close()


async def golden_log(path: Path) -> list[Entry]:
    """What once happened in a whole simulated world, appended again to a file of its own."""
    entries, clock = [decode(line) for line in GOLDEN.read_bytes().splitlines()], HandClock()
    log = SqliteLog(path, clock, sync=Sync.OFF, inline=True)
    for entry in entries:
        clock.at = entry.time
        by = Caller(entry.principal, entry.policy, entry.on_behalf_of)
        draft = Draft(entry.stream, entry.event)  # type: ignore[arg-type]
        await log.append([draft], expect={entry.stream: entry.version - 1}, by=by)
    log.close()
    return entries


def honest_words(size: int = HONEST_SIZE) -> list[str]:
    return [f"note {number}" for number in range(size)]


def checkpoint_of(path: Path, size: int | None = None) -> Checkpoint:
    """`size` None: all of it."""
    with snapshot(path) as tree:
        size = tree.size() if size is None else size
        return Checkpoint(origin_of(tree.leaf(0)), size, root_at(tree, size))


def log_key(checkpoint: Checkpoint) -> SigningKey:
    return key_named(checkpoint.origin)


def standing_at(path: Path, size: int | None = None, *, seen_at: datetime | None = None) -> Standing:
    """Signed by the log's key, and by the witness where `seen_at` says when."""
    found = checkpoint_of(path, size)
    keys = [log_key(found), *([WITNESS] if seen_at else [])]
    names = (WITNESS.name,) if seen_at else ()
    return Standing(found, sign_note(found.text(), keys, seen_at), names, tuple(str(key.verifier) for key in keys))


def export_of(
    path: Path, folder: Path, *, size: int | None = None, seen_at: datetime | None = None, earlier: int = 0
) -> Path:
    """Its last twenty entries."""
    standing = standing_at(path, size, seen_at=seen_at)
    last = standing.checkpoint.size
    with snapshot(path) as tree:
        export_window(tree, standing, range(last - 20, last), folder=folder, made_at=AT, earlier=earlier)
    (folder / VERIFIER).unlink()  # the one to check it with is today's, not the one of the day it was made
    return folder


def packed(path: Path, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_bytes(lzma.compress(path.read_bytes(), preset=9))


def unpacked(kept: Path, into: Path) -> Path:
    into.write_bytes(lzma.decompress(kept.read_bytes()))
    return into


def bare_python(folder: Path) -> list[str]:
    """A Python that has `cryptography` and its own library, and nothing else of this environment."""
    folder.mkdir()
    home = Path(cryptography.__file__).parents[1]
    for pattern in ("cryptography", "cffi", "_cffi_backend*", "pycparser"):
        for found in home.glob(pattern):
            (folder / found.name).symlink_to(found)
    start = f"import sys, runpy; sys.path.append({str(folder)!r}); sys.argv = sys.argv[1:]; "
    return [sys.executable, "-I", "-S", "-c", f"{start}runpy.run_path(sys.argv[0], run_name='__main__')"]


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
