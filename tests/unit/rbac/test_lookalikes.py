"""Paths in every language, and no name that passes for another."""

# ruff: noqa: RUF001 - what looks alike is what is tested

from __future__ import annotations

import time

import pytest

from controller.errors import Refused
from rbac import canonical
from rbac.lookalikes import alike, has_mixed_word, twins
from rbac.patterns import matches

HONEST = [
    "src/café.py",
    "docs/naïve façade.md",
    "docs/Übersicht/Straße.md",
    "документы/платёж.py",
    "docs/ελληνικά.md",
    "docs/テスト結果_v2.txt",
    "docs/日本語abc.md",
    "文档/支付.py",
    "docs/한국어test.md",
    "docs/שלום.md",
    "docs/مرحبا.md",
    "docs/हिन्दी.md",
    "docs/ไทย.md",
    "src/ırmak.py",
    "src/Đồng.py",
    "src/сор.py",  # all of it Cyrillic, whatever it looks like
    "data/٣٤.csv",
]
DRESSED = [
    ("a word of two scripts", "src/pаyments/pay.py", "path/confusable"),
    ("Greek in Latin", "src/pαy.py", "path/confusable"),
    ("dotless i in CI's folder", ".gıthub/workflows/x.yml", "path/confusable"),
    ("a secret with a look-alike", "config/.еnv", "path/confusable"),
    ("agents' orders with a look-alike", "ΑGENTS.md", "path/confusable"),
    ("git's own directory", ".gıt/config", "path/confusable"),
    ("decomposed", "src/cafe\u0301.py", "path/characters"),
    ("decomposed, with another letter's mark", "src/ё\u0301".replace("ё", "е\u0308") + ".py", "path/normal-form"),
    ("a mark over a plain letter", "src/x\u0338.py", "path/characters"),
    ("fullwidth", "src/ｐａｙ.py", "path/characters"),
    ("long s", "src/paymentſ.py", "path/characters"),
    ("ligature", "src/ﬁle.py", "path/characters"),
    ("mathematical letters", "src/𝐩𝐚𝐲.py", "path/characters"),
    ("fraction slash", "src⁄pay.py", "path/characters"),
    ("division slash", "src∕pay.py", "path/characters"),
    ("one dot leader", "src/․․/x", "path/characters"),
    ("zero width joiner", "src/pa\u200dy.py", "path/characters"),
    ("right to left", "src/\u202eyp.yap", "path/characters"),
    ("isolate", "src/\u2066pay.py", "path/characters"),
    ("tag", "src/pay\U000e0041.py", "path/characters"),
    ("variation selector", "src/pay\ufe0f.py", "path/characters"),
    ("Hangul filler", "src/\u3164.py", "path/characters"),
    ("private use", "src/\ue000.py", "path/characters"),
    ("unassigned", "src/\U000e0fff.py", "path/characters"),
    ("a wide space", "src/a\u3000b.py", "path/characters"),
    ("an emoji", "src/🙂.py", "path/characters"),
]


@pytest.mark.parametrize("path", HONEST)
def test_letters_of_every_script_are_welcome(path: str) -> None:
    assert canonical.path(path) == path
    assert matches("**", path)
    assert matches(path, path)


@pytest.mark.parametrize(("path", "rule"), [case[1:] for case in DRESSED], ids=[case[0] for case in DRESSED])
def test_what_is_dressed_as_something_else_is_refused(path: str, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        canonical.path(path)
    assert refused.value.rules == (rule,)
    assert path not in str(refused.value)


def test_a_segment_has_at_most_as_many_bytes_as_a_file_system_holds() -> None:
    assert canonical.path("ж" * 127)
    with pytest.raises(Refused):
        canonical.path("ж" * 128)


ALIKE = [
    ("README.md", "readme.md"),
    ("Straße.md", "STRASSE.md"),
    ("сор.py", "cop.py"),
    ("Ι.py", "l.py"),
    ("カ.md", "力.md"),
    ("ırmak.py", "irmak.py"),
    ("файл.py", "Файл.py"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_of_one_folder_that_pass_for_each_other_are_found(one: str, other: str) -> None:
    assert alike(one, other)
    assert list(twins([one], [one, other])) == [one]
    assert list(twins([other], [one, other, "more.py"])) == [other]


@pytest.mark.parametrize(("one", "other"), [("l1.py", "ll.py"), ("O.py", "0.py"), ("café.py", "cafe.py"), ("a", "b")])
def test_names_that_a_reader_tells_apart_may_stand_together(one: str, other: str) -> None:
    assert not alike(one, other)
    assert list(twins([one, other], [one, other])) == []


def test_a_large_folder_takes_no_time() -> None:
    names = [f"модуль_{number}.py" for number in range(3_000)]
    before = time.process_time()
    assert list(twins(names, names)) == []
    assert time.process_time() - before < 5


@pytest.mark.parametrize("word", ["日本語abc", "한국어test", "mañana", "Đồng", "v2版本", "тест_test"])
def test_scripts_that_are_written_together_are_no_mixture(word: str) -> None:
    assert not has_mixed_word(word)
