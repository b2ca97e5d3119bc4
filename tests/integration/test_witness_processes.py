"""Signer and witness as processes, over real HTTP: growth, roll-backs, rewriting with a stolen key, forks, kills."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import HandClock
from witness_kit import (
    ROOT,
    WITNESS,
    WitnessProcess,
    command,
    environment,
    grow,
    put_back,
    said,
    until,
    witness_process,
)

from controller.adapters.clock import SystemClock
from controller.adapters.witness_client import WitnessClient, check_url
from controller.errors import ConfigError, Unavailable
from controller.ledger.alarms import AlarmKind, standing_alarms
from controller.ledger.checkpoint import Checkpoint
from controller.ledger.keyring import Keyring
from controller.ledger.merkle import extends
from controller.ledger.note import NotSigned, SigningKey, VerifierKey, open_note, sign_note
from controller.ledger.publication import Need, Publication, Published
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.submission import WitnessKeys
from controller.ledger.tiles import consistency, root_at
from controller.ledger.verify import verify
from controller.ledger.witness_store import EvidenceKind, WitnessStore
from controller.ledger.witness_wire import AddCheckpoint, origin_hash
from controller.service import signing_child
from controller.service.signing import Ended, SigningPlan, sign
from controller.service.signing_child import signing
from controller.service.witnessing import witness_keys


class Stage:
    """A state folder, its log, and a witness in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.state, self.far = root / "state", root / "far"
        self.state.mkdir()
        self.clock = HandClock()
        self.grow(20)
        self.sign()  # makes the key
        self.vkeys = vkeys(self.far)

    @property
    def path(self) -> Path:
        return self.state / "log.db"

    @property
    def own(self) -> Path:
        return self.state / "signer"

    def grow(self, entries: int, words: str = "as it was") -> int:
        return grow(self.path, entries, self.clock, words)

    def sign(self, *witnesses: WitnessProcess, key: str = "", heartbeat_seconds: int = 0) -> Ended:
        """One look of the signer. `key`: what is believed of the witnesses; empty: their own."""
        keys = tuple(WitnessKeys.parse(check_url(one.url), key or self.vkeys) for one in witnesses)
        plan = SigningPlan(self.state, witnesses=keys, heartbeat_seconds=heartbeat_seconds)
        return asyncio.run(sign(plan, once=True))

    def sign_process(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command("sign", "--dir", str(self.state), "--heartbeat", "0", *words),
            env=environment(),
            stderr=subprocess.DEVNULL,
        )

    def witness(self, words: list[str] | None = None) -> AbstractContextManager[WitnessProcess]:
        """`words=None`: the command as everybody starts it."""
        return witness_process(self.far, self.log_key(), words)

    def log_key(self) -> VerifierKey:
        history = Keyring(self.own).history()
        assert history is not None
        return history.keys[-1].verifier

    def stolen(self) -> SigningKey:
        ring = Keyring(self.own)
        history = ring.history()
        assert history is not None
        return ring.signing_keys(history)[-1]

    def cosigners(self) -> tuple[VerifierKey, ...]:
        return tuple(VerifierKey.parse(word) for word in self.vkeys.split())

    def publication(self) -> Publication:
        return Publication(self.own, SystemClock(), self.cosigners())

    def request(self, old: int, size: int) -> bytes:
        with snapshot(self.path) as tree:
            checkpoint = Checkpoint(self.stolen().name, size, root_at(tree, size))
            proof = tuple(consistency(tree, old, size))
        return AddCheckpoint(old, proof, sign_note(checkpoint.text(), [self.stolen()])).text().encode()

    def evidence(self) -> list[EvidenceKind]:
        store = WitnessStore(self.far / "witness.db")
        found = [one.kind for one in store.evidence()]
        store.close()
        return found

    def alarms(self) -> list[AlarmKind]:
        return [alarm.kind for alarm in standing_alarms(self.own)]


def vkeys(folder: Path) -> str:
    return " ".join(str(key.verifier) for key in witness_keys(folder, WITNESS))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def head(published: Published | None) -> int:
    return 0 if published is None else published.size


def exactly(stage: Stage, folder: Path) -> None:
    """Take everything that belongs to the log's machine: the log, the keys, what was signed."""
    shutil.copytree(stage.state, folder)


