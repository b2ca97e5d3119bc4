"""What the git door needs of git, as Protocols. Whatever fulfils them decides nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from controller.domain.ids import Branch, Commit, Repository
from controller.provenance.identity import GitIdentity

Tips = Mapping[str, Commit]  # full names of branches, and where they are


class RefCommand(Protocol):
    @property
    def old(self) -> Commit | None: ...  # None: the ref is to be made
    @property
    def new(self) -> Commit | None: ...  # None: the ref is to be deleted
    @property
    def ref(self) -> str: ...


class FetchRequest(Protocol):
    @property
    def wants(self) -> tuple[Commit, ...]: ...


class PushRequest(Protocol):
    @property
    def commands(self) -> Sequence[RefCommand]: ...
    @property
    def shallow(self) -> int: ...
    @property
    def pack(self) -> AsyncIterator[bytes]: ...


class Offer(Protocol):
    """A push whose objects lie in quarantine."""

    @property
    def request(self) -> str: ...  # sha256 in hex: the same push has the same
    @property
    def faults(self) -> Mapping[str, int]: ...
    @property
    def complaint(self) -> str: ...  # "": there is none
    @property
    def written(self) -> tuple[str, ...]: ...
    @property
    def deleted(self) -> tuple[str, ...]: ...
    @property
    def commits(self) -> int: ...
    async def keep(self) -> None: ...


class GitPlumbing(Protocol):
    """git over the wire, deciding nothing. `visible` are full names of refs; one also stands for those beneath it."""

    def protected(self, repository: Repository) -> Branch: ...
    async def tips(self, repository: Repository, visible: Sequence[str]) -> Tips: ...
    async def paths(self, repository: Repository, tips: Tips) -> frozenset[str]: ...
    async def unreached(
        self, repository: Repository, tips: Iterable[Commit], wanted: Sequence[Commit]
    ) -> tuple[Commit, ...]: ...
    def fetch_request(self, body: bytes) -> FetchRequest: ...
    async def push_request(self, chunks: AsyncIterator[bytes]) -> Any: ...
    def fetch_refused(self, words: str) -> bytes: ...
    def push_answered(self, commands: Any, words: str) -> bytes: ...
    def advertised(
        self, repository: Repository, visible: Sequence[str], tips: Tips, version: int
    ) -> AsyncGenerator[bytes]: ...
    def fetched(
        self, repository: Repository, visible: Sequence[str], tips: Tips, version: int, body: bytes
    ) -> AsyncGenerator[bytes]: ...
    def push_advertised(self, tips: Tips) -> bytes: ...
    def received(
        self, repository: Repository, tips: Tips, push: Any, by: GitIdentity
    ) -> AbstractAsyncContextManager[Offer]: ...
