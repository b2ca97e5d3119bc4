"""Twelve ways to tamper with a log, each kept as evidence and found: by `fsck`, by `verify` or by the witness alone."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

from evidence_kit import AT, TAMPERING, WITNESS, HandClock, unpacked

from controller.compliance import verify_alone
from controller.ledger.note import VerifierKey
from controller.ledger.verify import verify
from controller.ledger.witness import Witness
from controller.ledger.witness_store import EvidenceKind

LOG_KEY, WITNESS_KEY = (TAMPERING / "keys.txt").read_text().split()
HONEST = TAMPERING / "honest"
BY_FSCK = {
    "01-edit-body": "leaves give root",
    "02-edit-body-and-leaf": "leaves give root",
    "03-delete": "missing",
    "04-swap": "the leaf says",
    "05-insert": "300 leaves, the file 301",
    "06-truncate": "300 leaves, the file 290",
    "09-zero-a-tile": "it was altered",
}
BY_VERIFY = {
    "07-roll-back-with-rebuilt-tiles": "ROLLED BACK",
    "08-rewrite-with-the-stolen-log-key": "FORK",
    "10-fork-between-two-readers": "FORK",
    "11-stale-checkpoint": "stale",
    "12-bad-signature": "BAD SIGNATURE",
}
BY_WITNESS = {
    "07-roll-back-with-rebuilt-tiles": 409,
    "08-rewrite-with-the-stolen-log-key": 422,
    "10-fork-between-two-readers": 422,
}


def checked(folder: Path, *more: str) -> tuple[int, str]:
    out = io.StringIO()
    return verify_alone.main([str(folder), "--key", LOG_KEY, *more], out), out.getvalue()


def witness_of_the_honest_log(folder: Path) -> Witness:
    """It has cosigned 280 and then 300 entries of it."""
    found = Witness(folder / "witness.db", [WITNESS], [VerifierKey.parse(LOG_KEY)], HandClock(AT))
    for name in ("request-280.txt", "request.txt"):
        assert found.add_checkpoint((HONEST / name).read_bytes()).status == 200
    return found


def test_all_twelve_are_kept() -> None:
    kept = {path.name for path in TAMPERING.iterdir() if path.is_dir() and path.name != "honest"}
    assert kept == BY_FSCK.keys() | BY_VERIFY.keys()
    assert len(kept) == 12


@pytest.mark.parametrize("name", BY_FSCK)
def test_fsck_finds_what_was_done_to_the_file(name: str, tmp_path: Path) -> None:
    report = verify(unpacked(TAMPERING / name / "log.db.xz", tmp_path / "log.db"))
    assert any(BY_FSCK[name] in finding.what for finding in report.findings), report.findings


def test_nobody_finds_anything_in_the_honest_log(tmp_path: Path) -> None:
    assert verify(unpacked(HONEST / "log.db.xz", tmp_path / "log.db")).whole
    code, said = checked(HONEST / "export", "--witness", WITNESS_KEY, "--earlier", str(HONEST / "earlier"))
    assert code == 0, said
    assert "NOT PROVEN" not in said
    witness = witness_of_the_honest_log(tmp_path)
    assert witness.evidence() == []
    witness.close()


@pytest.mark.parametrize("name", BY_VERIFY)
def test_the_verifier_finds_it_with_earlier_evidence_in_hand(name: str) -> None:
    folder = TAMPERING / name
    earlier = ("--earlier", str(folder / "earlier")) if (folder / "earlier").exists() else ()
    code, said = checked(folder / "export", *earlier)
    assert code == 1, said
    assert BY_VERIFY[name] in said


@pytest.mark.parametrize("name", BY_WITNESS)
def test_the_witness_finds_what_the_file_and_its_export_do_not_show(name: str, tmp_path: Path) -> None:
    folder = TAMPERING / name
    assert verify(unpacked(folder / "log.db.xz", tmp_path / "log.db")).whole, "its tiles were not rebuilt"
    assert checked(folder / "export")[0] == 0, "it is signed with the log's own key"
    witness = witness_of_the_honest_log(tmp_path)
    assert witness.add_checkpoint((folder / "request.txt").read_bytes()).status == BY_WITNESS[name]
    (found,) = witness.evidence()
    assert isinstance(found.kind, EvidenceKind)
    witness.close()
    code, said = checked(folder / "export", "--witness", WITNESS_KEY)
    assert code == 1
    assert "NOT WITNESSED" in said


def test_a_stale_checkpoint_is_told_by_the_time_at_which_its_witness_saw_it() -> None:
    folder = TAMPERING / "11-stale-checkpoint"
    asked = ("--witness", WITNESS_KEY, "--not-before", "2026-11-22T10:30:00+00:00")
    code, said = checked(folder / "export", *asked)
    assert code == 1
    assert "STALE" in said
    assert checked(folder / "earlier", *asked)[0] == 0
