"""Exports and packets of a whole world's log, checked by the verifier in a Python that knows nothing of Flyball."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

from evidence_kit import AT, WITNESS, HandClock, bare_python, golden_log, log_key, standing_at

from controller.compliance import verify_alone
from controller.compliance.bundle import Standing, spans, standing_of
from controller.compliance.export import Exported, export_chosen, export_window
from controller.compliance.gathering import about, delivery_of
from controller.compliance.packet import Beside, write_packet
from controller.compliance.verify_alone import Tree
from controller.domain.delivery import fold
from controller.domain.entry import decode
from controller.domain.ids import DeliveryId, rest_of
from controller.errors import ConfigError, Permanent, Refused
from controller.ledger.checkpoint_book import CheckpointBook
from controller.ledger.keyring import Keyring
from controller.ledger.merkle import leaf_hash, root_of
from controller.ledger.note import KeyType, SigningKey, sign_note
from controller.ledger.publication import Publication
from controller.ledger.signer import Signer
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tile_rows import SqliteTree
from controller.metrics.audit_index import AuditIndex
from controller.provenance.attestation_key import attestor_in

GOLDEN = [decode(line) for line in (Path(__file__).parents[1] / "golden/first.jsonl").read_bytes().splitlines()]
WITNESS_KEY = str(WITNESS.verifier)


@dataclass
class World:
    path: Path
    tree: SqliteTree
    index: AuditIndex
    standing: Standing  # signed and witnessed
    python: list[str]

    @property
    def key(self) -> str:
        return str(log_key(self.standing.checkpoint).verifier)

    def verified(self, folder: Path, *more: str, key: str = "") -> tuple[int, str]:
        """By the file that lies in the folder."""
        command = [*self.python, str(folder / "verify.py"), str(folder), "--key", key or self.key, *more]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran.returncode, ran.stdout

    def window(self, folder: Path, start: int = 100, stop: int = 300, **more: int) -> Exported:
        return export_window(self.tree, self.standing, range(start, stop), folder=folder, made_at=AT, **more)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return bare_python(tmp_path_factory.mktemp("bare") / "libraries")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "log.db"
    asyncio.run(golden_log(path))
    return path


@pytest.fixture
def world(tmp_path: Path, bare: list[str], built: Path) -> Iterator[World]:
    path = Path(shutil.copyfile(built, tmp_path / "log.db"))
    index = AuditIndex(tmp_path / "audit-index.db")
    with snapshot(path) as tree:
        index.catch_up(tree)
        yield World(path, tree, index, standing_at(path, seen_at=AT), bare)
    index.close()


def delivery_that_was_rolled_back() -> str:
    return rest_of(next(entry for entry in GOLDEN if entry.kind == "RolledBack").stream)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "population.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_verifiers_python_knows_nothing_of_flyball(bare: list[str]) -> None:
    for module in ("controller", "pydantic", "click"):
        script = f"import sys; sys.path.append({bare[-1].split(chr(39))[1]!r}); import {module}"
        ran = subprocess.run([*bare[:-1], script], capture_output=True, text=True, timeout=30)
        assert "ModuleNotFoundError" in ran.stderr


def test_a_window_is_proven_offline_with_key_and_witness(world: World, tmp_path: Path) -> None:
    done = world.window(tmp_path / "export")
    code, said = world.verified(done.folder, "--witness", WITNESS_KEY)
    assert code == 0, said
    assert "200 entries, 100 to 299" in said
    assert f"witnessed by {WITNESS.name}" in said
    assert "NOT PROVEN" not in said


def test_without_a_witness_it_says_that_the_operator_could_have_rewritten_it(world: World, tmp_path: Path) -> None:
    world.standing = standing_at(world.path)
    done = world.window(tmp_path / "export")
    code, said = world.verified(done.folder)
    assert code == 0
    assert "NOT PROVEN  unwitnessed" in said
    assert json.loads((done.folder / "manifest.json").read_text())["standing"].startswith("unwitnessed")
    assert world.verified(done.folder, "--witness", WITNESS_KEY)[0] == 1


def test_an_unsigned_log_proves_nothing(world: World, tmp_path: Path) -> None:
    publication = Publication(tmp_path / "signer", HandClock())
    world.standing = standing_of(world.tree, publication)
    done = world.window(tmp_path / "export")
    code, said = world.verified(done.folder)
    assert (code, "NOT SIGNED" in said) == (1, True)


def test_a_log_that_no_longer_gives_its_signed_root_is_not_exported(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "signer"
    folder.mkdir()
    book = CheckpointBook(folder / "checkpoints.db")
    signer = Signer(lambda: snapshot(world.path), Keyring(folder), book, HandClock(), "flyball/other")
    assert signer.round() is not None
    publication = Publication(folder, HandClock())
    assert standing_of(world.tree, publication).signed
    shorter = SqliteTree(world.tree._db, 100)
    with pytest.raises(Permanent, match="rolled back or rewritten"):
        standing_of(shorter, publication)
    book.close()


@pytest.mark.parametrize(("start", "stop"), [(0, 458), (0, 1), (457, 458), (255, 257), (256, 300), (1, 457)])
def test_any_window_is_tied_to_the_root(world: World, tmp_path: Path, start: int, stop: int) -> None:
    done = world.window(tmp_path / "export", start, stop)
    assert verify_alone.main([str(done.folder), "--key", world.key]) == 0


def test_the_sides_of_every_window_of_small_logs_give_the_root(world: World) -> None:
    hashes = [leaf_hash(leaf) for leaf in world.tree.leaves(0, 40)]
    for size in range(1, 41):
        log = SqliteTree(world.tree._db, size)
        for start in range(size):
            tree, stop = Tree(), start + (size - start) // 2
            tree.fill(start, spans(log, 0, start))
            for found in hashes[start:stop]:
                tree.add(found)
            tree.fill(size, spans(log, stop, size))
            assert tree.root() == root_of(hashes[:size])


def test_an_altered_file_of_an_export_is_found(world: World, tmp_path: Path) -> None:
    done = world.window(tmp_path / "export")
    for name in ("entries.jsonl", "checkpoint", "population.csv"):
        copy = shutil.copytree(done.folder, tmp_path / f"altered-{name}")
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content.replace(b"5", b"6", 1))
        code, said = world.verified(copy)
        assert code == 1, said
        assert "not to be relied on" in said.lower()


def test_a_manifest_that_fits_the_altered_entries_does_not_help(world: World, tmp_path: Path) -> None:
    folder = world.window(tmp_path / "export").folder
    entries = (folder / "entries.jsonl").read_bytes().splitlines()
    entries[7], entries[8] = entries[8], entries[7]
    rewrite(folder, "entries.jsonl", b"".join(line + b"\n" for line in entries))
    code, said = world.verified(folder)
    assert code == 1
    assert "ALTERED: the entries do not give its root" in said


def test_a_population_without_one_of_the_changes_is_found(world: World, tmp_path: Path) -> None:
    folder = world.window(tmp_path / "export", 0, 458).folder
    lines = (folder / "population.csv").read_bytes().splitlines(keepends=True)
    rewrite(folder, "population.csv", b"".join(lines[:-1]))
    code, said = world.verified(folder)
    assert (code, "population.csv is not the list" in said) == (1, True)


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """As somebody would who can write all of the folder."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = verify_alone._digest(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_key_of_another_log_does_not_speak_for_this_one(world: World, tmp_path: Path) -> None:
    done = world.window(tmp_path / "export")
    other = str(log_key(replace(world.standing.checkpoint, origin="flyball/another")).verifier)
    code, said = world.verified(done.folder, key=other)
    assert (code, "NOT SIGNED" in said) == (1, True)
    assert world.verified(done.folder, key="nonsense")[0] == 2
    assert world.verified(tmp_path / "export", "--earlier", str(tmp_path))[0] == 2


