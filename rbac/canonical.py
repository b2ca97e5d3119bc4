"""One spelling for every name, or no.

A policy that is asked about `src/../.github/x` answers for `src/` while the world acts on `.github/`. So nothing is
ever rewritten here: a name is either already in the one accepted spelling, and comes back as it is, or it is refused
with the id of the rule that it broke. What is accepted of a path is a documented set of ASCII characters (no percent or
tilde tricks) and the letters, marks and digits of every script in Unicode's composed form (NFC): nothing that is not
seen, nothing that is ASCII in another dress, no word of two scripts, and no look-alike of a name that means something.
Branches and configured names are ASCII. A file that is named otherwise is a person's to touch.

Messages name the rule and never repeat the value: a refused name is somebody's free text, and refusals are logged in
clear.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NoReturn

from controller.errors import Refused
from rbac.lookalikes import has_mixed_word, looks_like
from rbac.path_classes import classes_of

PATH_CHARACTERS = r"A-Za-z0-9 ._@+=,()\[\]-"
MAX_PATH, MAX_SEGMENT, MAX_BRANCH = 1024, 255, 200  # characters; the file systems' own bounds are 4096 and 255 bytes

MAX_SEGMENT_BYTES = 255  # of UTF-8, as file systems have it
LETTERS = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"})  # letters, marks and digits
# Letters and marks that draw nothing (Default_Ignorable_Code_Point), variation selectors and the blank braille cell.
UNSEEN = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0, 0x2800)) | {
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}

_PATH = re.compile(f"[/{PATH_CHARACTERS}]+")
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_BRANCH = re.compile(r"[A-Za-z0-9/._=@-]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_REF_ROOTS = frozenset(
    {"refs", "heads", "tags", "remotes", "notes", "stash"}
)  # git completes `heads/main` to `refs/heads/main`


def path(raw: str) -> str:
    """A repository-relative file path, exactly as given. Raises Refused."""
    if not raw or len(raw) > MAX_PATH:
        _refuse("path/length", f"a path has 1 to {MAX_PATH} characters, this one has {len(raw)}")
    if not is_spelt(raw.replace("/", "")):
        _refuse("path/characters", f"a path is made of [/{PATH_CHARACTERS}] and of letters, marks and digits")
    if raw.startswith("/"):
        _refuse("path/absolute", "a path is relative to the repository")
    for segment in raw.split("/"):
        _segment(segment)
    if not raw.isascii():
        _in_one_dress(raw)
    return raw


def is_spelt(text: str) -> bool:
    """Whether every character is one that a path may have. Empty: yes, for it has no other."""
    plain, beyond = _NOT_ASCII.sub("", text), _NOT_ASCII.findall(text)
    if plain and not _PATH.fullmatch(plain):
        return False
    # A mark on an ASCII character, or before any, has no composed form: it is drawn over a name and is none of it.
    return all(_is_letter(char) for run in beyond for char in run) and not any(_is_mark(run[0]) for run in beyond)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


@lru_cache(maxsize=8_192)
def _is_letter(char: str) -> bool:
    if unicodedata.category(char) not in LETTERS or ord(char) in UNSEEN:
        return False
    return not any(part.isascii() for part in unicodedata.normalize("NFKC", char))


def _in_one_dress(raw: str) -> None:
    """Letters beyond ASCII have one form, one script a word, and pass for no name that means something."""
    if not unicodedata.is_normalized("NFC", raw):
        _refuse("path/normal-form", "a path is in Unicode's composed form, NFC")
    if has_mixed_word(raw):
        _refuse("path/confusable", "a word of a path has letters of one script")
    shown = looks_like(raw)
    if ".git" in shown.split("/") or classes_of(shown) - classes_of(raw):
        _refuse("path/confusable", "a path does not look like a name that runs code, steers agents or holds secrets")


def _segment(segment: str) -> None:
    if not segment:
        _refuse("path/empty-segment", "a path has no empty segment and no trailing slash")
    if segment in {".", ".."}:
        _refuse("path/traversal", "a path has no dot segments")
    if len(segment) > MAX_SEGMENT or (not segment.isascii() and len(segment.encode()) > MAX_SEGMENT_BYTES):
        _refuse("path/length", f"a segment has at most {MAX_SEGMENT} characters")
    if segment[0] in " -" or segment[-1] in " .":
        # "-x" reads as an option; some file systems drop trailing dots and spaces, which makes "x." another name of "x"
        _refuse("path/segment-edges", "a segment starts with no dash or space and ends with no dot or space")
    if segment.casefold() == ".git":
        _refuse("path/git-directory", "git's own directory is no part of a change")


def branch(raw: str) -> str:
    """A branch's short name, by the rules of `git check-ref-format --branch` and stricter. Raises Refused."""
    if not raw or len(raw) > MAX_BRANCH:
        _refuse("branch/length", f"a branch has 1 to {MAX_BRANCH} characters, this one has {len(raw)}")
    if not _BRANCH.fullmatch(raw):
        _refuse("branch/characters", "a branch is made of [A-Za-z0-9/._=@-]")
    if raw.startswith("-"):
        _refuse("branch/option", "a branch starts with no dash")
    if ".." in raw or raw.endswith("."):
        _refuse("branch/dots", "a branch has no '..' and ends with no dot")
    segments = raw.split("/")
    if any(not part or part.startswith(".") or part.casefold().endswith(".lock") for part in segments):
        _refuse("branch/segment", "a branch's segments are not empty, start with no dot and do not end in .lock")
    if segments[0].casefold() in _REF_ROOTS or segments[0].upper().endswith("HEAD") or raw == "@":
        _refuse("branch/ref", "a branch is given by its short name, not as a ref")
    if _COMMIT.fullmatch(raw):
        _refuse("branch/commit", "a branch is not named like a commit")
    return raw


def repository(raw: str) -> str:
    """A repository's configured name. Raises Refused."""
    return _name("repository", raw)


def environment(raw: str) -> str:
    """An environment's configured name. Raises Refused."""
    return _name("environment", raw)


def delivery(raw: str) -> str:
    """A delivery's id, as one segment of a branch. Raises Refused."""
    return _name("delivery", raw)


def _name(what: str, raw: str) -> str:
    if not _NAME.fullmatch(raw) or ".." in raw or raw.endswith((".", ".git", ".lock")):
        _refuse(
            f"{what}/name",
            f"a {what}'s name is 1 to 120 of [a-z0-9._-], starts with one of [a-z0-9] and ends in no dot, .git, .lock",
        )
    return raw


def _refuse(rule: str, message: str) -> NoReturn:
    raise Refused(message, "Use the one plain spelling", rules=(rule,))
