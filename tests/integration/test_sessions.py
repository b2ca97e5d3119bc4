"""A session over real parts: HTTP, the desk and its grants, git, tests that run, a log on disk, processes that die."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import NoCi

from controller.adapters.anthropic_ import AnthropicModel
from controller.adapters.git import GitForge
from controller.adapters.git_import import import_repository
from controller.adapters.git_store import Store
from controller.adapters.git_workspaces import GitWorkspaces
from controller.adapters.limits import SharedLimits
from controller.adapters.scripted_book import AttemptsScript, ScriptBook, ToolCall, task_script
from controller.adapters.scripted_messages import ScriptedServer
from controller.adapters.unserved import NoService
from controller.agents.parts import Left, SessionParts, SessionProgress
from controller.agents.prompt import Prompt, write_prompt
from controller.agents.session import SessionRunner, checkpoints_in
from controller.desk import SessionDesk
from controller.domain.bounds import Bounds
from controller.domain.entry import Caller, Draft
from controller.domain.events import (
    CallRefused,
    Event,
    Label,
    ReplyRecorded,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    Repository,
    SessionId,
    digest_bytes,
    session_stream,
)
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Badge, RepositoryConfig
from controller.requests import AgentRequests
from rbac.decide import Authority
from rbac.model import Served
from tools.catalogue import toolbelt
from tools.local import LocalTools
from tools.sites import KnownWorkspaces
from tools.toolbox import Toolbox

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOP = Repository("shop")
MAIN = Branch("main")
SESSION = SessionId("shop-1a2b3c/1")
BRANCH = Branch("agent/shop-1a2b3c/1")
BY = Caller("service:controller", Digest("sha256:" + "0" * 64))
TASK = task_script(EXAMPLES / "shop_tasks" / "good.yaml")
MISCHIEF = AttemptsScript(
    match="do as you like",
    attempts=(
        ToolCall(tool="write_file", arguments={"path": ".ci/run", "content": "true"}),
        ToolCall(tool="write_file", arguments={"path": "../outside.py", "content": "x"}),
        ToolCall(tool="read_file", arguments={"path": "README.md", "repository": "payroll"}),
        ToolCall(tool="git_push", arguments={"branch": "main"}),
        ToolCall(tool="write_file", arguments={"path": "shop/note.py", "content": '"""Allowed."""\n'}),
    ),
)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class NoGate:
    """None of these sessions gets as far as an effect."""

    async def act(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("an effect was asked for")

    async def blocked(self, *_: Any, **__: Any) -> None:
        return None


async def run_tests(folder: Path, target: str) -> str:
    """The tests of what is changed here; the shop's others start servers."""
    targets = [target] if target else ["tests/test_pricing.py", "tests/test_volume_discount.py"]
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *targets)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return f"{'failed' if process.returncode else 'passed'}: {output.decode()[-2_000:]}"


class Parts:
    """One process's parts over what lies in `folder`."""

    def __init__(self, folder: Path, address: str) -> None:
        clock = SystemClock()
        self.log = SqliteLog(folder / "log.db", clock)
        self.blobs = FileBlobs(folder / "blobs")
        self.seals = LocalSeals(folder / "keys", self.blobs)
        self.store = Store(folder / "repositories")
        self.model = AnthropicModel("a-key-that-opens-nothing", base_url=address, label=Label.SCRIPTED)
        self.bounds = Bounds()
        copies = KnownWorkspaces(GitWorkspaces(folder / "copies", self.store))
        authority = Authority([Served(repository="shop", branch="main")])
        desk = SessionDesk(
            log=self.log,
            seals=self.seals,
            authority=authority,
            bounds=self.bounds,
            clock=clock,
            limits=SharedLimits(folder / "limits.db", clock),
        )
        shop, main = Repository("shop"), Branch("main")
        repositories = {shop: RepositoryConfig(shop, main, "scripted", protected=(), allowed=("**",))}
        belts = toolbelt(
            gate=NoGate(),
            workspaces=copies,
            desk=desk,
            log=self.log,
            seals=self.seals,
            run_in_workspace=run_tests,
            clock=clock,
            forge=GitForge(folder / "repositories", clock),
            ci=NoCi(),
            platform=NoService(),
            telemetry=NoService(),
            requests=AgentRequests(
                log=self.log, seals=self.seals, policy=lambda: Digest(authority.digest), bounds=self.bounds
            ),
            authority=authority,
            repositories=repositories,
            bounds=self.bounds,
        )
        self.tool_names = tuple(tool.definition.name for tool in belts)
        toolbox = Toolbox(desk, belts, result_bytes=self.bounds.tool_result_bytes)
        parts = SessionParts(
            log=self.log,
            blobs=self.blobs,
            seals=self.seals,
            clock=clock,
            model=self.model,
            tools=LocalTools(desk, toolbox, self._badge),
            desk=desk,
            workspaces=copies,
            bounds=self.bounds,
            caller=BY,
            on_progress=_tell,
        )
        self.runner = SessionRunner(parts, checkpoints_in(folder / "checkpoints.db"))

    async def _badge(self, session: str) -> Badge:
        started = (await self.log.read(session_stream(SessionId(session))))[0].event
        assert isinstance(started, SessionStarted)
        return Badge(
            session=session,
            role=started.role,
            delivery=started.delivery,
            repository=started.repository,
            branch=started.branch,
            base=started.base,
            allowed=started.allowed_paths,
            protected=(".ci/**",),
            on_behalf_of="person:1",
            tainted=started.tainted,
        )

    async def start(self, base: Commit, user: str) -> None:
        text = write_prompt(Prompt(system="You change one repository.", user=user))
        event = SessionStarted(
            delivery=DeliveryId("shop-1a2b3c"),
            iteration=1,
            role="author",
            repository=SHOP,
            base=base,
            branch=BRANCH,
            model="claude-sonnet-5-5",
            label=Label.SCRIPTED,
            prompt_digest=digest_bytes(text.encode()),
            prompt=await self.seals.seal(text),
            tools=self.tool_names,
            tools_digest=digest_bytes(b""),
            tainted=False,
            allowed_paths=("**",),
        )
        stream = session_stream(SESSION)
        await self.log.append([Draft(stream, event)], expect={stream: 0}, by=BY)

    async def events(self) -> list[Event]:
        entries = await self.log.read(session_stream(SESSION))
        return [entry.event for entry in entries if isinstance(entry.event, Event)]

    async def close(self) -> None:
        await self.model.close()
        self.log.close()


