"""Where attacks are played: the real gateway over the real desk, log, grants, forge and workspaces, and what may break.

Every call has a session of its own, so that no refusal counts against another call. What is arranged before a call is
data too: each verb of `before` is a row of attack_verbs, and is undone when the call is over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
from attack_corpus import Call, spelt_out
from attack_verbs import VERBS
from attack_wire import ANSWER_S, Answer, send
from belt_kit import SHOP, World

from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_workspace import run_in_workspace
from controller.adapters.sandbox import Sandbox
from controller.domain.ids import Branch, DeliveryId, author_branch, session_of
from controller.ports import Badge
from rbac.load import SHIPPED
from tools.gateway import Gateway

BEST = asyncio.run(Sandbox.best())
CONFIG = CiConfig(wall_s=60, environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),))
TESTS = {
    "tests/test_cart.py": "import pytest\n\n\nclass TestCart:\n    def test_total(self):\n        assert 1\n\n\n"
    '@pytest.mark.parametrize(("a", "b"), [(1, 2)])\ndef test_total(a, b):\n    assert True\n'
}
SECRET = "secret that nobody may read"  # noqa: S105 - what attacks are after
SECRETS = (SECRET, "total-secret")  # the second stands in a file that no grant lets an agent read
# As they stand within a text in JSON.
TEXTS = {
    "half_a_character": "\udcff",  # no text, in any encoding
    "checker_grants": json.dumps((SHIPPED / "grants" / "checker.yaml").read_text())[1:-1],
    "policy": json.dumps((SHIPPED / "policy" / "flyball.cedar").read_text())[1:-1],
}
# What looks like secrets, in parts, so that no scanner of this repository takes it for one.
IMITATED = {
    "github_token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "slack_token": "xoxb-" + "123456789012-1234567890123-" + "AbCdEfGhIjKlMnOpQrStUvWx",
    "aws_key": "AKIA" + "Q3EGJ5ZVWX2Y7LMN",
    "model_key": "sk-ant-api03-" + "Zx9" * 31 + "AA",
}
MOST_PULLS = 60


@dataclass
class Session:
    badge: Badge
    token: str
    root: Path


@dataclass
class Stage:
    world: World
    folder: Path
    gateway: Gateway
    url: str
    http: httpx2.AsyncClient
    other: Session
    sessions: int = 1
    undo: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    async def session(self) -> Session:
        self.sessions += 1
        return await _signed_in(self.world, self.sessions)

    def names(self, session: Session) -> dict[str, str]:
        host = self.url.split("/")[2]
        return {
            "url": self.url,
            "host": host,
            "port": host.split(":")[1],
            "token": session.token,
            "session": session.badge.session,
            "own": session.badge.branch,
            "others_token": self.other.token,
            "others_session": self.other.badge.session,
            "others_branch": self.other.badge.branch,
            "others_root": str(self.other.root),
            "outside": str(self.outside),
            "base": self.world.base,
            "secret": SECRET,
            **TEXTS,
            **IMITATED,
        }

    async def pull_requests(self) -> list[str]:
        """Every word of every pull request."""
        found = [await self.world.forge.pull_request(SHOP, number) for number in range(1, MOST_PULLS)]
        return [repr(pull) for pull in found if pull is not None]

    @asynccontextmanager
    async def arranged(self, call: Call, session: Session) -> AsyncIterator[None]:
        """Everything that stands in `before`, in order, until the end of the block."""
        async with AsyncExitStack() as self.undo:
            for step in call.before:
                await self._arrange(step, session)
            yield

    @asynccontextmanager
    async def broken(self, call: Call, session: Session) -> AsyncIterator[None]:
        async with AsyncExitStack() as self.undo:
            await self._arrange(call.broken, session)
            yield

    async def _arrange(self, steps: Mapping[str, Any], session: Session) -> None:
        for verb, value in steps.items():
            await VERBS[verb](self, session, spelt_out(value, self.names(session)))

    async def send(self, call: Call, session: Session) -> Answer:
        """The last answer, with the texts of all."""
        answers = [await send(self.http, call, self.names(session)) for _ in range(call.times)]
        return replace(answers[-1], text="\n".join(one.text for one in answers))


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    world = World(folder, run=_run, files=TESTS)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.txt").write_text(SECRET)
    gateway = Gateway(world.desk, world.toolbox)
    url = await gateway.start()
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=ANSWER_S) as http:
            yield Stage(world, folder, gateway, url, http, await _signed_in(world, 1))
    finally:
        await gateway.stop()


async def _run(root: Path, target: str) -> str:
    """As the embedded rung runs an agent's tests."""
    command = (*CONFIG.command, target) if target else ()
    return await run_in_workspace(root, command, sandbox=BEST, config=CONFIG)


async def _signed_in(world: World, number: int) -> Session:
    delivery = DeliveryId(f"shop-{number:06x}")
    session = session_of(delivery, 1)
    badge = replace(await world.begin(session), delivery=delivery, branch=Branch(author_branch(delivery, 1)))
    return Session(badge, world.desk.sign_in(badge), world.root(session))
