"""What commits, notes and statements say of where a change came from."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from controller.domain import events as e
from controller.domain.entry import Caller, Draft, Entry, decode, encode
from controller.domain.events.provenance import attestation_stream
from controller.domain.ids import Branch, Commit, Digest, Repository, SessionId, StreamId, digest_bytes
from controller.domain.risk import Colour
from controller.domain.verbs import Author
from controller.errors import Permanent
from controller.ledger.checkpoint import origin_of as name_in_checkpoints
from controller.ledger.note import KeyType, VerifierKey
from controller.provenance import dsse, notes
from controller.provenance.attestation import (
    APPROVED,
    DETAILS,
    LEVEL_2,
    LEVEL_3,
    Carried,
    Landing,
    authors_of,
    claimed,
    levels,
    statement,
)
from controller.provenance.attestation_key import FILE, FileAttestor, attestor_in, public_key, vkey_of
from controller.provenance.blame import Known, Line, RestsOn, Who, rows, summary
from controller.provenance.log_places import origin_of
from controller.provenance.trailers import (
    assisted_by,
    faults_of_agent_commit,
    parsed,
    session_trailers,
    stripped,
)

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))
from facts_kit import sample

COMMIT, BASE, HEAD = Commit("c" * 40), Commit("b" * 40), Commit("a" * 40)
AUTHOR = Author(
    head=HEAD,
    session="shop-1a2b3c/1",
    agent="flyball-author",
    model="claude-sonnet-5-5",
    delivery="shop-1a2b3c",
    audit_entry="flyball/0123456789abcdef#17",
    prompt_digest=Digest("sha256:" + "d" * 64),
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


# --- trailers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Signed-off-by: Mallory <m@example.org>",
        "signed-off-by : Mallory",
        "SIGNED-OFF-BY:Mallory",
        "> Signed-off-by: Mallory",
        "  - Signed-off-by: Mallory",
        "\u200bSigned-off-by: Mallory",
        "Assisted-by: nobody:at-all",
        "Audit-Entry: flyball/0000000000000000#1",
        "Agent-Session: somebody-else/1",
        "Co-authored-by: Linus <l@example.org>",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\v"])
def test_a_trailer_that_a_model_invents_is_taken_out_however_it_is_dressed(line: str, end: str) -> None:
    words = end.join(("Sort the cart", line, "  and it goes on here", "by price"))
    left = stripped(words)
    assert "allory" not in left
    assert "goes on" not in left
    assert left.splitlines() == ["Sort the cart", "by price"]


@pytest.mark.parametrize("words", ["Note: prices are cents", "see https://example.org/a", "", "a\n\n  b: c\n"])
def test_words_that_are_no_trailers_of_ours_stay_as_they_are(words: str) -> None:
    assert stripped(words) == words.replace("\r\n", "\n")


GOOD = "Sort\n\nby price\n\nAssisted-by: flyball-author:claude-sonnet-5-5 ruff\nAgent-Session: shop-1/1\n"


def test_a_commit_says_who_assisted_in_the_kernels_form() -> None:
    said = parsed(GOOD)
    assert assisted_by(said["assisted-by"]) == ("flyball-author", "claude-sonnet-5-5")
    assert said["agent-session"] == "shop-1/1"
    assert assisted_by("a person") is None


@pytest.mark.parametrize(
    "message",
    [
        "Assisted-by: a:b",
        "Sort\n\nAssisted-by: a:b\nand more words",
        "Sort\n\nAssisted-by: a:b\n\nWords after it\n",
        "",
    ],
)
def test_only_the_last_paragraph_of_nothing_but_trailers_counts(message: str) -> None:
    assert "assisted-by" not in parsed(message)


def test_a_trailer_may_go_on_in_the_next_line() -> None:
    assert parsed("Sort\n\nNote: one\n two\n\tthree\n")["note"] == "one two three"


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        (GOOD, ()),
        (GOOD + "Signed-off-by: Mallory <m@example.org>\n", ("signed_off",)),
        ("Sort\n\nSigned-off-by: Mallory\n\n" + GOOD, ("signed_off",)),
        ("Sort\n\nsigned-off-BY : Mallory\n", ("signed_off", "unassisted")),
        ("Sort the cart\n", ("unassisted",)),
        ("Sort\n\nAssisted-by: a person with a keyboard\n", ("unassisted",)),
    ],
)
def test_an_agents_commit_that_is_signed_off_or_hides_the_agent_is_refused(
    message: str, faults: tuple[str, ...]
) -> None:
    assert faults_of_agent_commit(message) == faults


def test_what_a_session_writes_on_its_own_commit_passes_the_check() -> None:
    started = sample(e.SessionStarted, iteration=2, role="author", model="claude-sonnet-5-5")
    lines = session_trailers(started, SessionId("shop-1/2"), "person:0123456789ab")
    assert "Agent-Iterations: 2" in lines
    assert faults_of_agent_commit("Sort\n\n" + "\n".join(lines) + "\n") == ()
    assert not [line for line in session_trailers(started, SessionId("shop-1/2"), None) if "Requested" in line]


def test_a_log_has_one_name_in_commits_and_in_its_checkpoints() -> None:
    assert origin_of(b"first leaf") == name_in_checkpoints(b"first leaf")


# --- envelopes and their key ----------------------------------------------------------------------


def test_what_is_signed_is_the_encoding_of_the_format_itself() -> None:
    """The vector of protocol.md in github.com/secure-systems-lab/dsse."""
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_same_statement_gives_the_same_envelope() -> None:
    assert FileAttestor(KEY).envelope(b"{}") == FileAttestor(KEY).envelope(b"{}")
    assert b"\n" not in FileAttestor(KEY).envelope(b"{}")


def test_an_envelope_is_believed_for_its_own_key_only() -> None:
    envelope = dsse.sign(b"payload", KEY)
    assert dsse.verified(envelope, [OTHER_KEY.public_key(), KEY.public_key()]) == b"payload"
    for keys in ([OTHER_KEY.public_key()], []):
        with pytest.raises(Permanent, match="signed by none"):
            dsse.verified(envelope, keys)


def _edited(**fields: object) -> bytes:
    return json.dumps({**json.loads(dsse.sign(b"payload", KEY)), **fields}).encode()


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        (_edited(payload=base64.b64encode(b"another").decode()), "signed by none"),
        (_edited(payloadType="text/plain"), "holds"),
        (_edited(signatures=[]), "no DSSE"),
        (_edited(extra=1), "no DSSE"),
        (_edited(payload="!"), "base64"),
        (_edited(signatures=[{"sig": "AAAA"}]), "signed by none"),
        (b"[" * 100_000, "no DSSE"),
        (b"{}", "no DSSE"),
        (dsse.sign(b"payload", KEY)[:-1] + b',"payload":"aGk="}', "no DSSE"),
        (b" " * (dsse.MAX_ENVELOPE_BYTES + 1), "bytes"),
    ],
)
def test_an_envelope_that_was_touched_is_not_believed(envelope: bytes, why: str) -> None:
    with pytest.raises(Permanent, match=why):
        dsse.verified(envelope, [KEY.public_key()])


def test_the_attestation_key_is_named_as_the_logs_keys_are() -> None:
    vkey = vkey_of(KEY.public_key())
    as_a_note_reads_it = VerifierKey.parse(vkey)
    assert as_a_note_reads_it.type is KeyType.ED25519
    assert as_a_note_reads_it.public == KEY.public_key().public_bytes_raw()
    assert str(as_a_note_reads_it) == vkey
    assert public_key(vkey) == KEY.public_key()


@pytest.mark.parametrize("vkey", ["", "a+b+c", vkey_of(KEY.public_key()).replace("flyball", "flyboll")])
def test_a_key_that_does_not_fit_its_id_is_no_key(vkey: str) -> None:
    with pytest.raises(Permanent, match="no key"):
        public_key(vkey)


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    start, made = Barrier(6), []

    def make() -> None:
        start.wait(10)
        made.append(attestor_in(tmp_path / "keys").vkey)

    threads = [Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 6
    assert set(made) == {attestor_in(tmp_path / "keys").vkey}
    path = tmp_path / "keys" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [FILE]
    assert "PRIVATE" not in repr(attestor_in(tmp_path / "keys"))


def test_a_file_that_is_no_key_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("nothing of the kind")
    with pytest.raises(Permanent, match="no private key"):
        attestor_in(tmp_path)


# --- the statement --------------------------------------------------------------------------------


def _entry(index: int, stream: str, event: e.Event) -> Entry:
    by = Caller("agent:merger", Digest("sha256:" + "9" * 64))
    return decode(encode(index, 1, datetime(2026, 11, 22, 12, 0, 0, 5, UTC), Draft(StreamId(stream), event), by))


def _carried(colour: Colour = Colour.GREEN, *, by_person: bool = False, tainted: bool = False) -> Carried:
    return Carried(
        delivery="shop-1a2b3c",
        requested_by="person:0123456789ab",
        head=HEAD,
        colour=colour,
        rules=("risk/small",),
        approver="olga",
        by_person=by_person,
        policy=Digest("sha256:" + "7" * 64),
        tainted=tainted,
        author=AUTHOR,
        evidence=(_entry(17, "delivery/shop-1a2b3c", sample(e.ChangeAuthored)),),
    )


def _landing(*carried: Carried, **facts: object) -> Landing:
    landing = Landing(
        origin="flyball/0123456789abcdef",
        repository=Repository("shop"),
        branch=Branch("main"),
        commit=COMMIT,
        base=BASE,
        landed=_entry(40, "queue/shop@main", sample(e.Landed, commit=COMMIT, base=BASE)),
        verified=True,
        tested=True,
        unbroken=True,
        carried=carried or (_carried(),),
        evidence=(_entry(38, "queue/shop@main", sample(e.LandingPlanned)),),
    )
    return replace(landing, **facts)  # type: ignore[arg-type]


def test_a_green_landing_on_an_unbroken_branch_is_level_3() -> None:
    assert levels(_landing())[:2] == (LEVEL_3, "ORG_SOURCE_FLYBALL_GREEN")


def test_after_a_push_past_the_queue_it_is_level_2() -> None:
    assert levels(_landing(unbroken=False))[0] == LEVEL_2


@pytest.mark.parametrize("facts", [{"verified": False}, {"tested": False}, {"carried": ()}])
def test_what_was_not_verified_or_not_tested_claims_nothing_and_says_failed(facts: dict[str, object]) -> None:
    said = json.loads(statement(_landing(**facts)))["predicate"]
    assert (said["verificationResult"], said["verifiedLevels"]) == ("FAILED", [])


@pytest.mark.parametrize("colour", list(Colour))
@pytest.mark.parametrize("by_person", [True, False])
@pytest.mark.parametrize("unbroken", [True, False])
def test_level_4_is_never_claimed_whoever_approved(colour: Colour, *, by_person: bool, unbroken: bool) -> None:
    said = statement(_landing(_carried(colour, by_person=by_person), unbroken=unbroken)).decode()
    assert "LEVEL_4" not in said
    assert "TWO_PARTY" not in said


def test_a_landing_is_as_good_as_the_worst_that_it_carries() -> None:
    mixed = levels(_landing(_carried(by_person=True), _carried(Colour.YELLOW, by_person=True)))
    assert "ORG_SOURCE_FLYBALL_YELLOW" in mixed
    assert APPROVED in mixed
    assert APPROVED not in levels(_landing(_carried(), _carried(Colour.YELLOW, by_person=True)))
    assert levels(_landing(_carried(), _carried(Colour.RED))) == ()


def test_a_statement_is_about_the_commit_and_rests_on_entries_by_their_bytes() -> None:
    landing = _landing()
    said = json.loads(statement(landing))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/verification_summary/v1"
    subject = {"digest": {"gitCommit": COMMIT}, "annotations": {"sourceRefs": ["refs/heads/main"]}}
    assert said["subject"] == [subject]
    assert said["predicate"]["timeVerified"] == "2026-11-22T12:00:00Z"
    rests_on = {one["uri"]: one["digest"]["sha256"] for one in said["predicate"]["inputAttestations"]}
    assert rests_on == {
        f"urn:flyball:entry:flyball/0123456789abcdef#{entry.index}": hashlib.sha256(entry.leaf).hexdigest()
        for entry in (*landing.carried[0].evidence, *landing.evidence, landing.landed)
    }
    assert said["predicate"][DETAILS]["deliveries"][0]["requestedBy"] == "person:0123456789ab"
    assert statement(landing) == statement(_landing())


def test_what_is_to_be_noted_can_be_read_back_from_the_statement_alone() -> None:
    assert authors_of(statement(_landing())) == (AUTHOR,)
    assert claimed(statement(_landing())) == levels(_landing())
    assert authors_of(statement(_landing(replace(_carried(), author=None)))) == ()
    for nonsense in (b"{}", b"[]", b"x", b'{"predicate": {}}'):
        with pytest.raises(Permanent):
            authors_of(nonsense)
        with pytest.raises(Permanent):
            claimed(nonsense)


def test_a_commit_has_one_stream_of_attestation_and_one_entry_ends_it() -> None:
    assert attestation_stream(COMMIT) == f"attestation/{COMMIT}"
    assert e.MergeAttested.terminal
    assert e.MergeUnattested.terminal


# --- notes of lines -------------------------------------------------------------------------------


def test_a_note_says_lines_by_session_in_the_format_of_git_ai() -> None:
    note = notes.lines_note(HEAD, AUTHOR, {"src/a.py": [3, 1, 2, 9], "my file.py": [1], "empty": []})
    who = hashlib.sha256(b"flyball:shop-1a2b3c/1").hexdigest()[:14]
    trace = hashlib.sha256(HEAD.encode()).hexdigest()[:14]
    head, _, tail = note.partition("\n---\n")
    assert head.splitlines() == [
        '"my file.py"',
        f"  s_{who}::t_{trace} 1",
        "src/a.py",
        f"  s_{who}::t_{trace} 1-3,9",
    ]
    metadata = json.loads(tail)
    assert metadata["schema_version"] == "authorship/3.0.0"
    assert metadata["base_commit_sha"] == HEAD
    assert metadata["sessions"][f"s_{who}"]["agent_id"] == {
        "tool": "flyball",
        "id": "shop-1a2b3c/1",
        "model": "claude-sonnet-5-5",
    }
    assert metadata["prompts"] == {}, "transcripts are sealed in the log, and not published beside the code"


@pytest.mark.parametrize("path", ["a.py", "my file.py", 'a"b.py', "---", "tab\there", "ä/ö.py", "new\nline"])
def test_a_note_reads_back_as_it_was_written_whatever_the_file_is_called(path: str) -> None:
    read = notes.read(notes.lines_note(HEAD, AUTHOR, {path: [2, 3, 7]}))
    assert read.commit == HEAD
    found = read.of_line(path, 3)
    assert found is not None
    assert (found.session, found.model, found.audit_entry) == (AUTHOR.session, AUTHOR.model, AUTHOR.audit_entry)
    assert [line for line in range(1, 10) if read.of_line(path, line)] == [2, 3, 7]


def test_a_commit_that_no_session_wrote_has_a_note_without_lines() -> None:
    note = notes.lines_note(COMMIT, None, {})
    assert note.startswith("---\n")
    assert notes.read(note).files == {}


def test_a_note_of_git_ai_itself_reads_and_its_people_stay_people() -> None:
    note = "\n".join(
        (
            "src/main.rs",
            "  s_c9883b05a2487d::t_9f8e7d6c5b4a32 1-10,15",
            "  s_c9883b05a2487d::t_a1b2c3d4e5f678 25",
            "  h_31dce776f88375 11",
            "---",
            json.dumps(
                {
                    "schema_version": "authorship/3.0.0",
                    "base_commit_sha": "x",
                    "prompts": {},
                    "humans": {"h_31dce776f88375": {"author": "Dev <d@example.org>"}},
                    "sessions": {"s_c9883b05a2487d": {"agent_id": {"tool": "cursor", "id": "1", "model": "m"}}},
                }
            ),
        )
    )
    read = notes.read(note)
    assert [line for line in range(1, 30) if read.of_line("src/main.rs", line)] == [*range(1, 11), 15, 25]
    found = read.of_line("src/main.rs", 25)
    assert found is not None
    assert (found.agent, found.model, found.delivery) == ("cursor", "m", "")


@pytest.mark.parametrize(
    "note",
    [
        "",
        "words",
        "---\n[]",
        '---\n{"schema_version": "authorship/9"}',
        "---\n" + "[" * 100_000,
        'a\n  s_c9883b05a2487d 9-3\n---\n{"schema_version": "authorship/3.0.0"}',
    ],
)
def test_what_is_no_such_note_is_said_to_be_none(note: str) -> None:
    with pytest.raises(Permanent, match="no note of lines"):
        notes.read(note)


# --- blame ----------------------------------------------------------------------------------------


def _lines(*commits: Commit) -> list[Line]:
    return [Line(n, f"line {n}", commit, "a.py", n) for n, commit in enumerate(commits, start=1)]


def test_a_line_is_an_agents_where_the_note_says_so_and_a_persons_elsewhere() -> None:
    note = notes.read(notes.lines_note(HEAD, AUTHOR, {"a.py": [1, 3]}))
    found = rows(_lines(HEAD, HEAD, HEAD), lambda _: Known(note, GOOD))
    assert [row.who for row in found] == [Who.AGENT, Who.PERSON, Who.AGENT]
    assert {row.rests_on for row in found} == {RestsOn.NOTE}


def test_without_a_note_the_commits_own_trailers_are_believed_and_the_row_says_so() -> None:
    known = {HEAD: Known(None, GOOD), BASE: Known(None, "Sort by hand\n")}
    found = rows(_lines(HEAD, BASE), known.__getitem__)
    assert [(row.who, row.rests_on) for row in found] == [
        (Who.AGENT, RestsOn.TRAILERS),
        (Who.PERSON, RestsOn.NOTHING),
    ]
    assert found[0].wrote is not None
    assert found[0].wrote.session == "shop-1/1"


def test_a_file_is_summed_up_by_model_and_session() -> None:
    note = notes.read(notes.lines_note(HEAD, AUTHOR, {"a.py": [1, 3]}))
    found = summary(rows(_lines(HEAD, HEAD, HEAD), lambda _: Known(note, "")))
    assert (found.lines, found.agent_lines) == (3, 2)
    assert found.by_model == (("claude-sonnet-5-5", 2),)
    assert found.by_session == (("shop-1a2b3c/1", 2),)


def test_a_key_in_raw_bytes_has_the_id_that_envelopes_hint_at() -> None:
    raw = Ed25519PublicKey.from_public_bytes(KEY.public_key().public_bytes_raw())
    assert dsse.key_id(raw) == digest_bytes(raw.public_bytes_raw()).removeprefix("sha256:")
    assert dsse.parsed(dsse.sign(b"", KEY)).signatures[0].keyid == dsse.key_id(raw)