def put_all_back(folder: Path, stage: Stage) -> None:
    shutil.rmtree(stage.state)
    shutil.copytree(folder, stage.state)


def rewritten(stage: Stage, entries: int) -> None:
    """Another history after the first entry, tiles and all, and no memory of what was signed: the keys are at hand."""
    other = stage.state.parent / "rewritten.db"
    grow(other, 1, stage.clock)
    grow(other, entries - 1, stage.clock, "as it never was")
    put_back(other, stage.path)
    (stage.own / "checkpoints.db").unlink()


# --- growth -----------------------------------------------------------------------------------------------------------


def test_what_is_signed_is_cosigned_and_says_by_whom(stage: Stage) -> None:
    assert stage.publication().words() == "unwitnessed"
    with stage.witness() as witness:
        for _ in range(3):
            stage.grow(100)
            assert stage.sign(witness) == Ended.WELL
    latest = stage.publication().latest()
    assert latest is not None
    assert (latest.size, latest.witnesses) == (320, ("witness.example/w1",))
    assert {one.key for one in open_note(latest.note, stage.cosigners()).signed} == set(stage.cosigners())
    assert stage.publication().words() == "witnessed by witness.example/w1"
    assert stage.alarms() == []


def test_a_witness_that_was_away_is_caught_up_with(stage: Stage) -> None:
    with stage.witness() as witness:
        assert stage.sign(witness) == Ended.WELL
    stage.grow(300)
    assert stage.sign(witness) == Ended.WELL
    (heard,) = stage.publication().heard()
    assert "did not answer" in heard.trouble
    assert stage.publication().words() == "witnessed by witness.example/w1, up to entry 19 of 319"
    with stage.witness() as again:
        assert stage.sign(again) == Ended.WELL
    assert stage.publication().words() == "witnessed by witness.example/w1"


def test_a_signer_that_forgot_what_the_witness_knows_is_told(stage: Stage) -> None:
    with stage.witness() as witness:
        assert stage.sign(witness) == Ended.WELL
        (stage.own / "checkpoints.db").unlink()
        stage.grow(5)
        assert stage.sign(witness) == Ended.WELL
    assert stage.publication().words() == "witnessed by witness.example/w1"
    assert stage.alarms() == []


def test_a_witness_with_another_key_is_not_believed(stage: Stage, tmp_path: Path) -> None:
    with stage.witness() as witness:
        assert stage.sign(witness, key=vkeys(tmp_path / "other")) == Ended.WELL
    assert stage.publication().words() == "unwitnessed"
    assert "no cosignature by its key" in stage.publication().heard()[0].trouble


# --- an insider -------------------------------------------------------------------------------------------------------


def test_a_rollback_with_rebuilt_tiles_is_found_by_the_witness_and_only_by_it(stage: Stage, tmp_path: Path) -> None:
    exactly(stage, tmp_path / "backup")
    with stage.witness() as witness:
        stage.grow(30)
        assert stage.sign(witness) == Ended.WELL
        put_all_back(tmp_path / "backup", stage)
        assert verify(stage.path).whole
        assert stage.sign() == Ended.WELL
        assert stage.alarms() == []
        assert stage.sign(witness) == Ended.ALARM
    assert stage.alarms() == [AlarmKind.SHRANK]
    assert stage.evidence() == [EvidenceKind.SHRANK]
    assert stage.publication().words() == "unwitnessed"


@pytest.mark.parametrize("entries", [50, 90], ids=["as long", "longer"])
def test_a_log_rewritten_with_its_stolen_key_is_found_by_the_witness_and_only_by_it(stage: Stage, entries: int) -> None:
    with stage.witness() as witness:
        stage.grow(30)
        assert stage.sign(witness) == Ended.WELL
        rewritten(stage, entries)
        assert verify(stage.path).whole
        assert stage.sign() == Ended.WELL
        assert stage.alarms() == []
        assert stage.sign(witness) == Ended.ALARM
    assert stage.alarms() == [AlarmKind.FORKED]
    assert stage.evidence() == [EvidenceKind.FORKED if entries == 50 else EvidenceKind.UNPROVEN]
    assert stage.publication().words() == "unwitnessed"


