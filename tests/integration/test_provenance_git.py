"""Notes and statements in a real repository, read back by git itself and by code that is not ours."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))
sys.path.append(str(Path(__file__).parents[1] / "contract"))

from world_git import GitWorld, git_world
from worlds import AT, MAIN

from controller.adapters.git import GitForge
from controller.adapters.git_blame import blamed
from controller.adapters.git_notes import note_of
from controller.adapters.git_store import ref_value
from controller.commands.blame import blame_ai
from controller.domain.ids import Branch, Commit, EffectKey, Repository
from controller.domain.verbs import AnnotateCommit, Annotated, Author, LandCommit
from controller.errors import Permanent
from controller.ports import Candidate
from controller.provenance.attestation_key import FileAttestor
from controller.provenance.blame import RestsOn, Who
from controller.provenance.notes import LINES_REF, STATEMENTS_REF, read

SHOP, TOPIC = Repository("shop"), Branch("agent/shop-1/1")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ENVELOPE = FileAttestor(KEY).envelope(b'{"_type":"https://in-toto.io/Statement/v1"}').decode()
MODEL = "claude-sonnet-5-5"
TRAILERS = f"Assisted-by: flyball-author:{MODEL}\nAgent-Session: shop-1/1\nAudit-Entry: flyball/0123456789abcdef#17\n"
START: dict[str, str | None] = {"app.py": "one\ntwo\nthree\nfour\n", "my file.txt": "a\n"}
SPAWN = multiprocessing.get_context("spawn")


def key(name: str) -> EffectKey:
    return EffectKey(f"annotate/shop/{name}")


@dataclass(frozen=True)
class Landed:
    world: GitWorld
    base: Commit
    head: Commit
    commit: Commit

    @property
    def bare(self) -> Path:
        return self.world.forge.store.path(SHOP)

    @property
    def author(self) -> Author:
        return author(self.head)

    def verb(self, *authors: Author) -> AnnotateCommit:
        return AnnotateCommit(repository=SHOP, base=self.base, commit=self.commit, authors=authors, envelope=ENVELOPE)

    async def annotated(self, *authors: Author) -> Annotated:
        result = await self.world.forge.act(key(self.commit), self.verb(*(authors or (self.author,))))
        assert isinstance(result, Annotated)
        return result

    def git(self, *arguments: str) -> str:
        return git(self.bare, *arguments)

    def note(self, commit: Commit, ref: str = LINES_REF) -> str | None:
        return note_of(self.world.forge.store.open(SHOP), ref, commit)


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {
        f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, env=environment, timeout=30, check=True
    )
    return done.stdout


def author(head: Commit, session: str = "shop-1/1") -> Author:
    return Author(
        head=head,
        session=session,
        agent="flyball-author",
        model=MODEL,
        delivery=session.partition("/")[0],
        audit_entry="flyball/0123456789abcdef#17",
    )


async def land(world: GitWorld, base: Commit, files: dict[str, str | None], topic: Branch = TOPIC) -> Landed:
    """An agent's change on `base`, merged and landed as the queue would."""
    head = await world.commit(SHOP, topic, files, f"Change it\n\n{TRAILERS}", onto=base)
    made = await world.forge.merge(SHOP, base, head, f"Change it\n\nLands {head[:12]}.\n\n{TRAILERS}", AT)
    assert isinstance(made, Candidate)
    verb = LandCommit(repository=SHOP, branch=MAIN, expect=base, commit=made.commit, pull_requests=())
    await world.forge.act(EffectKey(f"land/shop/{made.commit}"), verb)
    return Landed(world, base, head, made.commit)


@pytest.fixture
async def landed(tmp_path: Path) -> Landed:
    world = git_world(tmp_path)
    base = await world.commit(SHOP, MAIN, START, "Begin")
    changed: dict[str, str | None] = {
        "app.py": "one\n2\nthree\nfour\nfive\n",
        "new.py": "x = 1\n",
        "my file.txt": "a\nb\n",
    }
    return await land(world, base, changed)


# --- what git reads -------------------------------------------------------------------------------


async def test_git_itself_reads_who_wrote_which_lines_beside_the_agents_commit(landed: Landed) -> None:
    assert await landed.annotated() == Annotated(agent_lines=4, commits=2)
    said = read(landed.git("notes", "--ref=ai", "show", landed.head))
    assert {path: [r for ranges in found.values() for r in ranges] for path, found in said.files.items()} == {
        "app.py": [(2, 2), (5, 5)],
        "my file.txt": [(2, 2)],
        "new.py": [(1, 1)],
    }
    assert [one.model for one in said.sessions.values()] == [MODEL]
    merge = landed.git("notes", "--ref=ai", "show", landed.commit)
    assert merge.startswith("---\n"), "a clean merge brought no line of its own"


