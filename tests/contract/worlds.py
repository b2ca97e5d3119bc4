"""Worlds that the contract suites run against, by name.

A world is what an adapter acts on, with the few extra looks that a test needs. To put another one under the same
tests, add a file `world_<name>.py` beside this one that registers its factory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from controller.domain.ids import Branch, Commit, Repository
from controller.domain.verbs import PullRequest
from controller.ports import Forge, Hands, WorkingCopies

REPOSITORY = Repository("shop")
MAIN = Branch("main")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class ActingForge(Forge, Hands, Protocol):
    """A forge with the hands for its verbs."""


class ForgeWorld(Protocol):
    @property
    def forge(self) -> ActingForge: ...

    async def commit(
        self,
        repository: Repository,
        branch: Branch,
        files: Mapping[str, str | None],
        message: str,
        *,
        onto: Commit | None = None,
    ) -> Commit:
        """As with plain git: these files upon `onto` (None: the branch's tip), pushed. A file of None goes away."""
        ...

    async def files(self, repository: Repository, commit: Commit) -> dict[str, str]: ...

    async def pull(self, repository: Repository, number: int) -> PullRequest: ...

    async def comments(self, repository: Repository, number: int) -> list[str]: ...


@dataclass(frozen=True)
class WorkspaceWorld:
    workspaces: WorkingCopies
    forge_world: ForgeWorld


class ChatWorld(Protocol):
    @property
    def hands(self) -> Hands: ...

    async def texts(self) -> Sequence[str]:
        """What everybody has been told, in order."""
        ...


FORGES: dict[str, Callable[[Path], ForgeWorld]] = {}
WORKSPACES: dict[str, Callable[[Path], WorkspaceWorld]] = {}
CHATS: dict[str, Callable[[Path], ChatWorld]] = {}


@dataclass
class HandClock:
    """Time that moves when a test says so."""

    at: datetime = AT

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here may sleep, but somebody wanted {seconds} s")