def _tell(progress: SessionProgress) -> None:
    sys.stdout.write(f"{progress.doing} {progress.turn}\n")
    sys.stdout.flush()


@pytest.fixture
def address() -> Iterator[str]:
    server = ScriptedServer(ScriptBook(scripts=(MISCHIEF, TASK)))
    yield server.start()
    server.stop()


@pytest.fixture
def base(tmp_path: Path) -> Commit:
    """The shop as a person's repository, taken into the forge of `tmp_path`."""
    source = tmp_path / "shop"
    shutil.copytree(EXAMPLES / "shop", source, ignore=shutil.ignore_patterns(".*_cache", "__pycache__"))
    commit = ("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "The shop")
    for command in (("init", "-qb", "main"), ("add", "-A"), commit):
        subprocess.run(["git", "-C", str(source), *command], check=True)
    return import_repository(Store(tmp_path / "repositories"), SHOP, source, MAIN)


async def test_task_file_becomes_a_tested_commit(tmp_path: Path, address: str, base: Commit) -> None:
    parts = Parts(tmp_path, address)
    await parts.start(base, f"Round 1.\n\n<request>\n{TASK.task}\n</request>")
    assert await parts.runner.run(SESSION) is Left.ENDED
    end = (await parts.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.tainted) == ("done", False)
    assert end.files == ("README.md", "shop/pricing.py", "tests/test_volume_discount.py")
    commit: Any = parts.store.open(SHOP)[end.head or ""]
    assert [str(parent) for parent in commit.parent_ids] == [base]
    assert commit.message.startswith("Carts with a subtotal of 100.00 EUR or more get 5 % off.")
    assert "\nAgent-Session: shop-1a2b3c/1\n" in commit.message
    replies = [event for event in await parts.events() if isinstance(event, ReplyRecorded)]
    assert {reply.label for reply in replies} == {Label.SCRIPTED}
    await parts.close()


async def test_mischief_is_refused_call_by_call_and_reported(tmp_path: Path, address: str, base: Commit) -> None:
    parts = Parts(tmp_path, address)
    await parts.start(base, "Here you may do as you like.")
    assert await parts.runner.run(SESSION) is Left.ENDED
    events = await parts.events()
    assert [event.tool for event in events if isinstance(event, CallRefused)] == [
        "write_file",
        "write_file",
        "read_file",
        "git_push",
    ]
    end = events[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.files) == ("done", ("shop/note.py",))
    assert end.summary is not None
    assert (await parts.seals.open(end.summary)).count("refused") >= 4
    await parts.close()


@pytest.mark.parametrize("moment", ["acting 2", "asking 4", "acting 5"])
async def test_killed_process_is_taken_up_by_the_next_one(
    tmp_path: Path, address: str, base: Commit, moment: str
) -> None:
    parts = Parts(tmp_path, address)
    await parts.start(base, TASK.task)
    await asyncio.to_thread(_run_and_kill, tmp_path, address, moment)
    assert await parts.runner.run(SESSION) is Left.ENDED
    events = await parts.events()
    end = events[-1]
    assert isinstance(end, SessionEnded)
    assert end.outcome == "done"
    assert end.files == ("README.md", "shop/pricing.py", "tests/test_volume_discount.py")
    turns = [event.turn for event in events if isinstance(event, ReplyRecorded)]
    assert turns == list(range(len(turns)))
    assert sum(isinstance(event, SessionResumed) for event in events) == 1
    await parts.close()


def _run_and_kill(folder: Path, address: str, moment: str) -> None:
    """A process of its own drives the session and is killed as soon as it says that it is there."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, __file__, str(folder), address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        reached = any(line.strip() == moment for line in process.stdout)
        process.kill()
    assert reached, f"it never came to {moment!r}"


async def _drive(folder: Path, address: str) -> None:
    await Parts(folder, address).runner.run(SESSION)


if __name__ == "__main__":
    signal.alarm(60)
    asyncio.run(_drive(Path(sys.argv[1]), sys.argv[2]))