async def test_the_statement_beside_the_landed_commit_verifies_with_nothing_of_ours(landed: Landed) -> None:
    await landed.annotated()
    line = landed.git("notes", "--ref=attestations", "show", landed.commit).strip()
    assert line == ENVELOPE
    assert verified_by_hand(json.loads(line), KEY.public_key())["_type"] == "https://in-toto.io/Statement/v1"
    tampered = json.loads(line)
    tampered["payload"] = base64.b64encode(b'{"_type":"other"}').decode()
    with pytest.raises(InvalidSignature):
        verified_by_hand(tampered, KEY.public_key())


def verified_by_hand(envelope: dict[str, Any], public: Ed25519PublicKey) -> dict[str, Any]:
    """As docs/provenance.md describes it, without a line of the controller's."""
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    found: dict[str, Any] = json.loads(payload)
    return found


async def test_a_plain_git_log_tells_agents_commits_from_peoples(landed: Landed) -> None:
    await landed.world.commit(SHOP, MAIN, {"by_hand.py": "1\n"}, "By hand\n", onto=landed.commit)
    shown = landed.git("log", "--format=%h %(trailers:key=Assisted-by,valueonly,separator=%x2C)", MAIN)
    assisted = [line.partition(" ")[2] for line in shown.splitlines()]
    assert sorted(assisted) == sorted(["", "", f"flyball-author:{MODEL}", f"flyball-author:{MODEL}"])


async def test_a_squash_by_others_keeps_the_landings_trailers(landed: Landed, tmp_path: Path) -> None:
    """The message of the merge has them, so whoever takes that message over takes them over too."""
    git(tmp_path, "clone", "--quiet", str(landed.bare), "theirs")
    git(tmp_path / "theirs", "checkout", "--quiet", "-b", "squashed", landed.base)
    git(tmp_path / "theirs", "merge", "--quiet", "--squash", landed.commit)
    git(tmp_path / "theirs", "commit", "--quiet", "-C", landed.commit)
    said = git(tmp_path / "theirs", "log", "-1", "--format=%(trailers:key=Audit-Entry,valueonly)")
    assert said.strip() == "flyball/0123456789abcdef#17"


# --- once, and found again ------------------------------------------------------------------------


async def test_what_is_noted_already_is_found_and_left_alone(landed: Landed) -> None:
    verb, forge = landed.verb(landed.author), landed.world.forge
    assert await forge.find(key(landed.commit), verb) is None
    first = await landed.annotated()
    tips = landed.git("for-each-ref", "refs/notes")
    assert await forge.find(key(landed.commit), verb) == first
    assert await landed.annotated() == first
    assert landed.git("for-each-ref", "refs/notes") == tips


@pytest.mark.parametrize("ref", ["ai", "attestations"])
async def test_half_of_it_is_not_taken_for_the_whole(landed: Landed, ref: str) -> None:
    await landed.annotated()
    landed.git("notes", f"--ref={ref}", "remove", landed.commit)
    assert await landed.world.forge.find(key(landed.commit), landed.verb(landed.author)) is None
    await landed.annotated()
    assert await landed.world.forge.find(key(landed.commit), landed.verb(landed.author)) is not None


async def test_a_note_that_somebody_put_there_first_is_replaced_and_stays_in_the_history(landed: Landed) -> None:
    landed.git("notes", "--ref=ai", "add", "-m", "a person wrote all of it", landed.head)
    before = landed.git("rev-parse", LINES_REF).strip()
    await landed.annotated()
    assert read(landed.note(landed.head) or "").files
    assert landed.git("rev-parse", f"{LINES_REF}^").strip() == before


async def test_the_landed_commit_and_its_branch_are_left_as_they_were(landed: Landed) -> None:
    before = landed.git("for-each-ref", "refs/heads")
    await landed.annotated()
    assert landed.git("for-each-ref", "refs/heads") == before


async def test_a_commit_that_the_forge_has_not_got_is_refused_and_nothing_is_noted(landed: Landed) -> None:
    nowhere = Commit("0123456789" * 4)
    for verb in (landed.verb(author(nowhere)), landed.verb().model_copy(update={"commit": nowhere})):
        with pytest.raises(Permanent, match=nowhere):
            await landed.world.forge.act(key("nowhere"), verb)
    assert landed.git("for-each-ref", "refs/notes") == ""


# --- which lines ----------------------------------------------------------------------------------


async def test_a_revert_by_code_is_noted_without_lines(landed: Landed) -> None:
    result = await landed.world.forge.act(key("revert"), landed.verb())
    assert result == Annotated(agent_lines=0, commits=1)
    assert read(landed.note(landed.commit) or "").files == {}


