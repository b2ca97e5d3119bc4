"""Flyball's gateway as it is served: tokens, limits, grants, Cedar, the record; log and blobs synced to the disk.

`python ours.py <folder> <text file> [tools]` prints a line of JSON once it listens: its URL, and the tokens of
a session, of spare ones, and of a program outside.
The text stands in the session's workspace as src/bench.txt. With `tools`, that many are on the session's belt, the rest
of them granted to its role as tools of a mounted server. Calls that wait for their record are written down ten times a
second, as turns are.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fixtures")]

import belt_kit  # noqa: E402 - the fixtures' folder is named above
from belt_kit import BY, DELIVERY, SESSION, STREAM, ZERO, World  # noqa: E402

from controller.domain.bounds import Bounds  # noqa: E402
from controller.domain.entry import Draft  # noqa: E402
from controller.domain.events import ClientSessionStarted, TurnRecorded  # noqa: E402
from controller.domain.ids import client_session, session_of  # noqa: E402
from controller.ledger.blobs import FileBlobs  # noqa: E402
from controller.ledger.sqlite import SqliteLog  # noqa: E402
from controller.ports import Receipt  # noqa: E402
from rbac.catalogue import Direction, Need, mount_scope  # noqa: E402
from rbac.catalogue import Tool as Catalogued  # noqa: E402
from rbac.decide import Authority  # noqa: E402
from rbac.load import SHIPPED  # noqa: E402
from rbac.model import Served  # noqa: E402
from tools.belt import Tool  # noqa: E402
from tools.gateway import Gateway  # noqa: E402
from tools.toolbox import Toolbox  # noqa: E402

RECORDED_EVERY_S = 0.1
ATTEMPTS = 100
CALLS_A_TURN = 40  # an entry has at most 64 KiB
SESSIONS = 40  # the first makes calls without end; an effect of which a session may have 100 goes through the others
PLENTY = 10**9  # calls a minute: the limiter counts each of them, and stops none
GRANT = """
  - name: bench
    tools: [{names}]
    repositories: ["*"]
"""


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _log(path: Path | str, clock: WallClock, *, inline: bool) -> SqliteLog:
    """As a controller opens it: with a thread that commits in groups, which tests do without."""
    del inline
    return SqliteLog(path, clock)


def _blobs(folder: Path, *, durable: bool) -> FileBlobs:
    del durable
    return FileBlobs(folder)


def _authority(folder: Path, names: list[str]) -> Authority:
    """The shipped rules, and the author may use these tools too."""
    rules = folder / "rules"
    for part in ("grants", "policy"):
        shutil.copytree(SHIPPED / part, rules / part)
    if names:
        with (rules / "grants" / "author.yaml").open("a") as grants:
            grants.write(GRANT.format(names=", ".join(names)))
    tool = Catalogued(Direction.SAFE, frozenset({Need.REPOSITORY}), scope=mount_scope("bench"), reads=True)
    served = [Served(repository=name, branch="main") for name in ("shop", "billing")]
    return Authority(served, rules, dict.fromkeys(names, tool))


def _world(folder: Path, names: list[str]) -> World:
    authority = _authority(folder, names)
    real: dict[str, Callable[..., Any]] = {
        "Clock": WallClock, "SqliteLog": _log, "FileBlobs": _blobs, "_authority": lambda: authority,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, made in real.items():
            stack.enter_context(patch.object(belt_kit, name, made))
        bounds = Bounds(session_calls_per_minute=PLENTY, role_calls_per_minute=PLENTY)
        return World(folder, bounds=bounds, log_path=folder / "log.db")


def _toolbox(world: World, names: list[str], wanted: int) -> Toolbox:
    """Of `wanted` visible tools, if a number is asked for: the session's own and as many more as it takes."""
    own = list(world.toolbox._tools.values())  # noqa: SLF001 - nobody else takes a toolbox apart
    seen = len(world.desk.visible(world.badge(), [tool.definition for tool in own]))
    like = replace(world.definitions["read_file"], path_arguments=(), repository_argument=None)
    more = [Tool(replace(like, name=name), own[0].run) for name in names[: max(0, wanted - seen)]]
    return Toolbox(world.desk, [*own, *more], result_bytes=world.bounds.tool_result_bytes)


async def _record_turns(world: World, counted_as: int) -> None:
    turn = 0
    while True:
        await asyncio.sleep(RECORDED_EVERY_S)
        if calls := await world.desk.turn_records(SESSION, counted_as):
            for at in range(0, len(calls), CALLS_A_TURN):
                turn += 1
                some = calls[at : at + CALLS_A_TURN]
                await _appended(world, TurnRecorded(turn=turn, reply=ZERO, calls=some, tainted=False))


async def _appended(world: World, event: TurnRecorded) -> None:
    """After whatever the session's own calls append to its stream meanwhile."""
    for _ in range(ATTEMPTS):
        row = await world.log.stream(STREAM)
        expect = {STREAM: row.version if row else 0}
        if isinstance(await world.log.append([Draft(STREAM, event)], expect=expect, by=BY), Receipt):
            return
    raise RuntimeError(f"{ATTEMPTS} appends lost their race")


async def _outside(world: World) -> str:
    """The token of a program outside, which counts no turns: the desk itself writes its calls down."""
    session = client_session("bench", 1)
    badge = replace(world.badge(session), role="contributor", scopes=frozenset({"workspace:read", "workspace:write"}))
    begun = ClientSessionStarted(
        client="bench",
        role=badge.role,
        repository=badge.repository,
        base=badge.base,
        branch=badge.branch,
        scopes=tuple(sorted(badge.scopes or ())),
        allowed_paths=badge.allowed,
        on_behalf_of=badge.on_behalf_of,
        parent=None,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    await world.add(badge.stream, begun)
    root = await world.workspaces.create(session, badge.repository, badge.base)
    await asyncio.to_thread((root / "src" / "bench.txt").write_text, (world.root() / "src" / "bench.txt").read_text())
    return world.desk.sign_in(badge, seconds=86_400)


async def served(folder: Path, text: str, wanted: int) -> None:
    names = [f"bench__tool_{number}" for number in range(wanted)]
    world = _world(folder, names)
    token, *spare = [world.desk.sign_in(await world.begin(session_of(DELIVERY, n))) for n in range(1, SESSIONS + 1)]
    (world.root() / "src" / "bench.txt").write_text(text)
    outside = await _outside(world)
    gateway = Gateway(world.desk, _toolbox(world, names, wanted))
    url = await gateway.start()
    print(json.dumps({"url": url, "token": token, "spare": spare, "outside": outside}), flush=True)
    await _record_turns(world, gateway.turn)


if __name__ == "__main__":
    listed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    asyncio.run(served(Path(sys.argv[1]), Path(sys.argv[2]).read_text(), listed))
