"""A signed checkpoint on its way to one witness, and what became of it there.

The proof starts from what the witness said last that it knows. A witness that knows something else says so (409) and is
asked again from there. Whoever answers is believed only as far as the keys that were configured for it: a cosignature
that does not hold is trouble with the witness. A witness that knows more of the log than the log itself, or finds that
no proof leads from what it knows to what it is shown, has found that the log was rolled back or rewritten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from controller.errors import Permanent, Temporary, Unavailable
from controller.ledger.alarms import AlarmKind, Misgrown
from controller.ledger.checkpoint import MalformedNote
from controller.ledger.checkpoint_book import SignedCheckpoint
from controller.ledger.note import NotSigned, VerifierKey, open_note
from controller.ledger.signer import OpenTree
from controller.ledger.tiles import consistency
from controller.ledger.witness_wire import MAX_PROOF, AddCheckpoint, lines_by, size_told

TRIES = 3  # a witness that somebody else feeds too may move on once or twice meanwhile
MAX_WORDS = 300  # characters of a refusal that are kept

Post = Callable[[bytes], Awaitable[tuple[int, bytes]]]  # a body to add-checkpoint; status and body of the answer


@dataclass(frozen=True, slots=True)
class WitnessKeys:
    """A witness as it was configured."""

    url: str  # submission prefix
    keys: tuple[VerifierKey, ...]  # all of one name

    @property
    def name(self) -> str:
        return self.keys[0].name

    @staticmethod
    def parse(url: str, key: str) -> WitnessKeys:
        """`key`: one vkey, or several of one name with spaces between them. Raises MalformedNote."""
        keys = tuple(VerifierKey.parse(word) for word in key.split())
        if len({one.name for one in keys}) != 1 or not all(one.type.timed for one in keys):
            raise MalformedNote(
                f"these are no keys of one witness: {key[:100]!r}", "Ask it for them: flyball witness --print-key"
            )
        return WitnessKeys(url.rstrip("/"), keys)


async def submit(
    signed: SignedCheckpoint, known_size: int, witness: WitnessKeys, tree: OpenTree, post: Post
) -> dict[VerifierKey, str]:
    """The witness's verified cosignature lines on this checkpoint. `known_size`: what it last cosigned; 0: unknown.

    Raises Misgrown when the log is at fault, Permanent when the two are not set up for each other, and Temporary when
    it is worth trying again later.
    """
    for _ in range(TRIES):
        status, body = await post(_request(signed, known_size, tree))
        if status == HTTPStatus.OK:
            return _verified(signed, witness, body)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise _contradicted(witness, signed, known_size)
        if status != HTTPStatus.CONFLICT:
            raise _refused(witness, status, body)
        known_size = _told(witness, body)
        if known_size > signed.size:
            _check_not_ahead_of_log(witness, signed, known_size, tree)
    raise Unavailable(f"{witness.name} moves on too fast", "It is tried again")


def _request(signed: SignedCheckpoint, known_size: int, tree: OpenTree) -> bytes:
    with tree() as snapshot:
        proof = tuple(consistency(snapshot, known_size, signed.size))
    if len(proof) > MAX_PROOF:
        raise Permanent(f"the proof has {len(proof)} hashes", "Report this")
    return AddCheckpoint(known_size, proof, signed.note).text().encode()


def _verified(signed: SignedCheckpoint, witness: WitnessKeys, body: bytes) -> dict[VerifierKey, str]:
    try:
        note = f"{signed.checkpoint.text()}\n{body.decode()}"
        opened = open_note(note, witness.keys)
        found = lines_by(note, (one.key for one in opened.signed))
    except (UnicodeDecodeError, MalformedNote, NotSigned) as error:
        raise Permanent(
            f"{witness.name} at {witness.url} answered with no cosignature by its key: {error}",
            "Compare its key with: flyball witness --print-key",
        ) from error
    return found


def _told(witness: WitnessKeys, body: bytes) -> int:
    try:
        return size_told(body.decode())
    except (UnicodeDecodeError, MalformedNote) as error:
        raise Permanent(f"{witness.name} says that it knows another size, but not which", "Report it there") from error


def _check_not_ahead_of_log(witness: WitnessKeys, signed: SignedCheckpoint, known_size: int, tree: OpenTree) -> None:
    with tree() as snapshot:
        size = snapshot.size()
    if known_size > size:
        raise Misgrown(
            AlarmKind.SHRANK,
            f"{witness.name} has cosigned {known_size} entries of this log, and the log has {size}",
            "Entries have been lost or taken away: stop Flyball, keep a copy of its state folder, ask the witness for "
            "its checkpoint, and restore a backup that reaches as far",
            (signed.note,),
        )
    raise Temporary(f"{witness.name} knows {known_size} entries, and {signed.size} are signed", "It is tried again")


def _contradicted(witness: WitnessKeys, signed: SignedCheckpoint, known_size: int) -> Misgrown:
    return Misgrown(
        AlarmKind.FORKED,
        f"{witness.name} cosigned {known_size} entries of this log, and they are not how it begins now",
        "The log has been rewritten: stop Flyball, keep a copy of its state folder as evidence, and ask the witness "
        "for both checkpoints",
        (signed.note,),
    )


def _refused(witness: WitnessKeys, status: int, body: bytes) -> Permanent | Temporary:
    words = body.decode(errors="replace").strip()[:MAX_WORDS]
    said = f"{witness.name} at {witness.url} answered {status}: {words}"
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return Permanent(said, "Give it this log's key: flyball keys list")
    if status == HTTPStatus.BAD_REQUEST:
        return Permanent(said, "One of the two does not speak c2sp.org/tlog-witness")
    return Unavailable(said, "It is tried again")
