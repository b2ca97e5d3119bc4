"""What is signed and cosigned, as the controller, every page and every export say it.

Nothing in the signer's folder is taken on trust that a key can tell: a cosignature counts when it holds under the key
that was configured for its witness. Without a witness the word is "unwitnessed", for then whoever runs this log could
rewrite it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from controller.errors import ConfigError, Unavailable
from controller.ledger.checkpoint import MalformedNote
from controller.ledger.checkpoint_book import BookReader, Heard, SignedCheckpoint, reading
from controller.ledger.keyring import Keyring
from controller.ledger.note import NotSigned, Opened, VerifierKey, open_note
from controller.ports import Clock

BOOK = "checkpoints.db"
LOOK_EVERY_S = 0.05
LOOK_BACK = 100  # cosigned checkpoints among which the newest with enough witnesses is sought
UNWITNESSED = "unwitnessed"
MAX_WAIT_S = 30.0  # an effect that waits longer would outlive its step


class Need(StrEnum):
    """What must have happened to an entry before an effect may rest on it."""

    LOG = "log"  # it is durable: nothing else is waited for
    SIGNATURE = "signature"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint for others, with everybody's signatures."""

    note: str
    size: int
    witnesses: tuple[str, ...]  # names whose cosignatures hold; empty: unwitnessed
    at: datetime  # when the log signed it
    witnessed_at: datetime | None  # the newest of the witnesses' own times. None: unwitnessed


class Publication:
    """Of one signer's folder. `quorum`: how many of `witnesses` make an entry witnessed."""

    def __init__(self, folder: Path, clock: Clock, witnesses: Sequence[VerifierKey] = (), *, quorum: int = 1) -> None:
        names = {key.name for key in witnesses}
        if quorum < 1 or (names and quorum > len(names)):
            raise ConfigError(f"{quorum} of {len(names)} witnesses can never agree", "Configure more, or ask for fewer")
        self._folder, self._clock = folder, clock
        self._witnesses, self._quorum = tuple(witnesses), quorum

    def latest(self) -> Published | None:
        """The newest checkpoint that enough witnesses have cosigned, or else the newest that is signed.

        None: nothing is signed yet. Raises Unavailable and Permanent when the signer's folder cannot be read.
        """
        with reading(self._folder / BOOK) as book:
            if book is None:
                return None
            return self._witnessed(book) or self._published(book.newest())

    def signed(self) -> Published | None:
        """The newest that is signed, whoever has cosigned it. None: nothing is signed yet."""
        with reading(self._folder / BOOK) as book:
            return None if book is None else self._published(book.newest())

    def heard(self) -> tuple[Heard, ...]:
        """What each witness said last, by name."""
        with reading(self._folder / BOOK) as book:
            return () if book is None else book.heard()

    def keys(self) -> tuple[VerifierKey, ...]:
        """The log's, all there ever were. Empty: nothing is signed yet."""
        history = Keyring(self._folder).history()
        return () if history is None else history.verifiers

    def words(self) -> str:
        """How pages and exports say it."""
        latest, signed = self.latest(), self.signed()
        if latest is None or signed is None:
            return f"not signed yet, {UNWITNESSED}"
        if not latest.witnesses:
            return UNWITNESSED
        behind = f", up to entry {latest.size - 1} of {signed.size - 1}" if latest.size < signed.size else ""
        return f"witnessed by {', '.join(latest.witnesses)}{behind}"

    async def covers(self, index: int, need: Need, within_s: float) -> None:
        """Returns when the entry is under a checkpoint of the kind that is needed.

        Raises Unavailable when that did not happen within the time, and ConfigError for a witness where none is
        configured.
        """
        if need is Need.LOG:
            return
        if need is Need.WITNESS and not self._witnesses:
            raise ConfigError("effects wait for a witness, and none is configured", "Set ledger.witnesses")
        attempts = int(min(within_s, MAX_WAIT_S) / LOOK_EVERY_S) + 1
        for attempt in range(attempts):
            if attempt:
                await self._clock.sleep(LOOK_EVERY_S)
            if await asyncio.to_thread(self._size, need) > index:
                return
        raise Unavailable(
            f"entry {index} has no {need.value} after {within_s:g} s; {await asyncio.to_thread(self._troubles)}",
            "See `flyball status`: the signer or its witness does not answer",
        )

    def _size(self, need: Need) -> int:
        """Entries that are covered."""
        with reading(self._folder / BOOK) as book:
            if book is None:
                return 0
            found = self._witnessed(book) if need is Need.WITNESS else self._published(book.newest())
        return 0 if found is None else found.size

    def _troubles(self) -> str:
        troubles = [f"{one.name}: {one.trouble}" for one in self.heard() if one.trouble]
        return "; ".join(troubles) or self.words()

    def _witnessed(self, book: BookReader) -> Published | None:
        """The newest that enough witnesses have cosigned. None: there is none."""
        for size in book.cosigned_sizes(LOOK_BACK) if self._witnesses else ():
            found = self._published(book.at(size))
            if found is not None and len(found.witnesses) >= self._quorum:
                return found
        return None

    def _published(self, signed: SignedCheckpoint | None) -> Published | None:
        """None: there is no such checkpoint."""
        if signed is None:
            return None
        opened = self._opened(signed)
        found = {one.key.name: one.at for one in opened.signed if one.at is not None}
        newest = max((one.at for one in opened.signed if one.at is not None), default=None)
        return Published(signed.published, signed.size, tuple(found), signed.at, newest)

    def _opened(self, signed: SignedCheckpoint) -> Opened:
        """Raises Unavailable for a checkpoint that its log has not signed: somebody has written into the book."""
        try:
            return open_note(signed.published, (*self.keys(), *self._witnesses))
        except (NotSigned, MalformedNote) as error:
            raise Unavailable(
                f"the checkpoint of {signed.size} entries in {self._folder} does not hold: {error.message}",
                "Keep a copy of the folder as evidence, and find out who wrote to it",
            ) from error
