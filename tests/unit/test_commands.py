"""The command: it teaches who asks, answers in sentences when something is wrong, and never with a traceback."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, sample

from controller.adapters.chat_local import LocalChat
from controller.adapters.clock import SystemClock
from controller.cli import main
from controller.domain import events as e
from controller.domain.delivery import NEXT, Phase
from controller.domain.entry import Draft
from controller.domain.ids import Branch, Commit, DeliveryId, EffectKey, Repository, delivery_stream
from controller.domain.verbs import Tell
from controller.recording import Folder, open_record
from controller.settings import FILE, load

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = '[repository]\nname = "shop"\n'


def commands(group: click.Group = main, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


ALL = dict(commands())


def flyball(*arguments: str) -> Result:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in done.output
    return done


def complaint(*arguments: str) -> str:
    """What it says when it says no: one sentence, a way out, exit code 1, and nothing for a script to stumble over."""
    done = flyball(*arguments)
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("flyball: ")
    assert done.stdout == ""
    return done.stderr


@dataclass(frozen=True)
class House:
    """A repository's folder with a flyball.toml, a log beside it, one delivery in it and one message sent."""

    root: Path
    delivery: DeliveryId

    @property
    def log(self) -> Path:
        return self.root / ".flyball" / "log.db"

    def json(self, *arguments: str) -> Any:
        done = flyball(*arguments, "--repo", str(self.root), "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def says(self, *arguments: str) -> str:
        done = flyball(*arguments, "--repo", str(self.root))
        assert done.exit_code == 0, done.output
        return done.stdout


async def _furnish(root: Path) -> DeliveryId:
    record = open_record(Folder(root / ".flyball"), load(root / FILE), root)
    repository, branch = Repository("shop"), Branch("main")
    asked = await record.intake.ask(
        getpass.getuser(), "Sort the cart", repository=repository, branch=branch, source="cli", event_id="m1"
    )
    stream = delivery_stream(asked.delivery)
    change = sample(e.ChangeAuthored, head=Commit("a" * 40), label=e.Label.SCRIPTED)
    waited = sample(e.Waited, waits_for=e.WaitsFor.QUEUE, reason="in line at queue/shop@main")
    await record.log.append(
        [Draft(stream, one) for one in (sample(e.TaskAccepted), change, waited)], expect={stream: 1}, by=BY
    )
    tell = Tell(to="person:0123456789ab", thread=asked.delivery, text="it is \x1b[31mlive")
    await LocalChat(record.folder.outbox, SystemClock()).act(EffectKey("tell/x"), tell)
    record.close()
    return asked.delivery


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("furnished")
    (root / FILE).write_text(SETTINGS)
    return House(root, asyncio.run(_furnish(root)))


@pytest.fixture
def house(furnished: House, tmp_path: Path) -> House:
    """A copy: every test may do with it what it likes."""
    shutil.copytree(furnished.root, tmp_path, dirs_exist_ok=True)
    return House(tmp_path, furnished.delivery)


# --- teaching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALL), ids=" ".join)
def test_every_command_teaches_whoever_asks(name: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        done = flyball(*name, flag)
        assert done.exit_code == 0
        assert done.output.startswith(f"Usage: main {' '.join(name)}")
    sentence = ALL[name].help or ""
    assert sentence.rstrip().endswith((".", "confirmed;")), sentence
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} of {name} says nothing of itself"


def test_without_a_word_it_says_where_to_begin() -> None:
    done = flyball()
    assert "Begin here:" in done.output
    for name, *deeper in ALL:
        if not deeper:
            assert f"\n  {name} " in done.output


def test_the_real_process_answers_too() -> None:
    command = [sys.executable, "-m", "controller.cli", "status", "--repo", "/proc/nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr
    assert "Traceback" not in done.stderr


# --- saying no --------------------------------------------------------------------------------------------------------


def test_a_folder_without_settings_says_how_to_get_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("status", "messages", "serve"):
        said = complaint(command)
        assert f"there is no {FILE} here or above {tmp_path}" in said
        assert "flyball init" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("show", "shop-1a2b3c"),
        ("approve", "shop-1a2b3c"),
        ("stop",),
        ("resume",),
        ("unstick", "shop@production"),
        ("log", "verify"),
    ],
    ids=" ".join,
)
def test_a_folder_without_a_log_says_how_to_begin_one(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / FILE).write_text(SETTINGS)
    said = complaint(*arguments, "--repo", str(tmp_path))
    assert f"there is no log in {tmp_path / '.flyball'}" in said
    assert "flyball run" in said
    assert not (tmp_path / ".flyball").exists()


