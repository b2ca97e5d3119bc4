"""The simulated forge, platform and chat, as worlds.

Its telemetry takes no counts from anybody: it reckons them from who served when, so it is no world of that suite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from platform_worlds import PLATFORMS, Behaviour
from worlds import AT, CHATS, FORGES

from controller.domain.ids import Branch, Commit, Repository, Service
from controller.domain.verbs import PullRequest
from controller.sim.chat import SimChat
from controller.sim.clock import SimClock
from controller.sim.forge import SimForge
from controller.sim.platform import SimPlatform


@dataclass(frozen=True)
class SimForgeWorld:
    forge: SimForge = field(default_factory=SimForge)

    async def commit(
        self,
        repository: Repository,
        branch: Branch,
        files: Mapping[str, str | None],
        message: str,
        *,
        onto: Commit | None = None,
    ) -> Commit:
        return self.forge.commit(repository, branch, files, message, at=AT, onto=onto)

    async def files(self, repository: Repository, commit: Commit) -> dict[str, str]:
        return dict(self.forge.repository(repository).history.of(commit).tree)

    async def pull(self, repository: Repository, number: int) -> PullRequest:
        return self.forge.repository(repository).pull(number).result()

    async def comments(self, repository: Repository, number: int) -> list[str]:
        return [text for _, text in self.forge.repository(repository).pull(number).comments]


@dataclass(frozen=True)
class SimChatWorld:
    hands: SimChat = field(default_factory=SimChat)

    async def texts(self) -> Sequence[str]:
        return [tell.text for tell in self.hands.messages.values()]


SHOWN = {Behaviour.WELL: "", Behaviour.NEVER_HEALTHY: "DEAD", Behaviour.UNBUILDABLE: "UNBUILDABLE"}
LOOKS, LOOK_S = 1_000, 0.1


class SimPlatformWorld:
    service, environment, repository = Service("shop"), "production", Repository("shop")

    def __init__(self) -> None:
        self.clock, self.forge = SimClock(), SimForge()
        self.platform = SimPlatform(self.clock, self.forge, self.repository)
        self._commits = 0

    def now_ms(self) -> int:
        return self.clock.now_ms()

    async def commit(self, behaviour: Behaviour) -> Commit:
        self._commits += 1
        files = {"number": str(self._commits), "app.py": SHOWN[behaviour]}
        return self.forge.commit(self.repository, Branch("main"), files, "work", at=self.clock.now())

    async def traffic(self, requests: int) -> Counter[str]:
        status = await self.platform.status(self.service, self.environment)
        share = requests * status.weight_percent // 100
        told = Counter({status.confirmed_commit or "": requests - share})
        told[status.canary_commit or ""] += share
        return +told

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(LOOKS):
            if await look():
                return
            self.clock.advance(LOOK_S)
        raise AssertionError(what)

    async def close(self) -> None:
        """Nothing is open."""


async def sim_platform(_: Path) -> SimPlatformWorld:
    return SimPlatformWorld()


def sim_forge(_: Path) -> SimForgeWorld:
    return SimForgeWorld()


def sim_chat(_: Path) -> SimChatWorld:
    return SimChatWorld()


FORGES["sim"] = sim_forge
CHATS["sim"] = sim_chat
PLATFORMS["sim"] = sim_platform