async def test_of_two_sessions_in_one_landing_each_has_its_own_lines(landed: Landed) -> None:
    world = landed.world
    one = await world.commit(SHOP, Branch("agent/shop-2/1"), {"two.py": "a\nb\n"}, "One", onto=landed.commit)
    other = await world.commit(SHOP, Branch("agent/shop-3/1"), {"three.py": "c\n"}, "Other", onto=landed.commit)
    first = await world.forge.merge(SHOP, landed.commit, one, "m", AT)
    assert isinstance(first, Candidate)
    both = await world.forge.merge(SHOP, first.commit, other, "m", AT)
    assert isinstance(both, Candidate)
    carried = replace(landed, commit=both.commit, base=landed.commit)
    await carried.annotated(author(one, "shop-2/1"), author(other, "shop-3/1"))
    for head, path, session in ((one, "two.py", "shop-2/1"), (other, "three.py", "shop-3/1")):
        said = read(carried.note(head) or "")
        assert list(said.files) == [path]
        assert [found.session for found in said.sessions.values()] == [session]


async def test_bytes_that_are_no_text_and_files_that_only_went_away_have_no_lines(tmp_path: Path) -> None:
    world = git_world(tmp_path)
    base = await world.commit(SHOP, MAIN, {"gone.py": "1\n", "old.py": "1\n2\n"}, "Begin")
    one = await land(world, base, {"gone.py": None, "old.py": "1\n", "blob.bin": "\0\1\2", "crlf.txt": "a\r\nb"})
    assert (await one.annotated()).agent_lines == 2
    assert list(read(one.note(one.head) or "").files) == ["crlf.txt"]


# --- a notes tree that others use as well ---------------------------------------------------------


async def test_notes_of_git_itself_flat_or_in_folders_stay_and_ours_are_read_by_it(landed: Landed) -> None:
    others = [landed.base, landed.commit, landed.head]
    for commit in others:
        landed.git("notes", "--ref=attestations", "add", "-m", f"of {commit}", commit)
    await landed.annotated()
    listed = landed.git("notes", "--ref=attestations", "list").splitlines()
    assert len(listed) == 3
    assert landed.git("notes", "--ref=attestations", "show", landed.base).strip() == f"of {landed.base}"
    assert landed.git("notes", "--ref=attestations", "show", landed.commit).strip() == ENVELOPE
    landed.git("notes", "--ref=attestations", "append", "-m", "more", landed.base)  # git writes the tree its own way
    assert landed.note(landed.commit, STATEMENTS_REF) == ENVELOPE + "\n"
    landed.git("fsck", "--strict")


async def test_a_new_note_goes_into_a_folder_so_that_many_cost_little(landed: Landed) -> None:
    tip, many = landed, 40
    for number in range(many):
        tip = await land(landed.world, tip.commit, {f"f{number}.py": "1\n"}, Branch(f"agent/n-{number}/1"))
        await tip.annotated()
    kinds = [line.split()[1] for line in landed.git("ls-tree", STATEMENTS_REF).splitlines()]
    assert set(kinds) == {"tree"}
    assert len(landed.git("notes", "--ref=attestations", "list").splitlines()) == many
    landed.git("notes", "--ref=attestations", "append", "-m", "more", tip.commit)
    assert landed.note(tip.commit, STATEMENTS_REF) == f"{ENVELOPE}\n\nmore\n"


async def test_two_landings_annotated_at_once_are_both_noted(landed: Landed) -> None:
    ones = [landed]
    for number in range(5):
        ones.append(await land(landed.world, ones[-1].commit, {f"f{number}.py": "1\n"}, Branch(f"agent/n-{number}/1")))
    await asyncio.gather(*(one.annotated() for one in ones))
    for one in ones:
        assert await one.world.forge.find(key(one.commit), one.verb(one.author)) is not None


def _annotate_for_ever(root: str, verbs: list[str], ready: Connection) -> None:
    forge = git_world(Path(root)).forge
    ready.send("ready")
    for text in verbs:
        verb = AnnotateCommit.model_validate_json(text)
        asyncio.run(forge.act(key(verb.commit), verb))
        ready.send(verb.commit)


async def test_killed_while_it_writes_notes_nothing_is_torn_and_the_next_one_finishes(
    landed: Landed, tmp_path: Path
) -> None:
    ones = [landed]
    for number in range(20):
        ones.append(await land(landed.world, ones[-1].commit, {f"f{number}.py": "1\n"}, Branch(f"agent/n-{number}/1")))
    verbs, rng = [one.verb(one.author) for one in ones], Random(1)
    for _ in range(4):
        left = [verb for verb in verbs if await landed.world.forge.find(key(verb.commit), verb) is None]
        await asyncio.to_thread(_killed, tmp_path, left, rng.randint(0, 3))
        landed.git("fsck", "--strict")
    for verb in verbs:
        await landed.world.forge.act(key(verb.commit), verb)
        assert await landed.world.forge.find(key(verb.commit), verb) is not None
    statements = landed.git("notes", "--ref=attestations", "list").splitlines()
    assert len(statements) == len(verbs)
    assert len(landed.git("notes", "--ref=ai", "list").splitlines()) == 2 * len(verbs)


