"""Secrets that a program would put together are found; words that look like parts of one are not."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from time import perf_counter

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found

from controller.facts.secrets_spelt import secrets_spelt

TOKEN = "ghp_" + "a1B2c3D4" * 5
CODED = base64.b64encode(TOKEN.encode()).decode()
URL_SAFE = base64.urlsafe_b64encode(b"of >>>??? " + TOKEN.encode()).decode()
assert {*"-_"} & {*URL_SAFE}


def kinds(text: str, before: str = "a = 1\n") -> list[tuple[str, int | None]]:
    analysis = found(changed("shop/a.py", before, before + text))
    return [(one.rule.removeprefix("secret/"), one.line) for one in analysis.secrets]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"N = '{TOKEN}'\n", 2),
        (f"N = '{TOKEN[:9]}' + '{TOKEN[9:]}'\n", 2),
        (f"N = (\n    '{TOKEN[:9]}'\n    '{TOKEN[9:]}'\n)\n", 3),
        (f"N = ''.join(['{TOKEN[:9]}', '{TOKEN[9:20]}', '{TOKEN[20:]}'])\n", 2),
        (f'const n = "{TOKEN[:9]}" +\n  "{TOKEN[9:]}";\n', 2),
        (f"N = b64decode('{CODED}')\n", 2),
        (f"N = urlsafe_b64decode('{URL_SAFE}')\n", 2),
        (f"N = bytes.fromhex('{TOKEN.encode().hex()}')\n", 2),
    ],
)
def test_a_token_in_pieces_or_coded_is_the_token(text: str, line: int) -> None:
    assert kinds(text) == [("github-token", line)]


@pytest.mark.parametrize(
    "text",
    [
        "N = ['ghp_', 'a1B2', 'c3D4']\n",
        f"N = b64decode('{base64.b64encode(b'nothing to see in these words at all').decode()}')\n",
        "DIGEST = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'\n",
        "N = 'a' + 'b'\n",
    ],
)
def test_what_is_no_secret_when_put_together_is_none(text: str) -> None:
    assert kinds(text) == []


def test_a_token_whose_first_half_was_there_is_in_the_change_that_brings_the_second() -> None:
    assert kinds(f"    '{TOKEN[9:]}'\n)\n", before=f"N = (\n    '{TOKEN[:9]}'\n") == [("github-token", 2)]
    assert kinds("b = 2\n", before=f"N = '{TOKEN}'\n") == []


def test_a_megabyte_of_strings_is_read_in_time() -> None:
    began = perf_counter()
    assert not list(secrets_spelt("'ab' + " * 150_000))
    assert perf_counter() - began < 10
