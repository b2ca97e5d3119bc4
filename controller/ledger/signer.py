"""The signer: what a process with a key of its own does with a log that it can only read.

Each round it looks at one snapshot of the tree. The checkpoint that it signed last must be the beginning of this tree,
which a consistency proof shows; then the new checkpoint is signed, kept, and only then published. A log that has shrunk
or forked is not signed any more, and an alarm says so. The signer believes nothing else of the log: it does not read
what the entries say, except the time of the newest one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.errors import Permanent
from controller.ledger.alarms import Alarm, AlarmKind, Misgrown
from controller.ledger.checkpoint import Checkpoint, origin_of
from controller.ledger.checkpoint_book import CheckpointBook, SignedCheckpoint
from controller.ledger.keyring import Keyring
from controller.ledger.merkle import EMPTY_ROOT, extends
from controller.ledger.note import sign_note
from controller.ledger.tiles import TreeReader, consistency, root_at
from controller.ports import Clock

OpenTree = Callable[[], AbstractContextManager[TreeReader]]
_KEEP = (
    "Stop Flyball, keep a copy of its state folder as evidence, compare it with a backup and with what the witnesses "
    "have seen; when you have understood it, remove the file `alarm` beside checkpoints.db"
)


@dataclass(frozen=True)
class Signer:
    """One log, its keys and its book of signed checkpoints. Used by one thread at a time."""

    tree: OpenTree
    ring: Keyring
    book: CheckpointBook
    clock: Clock
    origin: str = ""  # empty: the log is named after its first entry

    def round(self) -> SignedCheckpoint | None:
        """Sign the log as it stands. None: it is empty.

        Nothing is signed twice: an unchanged log gives the same checkpoint again. Raises Misgrown for a log that must
        not be signed, and Unavailable while it is out of reach.
        """
        last = self.book.newest()
        with self.tree() as tree, _complete(last):
            if tree.size() == 0 and last is None:
                return None
            now = self._head(tree, last)
            if last is not None:
                _check_grown(tree, last, now)
        if last is not None and last.size == now.size:
            return last
        return self._sign(now, last)

    def silent_since(self, limit: timedelta) -> Alarm | None:
        """The alarm of a log in which nobody has said anything for longer than `limit`. None: somebody has."""
        with self.tree() as tree:
            said_at = last_entry_at(tree)
        now = self.clock.now()
        if said_at is None or now - said_at <= limit:
            return None
        silent_s = int((now - said_at).total_seconds())
        what = f"nothing has been appended to the log since {said_at:%Y-%m-%d %H:%M:%S} UTC, for {silent_s} s"
        way_out = "See whether a controller runs (flyball serve) and can write: even an idle one says that it lives"
        return Alarm(kind=AlarmKind.SILENT, what=what, way_out=way_out, at=now)

    def _head(self, tree: TreeReader, last: SignedCheckpoint | None) -> Checkpoint:
        if tree.size() == 0 and last is not None:
            return Checkpoint(last.checkpoint.origin, 0, EMPTY_ROOT)
        return Checkpoint(self.origin or origin_of(tree.leaf(0)), tree.size(), root_at(tree, tree.size()))

    def _sign(self, now: Checkpoint, last: SignedCheckpoint | None) -> SignedCheckpoint:
        self.ring.opened(now.origin)
        at = self.clock.now()
        history = self.ring.retire(at, last.size if last else 0)
        keys = self.ring.signing_keys(history)
        if not keys:
            raise Permanent("no key signs any more", "Restore keys.json from its backup")
        note = sign_note(now.text(), keys)
        self.book.add(now, note, at)
        return SignedCheckpoint(now, note, at)


def last_entry_at(tree: TreeReader) -> datetime | None:
    """When the newest entry was appended. None: there is none.

    Raises Permanent when the entry cannot be read.
    """
    if tree.size() == 0:
        return None
    try:
        found = datetime.fromisoformat(json.loads(tree.leaf(tree.size() - 1))["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"the newest entry of the log cannot be read: {error}", "Run `flyball log verify`") from error
    if found.tzinfo is None:
        raise Permanent("the newest entry of the log has a time without a zone", "Run `flyball log verify`")
    return found


@contextmanager
def _complete(last: SignedCheckpoint | None) -> Iterator[None]:
    """A tree with holes in it has lost what was signed."""
    try:
        yield
    except IndexError as error:
        evidence = () if last is None else (last.note,)
        raise Misgrown(AlarmKind.SHRANK, f"entries of the log are missing: {error}", _KEEP, evidence) from error


def _check_grown(tree: TreeReader, last: SignedCheckpoint, now: Checkpoint) -> None:
    before = last.checkpoint
    if before.origin != now.origin:
        what = f"this log is {now.origin}; what was signed here before is {before.origin}"
        raise Misgrown(AlarmKind.FORKED, what, _KEEP, (last.note, now.text()))
    if now.size < before.size:
        what = f"the log has {now.size} entries, and {before.size} of it were signed"
        raise Misgrown(AlarmKind.SHRANK, what, _KEEP, (last.note, now.text()))
    if not extends(before.size, before.root, now.size, now.root, consistency(tree, before.size, now.size)):
        what = f"the first {before.size} entries of the log are not those that were signed"
        raise Misgrown(AlarmKind.FORKED, what, _KEEP, (last.note, now.text()))
