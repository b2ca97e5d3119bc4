"""Receipts: made from a real log, read back, and of no use for anything but their own entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.ledger.checkpoint import Checkpoint, MalformedNote, origin_of
from controller.ledger.database import Sync
from controller.ledger.note import KeyType, NotSigned, SigningKey, sign_note
from controller.ledger.proof import LogProof, NotIncluded, receipt
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import SqliteTree, snapshot
from controller.ledger.tiles import root_at
from controller.ports import Clock, Receipt, Rejected

Say = Callable[..., Coroutine[None, None, Receipt | Rejected]]
ENTRIES = 300
SIGNED = 290  # the log goes on while its checkpoint stands


@pytest.fixture
async def tree(path: Path, clock: Clock, say: Say) -> AsyncIterator[SqliteTree]:
    log = SqliteLog(path, clock, inline=True, sync=Sync.OFF)
    for version in range(ENTRIES):
        await say(log, at=version)
    log.close()
    with snapshot(path) as found:
        yield found


@pytest.fixture
def key(tree: SqliteTree) -> SigningKey:
    return SigningKey.generate(origin_of(tree.leaf(0)))


@pytest.fixture
def note(tree: SqliteTree, key: SigningKey) -> str:
    witness = SigningKey.generate("witness.example", KeyType.COSIGNATURE)
    seen = Checkpoint(key.name, SIGNED, root_at(tree, SIGNED))
    return sign_note(seen.text(), [key, witness], datetime(2026, 11, 22, tzinfo=UTC))


def test_a_receipt_is_read_as_it_was_written_and_holds(tree: SqliteTree, key: SigningKey, note: str) -> None:
    for index in (0, 7, 255, 256, SIGNED - 1):
        made = receipt(tree, index, note)
        assert LogProof.parse(made.text()) == made
        assert made.check(tree.leaf(index), [key.verifier], key.name).by == (key.name,)


def test_it_is_spelled_as_the_specification_spells_it(tree: SqliteTree, note: str) -> None:
    first, extra, index, *path = receipt(tree, 256, note, extra=b"page").text().partition("\n\n")[0].split("\n")
    assert (first, extra, index) == ("c2sp.org/tlog-proof@v1", "extra cGFnZQ==", "index 256")
    assert path
    assert receipt(tree, 256, note).text().endswith(f"\n\n{note}")


def test_it_proves_its_own_entry_at_its_own_place_only(tree: SqliteTree, key: SigningKey, note: str) -> None:
    made, keys = receipt(tree, 7, note), [key.verifier]
    wrong = {
        "another entry": (made, tree.leaf(8)),
        "an edited entry": (made, tree.leaf(7) + b" "),
        "another place": (replace(made, index=8), tree.leaf(7)),
        "beyond the tree": (replace(made, index=SIGNED), tree.leaf(7)),
        "a path cut short": (replace(made, path=made.path[:-1]), tree.leaf(7)),
        "a path of another": (replace(made, path=receipt(tree, 9, note).path), tree.leaf(7)),
    }
    for proof, leaf in wrong.values():
        with pytest.raises(NotIncluded, match=f"of the {SIGNED} entries"):
            proof.check(leaf, keys, key.name)


def test_a_checkpoint_nobody_trusted_signed_proves_nothing(tree: SqliteTree, key: SigningKey, note: str) -> None:
    made, stranger = receipt(tree, 7, note), SigningKey.generate("stranger")
    with pytest.raises(NotSigned):
        made.check(tree.leaf(7), [stranger.verifier], key.name)
    with pytest.raises(NotSigned, match="not of flyball/another"):
        made.check(tree.leaf(7), [key.verifier], "flyball/another")


def test_a_witness_alone_does_not_speak_for_a_log(tree: SqliteTree, key: SigningKey) -> None:
    witness = SigningKey.generate("witness.example", KeyType.COSIGNATURE)
    seen = Checkpoint(key.name, SIGNED, root_at(tree, SIGNED))
    made = receipt(tree, 7, sign_note(seen.text(), [witness], datetime(2026, 11, 22, tzinfo=UTC)))
    with pytest.raises(NotSigned, match="no key of flyball/"):
        made.check(tree.leaf(7), [witness.verifier, key.verifier], key.name)


def test_an_entry_younger_than_the_checkpoint_has_no_receipt_yet(tree: SqliteTree, note: str) -> None:
    with pytest.raises(IndexError):
        receipt(tree, SIGNED, note)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 7", "index 07"),
        ("index 7", "index"),
        ("index 7\n", ""),
        ("index 7", "extra"),
        ("index 7", "extra !\nindex 7"),
        ("index 7\n", "index 7\nAAAA\n"),
        ("\n\n", "\n"),
        ("index 7\n", "index 7\n" + "A" * 43 + "=\n" + ("A" * 43 + "=\n") * 63),
    ],
)
def test_what_is_no_receipt_is_refused(tree: SqliteTree, note: str, old: str, new: str) -> None:
    text = receipt(tree, 7, note).text()
    assert old in text
    with pytest.raises(MalformedNote):
        LogProof.parse(text.replace(old, new))
