"""Where each session's tools work: the folder of its workspace, remembered when it is made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from controller.domain.ids import Commit, Repository
from controller.ports import Committed, Workspaces
from tools.belt import NotPossible


class KnownWorkspaces:
    """`ports.Workspaces` that remembers, for the tools, which folder it made for which session."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self._roots: dict[str, Path] = {}

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        root = await self._workspaces.create(session, repository, base)
        self._roots[session] = root
        return root

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        return await self._workspaces.commit(session, repository, base, message, at)

    async def discard(self, session: str) -> None:
        self._roots.pop(session, None)
        await self._workspaces.discard(session)

    def root(self, session: str) -> Path:
        """Raises NotPossible when the session has no workspace."""
        root = self._roots.get(session)
        if root is None:
            raise NotPossible("this session has no workspace")
        return root
