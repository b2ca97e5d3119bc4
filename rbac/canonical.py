"""One spelling for every name, or no.

A policy that is asked about `src/../.github/x` answers for `src/` while the world acts on `.github/`. So nothing is
ever rewritten here: a name is either already in the one accepted spelling, and comes back as it is, or it is refused
with the id of the rule that it broke. What is accepted is a documented set of ASCII characters (no look-alikes, no
second normal form, no percent or tilde tricks); a file that is named otherwise is a person's to touch.

Messages name the rule and never repeat the value: a refused name is somebody's free text, and refusals are logged in
clear.
"""

from __future__ import annotations

import re
from typing import NoReturn

from controller.errors import Refused

PATH_CHARACTERS = r"A-Za-z0-9 ._@+=,()\[\]-"
MAX_PATH, MAX_SEGMENT, MAX_BRANCH = 1024, 255, 200  # characters; the file systems' own bounds are 4096 and 255 bytes

_PATH = re.compile(f"[/{PATH_CHARACTERS}]+")
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
    if not _PATH.fullmatch(raw):
        _refuse("path/characters", f"a path is made of [/{PATH_CHARACTERS}]")
    if raw.startswith("/"):
        _refuse("path/absolute", "a path is relative to the repository")
    for segment in raw.split("/"):
        _segment(segment)
    return raw


def _segment(segment: str) -> None:
    if not segment:
        _refuse("path/empty-segment", "a path has no empty segment and no trailing slash")
    if segment in {".", ".."}:
        _refuse("path/traversal", "a path has no dot segments")
    if len(segment) > MAX_SEGMENT:
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
