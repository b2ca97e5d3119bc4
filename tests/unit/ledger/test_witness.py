"""What a witness cosigns, what it refuses by which status (c2sp.org/tlog-witness), and what it keeps as evidence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))

from facts_kit import HandClock
from witness_kit import WITNESS, LogHouse, put_back, witness_of

from controller.ledger.checkpoint import Checkpoint, MalformedNote
from controller.ledger.merkle import EMPTY_ROOT
from controller.ledger.note import KeyType, SigningKey, open_note, sign_note
from controller.ledger.submission import WitnessKeys
from controller.ledger.verify import verify
from controller.ledger.witness import Answer, Witness
from controller.ledger.witness_store import EvidenceKind
from controller.ledger.witness_wire import MAX_PROOF, SIZE_TYPE, AddCheckpoint, origin_hash, size_told


@dataclass
class Scene:
    house: LogHouse
    witness: Witness

    def submit(self, old: int, size: int) -> Answer:
        return self.witness.add_checkpoint(self.house.request(old, size))

    def send(self, checkpoint: Checkpoint, old: int, *proof: bytes, key: SigningKey | None = None) -> Answer:
        """Signed by the log's key, or by another."""
        note = sign_note(checkpoint.text(), [key or self.house.key()])
        return self.witness.add_checkpoint(AddCheckpoint(old, proof, note).text().encode())

    def kinds(self) -> list[EvidenceKind]:
        return [one.kind for one in self.witness.evidence()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    house = LogHouse(tmp_path / "state")
    house.grow(300)
    house.signer.round()
    witness = witness_of(tmp_path, [house.key().verifier], house.clock)
    yield Scene(house, witness)
    witness.close()
    house.close()


# --- growth -----------------------------------------------------------------------------------------------------------


def test_a_log_that_grows_is_cosigned_by_both_keys_at_the_time_of_the_witness(scene: Scene) -> None:
    for old, size in [(0, 1), (1, 7), (7, 256), (256, 300)]:
        scene.house.clock.pass_(10)
        answer = scene.submit(old, size)
        assert answer.status == 200
        text = scene.house.checkpoint(size).text()
        opened = open_note(f"{text}\n{answer.body.decode()}", [key.verifier for key in scene.witness._keys])
        assert {one.key.type for one in opened.signed} == {KeyType.COSIGNATURE, KeyType.ML_DSA_44}
        assert {one.at for one in opened.signed} == {scene.house.clock.now()}


def test_the_same_checkpoint_again_is_cosigned_again_at_a_later_time(scene: Scene) -> None:
    first = scene.submit(0, 300)
    scene.house.clock.pass_(60)
    again = scene.submit(300, 300)
    assert (first.status, again.status) == (200, 200)
    assert first.body != again.body


def test_an_empty_log_is_consistent_with_whatever_comes_after_it(scene: Scene) -> None:
    empty = Checkpoint(scene.house.origin(), 0, EMPTY_ROOT)
    assert scene.send(empty, 0).status == 200
    assert scene.submit(0, 300).status == 200


def test_what_was_cosigned_can_be_asked_for_with_everybodys_signatures(scene: Scene) -> None:
    hashed = origin_hash(scene.house.origin())
    assert scene.witness.checkpoint(hashed).status == 404
    scene.submit(0, 20)
    found = scene.witness.checkpoint(hashed)
    keys = [scene.house.key().verifier, *(key.verifier for key in scene.witness._keys)]
    opened = open_note(found.body.decode(), keys)
    assert Checkpoint.parse(opened.text) == scene.house.checkpoint(20)
    assert {one.key for one in opened.signed} == set(keys)
    assert scene.witness.checkpoint(origin_hash("another/log")).status == 404


def test_strangers_signatures_on_a_checkpoint_are_not_passed_on(scene: Scene) -> None:
    stranger = SigningKey.generate(scene.house.origin())
    text = scene.house.checkpoint(5).text()
    request = AddCheckpoint(0, (), sign_note(text, [stranger, scene.house.key()]))
    assert scene.witness.add_checkpoint(request.text().encode()).status == 200
    kept = scene.witness.checkpoint(origin_hash(scene.house.origin())).body.decode()
    assert stranger.line(text) not in kept
    assert scene.house.key().line(text) in kept


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_log_that_nobody_named_is_not_found(scene: Scene) -> None:
    other = Checkpoint("another/log", 1, b"\x01" * 32)
    assert scene.send(other, 0, key=SigningKey.generate("another/log")).status == 404


def test_a_checkpoint_that_its_log_has_not_signed_is_forbidden_and_leaves_no_trace(scene: Scene) -> None:
    scene.submit(0, 300)
    other = Checkpoint(scene.house.origin(), 300, b"\x01" * 32)
    assert scene.send(other, 300, key=SigningKey.generate(scene.house.origin())).status == 403
    broken = scene.house.request(300, 300).replace(b"\n300\n", b"\n301\n")
    assert scene.witness.add_checkpoint(broken).status == 403
    assert scene.kinds() == []


def test_a_wrong_old_size_is_told_the_right_one(scene: Scene) -> None:
    assert scene.submit(7, 20) == Answer(409, b"0\n", SIZE_TYPE)
    scene.submit(0, 20)
    assert scene.submit(7, 300) == Answer(409, b"20\n", SIZE_TYPE)
    assert size_told("20\n") == 20
    assert scene.kinds() == []


def test_an_old_size_above_the_new_one_is_no_request(scene: Scene) -> None:
    assert scene.send(scene.house.checkpoint(20), 21).status == 400


def test_a_proof_that_does_not_hold_is_refused_and_the_memory_stays(scene: Scene) -> None:
    scene.submit(0, 20)
    good = AddCheckpoint.parse(scene.house.request(20, 300))
    for proof in ((), good.proof[:-1], (*good.proof, b"\0" * 32), good.proof[::-1]):
        body = AddCheckpoint(20, proof, good.note).text().encode()
        assert scene.witness.add_checkpoint(body).status == 422
    assert scene.submit(20, 300).status == 200


def test_a_proof_from_nothing_must_be_empty(scene: Scene) -> None:
    assert scene.send(scene.house.checkpoint(20), 0, b"\0" * 32).status == 422


def test_an_empty_log_with_a_root_of_its_own_is_refused(scene: Scene) -> None:
    text = Checkpoint(scene.house.origin(), 0, EMPTY_ROOT).text()
    lied = text.replace(text.split("\n")[2], "A" * 43 + "=")
    body = AddCheckpoint(0, (), sign_note(lied, [scene.house.key()])).text().encode()
    assert scene.witness.add_checkpoint(body).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"old 0",
        b"old 0\n\n",
        b"old -1\n\nx\n",
        b"old 00\n\nx\n",
        b"old 99999999999999999999\n\nx\n",
        b"old 9223372036854775808\n\nx\n",
        b"new 0\n\nx\n",
        b"old 0\nAAAA\n\nx\n",
        b"old 0\nnot base64\n\nx\n",
        b"old 0\n" + (b"A" * 43 + b"=\n") * (MAX_PROOF + 1) + b"\nx\n",
    ],
)
def test_what_is_no_request_is_refused(scene: Scene, body: bytes) -> None:
    assert scene.witness.add_checkpoint(body).status in (400, 404)


