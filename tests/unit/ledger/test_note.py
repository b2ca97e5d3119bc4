"""Signed notes and cosignatures: the specifications' examples, messages built by hand, and every way to be refused."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import Permanent
from controller.ledger.checkpoint import Checkpoint, MalformedNote
from controller.ledger.note import (
    MAX_SIGNATURES,
    KeyType,
    NotSigned,
    SigningKey,
    VerifierKey,
    open_note,
    sign_note,
    signature_lines,
)

# From c2sp.org/signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = """This is an example message.

\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
POEM = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed \u00e8 subito sera.

\u2014 quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""  # noqa: E501 - a signature is one line

LOG = SigningKey.generate("log.example/1")
WITNESS = SigningKey.generate("witness.example/w1", KeyType.COSIGNATURE)
QUANTUM = SigningKey.generate("witness.example/w2", KeyType.ML_DSA_44)
SEEN = Checkpoint("log.example/1", 20_852_163, bytes(range(32)))
AT = datetime(2026, 11, 22, 9, 0, 7, tzinfo=UTC)
SECONDS = int(AT.timestamp())
ALL_KEYS = [LOG.verifier, WITNESS.verifier, QUANTUM.verifier]


def raw_of(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[2])


# --- what the specifications say --------------------------------------------------------------------------------------


def test_the_example_note_is_verified_by_the_example_key() -> None:
    key = VerifierKey.parse(VKEY)
    assert (str(key), key.id.hex()) == (VKEY, "530d903a")
    opened = open_note(EXAMPLE, [key])
    assert (opened.text, opened.by) == ("This is an example message.\n", ("example.com/foo",))


def test_a_text_may_have_empty_lines_of_its_own() -> None:
    assert len(signature_lines(POEM)) == 1
    with pytest.raises(NotSigned, match=r"none of the keys that are trusted here: example\.com/foo"):
        open_note(POEM, [VerifierKey.parse(VKEY)])
    signed = sign_note("one\n\ntwo\n", [LOG])
    assert open_note(signed, [LOG.verifier]).text == "one\n\ntwo\n"


def test_an_ed25519_cosignature_is_over_the_time_and_the_checkpoint() -> None:
    raw = raw_of(WITNESS.line(SEEN.text(), AT))
    assert raw[:4] == WITNESS.verifier.id
    assert struct.unpack(">Q", raw[4:12]) == (SECONDS,)
    message = f"cosignature/v1\ntime {SECONDS}\n{SEEN.text()}".encode()
    Ed25519PublicKey.from_public_bytes(WITNESS.verifier.public).verify(raw[12:], message)


def test_an_ml_dsa_cosignature_is_over_the_structure_of_the_specification() -> None:
    raw = raw_of(QUANTUM.line(SEEN.text(), AT))
    assert (raw[:4], len(raw)) == (QUANTUM.verifier.id, 4 + 8 + 2420)
    assert struct.unpack(">Q", raw[4:12]) == (SECONDS,)
    name, origin = b"witness.example/w2", b"log.example/1"
    message = struct.pack(
        f">12sB{len(name)}sQB{len(origin)}sQQ32s",
        *(b"subtree/v1\n\0", len(name), name, SECONDS, len(origin), origin, 0, SEEN.size, SEEN.root),
    )
    MLDSA44PublicKey.from_public_bytes(QUANTUM.verifier.public).verify(raw[12:], message)


def test_log_and_witnesses_sign_one_note_and_each_is_named_once() -> None:
    note = sign_note(SEEN.text(), [LOG, WITNESS, QUANTUM], AT) + WITNESS.line(SEEN.text(), AT)
    opened = open_note(note, ALL_KEYS)
    assert opened.by == ("log.example/1", "witness.example/w1", "witness.example/w2")
    assert [signed.at for signed in opened.signed] == [None, AT, AT]
    assert opened.text == SEEN.text()


def test_a_key_is_rotated_by_a_second_line() -> None:
    newer = SigningKey.generate(LOG.name)
    note = sign_note(SEEN.text(), [LOG, newer])
    assert [open_note(note, [key.verifier]).by for key in (LOG, newer)] == [("log.example/1",)] * 2


# --- what is not believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [LOG, WITNESS, QUANTUM], ids=lambda key: key.type.name)
def test_one_altered_byte_anywhere_is_found(key: SigningKey) -> None:
    note = sign_note(SEEN.text(), [key], AT)
    other = Checkpoint(SEEN.origin, SEEN.size - 1, SEEN.root).text()
    with pytest.raises(NotSigned, match="does not fit the text"):
        open_note(note.replace(SEEN.text(), other), ALL_KEYS)
    raw = raw_of(note.splitlines()[-1])
    for at in range(4, len(raw), 97 if key is QUANTUM else 5):
        forged = base64.b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
        with pytest.raises(NotSigned):
            open_note(f"{SEEN.text()}\n\u2014 {key.name} {forged}\n", ALL_KEYS)


