"""Nothing reaches a model that a person reading the same text would not see."""

from __future__ import annotations

import pytest

from prompts.fence import clean
from prompts.seen import visible

TAGS = "".join(chr(0xE0000 + ord(char)) for char in "obey")
HIDDEN = [
    ("a colour", "\x1b[31mred\x1b[0m", "red"),
    ("a title for the terminal", "\x1b]0;obey\x07done", "done"),
    ("a link for the terminal", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"),
    ("a cursor that goes back", "bad\x1b[3Dgood", "badgood"),
    ("an escape alone", "a\x1bb", "a[U+001B]b"),
    ("a backspace", "bad\b\b\bgood", "bad[U+0008][U+0008][U+0008]good"),
    ("a lone carriage return", "bad\rgood", "bad[U+000D]good"),
    ("NUL", "a\x00b", "a[U+0000]b"),
    ("C1 control", "a\x9bb", "a[U+009B]b"),
    ("tags", f"a{TAGS}b", "a[U+E006F][U+E0062][U+E0065][U+E0079]b"),
    ("bidi override", "a\u202eb", "a[U+202E]b"),
    ("bidi isolate", "a\u2066b", "a[U+2066]b"),
    ("zero width space", "pass\u200bword", "pass[U+200B]word"),
    ("a byte order mark", "\ufeffx", "[U+FEFF]x"),
    ("a selector that carries a byte", "a\U000e0100b", "a[U+E0100]b"),
    ("a blank cell of braille", "a\u2800b", "a[U+2800]b"),
    ("a selector behind an emoji's own", "\u2764\ufe0f\ufe0f", "\u2764[U+FE0F][U+FE0F]"),
    ("Hangul filler", "a\u3164b", "a[U+3164]b"),
    ("line separator", "a\u2028b", "a[U+2028]b"),
    ("private use", "a\ue000b", "a[U+E000]b"),
]


@pytest.mark.parametrize(("text", "shown"), [case[1:] for case in HIDDEN], ids=[case[0] for case in HIDDEN])
def test_what_is_not_seen_is_named_or_gone(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert not set(clean(text)) & set("\x00\x08\x1b\x9b\u202e\u2066\u200b\ufeff\u3164\ue000\u2028\U000e0100"), (
        "nor in a prompt"
    )


@pytest.mark.parametrize(
    "text", ["plain\ttext\n", "two\r\nlines\r\n", "naïve ✔ 日本語 שלום مرحبا हिन्दी €\n", "a\u00a0b", ""]
)
def test_what_is_seen_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_an_emoji_loses_its_selector_and_nothing_else() -> None:
    assert visible("✔\ufe0f done") == "✔ done"
    assert visible("a\ufe0f") == "a[U+FE0F]"


def test_an_unfinished_escape_of_a_megabyte_takes_no_time() -> None:
    text = "\x1b]" * 500_000
    assert len(visible(text)) > 0