def test_wrong_settings_are_named_before_anything_happens(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[repositry]\n")
    for command in (("status",), ("serve",), ("run", "Sort the cart"), ("stop",)):
        said = complaint(*command, "--repo", str(tmp_path))
        assert "repositry is not a setting" in said
        assert "Did you mean 'repository'?" in said
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("act", ["show", "approve", "reject", "hold", "release", "promote", "unstick"])
def test_a_delivery_that_nobody_knows_is_answered_with_where_to_see_them(house: House, act: str) -> None:
    said = complaint(act, "shop-ffffff", "--repo", str(house.root))
    assert "there is no delivery 'shop-ffffff'" in said
    assert "flyball status" in said


@pytest.mark.parametrize(
    ("arguments", "words", "way_out"),
    [
        (("stop", "everything"), "scope 'everything' is unknown", "agent:ROLE"),
        (("stop", "service:"), "scope 'service:' is unknown", "service:NAME"),
        (("resume",), "scope 'all' is not stopped", "flyball status"),
        (("approve", "{delivery}"), "is AUTHORED and waits for nobody's consent", "flyball show {delivery}"),
        (("unstick", "{delivery}"), "is AUTHORED, not stuck", "flyball show {delivery}"),
    ],
)
def test_what_makes_no_sense_now_is_refused_with_a_way_out(
    house: House, arguments: tuple[str, ...], words: str, way_out: str
) -> None:
    said = complaint(*(one.format(delivery=house.delivery) for one in arguments), "--repo", str(house.root))
    assert words in said
    assert way_out.format(delivery=house.delivery) in said


def test_somebody_who_is_not_on_the_list_changes_nothing(house: House) -> None:
    (house.root / FILE).write_text(SETTINGS + '[policy]\npeople = ["somebody-else"]\n')
    before = house.json("status")["log"]
    for arguments in (("stop",), ("hold", house.delivery), ("unstick", "shop@production")):
        assert f"{getpass.getuser()} may not {arguments[0]}" in complaint(*arguments, "--repo", str(house.root))
    assert house.json("status")["log"] == before


def test_without_a_model_nothing_begins_and_both_ways_to_one_are_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for command in (("run", "Sort the cart"), ("serve",)):
        said = complaint(*command, "--repo", str(house.root))
        assert "ANTHROPIC_API_KEY is not set" in said
        assert "--script" in said


def test_init_writes_once_and_only_into_a_repository(tmp_path: Path) -> None:
    assert "is no git repository" in complaint("init", "--repo", str(tmp_path))
    (tmp_path / ".git").mkdir()
    assert flyball("init", "--repo", str(tmp_path)).exit_code == 0
    written = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(SETTINGS)
    assert "--force" in complaint("init", "--repo", str(tmp_path))
    assert (tmp_path / FILE).read_text() == SETTINGS
    assert flyball("init", "--repo", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / FILE).read_text() == written


def test_the_demo_throws_nothing_away_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    said = complaint("demo", "--fresh", "--dir", str(tmp_path))
    assert "is not a state folder of Flyball" in said
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("arguments", [("status",), ("log", "verify")], ids=" ".join)
def test_a_log_that_is_no_database_is_a_sentence(house: House, arguments: tuple[str, ...]) -> None:
    for left in house.log.parent.glob("log.db*"):
        left.unlink()
    house.log.write_bytes(b"this is no database, whatever its name says" * 100)
    done = flyball(*arguments, "--repo", str(house.root))
    assert done.exit_code == 1
    assert str(house.log) in done.output


# --- a real state folder ----------------------------------------------------------------------------------------------


def test_status_is_json_for_scripts_and_words_for_people(house: House) -> None:
    found = house.json("status")
    (row,) = found["deliveries"]
    assert (row["delivery"], row["phase"], row["waits_for"]) == (house.delivery, "AUTHORED", "queue")
    assert (row["label"], row["ended"], row["total_ms"]) == ("scripted", False, None)
    assert found["log"]["size"] == 4
    assert found["stops"] == []
    said = house.says("status")
    assert "Sort the cart" in said
    assert "in line at queue/shop@main" in said
    assert found["log"]["root"] in said.replace("\n", "")


def test_show_tells_one_delivery_entry_by_entry(house: House) -> None:
    told = house.json("show", house.delivery)
    assert [row["kind"] for row in told] == ["TaskRequested", "TaskAccepted", "ChangeAuthored", "Waited"]
    assert [row["index"] for row in told] == [0, 1, 2, 3]
    said = house.says("show", house.delivery)
    assert "asked for: Sort the cart" in said
    assert "rules test/always" in said


def test_messages_are_shown_as_they_were_sent_and_move_no_cursor(house: House) -> None:
    (message,) = house.json("messages")
    assert (message["to"], message["text"]) == ("person:0123456789ab", "it is \x1b[31mlive")
    said = house.says("messages")
    assert "to person:0123456789ab  it is" in said
    assert "\x1b" not in said


def test_what_a_person_says_stands_in_the_log_under_their_pseudonym(house: House) -> None:
    house.says("hold", house.delivery, "--because", "let me look")
    house.says("stop", "service:shop", "--because", "it smells")
    assert house.json("status")["stops"] == [{"scope": "service:shop", "state": "stopped", "reason": "it smells"}]
    house.says("resume", "service:shop", "--because", "aired")
    found = house.json("status")
    assert (found["stops"], found["log"]["size"]) == ([], 7)
    held = house.json("show", house.delivery)[-1]
    assert (held["kind"], held["body"]["act"]) == ("PersonActed", "hold")
    assert held["principal"] == held["body"]["person"]
    assert held["principal"].startswith("person:")
    assert getpass.getuser() not in held["principal"]


def test_a_whole_log_verifies(house: House) -> None:
    found = house.json("log", "verify")
    assert (found["size"], found["findings"]) == (4, [])
    assert found["root"] == house.json("status")["log"]["root"]
    assert "4 entries" in house.says("log", "verify")


def test_an_altered_entry_is_found_and_named(house: House) -> None:
    with sqlite3.connect(house.log) as db:
        db.execute("DROP TRIGGER entries_are_never_changed")
        (leaf,) = db.execute("SELECT leaf FROM entries WHERE idx = 2").fetchone()
        db.execute("UPDATE entries SET leaf = ? WHERE idx = 2", (leaf.replace(b'"version":3', b'"version":4'),))
    db.close()
    for json_too in ((), ("--json",)):
        done = flyball("log", "verify", "--repo", str(house.root), *json_too)
        assert done.exit_code == 1
        assert "entry 2" in done.stdout
    findings = json.loads(done.stdout)["findings"]
    assert {"what", "where", "way_out"} == set(findings[0])
    assert "entry 2" in {finding["where"] for finding in findings}


def test_an_altered_blob_is_found_and_named(house: House) -> None:
    blob = next(path for path in (house.root / ".flyball" / "blobs").glob("??/*"))
    blob.write_bytes(b"another task")
    done = flyball("log", "verify", "--repo", str(house.root))
    assert done.exit_code == 1
    assert str(blob) in done.stdout.replace("\n", "")


# --- the loop as a picture --------------------------------------------------------------------------------------------


def test_the_graph_is_the_one_that_the_readme_shows() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"```mermaid\n{flyball('graph').stdout}```\n" in readme


def test_the_graph_has_every_way_that_next_has_and_no_other() -> None:
    lines = set(flyball("graph", "--all").stdout.splitlines())
    ways = {f"    {a} --> {b}" for a, followers in NEXT.items() for b in followers}
    ends = {f"    {phase} --> [*]" for phase in Phase if not NEXT[phase]}
    assert lines == {"stateDiagram-v2", "    [*] --> NEW", *ways, *ends}


@pytest.mark.parametrize("machine", ["queue", "rollout"])
def test_the_other_machines_have_a_picture_too(machine: str) -> None:
    assert "[*] --> IDLE" in flyball("graph", "--of", machine).stdout
