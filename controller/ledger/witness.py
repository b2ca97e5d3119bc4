"""A witness: it signs that a log has only ever grown, with a key and a memory of its own (c2sp.org/tlog-witness).

It knows a log by its public keys and remembers the newest checkpoint that it has cosigned. A new one must come with a
proof that it grew out of that one. What it has decided is on the disk before it answers, and look, decide and keep are
one transaction: two requests at once cannot take turns to roll a log back, nor can two processes on one file.

A validly signed checkpoint that was not shown to have grown out of the remembered one may be evidence against its log:
both are kept, and somebody is told. What is not signed by a known log leaves no trace.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from controller.ledger.checkpoint import Checkpoint, MalformedNote
from controller.ledger.merkle import EMPTY_ROOT, extends
from controller.ledger.note import NotSigned, SigningKey, VerifierKey, open_note
from controller.ledger.witness_store import Evidence, EvidenceKind, Remembered, WitnessStore
from controller.ledger.witness_wire import SIZE_TYPE, AddCheckpoint, joined, lines_by, origin_hash
from controller.ports import Clock

logger = logging.getLogger("flyball.witness")
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = TEXT


class _No(Exception):  # noqa: N818 - an answer, and never leaves this file
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A request whose checkpoint is signed by its log."""

    request: AddCheckpoint
    checkpoint: Checkpoint
    by_log: tuple[str, ...]  # the log's own signature lines


def _nothing() -> None: ...


class Witness:
    """Used by any number of threads."""

    def __init__(
        self,
        store: Path,
        keys: Sequence[SigningKey],
        logs: Sequence[VerifierKey],
        clock: Clock,
        *,
        after_kept: Callable[[], None] = _nothing,
    ) -> None:
        """`logs`: a key's name is its log's origin, and a log may have several.

        `after_kept` is called between the decision's being durable and the answer; a test ends the process there.
        """
        self._store = WitnessStore(store)
        self._keys, self._clock, self._after_kept = tuple(keys), clock, after_kept
        self._logs: Mapping[str, tuple[VerifierKey, ...]] = {
            name: tuple(key for key in logs if key.name == name) for name in {key.name for key in logs}
        }
        self._by_hash = {origin_hash(origin): origin for origin in self._logs}
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        with self._one_at_a_time:
            self._store.close()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign a checkpoint that has grown out of the newest known one, or say why not."""
        try:
            submitted = self._signed_by_its_log(body)
            with self._one_at_a_time:
                answer = self._decide(submitted)
        except _No as no:
            return no.answer
        self._after_kept()
        return answer

    def checkpoint(self, hashed: str) -> Answer:
        """The newest checkpoint that was cosigned for a log, with the log's signatures and ours."""
        origin = self._by_hash.get(hashed)
        with self._one_at_a_time:
            found = None if origin is None else self._store.remembered(origin)
        if found is None:
            return _said(HTTPStatus.NOT_FOUND, "nothing was cosigned for such a log")
        return Answer(HTTPStatus.OK, found.note.encode())

    def evidence(self) -> list[Evidence]:
        with self._one_at_a_time:
            return self._store.evidence()

    # --- what needs no memory ----------------------------------------------------------------------------------------

    def _signed_by_its_log(self, body: bytes) -> _Submitted:
        try:
            request = AddCheckpoint.parse(body)
        except MalformedNote as error:
            raise _no(HTTPStatus.BAD_REQUEST, error.message) from error
        origin = request.note.partition("\n")[0]
        keys = self._logs.get(origin)
        if keys is None:
            raise _no(HTTPStatus.NOT_FOUND, f"no log {origin[:100]!r} is known here")
        try:
            text = open_note(request.note, keys).text
        except MalformedNote as error:
            raise _no(HTTPStatus.BAD_REQUEST, error.message) from error
        except NotSigned as error:
            raise _no(HTTPStatus.FORBIDDEN, error.message) from error
        checkpoint = _read(text)
        if request.old_size > checkpoint.size:
            self._keep_smaller(request, checkpoint)
            raise _no(HTTPStatus.BAD_REQUEST, f"the old size {request.old_size} is above the new {checkpoint.size}")
        return _Submitted(request, checkpoint, tuple(lines_by(request.note, keys).values()))

    def _keep_smaller(self, request: AddCheckpoint, checkpoint: Checkpoint) -> None:
        """A log that knows how far we are and shows us less has been rolled back."""
        with self._one_at_a_time, self._store.deciding():
            known = self._store.remembered(checkpoint.origin)
            if known is not None and checkpoint.size < known.size:
                self._keep(known, checkpoint, request.note, EvidenceKind.SHRANK)

    # --- what does ---------------------------------------------------------------------------------------------------

    def _decide(self, submitted: _Submitted) -> Answer:
        checkpoint, request = submitted.checkpoint, submitted.request
        with self._store.deciding():
            known = self._store.remembered(checkpoint.origin)
            known_size, known_root = (known.size, known.root) if known else (0, EMPTY_ROOT)
            if request.old_size != known_size:
                if known is not None:
                    self._suspect(known, checkpoint, request.note)
                return Answer(HTTPStatus.CONFLICT, f"{known_size}\n".encode(), SIZE_TYPE)
            if not extends(known_size, known_root, checkpoint.size, checkpoint.root, request.proof):
                if known is not None:
                    self._keep(known, checkpoint, request.note, EvidenceKind.UNPROVEN)
                return _said(HTTPStatus.UNPROCESSABLE_ENTITY, f"no proof that it grew from {known_size} entries")
            return self._cosigned(submitted)

    def _cosigned(self, submitted: _Submitted) -> Answer:
        checkpoint, at = submitted.checkpoint, self._clock.now()
        text = checkpoint.text()
        lines = [key.line(text, at) for key in self._keys]
        note = f"{text}\n" + "".join((*submitted.by_log, *lines))
        self._store.remember(Remembered(checkpoint.origin, checkpoint.size, checkpoint.root, note), at)
        return Answer(HTTPStatus.OK, joined(lines))

    def _suspect(self, known: Remembered, checkpoint: Checkpoint, note: str) -> None:
        """A wrong old size is a client's own business, unless the checkpoint itself contradicts what is known."""
        if checkpoint.size < known.size:
            self._keep(known, checkpoint, note, EvidenceKind.SHRANK)
        elif checkpoint.size == known.size and checkpoint.root != known.root:
            self._keep(known, checkpoint, note, EvidenceKind.FORKED)

    def _keep(self, known: Remembered, checkpoint: Checkpoint, note: str, kind: EvidenceKind) -> None:
        if kind is EvidenceKind.UNPROVEN and checkpoint.size == known.size:
            kind = EvidenceKind.FORKED
        if self._store.keep_evidence(Evidence(checkpoint.origin, kind, known.note, note, self._clock.now())):
            logger.error(
                "ALARM: %s %s: signed with %d entries, after %d were cosigned; both checkpoints are kept",
                checkpoint.origin,
                kind.value,
                checkpoint.size,
                known.size,
            )


def _read(text: str) -> Checkpoint:
    """The specification wants an empty log with a root of its own told apart from what is no checkpoint."""
    try:
        return Checkpoint.parse(text)
    except MalformedNote as error:
        empty = text.split("\n")[1:2] == ["0"]
        status = HTTPStatus.UNPROCESSABLE_ENTITY if empty else HTTPStatus.BAD_REQUEST
        raise _no(status, error.message) from error


def _said(status: HTTPStatus, words: str) -> Answer:
    return Answer(status, f"{words}\n".encode())


def _no(status: HTTPStatus, words: str) -> _No:
    return _No(_said(status, words))
