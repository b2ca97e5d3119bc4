"""One signing key follows another, and the log itself says so.

The new key is made; both keys sign a statement; the statement becomes an entry; only then does the new key sign
checkpoints, and the old one goes on beside it for an overlap. Whoever trusts the old key so learns of the new one from
the log. Killed anywhere, a second call goes on where the first one stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.events.ledger import SigningKeyRotated
from controller.domain.ids import CONTROL
from controller.errors import Permanent, Unavailable
from controller.ledger.checkpoint import MalformedNote
from controller.ledger.keyring import KeyRecord, Keyring
from controller.ledger.note import NotSigned, SigningKey, VerifierKey, open_note, sign_note
from controller.ports import Log, Receipt

HEADING = "flyball/key-rotation/v1"  # no checkpoint: its second line is no size
MIN_OVERLAP, MAX_OVERLAP = timedelta(0), timedelta(days=366)
ATTEMPTS = 10  # at an append beside others who write to `control`


@dataclass(frozen=True, slots=True)
class Rotated:
    old: VerifierKey
    new: VerifierKey
    index: int  # of the entry that says so
    old_until: datetime


async def rotate(log: Log, ring: Keyring, by: Caller, *, now: datetime, overlap: timedelta, event_id: str) -> Rotated:
    """Let a new key follow the one that signs now.

    Raises Permanent for an overlap out of bounds, and while an earlier overlap lasts.
    """
    if not MIN_OVERLAP <= overlap <= MAX_OVERLAP:
        raise Permanent(f"an overlap of {overlap} is out of bounds", f"Choose one of at most {MAX_OVERLAP.days} days")
    history = ring.history()
    if history is None:
        raise Permanent("nothing has been signed here yet", "Let the log be signed once: flyball sign --once")
    old = _only(history.signing)
    (old_key,) = ring.signing_keys(history)
    new, file = ring.pending(history.origin)
    fact = SigningKeyRotated(
        origin=history.origin,
        old=old.vkey,
        new=str(new.verifier),
        statement=statement(history.origin, old_key, new),
        overlap_seconds=int(overlap.total_seconds()),
        by=by.principal,
        event_id=event_id,
    )
    index = await _said(log, fact, by)
    ring.follow(new, file, from_size=index + 1, old_until=now + overlap)
    return Rotated(old.verifier, new.verifier, index, now + overlap)


def statement(origin: str, old: SigningKey, new: SigningKey) -> str:
    """The note by which both keys say that one follows the other."""
    return sign_note(f"{HEADING}\n{origin}\n{old.verifier}\n{new.verifier}\n", (old, new))


def followed(trusted: VerifierKey, origin: str, rotations: Iterable[SigningKeyRotated]) -> tuple[VerifierKey, ...]:
    """The keys that a reader who trusts one may trust, itself first: each vouched for by the one before it.

    A rotation that does not hold, or of a key that is not the newest trusted one, is passed over.
    """
    found = [trusted]
    for rotation in rotations:
        if rotation.old == str(found[-1]) and holds(rotation, origin):
            found.append(VerifierKey.parse(rotation.new))
    return tuple(found)


def holds(rotation: SigningKeyRotated, origin: str) -> bool:
    """Whether both keys have signed exactly this."""
    try:
        keys = tuple(VerifierKey.parse(text) for text in (rotation.old, rotation.new))
        opened = open_note(rotation.statement, keys)
    except (MalformedNote, NotSigned):
        return False
    text = f"{HEADING}\n{origin}\n{rotation.old}\n{rotation.new}\n"
    return opened.text == text and rotation.origin == origin and {one.key for one in opened.signed} == set(keys)


def rotations_among(entries: Iterable[Entry]) -> list[SigningKeyRotated]:
    return [entry.event for entry in entries if isinstance(entry.event, SigningKeyRotated)]


def _only(signing: tuple[KeyRecord, ...]) -> KeyRecord:
    if len(signing) != 1:
        until = max(key.signs_until for key in signing if key.signs_until is not None)
        raise Permanent(
            f"{len(signing)} keys sign at present", f"Wait until {until:%Y-%m-%d %H:%M} UTC, when the old one retires"
        )
    return signing[0]


async def _said(log: Log, fact: SigningKeyRotated, by: Caller) -> int:
    """The index of the entry, which may stand there already."""
    for _ in range(ATTEMPTS):
        entries = await log.read(CONTROL)
        for entry in entries:
            if isinstance(entry.event, SigningKeyRotated) and entry.event.new == fact.new:
                return entry.index
        version = entries[-1].version if entries else 0
        outcome = await log.append([Draft(CONTROL, fact)], expect={CONTROL: version}, by=by)
        if isinstance(outcome, Receipt):
            return outcome.index
    raise Unavailable(f"{CONTROL} moves on too fast", "Try again: the new key is kept")
