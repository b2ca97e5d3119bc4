"""May this agent change every path of that commit, on this task? The gate asks before a branch moves.

The paths come from git's own trees, from where the commit left the branch that releases are made from, whatever the
verb or its caller says of them. The task and the protected files come from the session that stands behind the effect,
as the log knows it: the one whose stream it is for, or the one that a delivery's branch is named after. A delivery that
code makes by itself, such as a revert, has no task, and keeps to its role's grants and to what the repository protects.

Whether a run that has read outsiders' text may change a path is decided when its tools write it, and at git's door:
what it wrote before it read is no outsider's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from controller.adapters.grants import delivery_of
from controller.commit_paths import Ask, decide_commit, in_words
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Repository,
    StreamId,
    author_branch,
    session_behind,
    session_of,
)
from controller.domain.verbs import LandCommit, PushBranch, Verb
from controller.errors import PathRefused
from controller.gate import Grant
from controller.off_loop import Inline, Runner
from controller.ports import Badge, Forge, RepositoryConfig
from rbac.decide import Authority
from rbac.model import Decision, Request

INLINE = Inline()
BadgeOf = Callable[[str], Awaitable[Badge | None]]  # of a session; None: it has not begun, or stands no more


class CommitPaths:
    """`gate.Paths` over the grants and the forge."""

    def __init__(
        self,
        authority: Authority,
        forge: Forge,
        repositories: Mapping[Repository, RepositoryConfig],
        badge_of: BadgeOf,
        runner: Runner = INLINE,
    ) -> None:
        """`runner`: where the rules are asked."""
        self._runner = runner
        self._authority = authority
        self._forge = forge
        self._repositories = repositories
        self._badge_of = badge_of

    async def may_change(self, agent: str, verb: Verb, subject: StreamId) -> Grant | None:
        """None: the verb moves no branch. `Grant.reason` says what was decided. Raises PathRefused."""
        match verb:
            case PushBranch():
                base = await self._forge.tip(verb.repository, self._repository(verb.repository).branch)
            case LandCommit():
                base = verb.expect
            case _:
                return None
        return await self._decided(agent, verb, base, subject)

    async def _decided(
        self, agent: str, verb: PushBranch | LandCommit, base: Commit | None, subject: StreamId
    ) -> Grant:
        """`base=None`: there is no branch that releases are made from, so nothing can be told of a commit."""
        if base is None:
            raise PathRefused("there is no protected branch to compare it with", rules=("commit/no-base",))
        touched = await self._forge.touched(verb.repository, base, verb.commit)
        rules: dict[str, None] = {}
        tasks = await self._tasks(verb, subject)
        for task in tasks:
            ask = self._ask(agent, verb, subject, task)
            rules |= dict.fromkeys(await self._runner.run(decide_commit, touched, ask, ask))
        inside = next((task for task in tasks if task is not None), ())
        return Grant(True, tuple(rules), in_words(touched, inside))

    async def _tasks(self, verb: PushBranch | LandCommit, subject: StreamId) -> list[tuple[str, ...] | None]:
        """The paths that the task, and the task of everybody who lent authority, may change. None: there is no task."""
        session = session_behind(subject)
        own = session or (_session_of_branch(verb.branch, delivery_of(subject)) if isinstance(verb, PushBranch) else "")
        badge = await self._badge_of(own) if own else None
        if badge is None and session is not None:
            raise PathRefused("the session behind it stands no more", rules=("commit/no-session",))
        return [link.allowed for link in badge.chain] if badge is not None else [None]

    def _ask(self, agent: str, verb: PushBranch | LandCommit, subject: StreamId, task: tuple[str, ...] | None) -> Ask:
        request = Request(
            agent=agent,
            tool=verb.name,
            repository=verb.repository,
            branch=verb.branch,
            delivery=delivery_of(subject),
            task_paths=task,
            protected_paths=self._repository(verb.repository).protected,
        )

        def asked(paths: Sequence[str]) -> Decision:
            return self._authority.decide(request.model_copy(update={"paths": tuple(paths)}))

        return asked

    def _repository(self, name: Repository) -> RepositoryConfig:
        found = self._repositories.get(name)
        if found is None:
            raise PathRefused("this repository is not served here", rules=("unknown-repository",))
        return found


def paths_by(authority: Authority) -> Callable[[Forge, Mapping[Repository, RepositoryConfig], BadgeOf], CommitPaths]:
    """`CommitPaths` under these rules, for worlds that bring their own forge."""
    return lambda forge, repositories, badge_of: CommitPaths(authority, forge, repositories, badge_of)


def _session_of_branch(branch: Branch, delivery: str | None) -> str:
    """The session whose branch it is, by its name. "": it is none of this delivery's."""
    number = branch.rpartition("/")[2]
    if delivery is None or not number.isdecimal() or branch != author_branch(DeliveryId(delivery), int(number)):
        return ""
    return session_of(DeliveryId(delivery), int(number))