def test_two_readers_who_are_shown_different_logs_are_told_apart_by_the_witness(stage: Stage) -> None:
    with stage.witness() as witness:
        stage.grow(30)
        assert stage.sign(witness) == Ended.WELL
        for_one = stage.publication().latest()
        rewritten(stage, 60)
        assert stage.sign(witness) == Ended.ALARM
        for_other = stage.publication().latest()
        seen = httpx2.get(f"{witness.url}/{origin_hash(stage.stolen().name)}/checkpoint").text
    assert for_one is not None
    assert for_other is not None
    log = [stage.log_key()]
    one, other = (Checkpoint.parse(open_note(note, log).text) for note in (for_one.note, for_other.note))
    assert Checkpoint.parse(open_note(seen, stage.cosigners()).text) == one
    with pytest.raises(NotSigned):
        open_note(for_other.note, stage.cosigners())
    with snapshot(stage.path) as tree:
        assert not extends(one.size, one.root, other.size, other.root, consistency(tree, one.size, other.size))


def test_a_stale_checkpoint_is_told_by_the_witness_that_has_seen_more(stage: Stage) -> None:
    with stage.witness() as witness:
        assert stage.sign(witness) == Ended.WELL
        stale = stage.publication().latest()
        stage.grow(30)
        assert stage.sign(witness) == Ended.WELL
        seen = httpx2.get(f"{witness.url}/{origin_hash(stage.stolen().name)}/checkpoint").text
    assert stale is not None
    newest = open_note(seen, stage.cosigners())
    assert Checkpoint.parse(newest.text).size == 50
    assert stale.size == 20
    assert stale.witnessed_at is not None
    assert all(one.at is not None and one.at >= stale.witnessed_at for one in newest.signed)


# --- kills and races --------------------------------------------------------------------------------------------------


def test_a_witness_killed_between_keeping_and_answering_has_not_forgotten(stage: Stage) -> None:
    script = [
        sys.executable,
        "-P",
        str(ROOT / "tests/fixtures/killed_witness.py"),
        str(stage.far),
        str(stage.log_key()),
    ]
    with stage.witness(script) as dying:
        with pytest.raises(httpx2.TransportError):
            httpx2.post(f"{dying.url}/add-checkpoint", content=stage.request(0, 15))
        assert dying.process.wait(10) == -9
    with stage.witness() as witness:
        post = f"{witness.url}/add-checkpoint"
        assert httpx2.post(post, content=stage.request(0, 20)).text == "15\n"
        assert httpx2.post(post, content=stage.request(0, 10)).status_code == 409
        assert httpx2.post(post, content=stage.request(15, 15)).status_code == 200
        assert stage.sign(witness) == Ended.WELL
    assert stage.publication().words() == "witnessed by witness.example/w1"


async def test_submissions_at_once_to_two_processes_never_take_a_log_back(tmp_path: Path) -> None:
    stage = await asyncio.to_thread(Stage, tmp_path)
    await asyncio.to_thread(stage.grow, 40)
    sizes = range(1, 61)
    with stage.witness() as one, stage.witness() as other:
        async with httpx2.AsyncClient() as client:

            async def climb(url: str, step: int) -> list[tuple[int, int]]:
                """As a log would that knows nothing: (from, to) of what was cosigned."""
                old, done = 0, []
                for size in [*sizes[step::7], 60]:
                    answer = await client.post(f"{url}/add-checkpoint", content=stage.request(min(old, size), size))
                    if answer.status_code == 200:
                        done.append((min(old, size), size))
                        old = size
                    elif answer.status_code == 409:
                        old = int(answer.text)
                return done

            climbs = [climb(url, step) for step in range(7) for url in (one.url, other.url)]
            found = [moved for climbed in await asyncio.gather(*climbs) for moved in climbed]
    grown = sorted(moved for moved in found if moved[0] < moved[1])
    assert grown[0][0] == 0
    assert [new for _, new in grown[:-1]] == [old for old, _ in grown[1:]]  # one chain: no size was left twice
    assert grown[-1][1] == 60


