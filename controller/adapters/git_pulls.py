"""Pull requests that live in the git repository itself, so that the forge is a world of its own.

`refs/pull/<n>/meta` is a chain of commits without files: each message is the pull request's whole state as canonical
JSON, its parent the state before. `refs/pull/<n>/head` is the commit that it proposes. Two more refs name the opening
commit of a pull request: `refs/flyball/pull-of/<branch>` for the last one of a head branch (which is what makes a
second open one impossible), `refs/flyball/last-pull` for the highest number. Functions here read refs and write
objects; moving the refs is left to the caller, who moves all that belong together at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pygit2

from controller.adapters.git_refs import RefMove
from controller.adapters.git_store import Identity, ref_value
from controller.domain.base import Fact
from controller.domain.ids import Branch, Commit, EffectKey, canonical
from controller.domain.verbs import OpenPullRequest
from controller.errors import Permanent

MAX_COMMENTS = 500  # every update writes the whole state again; GitHub's limit is 2,500
MAX_TEXT_CHARACTERS = 65_536  # GitHub's limit for a body or a comment
LAST_PULL = "refs/flyball/last-pull"


class PullState(StrEnum):
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class Comment(Fact):
    key: EffectKey  # of the effect that wrote it
    text: str


class Pull(Fact):
    """A pull request, whole."""

    number: int
    key: EffectKey  # of the effect that opened it
    branch: Branch
    base: Branch
    head: Commit
    title: str
    body: str
    state: PullState = PullState.OPEN
    landed: Commit | None = None  # None: not merged
    close_reason: str | None = None  # None: not closed without merge
    comments: tuple[Comment, ...] = ()

    def comment_of(self, key: EffectKey) -> Comment | None:
        """None: this effect has not commented."""
        return next((comment for comment in self.comments if comment.key == key), None)


@dataclass(frozen=True, slots=True)
class Stored:
    """A pull request as read, with the commit that says so."""

    pull: Pull
    meta: Commit


def head_ref(number: int) -> str:
    return f"refs/pull/{number}/head"


def meta_ref(number: int) -> str:
    return f"refs/pull/{number}/meta"


def pull_of_ref(branch: Branch) -> str:
    return f"refs/flyball/pull-of/{branch}"


def stored(repository: pygit2.Repository, number: int) -> Stored | None:
    """None: there is no pull request of that number."""
    meta = ref_value(repository, meta_ref(number))
    return None if meta is None else Stored(_read(repository, meta), meta)


def last_of_branch(repository: pygit2.Repository, branch: Branch) -> Stored | None:
    """The newest pull request of a head branch, open or not. None: it never had one."""
    opening = ref_value(repository, pull_of_ref(branch))
    return None if opening is None else stored(repository, _read(repository, opening).number)


def open_of_branch(repository: pygit2.Repository, branch: Branch) -> Stored | None:
    found = last_of_branch(repository, branch)
    return found if found is not None and found.pull.state is PullState.OPEN else None


def last_number(repository: pygit2.Repository) -> int:
    """0: there is no pull request yet."""
    last = ref_value(repository, LAST_PULL)
    return 0 if last is None else _read(repository, last).number


def opening(
    repository: pygit2.Repository, key: EffectKey, verb: OpenPullRequest, by: Identity, at: datetime
) -> tuple[Pull, list[RefMove]]:
    """A new pull request and the ref moves that make it be, which all fail if somebody else opened one meanwhile."""
    last = ref_value(repository, LAST_PULL)
    number = last_number(repository) + 1
    pull = Pull(
        number=number, key=key, branch=verb.branch, base=verb.base, head=verb.head, title=verb.title, body=verb.body
    )
    meta = _write(repository, pull, [], by, at)
    return pull, [
        RefMove(head_ref(number), None, verb.head),
        RefMove(meta_ref(number), None, meta),
        RefMove(pull_of_ref(verb.branch), ref_value(repository, pull_of_ref(verb.branch)), meta),
        RefMove(LAST_PULL, last, meta),
    ]


def changing(repository: pygit2.Repository, before: Stored, after: Pull, by: Identity, at: datetime) -> list[RefMove]:
    """The ref moves that take a pull request from one state to the next."""
    meta = _write(repository, after, [before.meta], by, at)
    moves = [RefMove(meta_ref(after.number), before.meta, meta)]
    if after.head != before.pull.head:
        moves.append(RefMove(head_ref(after.number), before.pull.head, after.head))
    return moves


def checked_text(text: str, what: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise Permanent(f"{what} has {len(text)} characters, more than {MAX_TEXT_CHARACTERS}", "Shorten it")
    return text


def _read(repository: pygit2.Repository, meta: Commit) -> Pull:
    found = repository[meta]
    if not isinstance(found, pygit2.Commit):
        raise Permanent(f"{meta} should describe a pull request but is no commit", "Restore the ref that names it")
    return Pull.model_validate_json(found.message)


def _write(repository: pygit2.Repository, pull: Pull, parents: list[Commit], by: Identity, at: datetime) -> Commit:
    signature = by.signed(at)
    no_files = repository.TreeBuilder().write()
    message = canonical(pull.model_dump(mode="json")).decode()
    return Commit(str(repository.create_commit(None, signature, signature, message, no_files, list(parents))))