def test_two_exports_are_shown_to_be_of_one_growing_log(world: World, tmp_path: Path) -> None:
    later, world.standing = world.standing, standing_at(world.path, 256)
    first = world.window(tmp_path / "first", 0, 200)
    world.standing = later
    for name, window, earlier in (("whole", (0, 458), 0), ("proof", (400, 458), 256)):
        second = world.window(tmp_path / name, *window, earlier=earlier)
        code, said = world.verified(second.folder, "--earlier", str(first.folder))
        assert code == 0
        assert "256 entries of the earlier evidence are the beginning" in said
    without = world.window(tmp_path / "without", 400, 458)
    assert "NOT PROVEN  that this log grew" in world.verified(without.folder, "--earlier", str(first.folder))[1]


def test_the_population_says_what_the_folds_say(world: World, tmp_path: Path) -> None:
    done = world.window(tmp_path / "export", 0, 458)
    rows = {row["change_id"]: row for row in rows_of(done.folder)}
    streams = dict.fromkeys(entry.stream for entry in GOLDEN if entry.stream.startswith("delivery/"))
    folded = [fold(DeliveryId(rest_of(s)), [e for e in GOLDEN if e.stream == s]) for s in streams]
    assert set(rows) == {one.id for one in folded if one.merged}
    for one in (one for one in folded if one.merged):
        row = rows[one.id]
        assert one.merged is not None
        assert one.ci is not None
        assert one.cleared is not None
        assert row["commit"] == one.merged.commit
        assert row["requester"] == one.asked.asked_by
        assert row["model"] == (one.change.model or "" if one.change else "")
        assert (row["tests"], row["tests_passed"]) == (str(one.ci.tests), "yes" if one.ci.passed else "no")
        assert row["approver"] == one.cleared.approver
        assert row["policy_digest"] == one.cleared.policy
        assert bool(row["rolled_back_at"]) == (one.rolled_back is not None)
    rolled_back = rows[delivery_that_was_rolled_back()]
    assert rolled_back["reverted_by"] in rows


