"""What the signer signs, what it refuses to sign, and how one key follows another."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))

from facts_kit import BY, HandClock
from witness_kit import LogHouse, put_back

from controller.domain.events.ledger import SigningKeyRotated
from controller.domain.ids import CONTROL
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ledger.alarms import AlarmKind, Misgrown, end_silence, raise_alarm, standing_alarms
from controller.ledger.checkpoint import Checkpoint
from controller.ledger.checkpoint_book import CheckpointBook, SignedCheckpoint, reading
from controller.ledger.keyring import KeyHistory, Keyring
from controller.ledger.note import KeyType, NotSigned, SigningKey, VerifierKey, open_note, sign_note
from controller.ledger.publication import Need, Publication
from controller.ledger.rotation import Rotated, followed, holds, rotate, rotations_among, statement
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.service.heartbeat import ledger_state

MONTH = timedelta(days=30)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[LogHouse]:
    found = LogHouse(tmp_path)
    yield found
    found.close()


def signed(house: LogHouse) -> SignedCheckpoint:
    found = house.signer.round()
    assert found is not None
    return found


def history(house: LogHouse) -> KeyHistory:
    found = house.ring.history()
    assert found is not None
    return found


# --- signing ----------------------------------------------------------------------------------------------------------


def test_a_log_without_entries_is_not_signed_and_gets_no_key(house: LogHouse) -> None:
    house.grow(0)
    assert house.signer.round() is None
    assert house.ring.history() is None


def test_what_is_signed_is_the_root_of_what_the_log_has(house: LogHouse) -> None:
    house.grow(300)
    found = signed(house)
    opened = open_note(found.note, history(house).verifiers)
    assert Checkpoint.parse(opened.text) == house.checkpoint(300)
    assert opened.by == (house.origin(),)
    assert verify(house.path).root == found.checkpoint.root.hex()


def test_a_log_that_did_not_grow_is_not_signed_twice(house: LogHouse) -> None:
    house.grow(3)
    first = signed(house)
    house.clock.pass_(60)
    assert signed(house) == first


def test_every_signed_checkpoint_is_kept_for_ever(house: LogHouse) -> None:
    for _ in range(3):
        house.grow(2)
        signed(house)
    with reading(house.own / "checkpoints.db") as book:
        assert book is not None
        kept = [book.at(size) for size in (2, 4, 6)]
    assert all(kept)
    db = sqlite3.connect(house.own / "checkpoints.db")
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        db.execute("DELETE FROM checkpoints")
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute("UPDATE checkpoints SET note = ''")
    db.close()


def test_a_log_that_was_rolled_back_with_its_tiles_is_not_signed_further(house: LogHouse, tmp_path: Path) -> None:
    house.grow(260)
    put_back(house.path, tmp_path / "backup.db")
    house.grow(40)
    last = signed(house)
    put_back(tmp_path / "backup.db", house.path)
    assert verify(house.path).whole
    with pytest.raises(Misgrown, match="260 entries, and 300 of it were signed") as found:
        house.signer.round()
    assert found.value.kind is AlarmKind.SHRANK
    assert found.value.evidence[0] == last.note
    assert house.book.newest() == last


@pytest.mark.parametrize("size", [40, 41, 300], ids=["as long", "longer", "much longer"])
def test_a_log_that_was_rewritten_is_not_signed_whatever_its_length(house: LogHouse, tmp_path: Path, size: int) -> None:
    house.grow(10)
    put_back(house.path, tmp_path / "backup.db")
    house.grow(30)
    signed(house)
    put_back(tmp_path / "backup.db", house.path)
    house.grow(size - 10, "otherwise")
    assert verify(house.path).whole
    with pytest.raises(Misgrown, match="are not those that were signed") as found:
        house.signer.round()
    assert found.value.kind is AlarmKind.FORKED


def test_a_log_that_was_emptied_is_not_signed(house: LogHouse, tmp_path: Path) -> None:
    LogHouse(tmp_path / "other").grow(0)
    house.grow(2)
    signed(house)
    put_back(tmp_path / "other" / "log.db", house.path)
    with pytest.raises(Misgrown, match="0 entries"):
        house.signer.round()


def test_another_log_in_its_place_is_not_signed(house: LogHouse, tmp_path: Path) -> None:
    other = LogHouse(tmp_path / "other")
    other.grow(9, "somebody else's")
    other.close()
    house.grow(2)
    signed(house)
    put_back(other.path, house.path)
    with pytest.raises(Misgrown, match="what was signed here before"):
        house.signer.round()


def test_a_log_with_a_hole_in_it_is_not_signed(house: LogHouse) -> None:
    house.grow(5)
    signed(house)
    db = sqlite3.connect(house.path)
    db.execute("DROP TRIGGER entries_are_never_removed")
    db.execute("DELETE FROM entries WHERE idx = 2")
    db.commit()
    db.close()
    with pytest.raises(Misgrown, match="entries of the log are missing"):
        house.signer.round()


def test_an_alarm_of_a_kind_is_raised_once_and_only_silence_ends_by_itself(house: LogHouse) -> None:
    shrank = Misgrown(AlarmKind.SHRANK, "it is shorter", "Look", ("a note",)).alarm(house.clock.now())
    assert raise_alarm(house.own, shrank)
    assert not raise_alarm(house.own, shrank.model_copy(update={"what": "shorter still"}))
    house.grow(1)
    house.clock.pass_(601)
    silent = house.signer.silent_since(timedelta(seconds=600))
    assert silent is not None
    assert raise_alarm(house.own, silent)
    assert end_silence(house.own)
    assert standing_alarms(house.own) == (shrank,)


def test_a_log_that_says_something_in_time_is_not_silent(house: LogHouse) -> None:
    house.grow(1)
    house.clock.pass_(600)
    assert house.signer.silent_since(timedelta(seconds=600)) is None


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_private_key_is_for_its_owner_only(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    key = house.own / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    house.grow(1)
    with pytest.raises(Permanent, match="others may read the private key"):
        house.signer.round()


def test_keys_of_one_log_sign_no_other(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    with pytest.raises(Permanent, match="sign the log"):
        house.ring.opened("another/log")


def test_another_key_under_the_same_name_is_refused(house: LogHouse, tmp_path: Path) -> None:
    house.grow(1)
    signed(house)
    (tmp_path / "signer" / "key.pem").unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        house.ring.signing_keys(history(house))
    other = Keyring(tmp_path / "other")
    other.opened(house.origin())
    (tmp_path / "other" / "key.pem").rename(tmp_path / "signer" / "key.pem")
    with pytest.raises(Permanent, match="is not the key"):
        house.ring.signing_keys(history(house))


# --- one key follows another ------------------------------------------------------------------------------------------


def turn(house: LogHouse, overlap: timedelta = MONTH, ring: Keyring | None = None) -> Rotated:
    async def turned() -> Rotated:
        log = SqliteLog(house.path, house.clock, inline=True)
        try:
            return await rotate(log, ring or house.ring, BY, now=house.clock.now(), overlap=overlap, event_id="one")
        finally:
            log.close()

    return asyncio.run(turned())


def rotations(house: LogHouse) -> list[SigningKeyRotated]:
    async def read() -> list[SigningKeyRotated]:
        log = SqliteLog(house.path, house.clock, inline=True)
        try:
            return rotations_among(await log.read(CONTROL))
        finally:
            log.close()

    return asyncio.run(read())


def test_both_keys_sign_during_the_overlap_and_each_alone_verifies(house: LogHouse) -> None:
    house.grow(3)
    before = signed(house)
    done = turn(house)
    after = signed(house)
    assert after.size == done.index + 1
    for key in (done.old, done.new):
        assert open_note(after.note, [key]).text == after.checkpoint.text()
    with pytest.raises(NotSigned):
        open_note(before.note, [done.new])


def test_after_the_overlap_only_the_new_key_signs_and_the_old_private_key_is_gone(house: LogHouse) -> None:
    house.grow(3)
    before = signed(house)
    done = turn(house)
    overlapping = signed(house)
    house.clock.pass_(MONTH.total_seconds())
    house.grow(1)
    after = signed(house)
    assert {one.key for one in open_note(after.note, [done.old, done.new]).signed} == {done.new}
    assert not (house.own / "key.pem").exists()
    old, new = history(house).keys
    assert (old.from_size, old.to_size) == (0, overlapping.size)
    assert (new.from_size, new.to_size) == (done.index + 1, None)
    assert open_note(before.note, history(house).verifiers).text == before.checkpoint.text()


def test_who_trusts_the_old_key_learns_of_the_new_one_from_the_log(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    first = turn(house, timedelta(0))
    signed(house)
    second = turn(house, timedelta(0))
    facts = rotations(house)
    assert followed(first.old, house.origin(), facts) == (first.old, first.new, second.new)


def test_a_rotation_that_only_one_key_has_signed_is_not_followed(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    done = turn(house)
    (fact,) = rotations(house)
    thief = SigningKey.generate(house.origin())
    text = statement(house.origin(), thief, thief).replace(str(thief.verifier), str(done.old), 1)
    forged = fact.model_copy(update={"new": str(thief.verifier), "statement": text})
    assert holds(fact, house.origin())
    assert not holds(forged, house.origin())
    assert not holds(fact, "another/log")
    assert followed(done.old, house.origin(), [forged]) == (done.old,)


def test_a_rotation_that_was_killed_goes_on_with_the_same_key_and_one_entry(house: LogHouse) -> None:
    class Killed(Keyring):
        def follow(self, new: SigningKey, file: str, *, from_size: int, old_until: datetime) -> KeyHistory:
            raise KeyboardInterrupt(new.name, file, from_size, old_until)

    house.grow(1)
    signed(house)
    with pytest.raises(KeyboardInterrupt):
        turn(house, ring=Killed(house.own))
    assert len(history(house).keys) == 1
    done = turn(house)
    assert [fact.new for fact in rotations(house)] == [str(done.new)]
    assert history(house).keys[-1].vkey == str(done.new)


def test_a_key_is_not_rotated_while_an_overlap_lasts(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    turn(house)
    with pytest.raises(Permanent, match="2 keys sign at present"):
        turn(house)


# --- what is published ------------------------------------------------------------------------------------------------


def witness_key() -> SigningKey:
    return SigningKey.generate("w.example/1", KeyType.COSIGNATURE)


def cosign(house: LogHouse, key: SigningKey) -> SignedCheckpoint:
    found = house.book.newest()
    assert found is not None
    lines = {key.verifier: key.line(found.checkpoint.text(), house.clock.now())}
    house.book.cosigned(key.name, found.size, lines, house.clock.now())
    return found


def published(house: LogHouse, *keys: VerifierKey, quorum: int = 1) -> Publication:
    return Publication(house.own, house.clock, keys, quorum=quorum)


def test_a_log_without_a_witness_is_called_unwitnessed(house: LogHouse) -> None:
    assert published(house).words() == "not signed yet, unwitnessed"
    house.grow(1)
    signed(house)
    latest = published(house).latest()
    assert latest is not None
    assert (latest.size, latest.witnesses, latest.witnessed_at) == (1, (), None)
    assert published(house).words() == "unwitnessed"


def test_a_cosignature_counts_only_under_the_configured_key(house: LogHouse) -> None:
    house.grow(1)
    signed(house)
    key, other = witness_key(), witness_key()
    cosign(house, key)
    assert published(house, key.verifier).words() == "witnessed by w.example/1"
    assert published(house, other.verifier).words() == "unwitnessed"


def test_a_witness_that_lags_is_said_to_lag(house: LogHouse) -> None:
    key = witness_key()
    house.grow(4)
    signed(house)
    cosign(house, key)
    house.grow(6)
    signed(house)
    publication = published(house, key.verifier)
    latest, newest = publication.latest(), publication.signed()
    assert latest is not None
    assert newest is not None
    assert (latest.size, newest.size) == (4, 10)
    assert latest.witnessed_at == house.clock.now()
    assert publication.words() == "witnessed by w.example/1, up to entry 3 of 9"


def test_a_quorum_of_two_needs_two_witnesses_on_one_checkpoint(house: LogHouse) -> None:
    one, two = witness_key(), SigningKey.generate("w.example/2", KeyType.ML_DSA_44)
    publication = published(house, one.verifier, two.verifier, quorum=2)
    house.grow(1)
    signed(house)
    cosign(house, one)
    assert asyncio.run(outcome(publication, 0, Need.WITNESS)) == "no witness"
    cosign(house, two)
    assert asyncio.run(outcome(publication, 0, Need.WITNESS)) == "covered"
    with pytest.raises(ConfigError, match="can never agree"):
        published(house, one.verifier, quorum=2)


class PatientClock(HandClock):
    async def sleep(self, seconds: float) -> None:
        self.pass_(seconds)


async def outcome(publication: Publication, index: int, need: Need) -> str:
    publication._clock = PatientClock()
    (told,) = await asyncio.gather(publication.covers(index, need, 1.0), return_exceptions=True)
    return "covered" if told is None else f"no {need}"


async def test_an_effect_that_waited_in_vain_is_told_for_what(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="entry 2 has no signature after 1 s; not signed yet"):
        await Publication(tmp_path, PatientClock()).covers(2, Need.SIGNATURE, 1.0)


async def test_an_effect_waits_for_what_it_was_told_to_and_no_longer(tmp_path: Path) -> None:
    house = await asyncio.to_thread(LogHouse, tmp_path)
    key = witness_key()
    publication = published(house, key.verifier)
    await asyncio.to_thread(house.grow, 3)
    expected = {Need.LOG: "covered", Need.SIGNATURE: "no signature", Need.WITNESS: "no witness"}
    assert {need: await outcome(publication, 2, need) for need in Need} == expected
    await asyncio.to_thread(house.signer.round)
    assert await outcome(publication, 2, Need.SIGNATURE) == "covered"
    assert await outcome(publication, 3, Need.SIGNATURE) == "no signature"
    assert await outcome(publication, 2, Need.WITNESS) == "no witness"
    cosign(house, key)
    assert await outcome(publication, 2, Need.WITNESS) == "covered"
    house.close()


def test_waiting_for_a_witness_that_nobody_configured_is_a_mistake_in_the_settings(house: LogHouse) -> None:
    with pytest.raises(ConfigError, match="none is configured"):
        asyncio.run(published(house).covers(0, Need.WITNESS, 0.1))


def test_a_book_that_somebody_else_wrote_into_is_not_published(house: LogHouse) -> None:
    house.grow(2)
    signed(house)
    made_up = Checkpoint(house.origin(), 7, b"\x07" * 32)
    note = sign_note(made_up.text(), [SigningKey.generate(house.origin())])
    house.book.add(made_up, note, house.clock.now())
    with pytest.raises(Unavailable, match="does not hold"):
        published(house).latest()
    assert "does not hold" in ledger_state(house.own, published(house)).words


@pytest.fixture
def book(tmp_path: Path) -> Iterator[CheckpointBook]:
    found = CheckpointBook(tmp_path / "checkpoints.db")
    yield found
    found.close()


def test_of_old_cosignatures_the_last_of_each_minute_is_kept(book: CheckpointBook, tmp_path: Path) -> None:
    clock, key = HandClock(), witness_key()
    for size in range(1, 241):  # every 30 s, for two hours
        checkpoint = Checkpoint("a/log", size, bytes([size % 256]) * 32)
        book.add(checkpoint, sign_note(checkpoint.text(), [key], clock.now()), clock.now())
        book.cosigned(key.name, size, {key.verifier: key.line(checkpoint.text(), clock.now())}, clock.now())
        clock.pass_(30)
    with reading(tmp_path / "checkpoints.db") as kept:
        assert kept is not None
        sizes = kept.cosigned_sizes(1_000)
    recent, old = [size for size in sizes if size > 120], [size for size in sizes if size <= 118]
    assert recent == list(range(240, 120, -1))
    assert old == list(range(118, 0, -2))