def _killed(root: Path, verbs: list[AnnotateCommit], after: int) -> None:
    """A process that writes notes, and dies in the middle of the one after so many."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(
        target=_annotate_for_ever, args=(str(root), [verb.model_dump_json() for verb in verbs], theirs)
    )
    child.start()
    for _ in range(min(after + 1, len(verbs))):
        assert ours.poll(60), "the child said nothing"
        ours.recv()
    child.kill()
    child.join(30)
    assert not child.is_alive()


# --- blame ----------------------------------------------------------------------------------------


async def test_each_line_is_a_persons_or_an_agents_with_its_place_in_the_log(landed: Landed) -> None:
    await landed.annotated()
    found = blamed(landed.world.forge.store, SHOP, MAIN, "app.py")
    assert [(row.line.text, row.who) for row in found] == [
        ("one", Who.PERSON),
        ("2", Who.AGENT),
        ("three", Who.PERSON),
        ("four", Who.PERSON),
        ("five", Who.AGENT),
    ]
    wrote = found[1].wrote
    assert wrote is not None
    assert (wrote.session, wrote.model, wrote.audit_entry) == ("shop-1/1", MODEL, "flyball/0123456789abcdef#17")
    assert found[1].rests_on is RestsOn.NOTE


async def test_a_person_who_edits_an_agents_file_owns_the_lines_that_they_wrote(landed: Landed) -> None:
    await landed.annotated()
    edited: dict[str, str | None] = {"app.py": "zero\none\n2\nthree\nfour\nfive and more\n"}
    await landed.world.commit(SHOP, MAIN, edited, "By hand\n", onto=landed.commit)
    found = blamed(landed.world.forge.store, SHOP, MAIN, "app.py")
    assert [row.line.text for row in found if row.who is Who.AGENT] == ["2"]


async def test_where_the_notes_were_lost_the_trailers_speak(landed: Landed) -> None:
    found = blamed(landed.world.forge.store, SHOP, landed.commit, "new.py")
    assert [(row.who, row.rests_on) for row in found] == [(Who.AGENT, RestsOn.TRAILERS)]


@pytest.mark.parametrize(
    ("revision", "path", "why"),
    [
        ("nowhere", "app.py", "no commit"),
        ("main", "none.py", "no file"),
        ("main", "", "no file"),
        ("main^{tree}", "app.py", "no commit"),
        ("main", "../app.py", "no file"),
    ],
)
async def test_what_is_not_there_cannot_be_blamed(landed: Landed, revision: str, path: str, why: str) -> None:
    with pytest.raises(Permanent, match=why):
        blamed(landed.world.forge.store, SHOP, revision, path)


async def test_the_command_says_it_in_lines_and_in_json(landed: Landed, tmp_path: Path) -> None:
    await landed.annotated()
    place = tmp_path / "place"
    place.mkdir()
    (place / "flyball.toml").write_text('[repository]\nname = "shop"\nbranch = "main"\n')
    arguments = ["app.py", "--repo", str(place), "--dir", str(tmp_path)]
    words = CliRunner().invoke(blame_ai, arguments)
    assert words.exit_code == 0, words.output
    assert f"agent {MODEL} shop-1/1 log#17     2  2" in words.output
    assert "5 lines, 2 of them by agents (40 %)" in words.output
    found = json.loads(CliRunner().invoke(blame_ai, [*arguments, "--json"]).output)
    assert found["summary"] == {
        "lines": 5,
        "agent_lines": 2,
        "by_model": {MODEL: 2},
        "by_session": {"shop-1/1": 2},
    }
    assert found["lines"][1]["log_entry"] == "flyball/0123456789abcdef#17"
    missing = CliRunner().invoke(blame_ai, ["none.py", "--repo", str(place), "--dir", str(tmp_path)])
    assert missing.exit_code == 1
    assert "no file" in missing.output


async def test_a_forge_of_another_process_sees_the_notes_at_once(landed: Landed, tmp_path: Path) -> None:
    await landed.annotated()
    other: GitForge = git_world(tmp_path).forge
    repo = other.store.open(SHOP)
    assert ref_value(repo, LINES_REF) is not None
    assert await other.find(key("x"), landed.verb(landed.author)) == Annotated(agent_lines=4, commits=2)