def test_bodies_and_doors_are_bounded(stage: Stage) -> None:
    with stage.witness() as witness:
        big = b"old 0\n" + b"A" * (300 * 1024)
        assert httpx2.post(f"{witness.url}/add-checkpoint", content=big).status_code == 413
        assert httpx2.get(f"{witness.url}/add-checkpoint").status_code == 405
        assert httpx2.post(f"{witness.url}/{'0' * 64}/checkpoint").status_code == 405
        assert httpx2.get(f"{witness.url}/{'0' * 64}/checkpoint").status_code == 404
        assert httpx2.get(f"{witness.url}/").status_code == 404
        told = httpx2.post(f"{witness.url}/add-checkpoint", content=stage.request(3, 20))
        assert (told.status_code, told.text, told.headers["content-type"]) == (409, "0\n", "text/x.tlog.size")


async def test_a_witness_is_reached_in_clear_on_this_machine_only() -> None:
    assert check_url("http://127.0.0.1:1") == "http://127.0.0.1:1"
    assert check_url("https://w.example/x") == "https://w.example/x"
    for wrong in ("http://w.example", "ftp://127.0.0.1", "w.example"):
        with pytest.raises(ConfigError):
            check_url(wrong)
    client = WitnessClient()
    with pytest.raises(Unavailable, match="did not answer"):
        await client.add_checkpoint("http://127.0.0.1:1", b"")
    await client.close()


# --- the signer as a process ------------------------------------------------------------------------------------------


def test_a_log_that_shrank_is_an_alarm_and_an_exit_code(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(stage.path, tmp_path / "backup.db")
    stage.grow(10)
    assert stage.sign() == Ended.WELL
    put_back(tmp_path / "backup.db", stage.path)
    assert stage.sign_process("--once").wait(60) == Ended.ALARM
    assert stage.alarms() == [AlarmKind.SHRANK]
    assert head(stage.publication().signed()) == 30


def test_a_silent_log_is_an_alarm_until_it_speaks(stage: Stage) -> None:
    assert stage.sign(heartbeat_seconds=10) == Ended.WELL
    assert stage.alarms() == [AlarmKind.SILENT]
    stage.clock.at = SystemClock().now()
    stage.grow(1)
    assert stage.sign(heartbeat_seconds=600) == Ended.WELL
    assert stage.alarms() == []


def test_one_signer_holds_a_folder(stage: Stage) -> None:
    first = stage.sign_process()
    try:
        stage.grow(1)
        until(lambda: head(stage.publication().signed()) == 21, first)
        assert stage.sign() == Ended.HELD
    finally:
        first.terminate()
        assert first.wait(20) == Ended.WELL


async def test_a_controllers_signer_keeps_up_and_ends_with_it_after_the_last_entry(tmp_path: Path) -> None:
    stage = await asyncio.to_thread(Stage, tmp_path)
    publication = stage.publication()
    with stage.witness() as witness:
        plan = SigningPlan(stage.state, witnesses=(WitnessKeys.parse(witness.url, stage.vkeys),), heartbeat_seconds=0)
        async with signing(plan):
            size = await asyncio.to_thread(stage.grow, 5)
            await publication.covers(size - 1, Need.WITNESS, 20)
            size = await asyncio.to_thread(stage.grow, 5)
            await publication.covers(size - 1, Need.WITNESS, 2)
            size = await asyncio.to_thread(stage.grow, 5)
    assert head(publication.latest()) == size
    assert await asyncio.to_thread(stage.sign) == Ended.WELL  # nobody holds the folder any more


async def test_a_signer_that_is_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = await asyncio.to_thread(Stage, tmp_path)
    started, start = [], signing_child._start

    async def noted(plan: SigningPlan) -> asyncio.subprocess.Process:
        started.append(await start(plan))
        return started[-1]

    monkeypatch.setattr(signing_child, "_start", noted)
    async with signing(SigningPlan(stage.state, heartbeat_seconds=0)):
        size = await asyncio.to_thread(stage.grow, 1)
        await stage.publication().covers(size - 1, Need.SIGNATURE, 30)
        started[0].kill()
        size = await asyncio.to_thread(stage.grow, 1)
        await stage.publication().covers(size - 1, Need.SIGNATURE, 30)
    assert [child.returncode for child in started] == [-9, Ended.WELL]


def test_a_witness_prints_the_keys_that_others_believe_it_by(stage: Stage) -> None:
    printed = said(command("witness", "--dir", str(stage.far), "--print-key"))
    assert printed == stage.vkeys
