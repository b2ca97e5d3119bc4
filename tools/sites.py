"""Where each session's tools work: the folder of its workspace, remembered when it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path

from controller.domain.ids import CLIENTS, Commit, Repository
from controller.ports import Badge, Committed, LeftOut, RunCopy, WorkingCopies
from tools.belt import NotPossible


class KnownWorkspaces:
    """`ports.Workspaces` that remembers, for the tools, which folder it made for which session."""

    def __init__(self, workspaces: WorkingCopies, clean: Callable[[str], str] = str) -> None:
        """`clean` takes secrets out of a commit's message."""
        self._workspaces = workspaces
        self._clean = clean
        self._roots: dict[str, Path] = {}
        self._making = asyncio.Lock()

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        root = await self._workspaces.create(session, repository, base)
        self._roots[session] = root
        return root

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        return await self._workspaces.commit(session, repository, base, self._clean(message), at)

    async def kept(self, session: str) -> Path | None:
        return await self._workspaces.kept(session)

    async def discard(self, session: str) -> None:
        self._roots.pop(session, None)
        await self._workspaces.discard(session)

    def run_copy(self, root: Path, left_out: LeftOut) -> AbstractAsyncContextManager[RunCopy]:
        return self._workspaces.run_copy(root, left_out)

    async def ignored(self, repository: Repository, base: Commit, paths: Sequence[str]) -> frozenset[str]:
        return await self._workspaces.ignored(repository, base, paths)

    def root(self, session: str) -> Path:
        """Raises NotPossible when the session has no workspace."""
        root = self._roots.get(session)
        if root is None:
            raise NotPossible("this session has no workspace")
        return root

    async def root_of(self, badge: Badge) -> Path:
        """The same; a program outside gets its workspace with its first call, and finds it again after a restart."""
        if badge.session in self._roots or not badge.session.startswith(CLIENTS):
            return self.root(badge.session)
        async with self._making:
            if badge.session not in self._roots:
                kept = await self._workspaces.kept(badge.session)
                self._roots[badge.session] = kept or await self.create(badge.session, badge.repository, badge.base)
        return self.root(badge.session)
