"""A service's secrets: where they are looked for, and that no text says them."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from pydantic import ValidationError

from controller.adapters.edge_secrets import LARGEST_SECRET_BYTES, SecretSource, read_secrets, without_secrets
from controller.errors import Permanent

URL = "postgres://shop:p%40ss-w0rd@db.internal/shop"


async def value_of(**source: object) -> str:
    return (await read_secrets({"TOKEN": SecretSource.model_validate(source)}))["TOKEN"]


async def test_file_holds_the_value_and_a_last_line_end_is_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert await value_of(file=tmp_path / "token") == "s3cret"
    (tmp_path / "token").write_text("two\nlines\n\n")
    assert await value_of(file=tmp_path / "token") == "two\nlines\n"


async def test_stores_command_prints_the_value() -> None:
    assert await value_of(command=(sys.executable, "-c", "print('from the store')")) == "from the store"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\0b", "NUL"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (LARGEST_SECRET_BYTES + 1), "longer than"),
    ],
)
async def test_value_that_cannot_be_one_is_refused_by_name_and_never_shown(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(Permanent, match=f"service.secrets.TOKEN.*{said}") as refused:
        await value_of(file=tmp_path / "token")
    assert "xxx" not in str(refused.value)


async def test_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"service\.secrets\.TOKEN: .*/nowhere cannot be read \(No such file"):
        await value_of(file=tmp_path / "nowhere")
    with pytest.raises(Permanent, match=r"service\.secrets\.TOKEN: .* is not a file"):
        await value_of(file=tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [("raise SystemExit('s3cret')", "ended with exit code 1"), ("pass", "empty")],
)
async def test_store_that_refuses_is_named_and_what_it_says_is_not(code: str, said: str) -> None:
    with pytest.raises(Permanent, match=f"service.secrets.TOKEN.*{said}") as refused:
        await value_of(command=(sys.executable, "-c", code))
    assert "s3cret" not in str(refused.value)


async def test_store_that_prints_without_end_is_ended_at_the_bound() -> None:
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with pytest.raises(Permanent, match=r"service\.secrets\.TOKEN: the value is longer than"):
        await value_of(command=(sys.executable, "-c", endless))


async def test_store_that_is_not_there_is_named() -> None:
    with pytest.raises(Permanent, match=r"service\.secrets\.TOKEN: no-such-store cannot be started"):
        await value_of(command=("no-such-store",))


@pytest.mark.parametrize("source", [{}, {"file": "a", "command": ("b",)}])
def test_secret_has_exactly_one_source(source: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="neither one file nor one command"):
        SecretSource.model_validate(source)


@pytest.mark.parametrize(
    "spelled",
    [URL, "p%40ss-w0rd", "p@ss-w0rd", quote(URL, safe=""), base64.b64encode(URL.encode()).decode()],
)
def test_no_text_says_a_secret_in_any_usual_spelling(spelled: str) -> None:
    text = without_secrets(f"cannot connect with {spelled}: refused", {"DATABASE_URL": URL})
    assert spelled not in text
    assert "p@ss-w0rd" not in text
    assert "[secret DATABASE_URL]" in text
    assert text.endswith(": refused")


ODD = 'a/b+"c" & d<é>?~z'


@pytest.mark.parametrize(
    "spelled",
    [
        json.dumps(ODD)[1:-1],
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        quote(ODD),
        re.sub("%..", lambda found: found[0].lower(), quote(ODD)),
        quote_plus(ODD),
        html.escape(ODD),
        ODD.encode().hex(),
        ODD.encode().hex().upper(),
        base64.urlsafe_b64encode(ODD.encode()).decode().rstrip("="),
        *(base64.b64encode(f"{user}:{ODD}".encode()).decode() for user in ("a", "ab", "abc")),
    ],
)
def test_a_secret_with_odd_characters_is_found_in_every_spelling(spelled: str) -> None:
    text = without_secrets(f"refused: {spelled}", {"TOKEN": ODD})
    assert "[secret TOKEN]" in text
    assert len(text) < len("refused: [secret TOKEN]") + 12, text


def test_texts_of_a_key_file_in_json_are_taken_out_one_by_one() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END PRIVATE KEY-----\n"
    document = json.dumps({"type": "service_account", "keys": [{"private_key": key, "region": "eu"}]})
    text = without_secrets(f"bad key in eu:\n{key}\n{document}", {"ACCOUNT": document})
    assert "MIIEvQ" not in text
    assert text.startswith("bad key in eu:")


def test_lines_of_a_secret_are_taken_out_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"
    assert "MIIEv" not in without_secrets("bad line: MIIEvQIBADANBg", {"KEY": key})
    assert "MIIEv" not in without_secrets(repr(key), {"KEY": key})


def test_a_line_that_another_line_begins_with_leaves_nothing_of_the_longer_one() -> None:
    secrets = {"KEY": "hunter\nhunter-and-gatherer", "OTHER": "hunter-and-gatherer-too"}
    said = without_secrets("it is hunter-and-gatherer, or hunter-and-gatherer-too", secrets)
    assert said == "it is [secret KEY], or [secret OTHER]"


def test_secret_too_short_to_be_found_withholds_the_whole_text() -> None:
    assert without_secrets("pin 123 is wrong", {"PIN": "123"}).startswith("[withheld:")
    assert not without_secrets("", {"PIN": "123"})


def test_without_secrets_a_text_is_as_it_was() -> None:
    assert without_secrets("no such table: carts", {}) == "no such table: carts"