def test_a_bad_line_of_a_trusted_key_spoils_the_note_whoever_else_signed() -> None:
    forged = WITNESS.line(Checkpoint(SEEN.origin, 1, SEEN.root).text(), AT)
    note = sign_note(SEEN.text(), [LOG]) + forged
    with pytest.raises(NotSigned, match=r"the signature of witness\.example/w1 does not fit"):
        open_note(note, ALL_KEYS)
    assert open_note(note, [LOG.verifier]).by == ("log.example/1",)  # unknown keys are passed over


def test_a_stolen_name_is_an_unknown_key() -> None:
    thief = SigningKey.generate(LOG.name)
    with pytest.raises(NotSigned, match="none of the keys"):
        open_note(sign_note(SEEN.text(), [thief]), [LOG.verifier])


def test_a_log_s_signature_is_no_cosignature_though_the_key_is_the_same() -> None:
    as_witness = VerifierKey(LOG.name, KeyType.COSIGNATURE, LOG.verifier.public)
    assert as_witness.id != LOG.verifier.id
    with pytest.raises(NotSigned):
        open_note(sign_note(SEEN.text(), [LOG]), [as_witness])


def test_a_witness_that_says_no_time_or_an_impossible_one_is_refused() -> None:
    signature = raw_of(WITNESS.line(SEEN.text(), AT))[12:]
    for seconds in (0, 2**63):
        raw = WITNESS.verifier.id + struct.pack(">Q", seconds) + signature
        with pytest.raises(NotSigned, match="no time that can be"):
            open_note(f"{SEEN.text()}\n\u2014 {WITNESS.name} {base64.b64encode(raw).decode()}\n", ALL_KEYS)


def test_a_witness_signs_checkpoints_only_and_says_when() -> None:
    with pytest.raises(MalformedNote):
        WITNESS.line("anything\n", AT)
    with pytest.raises(Permanent, match="with a time or not at all"):
        WITNESS.line(SEEN.text())
    with pytest.raises(Permanent, match="with a time or not at all"):
        LOG.line(SEEN.text(), AT)


# --- what is no note --------------------------------------------------------------------------------------------------

_LINE = EXAMPLE.splitlines()[-1]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        f"text\n\n{_LINE}",  # no last newline
        f"text\n{_LINE}\n",  # no empty line
        f"text\n\n{_LINE}\n\n",
        f"te\rxt\n\n{_LINE}\n",
        f"te\txt\n\n{_LINE}\n",
        f"te\ud800xt\n\n{_LINE}\n",
        f"text\n\n- {_LINE[2:]}\n",
        f"text\n\n{_LINE} \n",
        f"text\n\n{_LINE} more\n",
        f"text\n\n{_LINE.replace('foo', 'f+o')}\n",
        f"text\n\n{_LINE.replace('foo', 'f' + chr(0x2003) + 'o')}\n",
        "text\n\n\u2014  Uw2QOkn8\n",
        "text\n\n\u2014 name \n",
        "text\n\n\u2014 name Uw2QOg==\n",  # an id without a signature
        "text\n\n\u2014 name Uw2QOkn8srV1\n=\n",
        f"{'x' * 1_000_000}\n\n{_LINE}\n",
        "text\n\n" + f"{_LINE}\n" * (MAX_SIGNATURES + 1),
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(MalformedNote):
        open_note(note, [VerifierKey.parse(VKEY)])


def test_sixteen_signatures_of_strangers_do_no_harm() -> None:
    strangers = [SigningKey.generate(f"stranger.example/{number}", KeyType.ML_DSA_44) for number in range(16)]
    note = sign_note(SEEN.text(), [*strangers, LOG], AT)
    assert open_note(note, [LOG.verifier]).by == (LOG.name,)


def test_a_text_that_can_be_no_note_is_not_signed() -> None:
    for text in ("no newline", "a\tb\n", "a\x00\n", ""):
        with pytest.raises(MalformedNote):
            sign_note(text, [LOG])


_LINES = st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), max_size=6)


@given(_LINES.map(lambda lines: "\n".join(lines) + "\n"))
def test_whatever_is_signed_is_opened_again(text: str) -> None:
    assert open_note(sign_note(text, [LOG]), [LOG.verifier]).text == text


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.type.name)
def test_a_vkey_is_read_as_it_was_printed(key: VerifierKey) -> None:
    assert VerifierKey.parse(str(key)) == VerifierKey.parse(f"  {key}\n") == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("foo", "bar"),
        VKEY.replace("foo", "f o"),
        VKEY.replace("example.com/foo", ""),
        VKEY[:-4],
        VKEY.replace("+Ae", "+Be"),
        f"{VKEY}+",
        "x+00000000+",
    ],
)
def test_a_vkey_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        VerifierKey.parse(text)


def test_a_private_key_is_never_printed() -> None:
    assert repr(LOG) == "SigningKey(log.example/1, ED25519)"
