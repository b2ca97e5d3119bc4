"""Which names would a person take for one another? Unicode's own table of confusable characters (UTS 39) says.

Letters of every script are welcome; what is refused is a name that passes for another. A skeleton replaces each
character by the one that stands for all that look like it, so two names with one skeleton look alike. Among names in
ASCII only upper and lower case count, which some file systems do not tell apart: people tell `l1` from `ll` by reading.

The table and the scripts come from the package `confusable_homoglyphs` (Unicode 15.1), read when first needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

# Scripts that are written together, by UTS 39's "highly restrictive" profile; any other word is of one script.
TOGETHER = (
    frozenset({"LATIN", "HAN", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "HAN", "HANGUL"}),
    frozenset({"LATIN", "HAN", "BOPOMOFO"}),
)
ANY_SCRIPT = frozenset({"COMMON", "INHERITED"})
_AMBIGUOUS = re.compile("[|1I0O`]")  # what a prototype of an ASCII character replaces
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)


@lru_cache(maxsize=8_192)
def looks_like(name: str) -> str:
    """The name as ASCII shows it where it can, case aside. A name in ASCII is itself, in lower case."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    if folded.isascii():
        return folded
    prototypes = _prototypes()
    shown = (char if char.isascii() else prototypes.get(char, char) for char in folded)
    return unicodedata.normalize("NFC", "".join(shown)).casefold()


@lru_cache(maxsize=8_192)
def skeletons(name: str) -> frozenset[str]:
    """What the name looks like, as it stands and in lower case."""
    if name.isascii() and not _AMBIGUOUS.search(name):
        return frozenset({name, name.casefold()})
    prototypes = _prototypes()
    both = (unicodedata.normalize("NFD", one) for one in (name, name.casefold()))
    return frozenset("".join(prototypes.get(char, char) for char in one) for one in both)


def alike(one: str, other: str) -> bool:
    """Whether two different names of one folder pass for each other."""
    if looks_like(one) == looks_like(other):
        return True
    return not (one.isascii() and other.isascii()) and not skeletons(one).isdisjoint(skeletons(other))


def twins(new: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    """Those of the new names of a folder that pass for another name there. `there`: all of its names."""
    names = frozenset(there)
    looks, shapes = _by(names, lambda name: {looks_like(name)}), _by(names, skeletons)
    for name in new:
        others = looks.get(looks_like(name), set()) - {name}
        shaped = {other for shape in skeletons(name) for other in shapes.get(shape, ())} if not others else set()
        if others or any(not (name.isascii() and other.isascii()) for other in shaped - {name}):
            yield name


def _by(names: frozenset[str], keys: Callable[[str], Iterable[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in names:
        for key in keys(name):
            found.setdefault(key, set()).add(name)
    return found


def has_mixed_word(name: str) -> bool:
    """Whether some word of it has letters of scripts that nobody writes together, such as Latin and Cyrillic."""
    if name.isascii():
        return False
    return any(_is_mixed(word) for word in _WORD.findall(name))


def _is_mixed(word: str) -> bool:
    found = {_script(char) for char in word} - ANY_SCRIPT
    return len(found) > 1 and not any(found <= family for family in TOGETHER)


@lru_cache(maxsize=8_192)
def _script(char: str) -> str:
    from confusable_homoglyphs.categories import alias  # type: ignore[import-untyped]  # noqa: PLC0415 - reads a file

    return str(alias(char)).upper()


@lru_cache(maxsize=1)
def _prototypes() -> dict[str, str]:
    """Each confusable character with the one that stands for all of its kind: an ASCII letter where there is one."""
    from confusable_homoglyphs.confusables import confusables_data  # type: ignore[import-untyped]  # noqa: PLC0415

    parents: dict[str, str] = {}

    def root(text: str) -> str:
        while (parent := parents.setdefault(text, text)) != text:
            parents[text] = parents.setdefault(parent, parent)
            text = parent
        return text

    for text, others in confusables_data.items():
        for other in others:
            parents[root(text)] = root(other["c"])
    kinds: dict[str, list[str]] = {}
    for text in parents:
        kinds.setdefault(root(text), []).append(text)
    chosen = {name: min(members, key=_rank) for name, members in kinds.items()}
    return {text: chosen[root(text)] for text in list(parents) if len(text) == 1}


def _rank(text: str) -> tuple[bool, bool, bool, str]:
    """A lower-case ASCII letter before every other text."""
    return (len(text) > 1, not text.isascii(), not text.islower(), text)