def test_everything_about_one_delivery_is_proven_entry_by_entry(world: World, tmp_path: Path) -> None:
    delivery = delivery_that_was_rolled_back()
    chosen = about(world.index, world.tree, delivery)
    done = export_chosen(world.tree, world.standing, chosen, folder=tmp_path / "export", made_at=AT)
    own = {entry.index for entry in GOLDEN if entry.stream.endswith(f"/{delivery}")}
    assert own <= set(chosen.indices)
    code, said = world.verified(done.folder, "--witness", WITNESS_KEY)
    assert code == 0
    assert f"{done.entries} entries are in that log, each at its place" in said
    (row,) = rows_of(done.folder)
    assert row["reverted_by"] == f"{delivery}-revert"


def test_an_entry_left_out_of_the_middle_of_a_stream_is_found(world: World, tmp_path: Path) -> None:
    chosen = about(world.index, world.tree, delivery_that_was_rolled_back())
    own = [at for at in chosen.indices if GOLDEN[at].stream.startswith("delivery/")]
    fewer = replace(chosen, indices=tuple(at for at in chosen.indices if at != own[3]))
    done = export_chosen(world.tree, world.standing, fewer, folder=tmp_path / "export", made_at=AT)
    code, said = world.verified(done.folder)
    assert (code, "LEFT OUT" in said) == (1, True)


def test_a_change_is_found_by_delivery_and_by_commit(world: World) -> None:
    merged = next(entry for entry in GOLDEN if entry.kind == "Merged")
    commit = json.loads(merged.leaf)["body"]["commit"]
    assert delivery_of(world.index, world.tree, commit[:8]) == rest_of(merged.stream)
    assert delivery_of(world.index, world.tree, rest_of(merged.stream)) == rest_of(merged.stream)
    with pytest.raises(Refused, match="no delivery and no commit"):
        delivery_of(world.index, world.tree, "ffffffffff")


def test_the_attestation_of_a_packet_is_checked_against_its_key_and_the_commit_that_landed(
    world: World, tmp_path: Path
) -> None:
    chosen = about(world.index, world.tree, delivery_that_was_rolled_back())
    commit = json.loads(world.tree.leaf(next(at for at in chosen.indices if GOLDEN[at].kind == "Merged")))["body"][
        "commit"
    ]
    attestor, stranger = attestor_in(tmp_path / "keys"), attestor_in(tmp_path / "strange")
    for name, subject, key, expected in (
        ("good", commit, attestor.vkey, 0),
        ("of-another", "f" * 40, attestor.vkey, 1),
        ("by-another", commit, stranger.vkey, 1),
    ):
        statement = json.dumps({"subject": [{"digest": {"gitCommit": subject}}]}).encode()
        beside = Beside(attestation=attestor.envelope(statement))
        done = write_packet(world.tree, world.standing, chosen, beside, folder=tmp_path / name, made_at=AT)
        code, said = world.verified(done.folder, "--attestation-key", key)
        assert code == expected, said
        assert "attestation" in said
    assert "NOT PROVEN  who signed the attestation" in world.verified(tmp_path / "good")[1]


def test_a_witness_with_two_keys_of_which_one_withstands_a_quantum_computer(world: World, tmp_path: Path) -> None:
    later = SigningKey.generate(WITNESS.name, KeyType.ML_DSA_44)
    head = world.standing.checkpoint
    note = sign_note(head.text(), [log_key(head), WITNESS, later], AT)
    world.standing = replace(world.standing, note=note)
    done = world.window(tmp_path / "export")
    both = f"{WITNESS_KEY} {later.verifier}"
    for given in (both, str(later.verifier), WITNESS_KEY):
        code, said = world.verified(done.folder, "--witness", given)
        assert code == 0, said
        assert said.count("witnessed by") == 1
    code, said = world.verified(done.folder, "--witness", both, "--quorum", "2")
    assert (code, "NOT WITNESSED" in said) == (1, True)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_a_packet_shows_what_others_wrote_and_runs_none_of_it(world: World, tmp_path: Path) -> None:
    chosen = about(world.index, world.tree, delivery_that_was_rolled_back())
    evil = "</pre><script>alert(1)</script><img src=https://evil.example/x>"
    beside = Beside(words=dict.fromkeys(chosen.indices, evil), diff=f"+{evil}\n")
    done = write_packet(world.tree, world.standing, chosen, beside, folder=tmp_path / "packet", made_at=AT)
    page = (done.folder / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not {tag for tag, _ in tags.seen} & {"script", "img", "link", "iframe", "object", "form"}
    assert all(
        (value or "").startswith("#") for _, given in tags.seen for name, value in given.items() if name == "href"
    )
    assert not any(name.startswith("on") or name == "src" for _, given in tags.seen for name in given)
    assert "&lt;script&gt;alert(1)" in page
    anchors = {given["id"] for _, given in tags.seen if "id" in given}
    assert {(value or "")[1:] for _, given in tags.seen for name, value in given.items() if name == "href"} <= anchors
    assert "Release 5" in page or "release 5" in page
    assert world.verified(done.folder)[0] == 0


def test_a_window_that_is_not_signed_yet_is_refused_and_evidence_is_never_written_over(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no entries"):
        world.window(tmp_path / "none", 458, 500)
    assert not (tmp_path / "none").exists()
    world.window(tmp_path / "export")
    with pytest.raises(Permanent, match="never written over"):
        world.window(tmp_path / "export")
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]
