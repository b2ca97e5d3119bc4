"""The forge on a folder of bare repositories: the first rung, which needs nothing installed but git.

Reading and merging happen in memory on any number of threads. What moves refs takes the repository's writer's lock,
looks at the world under it, and moves all the refs of one act in one transaction: a branch and the pull requests that
it carries cannot come apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pygit2

from controller.adapters import git_merges, git_notes, git_pulls
from controller.adapters.git_pulls import Comment, Pull, PullState, Stored
from controller.adapters.git_refs import RefMove, writing
from controller.adapters.git_store import FLYBALL, Identity, Store, branch_ref, commit_of, contains, ref_value
from controller.adapters.git_touched import touched
from controller.domain.base import Fact
from controller.domain.ids import Branch, Commit, EffectKey, Repository
from controller.domain.verbs import (
    AnnotateCommit,
    ClosePullRequest,
    CommentOnPullRequest,
    LandCommit,
    Ok,
    OpenPullRequest,
    PullRequest,
    PushBranch,
    Verb,
)
from controller.errors import Permanent
from controller.ports import Candidate, Change, Clock, Conflict, Touched

T = TypeVar("T")
Act = tuple[
    Fact, Sequence[RefMove]
]  # the verb's result, and what must move for it to be true; nothing: it is true already


class GitForge:
    """`Forge` and `Hands` for the forge's verbs. Safe to use from several processes on the same folder."""

    def __init__(
        self, root: Path, clock: Clock, identity: Identity = FLYBALL, clean: Callable[[str], str] = str
    ) -> None:
        """`clean` takes secrets out of the messages of commits that are made here."""
        self.store = Store(root)
        self._clock = clock
        self._by = identity
        self._clean = clean

    # --- looking ----------------------------------------------------------------------------------

    async def tip(self, repository: Repository, branch: Branch) -> Commit | None:
        return await self._look(repository, lambda repo: ref_value(repo, branch_ref(branch)))

    async def tree(self, repository: Repository, commit: Commit) -> str:
        return await self._look(repository, lambda repo: str(commit_of(repo, commit).tree_id))

    async def contains(self, repository: Repository, commit: Commit, ancestor: Commit) -> bool:
        return await self._look(repository, lambda repo: contains(repo, commit, ancestor))

    async def behind(self, repository: Repository, base: Commit, tip: Commit) -> int:
        return await self._look(repository, lambda repo: git_merges.behind(repo, base, tip))

    async def change(self, repository: Repository, base: Commit, head: Commit) -> Change:
        return await self._look(repository, lambda repo: git_merges.change(repo, base, head))

    async def touched(self, repository: Repository, base: Commit, head: Commit) -> Touched:
        return await asyncio.to_thread(touched, self.store.path(repository), base, head)

    async def diff(self, repository: Repository, base: Commit, head: Commit, limit_bytes: int) -> str:
        return await self._look(repository, lambda repo: git_merges.diff(repo, base, head, limit_bytes))

    async def pull_request_of(self, repository: Repository, branch: Branch) -> int | None:
        found = await self._look(repository, lambda repo: git_pulls.open_of_branch(repo, branch))
        return None if found is None else found.pull.number

    async def pull_request(self, repository: Repository, number: int) -> Pull | None:
        """The whole pull request, for pages and for people. None: there is none of that number."""
        found = await self._look(repository, lambda repo: git_pulls.stored(repo, number))
        return None if found is None else found.pull

    # --- making candidates ------------------------------------------------------------------------

    async def merge(
        self, repository: Repository, base: Commit, head: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        return await self._look(
            repository, lambda repo: git_merges.merge(repo, base, head, self._clean(message), by=self._by, at=at)
        )

    async def rebase(
        self, repository: Repository, base: Commit, head: Commit, onto: Commit, at: datetime
    ) -> Candidate | Conflict:
        return await self._look(repository, lambda repo: git_merges.rebase(repo, base, head, onto, by=self._by, at=at))

    async def revert(
        self, repository: Repository, bad: Commit, onto: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        return await self._look(
            repository, lambda repo: git_merges.revert(repo, bad, onto, self._clean(message), by=self._by, at=at)
        )

    # --- acting -----------------------------------------------------------------------------------

    async def act(self, key: EffectKey, verb: Verb) -> Fact:
        """Make it so. What is so already is left alone and its result returned."""
        match verb:
            case PushBranch():
                return await self._write(verb.repository, lambda repo: self._push(repo, verb))
            case OpenPullRequest():
                return await self._write(verb.repository, lambda repo: self._open(repo, key, verb))
            case LandCommit():
                return await self._write(verb.repository, lambda repo: self._land(repo, verb))
            case ClosePullRequest():
                return await self._write(verb.repository, lambda repo: self._close(repo, verb))
            case CommentOnPullRequest():
                return await self._write(verb.repository, lambda repo: self._comment(repo, key, verb))
            case AnnotateCommit():
                now = self._clock.now()
                return await self._write(verb.repository, lambda repo: git_notes.annotating(repo, verb, self._by, now))
            case _:
                raise TypeError(f"{verb.name} is no verb of the forge")

    async def find(self, key: EffectKey, verb: Verb) -> Fact | None:
        """None: it has not happened."""
        match verb:
            case PushBranch():
                return await self._look(verb.repository, lambda repo: _pushed(repo, verb))
            case OpenPullRequest():
                return await self._look(verb.repository, lambda repo: _opened(repo, key, verb))
            case LandCommit():
                return await self._look(verb.repository, lambda repo: _landed(repo, verb))
            case ClosePullRequest():
                return await self._look(verb.repository, lambda repo: _closed(repo, verb))
            case CommentOnPullRequest():
                return await self._look(verb.repository, lambda repo: _commented(repo, key, verb))
            case AnnotateCommit():
                return await self._look(verb.repository, lambda repo: git_notes.found(repo, verb))
            case _:
                raise TypeError(f"{verb.name} is no verb of the forge")

    def _push(self, repo: pygit2.Repository, verb: PushBranch) -> Act:
        commit_of(repo, verb.commit)
        tip = ref_value(repo, branch_ref(verb.branch))
        if tip != verb.commit and _pushed(repo, verb):
            return Ok(), ()
        if tip not in {verb.expect, verb.commit}:
            raise Permanent(
                f"branch {verb.branch} is at {tip or 'no commit'}, not at {verb.expect or 'no commit'}",
                "Look at what was pushed there, and push onto that",
            )
        moves = [] if tip == verb.commit else [RefMove(branch_ref(verb.branch), tip, verb.commit)]
        proposed = git_pulls.open_of_branch(repo, verb.branch)
        if proposed is not None and proposed.pull.head != verb.commit:
            moves += self._changed(repo, proposed, head=verb.commit)
        return Ok(), moves

    def _open(self, repo: pygit2.Repository, key: EffectKey, verb: OpenPullRequest) -> Act:
        found = _opened(repo, key, verb)
        if found is not None:
            return found, ()
        _must_be_at(repo, verb.branch, verb.head)
        _must_be_free(repo, verb)
        git_pulls.checked_text(verb.title, "the title")
        git_pulls.checked_text(verb.body, "the body")
        pull, moves = git_pulls.opening(repo, key, verb, self._by, self._clock.now())
        still_there = RefMove(branch_ref(verb.branch), verb.head, verb.head)
        return _as_result(pull), [*moves, still_there]

    def _land(self, repo: pygit2.Repository, verb: LandCommit) -> Act:
        tip = ref_value(repo, branch_ref(verb.branch))
        commit_of(repo, verb.commit)
        carried = [_carried(repo, verb, number) for number in verb.pull_requests]
        moves: list[RefMove] = []
        if tip is None or not contains(repo, tip, verb.commit):
            _must_be_at(repo, verb.branch, verb.expect)
            if not contains(repo, verb.commit, verb.expect):
                raise Permanent(
                    f"{verb.commit} does not descend from {verb.expect}", "Merge onto the branch's tip first"
                )
            moves.append(RefMove(branch_ref(verb.branch), verb.expect, verb.commit))
        for pull in carried:
            if pull.pull.state is PullState.OPEN:
                moves += self._changed(repo, pull, state=PullState.MERGED, landed=verb.commit)
        return Ok(), moves

    def _close(self, repo: pygit2.Repository, verb: ClosePullRequest) -> Act:
        found = _existing(repo, verb.number)
        match found.pull.state:
            case PullState.CLOSED:
                return Ok(), ()
            case PullState.MERGED:
                raise Permanent(f"pull request {verb.number} has been merged", "Revert it instead of closing it")
            case PullState.OPEN:
                reason = git_pulls.checked_text(verb.reason, "the reason")
                return Ok(), self._changed(repo, found, state=PullState.CLOSED, close_reason=reason)

    def _comment(self, repo: pygit2.Repository, key: EffectKey, verb: CommentOnPullRequest) -> Act:
        found = _existing(repo, verb.number)
        if found.pull.comment_of(key) is not None:
            return Ok(), ()
        if len(found.pull.comments) >= git_pulls.MAX_COMMENTS:
            raise Permanent(
                f"pull request {verb.number} has {git_pulls.MAX_COMMENTS} comments", "Tell it in chat instead"
            )
        comment = Comment(key=key, text=git_pulls.checked_text(verb.text, "the comment"))
        return Ok(), self._changed(repo, found, comments=(*found.pull.comments, comment))

    def _changed(self, repo: pygit2.Repository, before: Stored, **fields: object) -> list[RefMove]:
        after = before.pull.model_copy(update=fields)
        return git_pulls.changing(repo, before, after, self._by, self._clock.now())

    async def _look(self, repository: Repository, question: Callable[[pygit2.Repository], T]) -> T:
        return await asyncio.to_thread(lambda: question(self.store.open(repository)))

    async def _write(self, repository: Repository, plan: Callable[[pygit2.Repository], Act]) -> Fact:
        return await asyncio.to_thread(self._write_now, repository, plan)

    def _write_now(self, repository: Repository, plan: Callable[[pygit2.Repository], Act]) -> Fact:
        """Looks and moves under one lock, so what was seen is still true when it moves."""
        self.store.open(repository)
        with writing(self.store.path(repository)) as writer:
            result, moves = plan(self.store.open(repository))
            if moves:
                writer.move(moves)
            return result


# --- what has happened already --------------------------------------------------------------------


def _pushed(repo: pygit2.Repository, verb: PushBranch) -> Ok | None:
    """At the commit, or moved on from it. Still at `expect` is not pushed, even where that contains the commit."""
    tip = ref_value(repo, branch_ref(verb.branch))
    if tip is None or (tip == verb.expect and tip != verb.commit):
        return None
    return Ok() if contains(repo, tip, verb.commit) else None


def _opened(repo: pygit2.Repository, key: EffectKey, verb: OpenPullRequest) -> PullRequest | None:
    found = git_pulls.last_of_branch(repo, verb.branch)
    if found is None:
        return None
    same_act = found.pull.key == key
    same_thing = found.pull.state is PullState.OPEN and (found.pull.head, found.pull.base) == (verb.head, verb.base)
    return _as_result(found.pull) if same_act or same_thing else None


def _landed(repo: pygit2.Repository, verb: LandCommit) -> Ok | None:
    tip = ref_value(repo, branch_ref(verb.branch))
    if tip is None or not contains(repo, tip, verb.commit):
        return None
    pulls = [git_pulls.stored(repo, number) for number in verb.pull_requests]
    merged = all(found is not None and found.pull.state is PullState.MERGED for found in pulls)
    return Ok() if merged else None


def _closed(repo: pygit2.Repository, verb: ClosePullRequest) -> Ok | None:
    found = git_pulls.stored(repo, verb.number)
    return Ok() if found is not None and found.pull.state is PullState.CLOSED else None


def _commented(repo: pygit2.Repository, key: EffectKey, verb: CommentOnPullRequest) -> Ok | None:
    found = git_pulls.stored(repo, verb.number)
    return Ok() if found is not None and found.pull.comment_of(key) is not None else None


# --- what must be so ------------------------------------------------------------------------------


def _existing(repo: pygit2.Repository, number: int) -> Stored:
    found = git_pulls.stored(repo, number)
    if found is None:
        raise Permanent(f"there is no pull request {number}", "Open it first")
    return found


def _carried(repo: pygit2.Repository, verb: LandCommit, number: int) -> Stored:
    """An open one is merged only by a commit that holds all of its branch: somebody may have pushed since."""
    found = _existing(repo, number)
    if found.pull.state is PullState.CLOSED:
        raise Permanent(f"pull request {number} has been closed", "Leave it out of the landing")
    if found.pull.base != verb.branch:
        raise Permanent(f"pull request {number} is for {found.pull.base}, not {verb.branch}", "Land it there")
    head = ref_value(repo, branch_ref(found.pull.branch)) or found.pull.head
    if found.pull.state is PullState.OPEN and not contains(repo, verb.commit, head):
        raise Permanent(
            f"{verb.commit} does not contain {head}, the head of pull request {number}",
            "Merge and test that head first",
        )
    return found


def _must_be_free(repo: pygit2.Repository, verb: OpenPullRequest) -> None:
    if ref_value(repo, branch_ref(verb.base)) is None:
        raise Permanent(f"there is no branch {verb.base} to propose to", "Name a base branch that exists")
    other = git_pulls.open_of_branch(repo, verb.branch)
    if other is not None:
        raise Permanent(
            f"branch {verb.branch} has the open pull request {other.pull.number} for {other.pull.head}"
            f" onto {other.pull.base}",
            "Close that one, or push to its branch through the forge",
        )


def _must_be_at(repo: pygit2.Repository, branch: Branch, expect: Commit) -> None:
    tip = ref_value(repo, branch_ref(branch))
    if tip != expect:
        raise Permanent(
            f"branch {branch} is at {tip or 'no commit'}, not at {expect}", "Start again from where it is now"
        )


def _as_result(pull: Pull) -> PullRequest:
    return PullRequest(number=pull.number, head=pull.head, state=pull.state.value)
