# ruff: noqa: ARG002 - the ports say which arguments there are
"""A world for sessions: a real log, blobs and seals, and at the edge a working copy, a gate and a model with memory.

Every step across the edge and every append ticks; `die_at` makes the process die at one tick, before or after it took
effect.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.adapters.scripted_book import Conversation, Said, ToolCall, read_conversation
from controller.adapters.scripted_wire import check_request, message_of
from controller.agents.parts import SessionParts, SessionProgress
from controller.agents.prompt import Prompt, write_prompt
from controller.agents.session import Checkpoints, SessionRunner
from controller.domain.bounds import Bounds
from controller.domain.entry import Caller, Draft, Entry
from controller.domain.events import CallRecord, CallRefused, Event, Label, ReplyRecorded, SessionStarted
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    Repository,
    SessionId,
    StreamId,
    digest_bytes,
    digest_of,
    session_stream,
)
from controller.domain.money import Usage
from controller.errors import Permanent
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Allowed, Committed, Denied, ModelReply, ModelRequest, ToolResult, ToolSpec

BASE_FILES = {"shop/pricing.py": "PERCENT = 0\n", "ci/run": "pytest\n"}
EFFECTS = frozenset({"git_push"})
CONTAINED = frozenset({"edit_file", "write_file", "run_tests"})
READS = frozenset({"list_files", "read_file"})
KNOWN = EFFECTS | CONTAINED | READS
BASE = Commit("b" * 40)
SESSION = SessionId("shop-1a2b3c/1")
BOUNDS = Bounds()
START = datetime(2026, 11, 22, 9, tzinfo=UTC)
BY = Caller("service:controller", Digest("sha256:" + "0" * 64))

Says = Callable[[Conversation], Said | ModelReply | Exception]


class Died(BaseException):
    """The process is gone: nothing may catch this."""


@dataclass
class MovableClock:
    time: datetime = START

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class Tick:
    die_at: int = -1  # never
    count: int = 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count - 1 == self.die_at:
            raise Died


@dataclass
class Outside:
    """What outlives a process."""

    pushed: dict[str, str] = field(default_factory=dict)  # by effect key
    trees: dict[str, dict[str, str]] = field(default_factory=dict)  # by session
    paid: list[int] = field(default_factory=list)  # turns the model was asked for, in order
    commits: list[dict[str, str]] = field(default_factory=list)  # trees, in order


class Copies:
    def __init__(self, outside: Outside, tick: Tick) -> None:
        self._outside, self._tick = outside, tick

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        self._tick()
        self._outside.trees[session] = dict(BASE_FILES)
        return Path(session)

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        self._tick()
        tree = self._outside.trees[session]
        self._outside.commits.append(dict(tree))
        changed = tuple(sorted(path for path in tree if BASE_FILES.get(path) != tree[path]))
        if "link" in tree:
            raise Permanent("link is a symbolic link that was added", "Leave it out")
        text = repr((base, sorted(tree.items()), message))
        return Committed(Commit(hashlib.sha1(text.encode()).hexdigest()), changed, len(changed)) if changed else None  # noqa: S324

    async def kept(self, session: str) -> Path | None:
        return Path(session) if session in self._outside.trees else None

    async def discard(self, session: str) -> None:
        self._outside.trees.pop(session, None)


class Gatekeeper:
    """Desk and belt in one, as far as a session sees them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[int, list[tuple[CallRecord, str]]] = {}
        self._tainted = False
        self.called: list[str] = []

    async def belt(self, session: str, role: str) -> Gatekeeper:
        self._world.tick()
        return self

    async def close(self) -> None:
        self._kept.clear()

    async def tools(self) -> list[ToolSpec]:
        return [ToolSpec(name, f"{name}.", {"type": "object"}) for name in sorted(KNOWN)]

    async def call(self, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult:
        self._world.tick()
        self.called.append(name)
        result = await self._outcome(name, arguments, turn, index)
        self._keep(name, arguments, turn, index, result)
        self._world.tick()
        return result

    async def _outcome(self, name: str, arguments: Mapping[str, Any], turn: int, index: int) -> ToolResult:
        if name not in KNOWN or arguments.get("path") == "ci/run" or arguments.get("branch") == "main":
            await self._refuse(name, arguments, turn)
            return ToolResult(f"{name} is not allowed. This is final.", error=True, refused=True)
        tree = self._world.outside.trees[SESSION]
        return self._done(tree, name, arguments, f"{SESSION}/{turn}/{index}")

    def _done(self, tree: dict[str, str], name: str, arguments: Mapping[str, Any], key: str) -> ToolResult:  # noqa: PLR0911 - one a tool
        match name:
            case "list_files":
                return ToolResult("\n".join(sorted(tree)))
            case "read_file":
                text = tree.get(arguments["path"])
                return ToolResult(text or "There is no such file.", error=text is None)
            case "write_file":
                tree[arguments["path"]] = arguments["content"]
                return ToolResult(f"Wrote {arguments['path']}.")
            case "edit_file":
                return self._edit(tree, arguments)
            case "run_tests":
                broken = any("BROKEN" in text for text in tree.values())
                return ToolResult("failed: 2 passed, 1 failed" if broken else "passed: 3 passed, 0 failed")
            case _:
                self._world.outside.pushed.setdefault(key, arguments["branch"])
                return ToolResult("Pushed.")

    def _edit(self, tree: dict[str, str], arguments: Mapping[str, Any]) -> ToolResult:
        path, old = arguments["path"], arguments["old"]
        if tree.get(path, "").count(old) != 1:
            return ToolResult(f"{path} does not hold that text once.", error=True)
        tree[path] = tree[path].replace(old, arguments["new"])
        return ToolResult(f"Edited {path}.")

    async def _refuse(self, name: str, arguments: Mapping[str, Any], turn: int) -> None:
        log, stream = self._world.log, session_stream(SESSION)
        entries = await log.read(stream)
        count = sum(isinstance(entry.event, CallRefused) for entry in entries) + 1
        event = CallRefused(
            turn=turn, tool=name, args=digest_of(arguments), rules=("no",), reason="not allowed", count=count
        )
        await log.append([Draft(stream, event)], expect={stream: len(entries)}, by=BY)

    def _keep(self, name: str, arguments: Mapping[str, Any], turn: int, index: int, result: ToolResult) -> None:
        record = CallRecord(
            index=index,
            tool=name,
            tool_class="effect" if name in EFFECTS else "contained" if name in CONTAINED else "read",
            args=digest_of(arguments),
            allowed=not result.refused,
            rules=("yes",),
            result=None if result.refused else digest_bytes(result.text.encode()),
            error=result.error,
        )
        self._kept.setdefault(turn, []).append((record, result.text))

    async def may_commit(self, session: str, files: Sequence[str], *, turn: int, index: int) -> Allowed | Denied:
        del session, index
        if "ci/slipped-in" not in files:
            return Allowed({}, ("yes",))
        await self._refuse("git_push", {"files": list(files)}, turn)
        return Denied("ci/slipped-in may not be changed", ("no",))

    async def turn_records(self, session: str, turn: int) -> tuple[CallRecord, ...]:
        kept = self._kept.pop(turn, [])
        return tuple(
            [record.model_copy(update={"result_sealed": await self._world.seals.seal(text)}) for record, text in kept]
        )

    def taint(self, session: str) -> None:
        self._tainted = True

    def tainted(self, session: str) -> bool:
        return self._tainted


class PlayedModel:
    """Says what a function of the conversation says; takes only what the API would, and counts what it is paid for."""

    label = Label.SCRIPTED

    def __init__(self, world: World) -> None:
        self._world = world
        self.requests: list[ModelRequest] = []

    async def reply(self, request: ModelRequest) -> ModelReply:
        self._world.tick()
        body = {"model": request.model, "max_tokens": request.max_tokens, "messages": list(request.messages)}
        check_request(body | {"system": request.system})
        recorded = [event.turn for event in await self._world.events() if isinstance(event, ReplyRecorded)]
        assert request.turn not in recorded, f"turn {request.turn} has been paid for already"
        self.requests.append(request)
        said = self._world.says(read_conversation(body | {"system": request.system}))
        if isinstance(said, Exception):
            raise said
        self._world.outside.paid.append(request.turn)
        self._world.tick()
        if isinstance(said, ModelReply):
            return said
        message = message_of(body, said)
        usage = Usage(input_tokens=100, output_tokens=50)
        return ModelReply(message.content, message.stop_reason, usage, message.model, message.id, self.label)


class World:
    """One log and one outside; `runner` is a process that may die, and may be made anew."""

    def __init__(self, folder: Path, says: Says, bounds: Bounds = BOUNDS) -> None:
        self.clock = MovableClock()
        self.bounds = bounds
        self.says = says
        self.tick = Tick()
        self.outside = Outside()
        self.progress: list[SessionProgress] = []
        self.log = SqliteLog(":memory:", self.clock, inline=True, before_append=self._tick, after_append=self._tick)
        self.blobs = FileBlobs(folder / "blobs", durable=False)
        self.seals = LocalSeals(folder / "keys", self.blobs)
        self.gate = Gatekeeper(self)
        self.model = PlayedModel(self)

    def _tick(self, *_: object) -> None:
        self.tick()

    def runner(self, checkpoints: Checkpoints | None = None) -> SessionRunner:
        self.gate = Gatekeeper(self)
        parts = SessionParts(
            log=self.log,
            blobs=self.blobs,
            seals=self.seals,
            clock=self.clock,
            model=self.model,
            tools=self.gate,
            desk=self.gate,  # type: ignore[arg-type] # as much of a desk as a session needs
            workspaces=Copies(self.outside, self.tick),
            bounds=self.bounds,
            caller=BY,
            on_progress=self.progress.append,
            retry_wait_s=0.0,
        )
        return SessionRunner(parts, checkpoints)

    async def start(
        self, *, user: str = "Give 5 % off.", tainted: bool = False, model: str = "claude-sonnet-5-5"
    ) -> None:
        text = write_prompt(Prompt(system="You are careful.", user=user))
        event = SessionStarted(
            delivery=DeliveryId("shop-1a2b3c"),
            iteration=1,
            role="author",
            repository=Repository("shop"),
            base=BASE,
            branch=Branch("agent/shop-1a2b3c/1"),
            model=model,
            label=Label.SCRIPTED,
            prompt_digest=digest_bytes(text.encode()),
            prompt=await self.seals.seal(text),
            tools=tuple(sorted(KNOWN)),
            tools_digest=digest_of({}),
            tainted=tainted,
            allowed_paths=("**",),
        )
        await self.say(session_stream(SESSION), event)

    async def say(self, stream: StreamId, event: Event) -> None:
        row = await self.log.stream(stream)
        await self.log.append([Draft(stream, event)], expect={stream: row.version if row else 0}, by=BY)

    async def entries(self) -> list[Entry]:
        return await self.log.read(session_stream(SESSION))

    async def events(self) -> list[Event]:
        return [entry.event for entry in await self.entries() if isinstance(entry.event, Event)]


def calling(*calls: tuple[str, dict[str, Any]]) -> Said:
    return Said("", tuple(ToolCall(tool=tool, arguments=arguments) for tool, arguments in calls))


EDIT = ("edit_file", {"path": "shop/pricing.py", "old": "PERCENT = 0", "new": "PERCENT = 5"})
AGAIN = ("edit_file", {"path": "shop/pricing.py", "old": "PERCENT = 5", "new": "PERCENT = 5  # percent"})
ADD = ("write_file", {"path": "tests/test_discount.py", "content": "assert True\n"})
PUSH = ("git_push", {"branch": "agent/shop-1a2b3c/1"})
FORBIDDEN = ("edit_file", {"path": "ci/run", "old": "pytest", "new": "true"})
TO_MAIN = ("git_push", {"branch": "main"})


def saying(*said: Said | ModelReply | Exception) -> Says:
    """One after the other, by how many replies with calls the conversation holds; the last one again and again."""

    def says(talk: Conversation) -> Said | ModelReply | Exception:
        return said[min(len(talk.exchanges), len(said) - 1)]

    return says


def in_turn(*said: Said | ModelReply | Exception) -> Says:
    """One after the other, whatever the conversation is; the last one again and again."""
    line = itertools.chain(said, itertools.repeat(said[-1]))
    return lambda _: next(line)


WHOLE_TASK = saying(
    calling(("list_files", {}), ("read_file", {"path": "shop/pricing.py"})),
    calling(EDIT, AGAIN),
    calling(ADD, FORBIDDEN),
    calling(("run_tests", {}), PUSH),
    Said("Carts get 5 % off.\n\nTests pass."),
)
