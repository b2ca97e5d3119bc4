"""What a reviewer types: find, read, take away, check."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from evidence_kit import BY, HandClock, golden_log
from facts_kit import sample

from controller.commands.audit import INDEX, audit
from controller.domain import events as e
from controller.domain.entry import Draft, Entry
from controller.domain.ids import DeliveryId, people_stream
from controller.ledger.blobs import FileBlobs
from controller.ledger.checkpoint_book import CheckpointBook
from controller.ledger.keyring import Keyring
from controller.ledger.seals import LocalSeals
from controller.ledger.signer import Signer
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import snapshot
from controller.ports import Receipt
from controller.recording import Folder

SETTINGS = '[repository]\nname = "shop"\n'


class Desk:
    """A state folder with a signed log, and somebody who looks into it."""

    def __init__(self, state: Path, entries: list[Entry]) -> None:
        self.state, self.entries = state, entries

    def asks(self, *words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(audit, list(words))
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    def finds(self, *words: str) -> Any:
        return json.loads(self.asks("search", *words, "--json", "--dir", str(self.state)).stdout)

    @property
    def key(self) -> str:
        history = Keyring(self.state / "signer").history()
        assert history is not None
        return str(history.verifiers[0])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    state = tmp_path_factory.mktemp("built") / "state"
    (state / "signer").mkdir(parents=True)
    (state / "flyball.toml").write_text(SETTINGS)
    entries = asyncio.run(golden_log(state / "log.db"))
    book = CheckpointBook(state / "signer" / "checkpoints.db")
    Signer(lambda: snapshot(state / "log.db"), Keyring(state / "signer"), book, HandClock(entries[-1].time)).round()
    book.close()
    return Desk(state, entries)


@pytest.fixture
def desk(built: Desk, tmp_path: Path) -> Desk:
    return Desk(Path(shutil.copytree(built.state, tmp_path / "state")), built.entries)


def test_every_change_by_a_model_is_one_question(desk: Desk) -> None:
    found = desk.finds("--kind", "Merged", "--model", "claude-sonnet-5-5", "--since", "2026-02-28")
    assert found["total"] == len(found["entries"]) > 0
    assert {entry["kind"] for entry in found["entries"]} == {"Merged"}
    assert desk.finds("--kind", "Merged", "--model", "claude-sonnet-5-5", "--since", "30d")["total"] in (
        0,
        found["total"],
    )
    assert desk.finds("--model", "a model that nobody has")["total"] == 0


def test_pages_follow_each_other(desk: Desk) -> None:
    first = desk.finds("--kind", "EffectDone", "--limit", "5")
    second = desk.finds("--kind", "EffectDone", "--limit", "5", "--before", str(first["before"]))
    indices = [entry["index"] for entry in (*first["entries"], *second["entries"])]
    assert indices == sorted(indices, reverse=True)
    assert len(set(indices)) == 10


def test_the_index_may_be_deleted_at_any_time(desk: Desk) -> None:
    before = desk.finds("--colour", "green")
    for file in desk.state.glob(f"{INDEX}*"):
        file.unlink()
    assert desk.finds("--colour", "green") == before


def test_an_entry_is_shown_in_words_with_its_decision_and_where_to_read_on(desk: Desk) -> None:
    index = next(entry.index for entry in desk.entries if entry.kind == "RegressionFound")
    said = desk.asks("show", str(index), "--dir", str(desk.state)).stdout
    for words in (
        "decision: Is release",
        "because errors: canary",
        "not hold",
        "rules canary/errors",
        "would change it",
    ):
        assert words in said
    assert "before it in its stream: #" in said
    handed = next(entry.index for entry in desk.entries if entry.kind == "HandedOver")
    assert f"cites as evidence: #{index}" in desk.asks("show", str(handed), "--dir", str(desk.state)).stdout


def test_sealed_text_stays_sealed_unless_it_is_asked_for(desk: Desk) -> None:
    said = desk.asks("show", "0", "--dir", str(desk.state)).stdout
    assert "sealed, " in said
    assert "open it with --open" in said


async def test_who_opens_sealed_text_is_written_down_with_the_entry_that_it_belongs_to(desk: Desk) -> None:
    folder = Folder(desk.state).make()
    sealed = await LocalSeals(folder.keys, FileBlobs(folder.blobs)).seal("the quiet part")
    log = SqliteLog(folder.log, HandClock(desk.entries[-1].time))
    stream = people_stream(DeliveryId("shop-xyz"))
    act = sample(e.PersonActed, words=sealed)
    receipt = await log.append([Draft(stream, act)], expect={stream: 0}, by=BY)
    log.close()
    assert isinstance(receipt, Receipt)

    def show(*more: str) -> str:
        return desk.asks("show", str(receipt.index), *more, "--dir", str(desk.state)).stdout

    assert "the quiet part" not in await asyncio.to_thread(show)
    assert read_entries(await asyncio.to_thread(desk.finds, "--kind", "ReasoningRead")) == []
    assert "  | the quiet part" in await asyncio.to_thread(show, "--open")
    assert read_entries(await asyncio.to_thread(desk.finds, "--kind", "ReasoningRead")) == [receipt.index]


def read_entries(found: Any) -> list[int]:
    """The entries that were read."""
    return [entry["body"]["entry"] for entry in found["entries"]]


def test_an_entry_that_is_not_there_is_said_to_be_not_there(desk: Desk) -> None:
    said = desk.asks("show", "99999", "--dir", str(desk.state), code=1)
    assert "no entry 99999" in said.output


def test_an_export_and_a_packet_are_verified_where_they_lie(desk: Desk, tmp_path: Path) -> None:
    state = ("--dir", str(desk.state))
    merged = next(entry for entry in desk.entries if entry.kind == "Merged")
    commit = json.loads(merged.leaf)["body"]["commit"]
    desk.asks("export", str(tmp_path / "first"), "--to", "200", *state)
    done = desk.asks("export", str(tmp_path / "window"), "--from", "2026-03-01T12:00:30", *state)
    assert "unwitnessed" in done.stdout
    desk.asks("export", str(tmp_path / "grown"), "--from", "450", "--after", str(tmp_path / "first"), *state)
    desk.asks("export", str(tmp_path / "one"), "--delivery", merged.stream.partition("/")[2], *state)
    desk.asks("packet", commit[:10], str(tmp_path / "packet"), *state)
    for name in ("first", "window", "grown", "one", "packet"):
        assert "Nothing is wrong" in run_alone(tmp_path / name, desk.key)
    assert (tmp_path / "packet" / "index.html").is_file()


def run_alone(folder: Path, key: str) -> str:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), "--key", key]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_verify_says_by_its_exit_code_whether_to_believe(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    desk.asks("export", str(folder), "--dir", str(desk.state))
    command = [sys.executable, "-c", "from controller.commands.audit import audit; audit()", "verify", str(folder)]

    def code(*more: str) -> int:
        return subprocess.run([*command, *more], capture_output=True, timeout=60).returncode

    assert code("--key", desk.key) == 0
    (folder / "entries.jsonl").write_bytes((folder / "entries.jsonl").read_bytes().replace(b"green", b"black", 1))
    assert code("--key", desk.key) == 1
    assert code() == 2
    assert code("--key", "nonsense") == 2


def test_a_packet_of_nothing_is_refused_with_a_way_out(desk: Desk, tmp_path: Path) -> None:
    said = desk.asks("packet", "ffffffffff", str(tmp_path / "packet"), "--dir", str(desk.state), code=1)
    assert "See them: flyball status" in said.output
    assert not (tmp_path / "packet").exists()