def test_a_signed_text_that_is_no_checkpoint_is_no_request(scene: Scene) -> None:
    note = sign_note(f"{scene.house.origin()}\nhello\n", [scene.house.key()])
    assert scene.witness.add_checkpoint(AddCheckpoint(0, (), note).text().encode()).status == 400


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_a_rollback_is_refused_and_both_checkpoints_are_kept(scene: Scene) -> None:
    scene.submit(0, 300)
    smaller = scene.house.checkpoint(200)
    assert scene.send(smaller, 0).status == 409
    assert scene.send(smaller, 300).status == 400
    (found,) = scene.witness.evidence()
    assert found.kind is EvidenceKind.SHRANK
    log = [scene.house.key().verifier]
    assert Checkpoint.parse(open_note(found.known, log).text).size == 300
    assert Checkpoint.parse(open_note(found.refused, log).text) == smaller


@pytest.mark.parametrize("old", [300, 0], ids=["by who knows our size", "by who does not"])
def test_two_roots_of_one_size_are_proof_against_the_log(scene: Scene, old: int) -> None:
    scene.submit(0, 300)
    fork = Checkpoint(scene.house.origin(), 300, b"\x02" * 32)
    assert scene.send(fork, old).status == (422 if old else 409)
    (found,) = scene.witness.evidence()
    log = [scene.house.key().verifier]
    one, other = (Checkpoint.parse(open_note(note, log).text) for note in (found.known, found.refused))
    assert found.kind is EvidenceKind.FORKED
    assert one.size == other.size
    assert one.root != other.root


def test_a_log_rewritten_with_its_own_key_is_found_though_it_verifies(scene: Scene, tmp_path: Path) -> None:
    scene.submit(0, 300)
    other = LogHouse(tmp_path / "other")
    other.grow(1)  # the same first entry, and so the same origin
    other.grow(400, "otherwise")
    other.close()
    put_back(other.path, scene.house.path)
    assert verify(scene.house.path).whole
    assert scene.submit(300, 401).status == 422
    assert scene.kinds() == [EvidenceKind.UNPROVEN]


def test_evidence_that_is_sent_again_is_kept_once_and_alarms_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.submit(0, 300)
    for _ in range(3):
        scene.send(scene.house.checkpoint(200), 0)
    assert len(scene.kinds()) == 1
    (alarm,) = [record.message for record in caplog.records]
    assert alarm.startswith(f"ALARM: {scene.house.origin()} shrank: signed with 200 entries, after 300 were cosigned")


def test_a_new_log_key_is_believed_beside_the_old_one(scene: Scene, tmp_path: Path) -> None:
    new = SigningKey.generate(scene.house.origin())
    witness = witness_of(tmp_path / "state", [scene.house.key().verifier, new.verifier], HandClock())
    assert witness.add_checkpoint(scene.house.request(0, 20)).status == 200
    assert witness.add_checkpoint(scene.house.request(20, 300, new)).status == 200
    witness.close()


# --- how a witness is configured --------------------------------------------------------------------------------------


def test_a_witness_is_configured_with_cosignature_keys_of_one_name() -> None:
    keys = [SigningKey.generate(WITNESS, kind).verifier for kind in (KeyType.COSIGNATURE, KeyType.ML_DSA_44)]
    found = WitnessKeys.parse("https://w.example/log/", " ".join(str(key) for key in keys))
    assert (found.name, found.keys, found.url) == (WITNESS, tuple(keys), "https://w.example/log")
    for wrong in ("", str(SigningKey.generate("a/log").verifier), f"{keys[0]} {_other()}"):
        with pytest.raises(MalformedNote):
            WitnessKeys.parse("https://w.example", wrong)


def _other() -> str:
    return str(SigningKey.generate("w.example/2", KeyType.COSIGNATURE).verifier)
