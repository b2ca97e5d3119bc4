"""The embedded forge, its workspaces and the local outbox, as worlds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pygit2
from worlds import AT, CHATS, FORGES, MAIN, WORKSPACES, HandClock, WorkspaceWorld

from controller.adapters.chat_local import LocalChat
from controller.adapters.git import GitForge
from controller.adapters.git_store import Identity, create_bare, ref_value
from controller.adapters.git_workspaces import GitWorkspaces
from controller.domain.ids import Branch, Commit, Repository
from controller.domain.verbs import PullRequest

SOMEBODY = Identity("Somebody", "somebody@example.org")


@dataclass(frozen=True)
class GitWorld:
    forge: GitForge

    async def commit(
        self,
        repository: Repository,
        branch: Branch,
        files: Mapping[str, str | None],
        message: str,
        *,
        onto: Commit | None = None,
    ) -> Commit:
        return await asyncio.to_thread(self._commit, repository, branch, files, message, onto)

    def _commit(
        self, repository: Repository, branch: Branch, files: Mapping[str, str | None], message: str, onto: Commit | None
    ) -> Commit:
        store = self.forge.store
        if not store.exists(repository):
            create_bare(store.path(repository), MAIN)
        repo = store.open(repository)
        parent = onto or ref_value(repo, f"refs/heads/{branch}")
        index = pygit2.Index()
        if parent is not None:
            index.read_tree(repo[parent].peel(pygit2.Tree))
        for path, text in files.items():
            if text is None:
                index.remove(path)
            else:
                index.add(pygit2.IndexEntry(path, repo.create_blob(text.encode()), pygit2.enums.FileMode.BLOB))
        who, tree = SOMEBODY.signed(AT), index.write_tree(repo)
        commit = repo.create_commit(None, who, who, message, tree, [parent] if parent else [])
        repo.references.create(f"refs/heads/{branch}", commit, force=True)
        return Commit(str(commit))

    async def files(self, repository: Repository, commit: Commit) -> dict[str, str]:
        repo = self.forge.store.open(repository)
        index = pygit2.Index()
        index.read_tree(repo[commit].peel(pygit2.Tree))
        return {entry.path: repo[entry.id].peel(pygit2.Blob).data.decode() for entry in index}

    async def pull(self, repository: Repository, number: int) -> PullRequest:
        found = await self.forge.pull_request(repository, number)
        assert found is not None
        return PullRequest(number=number, head=found.head, state=found.state.value)

    async def comments(self, repository: Repository, number: int) -> list[str]:
        found = await self.forge.pull_request(repository, number)
        assert found is not None
        return [comment.text for comment in found.comments]


@dataclass(frozen=True)
class LocalChatWorld:
    hands: LocalChat

    async def texts(self) -> Sequence[str]:
        return [message.text for message in await self.hands.messages()]


def git_world(root: Path) -> GitWorld:
    return GitWorld(GitForge(root / "forge", HandClock()))


def git_workspaces(root: Path) -> WorkspaceWorld:
    world = git_world(root)
    return WorkspaceWorld(GitWorkspaces(root / "work", world.forge.store), world)


FORGES["git"] = git_world
WORKSPACES["git"] = git_workspaces
CHATS["local"] = lambda root: LocalChatWorld(LocalChat(root / "out" / "messages.jsonl", HandClock()))
