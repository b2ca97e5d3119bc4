"""A forge in memory, with a forge's manners.

Branches move by compare-and-swap, a pull request is one per branch, a landing is all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from controller.domain.base import Fact
from controller.domain.ids import Branch, Commit, EffectKey, Repository
from controller.domain.verbs import (
    AnnotateCommit,
    Annotated,
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
from controller.ports import Candidate, Change, Conflict, Touched
from controller.sim.history import History, SimCommit, changed_files, cut_to, diff_lines, lines_changed, tree_id
from controller.sim.merging import Tree, merge_trees

Counted = Callable[[EffectKey, Verb], None]


@dataclass(frozen=True, slots=True)
class SimPull:
    number: int
    branch: Branch
    head: Commit
    base: Branch
    key: EffectKey
    state: Literal["open", "merged", "closed"] = "open"
    comments: tuple[tuple[EffectKey, str], ...] = ()

    def result(self) -> PullRequest:
        return PullRequest(number=self.number, head=self.head, state=self.state)


@dataclass
class SimRepository:
    history: History
    branches: dict[Branch, Commit] = field(default_factory=dict)
    pulls: dict[int, SimPull] = field(default_factory=dict)
    statements: dict[Commit, str] = field(default_factory=dict)  # envelopes beside commits

    def open_pull(self, branch: Branch) -> SimPull | None:
        """None: there is no open one."""
        return next((p for p in self.pulls.values() if p.branch == branch and p.state == "open"), None)

    def pull(self, number: int) -> SimPull:
        found = self.pulls.get(number)
        if found is None:
            raise Permanent(f"there is no pull request {number}", "Open it first")
        return found

    def must_be_at(self, branch: Branch, expect: Commit) -> None:
        tip = self.branches.get(branch)
        if tip != expect:
            raise Permanent(f"branch {branch} is at {tip or 'no commit'}, not at {expect}", "Start again from there")


@dataclass
class SimForge:
    """`Forge`, and `Hands` for the forge's verbs. `counted` is told of every act that really changed something."""

    counted: Counted = lambda _key, _verb: None
    repositories: dict[Repository, SimRepository] = field(default_factory=dict)

    def repository(self, name: Repository) -> SimRepository:
        return self.repositories.setdefault(name, SimRepository(History(name)))

    def commit(
        self, name: Repository, branch: Branch, files: Mapping[str, str | None], message: str, *, at: datetime,
        onto: Commit | None = None,
    ) -> Commit:  # fmt: skip
        """As with plain git: these files upon `onto` (None: the branch's tip), pushed. A file of None goes away."""
        repository = self.repository(name)
        parent = onto or repository.branches.get(branch)
        tree = dict(repository.history.of(parent).tree) if parent else {}
        for path, text in files.items():
            tree.pop(path, None)
            if text is not None:
                tree[path] = text
        made = repository.history.make(tree, (parent,) if parent else (), message, at)
        repository.branches[branch] = made.id
        return made.id

    # --- looking -----------------------------------------------------------------------------------------------------

    async def tip(self, repository: Repository, branch: Branch) -> Commit | None:
        return self.repository(repository).branches.get(branch)

    async def tree(self, repository: Repository, commit: Commit) -> str:
        return tree_id(self.repository(repository).history.of(commit).tree)

    async def contains(self, repository: Repository, commit: Commit, ancestor: Commit) -> bool:
        return self.repository(repository).history.contains(commit, ancestor)

    async def behind(self, repository: Repository, base: Commit, tip: Commit) -> int:
        return self.repository(repository).history.between(base, tip)

    async def change(self, repository: Repository, base: Commit, head: Commit) -> Change:
        before, after = self._trees(repository, base, head)
        files = changed_files(before, after)
        return Change(files, sum(lines_changed(before, after, path) for path in files))

    async def touched(self, repository: Repository, base: Commit, head: Commit) -> Touched:
        """Against what it was made on: a simulated branch has one commit, and what lands is merged onto `base`."""
        history = self.repository(repository).history
        parents = history.of(head).parents
        before, after = history.of(parents[0] if parents else base).tree, history.of(head).tree
        files = changed_files(before, after)
        return Touched(
            tuple(path for path in files if path in after), tuple(path for path in files if path not in after)
        )

    async def diff(self, repository: Repository, base: Commit, head: Commit, limit_bytes: int) -> str:
        before, after = self._trees(repository, base, head)
        lines = [line for path in changed_files(before, after) for line in diff_lines(before, after, path)]
        return cut_to("".join(lines), limit_bytes)

    async def pull_request_of(self, repository: Repository, branch: Branch) -> int | None:
        found = self.repository(repository).open_pull(branch)
        return found.number if found else None

    # --- making candidates -------------------------------------------------------------------------------------------

    async def merge(
        self, repository: Repository, base: Commit, head: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        history = self.repository(repository).history
        common = history.common(base, head)
        was = common.tree if common else {}
        return self._made(history, was, history.of(base), history.of(head).tree, (base, head), message=message, at=at)

    async def rebase(
        self, repository: Repository, base: Commit, head: Commit, onto: Commit, at: datetime
    ) -> Candidate | Conflict:
        history = self.repository(repository).history
        mine, theirs = history.of(onto), history.of(head)
        return self._made(history, history.of(base).tree, mine, theirs.tree, (onto,), message=theirs.message, at=at)

    async def revert(
        self, repository: Repository, bad: Commit, onto: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        history = self.repository(repository).history
        undone = history.of(bad)
        before = history.of(undone.parents[0]).tree if undone.parents else {}
        return self._made(history, undone.tree, history.of(onto), before, (onto,), message=message, at=at)

    def _made(
        self, history: History, was: Tree, mine: SimCommit, theirs: Tree, parents: tuple[Commit, ...],
        *, message: str, at: datetime,
    ) -> Candidate | Conflict:  # fmt: skip
        tree, conflicts = merge_trees(was, mine.tree, theirs)
        if conflicts:
            return Conflict(conflicts)
        return Candidate(history.make(tree, parents, message, at).id, tree_id(tree))

    def _trees(self, repository: Repository, base: Commit, head: Commit) -> tuple[Tree, Tree]:
        history = self.repository(repository).history
        return history.of(base).tree, history.of(head).tree

    # --- acting ------------------------------------------------------------------------------------------------------

    async def act(self, key: EffectKey, verb: Verb) -> Fact:
        """Make it so. What is so already is left alone and its result returned."""
        match verb:
            case PushBranch():
                return self._push(key, verb)
            case OpenPullRequest():
                return self._open(key, verb)
            case LandCommit():
                return self._land(key, verb)
            case ClosePullRequest():
                return self._close(key, verb)
            case CommentOnPullRequest():
                return self._comment(key, verb)
            case AnnotateCommit():
                return self._annotate(key, verb)
            case _:
                raise TypeError(f"{verb.name} is no verb of the forge")

    async def find(self, key: EffectKey, verb: Verb) -> Fact | None:
        """None: it has not happened."""
        match verb:
            case PushBranch():
                return Ok() if self._pushed(verb) else None
            case OpenPullRequest():
                return self._opened(key, verb)
            case LandCommit():
                return Ok() if self._landed(verb) else None
            case ClosePullRequest():
                found = self.repository(verb.repository).pulls.get(verb.number)
                return Ok() if found is not None and found.state == "closed" else None
            case CommentOnPullRequest():
                found = self.repository(verb.repository).pulls.get(verb.number)
                return Ok() if found is not None and key in dict(found.comments) else None
            case AnnotateCommit():
                said = self.repository(verb.repository).statements.get(verb.commit)
                return self._annotated(verb) if said == verb.envelope else None
            case _:
                raise TypeError(f"{verb.name} is no verb of the forge")

    def _push(self, key: EffectKey, verb: PushBranch) -> Ok:
        repository = self.repository(verb.repository)
        repository.history.of(verb.commit)
        tip = repository.branches.get(verb.branch)
        if tip == verb.commit or self._pushed(verb):
            return Ok()
        if tip != verb.expect:
            raise Permanent(
                f"branch {verb.branch} is at {tip or 'no commit'}, not at {verb.expect or 'no commit'}",
                "Look at what was pushed there, and push onto that",
            )
        self.counted(key, verb)
        repository.branches[verb.branch] = verb.commit
        proposed = repository.open_pull(verb.branch)
        if proposed is not None:
            repository.pulls[proposed.number] = replace(proposed, head=verb.commit)
        return Ok()

    def _pushed(self, verb: PushBranch) -> bool:
        """At the commit, or moved on from it. Still at `expect` is not pushed, even where that contains the commit."""
        repository = self.repository(verb.repository)
        tip = repository.branches.get(verb.branch)
        if tip is None or (tip == verb.expect and tip != verb.commit):
            return False
        return repository.history.contains(tip, verb.commit)

    def _open(self, key: EffectKey, verb: OpenPullRequest) -> PullRequest:
        repository = self.repository(verb.repository)
        if (found := self._opened(key, verb)) is not None:
            return found
        repository.must_be_at(verb.branch, verb.head)
        if repository.open_pull(verb.branch) is not None:
            raise Permanent(f"branch {verb.branch} has an open pull request already", "Close that one first")
        self.counted(key, verb)
        pull = SimPull(len(repository.pulls) + 1, verb.branch, verb.head, verb.base, key)
        repository.pulls[pull.number] = pull
        return pull.result()

    def _opened(self, key: EffectKey, verb: OpenPullRequest) -> PullRequest | None:
        """The branch's newest, if this key opened it or it is open for the same thing. None: it is to be opened."""
        pulls = [p for p in self.repository(verb.repository).pulls.values() if p.branch == verb.branch]
        if not pulls:
            return None
        last = pulls[-1]
        same = last.state == "open" and (last.head, last.base) == (verb.head, verb.base)
        return last.result() if last.key == key or same else None

    def _land(self, key: EffectKey, verb: LandCommit) -> Ok:
        repository, history = self.repository(verb.repository), self.repository(verb.repository).history
        tip = repository.branches.get(verb.branch)
        carried = [self._carried(verb, number) for number in verb.pull_requests]
        if self._landed(verb):
            return Ok()
        if tip is None or not history.contains(tip, verb.commit):
            repository.must_be_at(verb.branch, verb.expect)
            if not history.contains(verb.commit, verb.expect):
                raise Permanent(f"{verb.commit} does not descend from {verb.expect}", "Merge onto the tip first")
            repository.branches[verb.branch] = verb.commit
        self.counted(key, verb)
        for pull in carried:
            repository.pulls[pull.number] = replace(pull, state="merged")
        return Ok()

    def _carried(self, verb: LandCommit, number: int) -> SimPull:
        repository = self.repository(verb.repository)
        pull = repository.pull(number)
        if pull.state == "closed":
            raise Permanent(f"pull request {number} has been closed", "Leave it out of the landing")
        head = repository.branches.get(pull.branch, pull.head)
        if pull.state == "open" and not repository.history.contains(verb.commit, head):
            raise Permanent(
                f"{verb.commit} does not contain {head}, the head of pull request {number}", "Test it first"
            )
        return pull

    def _landed(self, verb: LandCommit) -> bool:
        repository = self.repository(verb.repository)
        tip = repository.branches.get(verb.branch)
        if tip is None or not repository.history.contains(tip, verb.commit):
            return False
        pulls = [repository.pulls.get(number) for number in verb.pull_requests]
        return all(pull is not None and pull.state == "merged" for pull in pulls)

    def _close(self, key: EffectKey, verb: ClosePullRequest) -> Ok:
        repository = self.repository(verb.repository)
        pull = repository.pull(verb.number)
        if pull.state == "merged":
            raise Permanent(f"pull request {verb.number} has been merged", "Revert it instead of closing it")
        if pull.state == "open":
            self.counted(key, verb)
            repository.pulls[verb.number] = replace(pull, state="closed")
        return Ok()

    def _comment(self, key: EffectKey, verb: CommentOnPullRequest) -> Ok:
        repository = self.repository(verb.repository)
        pull = repository.pull(verb.number)
        if key not in dict(pull.comments):
            self.counted(key, verb)
            repository.pulls[verb.number] = replace(pull, comments=(*pull.comments, (key, verb.text)))
        return Ok()

    def _annotate(self, key: EffectKey, verb: AnnotateCommit) -> Annotated:
        repository, result = self.repository(verb.repository), self._annotated(verb)
        if repository.statements.get(verb.commit) != verb.envelope:
            self.counted(key, verb)
            repository.statements[verb.commit] = verb.envelope
        return result

    def _annotated(self, verb: AnnotateCommit) -> Annotated:
        """Its agents bring one commit each, with one parent."""
        history = self.repository(verb.repository).history
        history.of(verb.commit)
        added = 0
        for author in verb.authors:
            head = history.of(author.head)
            before: Tree = history.of(head.parents[0]).tree if head.parents else {}
            diffs = (diff_lines(before, head.tree, path)[2:] for path in changed_files(before, head.tree))
            added += sum(line.startswith("+") for lines in diffs for line in lines)
        return Annotated(agent_lines=added, commits=len({verb.commit, *(author.head for author in verb.authors)}))
