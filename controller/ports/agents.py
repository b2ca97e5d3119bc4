"""What surrounds an agent session: its working copy, its tools, its model, and the desk that decides its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from controller.domain.events import Label
from controller.domain.ids import Branch, Commit, Repository, StreamId, agent_stream
from controller.domain.money import Usage
from controller.ports.forge import Touched


@dataclass(frozen=True, slots=True)
class Committed:
    head: Commit
    files: tuple[str, ...]
    lines_changed: int
    left_out: tuple[str, ...] = ()  # new files that the base's .gitignore names: no change holds them


@dataclass(frozen=True, slots=True)
class RunCopy:
    """A throwaway copy of a working copy, for a run. What is written there is gone when the run is over."""

    folder: Path
    left_out: tuple[str, ...]  # files that the session may not read


LeftOut = Callable[[Sequence[str]], Awaitable[frozenset[str]]]  # which of these files a copy is to be made without


class RunCopies(Protocol):
    def run_copy(self, root: Path, left_out: LeftOut) -> AbstractAsyncContextManager[RunCopy]:
        """A copy of the working copy at `root`, for as long as the block lasts. Raises Permanent past the bounds."""
        ...


class Workspaces(Protocol):
    """Disposable working copies for agent sessions.

    What happens in one stays in it until it is committed into the forge.
    """

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        """A fresh tree at `base`; whatever an earlier process left there is thrown away."""
        ...

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        """The tree as one commit on `base`, in the forge's object store, no ref moved. None: nothing was changed.

        Never runs anything that the tree brings along (hooks, filters, fsmonitor). Raises Permanent on a symlink or
        submodule that was added.
        """
        ...

    async def kept(self, session: str) -> Path | None:
        """The tree as an earlier process left it: only for sessions that nobody can replay. None: there is none."""
        ...

    async def discard(self, session: str) -> None: ...


class WorkingCopies(Workspaces, RunCopies, Protocol):
    """Working copies that are on disk, so that code can run in copies of them."""

    async def ignored(self, repository: Repository, base: Commit, paths: Sequence[str]) -> frozenset[str]:
        """Those of the paths that `base` does not have and its .gitignore files name."""
        ...


@dataclass(frozen=True, slots=True)
class ToolSpec:
    name: str
    description: str
    input_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    text: str
    error: bool = False
    refused: bool = False


class Belt(Protocol):
    """The tools of one session, as its token lets it see them."""

    async def tools(self) -> list[ToolSpec]: ...

    async def call(self, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult: ...

    async def close(self) -> None: ...


class Tools(Protocol):
    async def belt(self, session: str, role: str) -> Belt:
        """Opens the session's belt under an identity and token of its own."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    model: str
    system: str
    messages: Sequence[Mapping[str, Any]]  # Messages API shape
    tools: Sequence[ToolSpec]
    max_tokens: int
    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class ModelReply:
    content: Sequence[Mapping[str, Any]]  # Messages API content blocks
    stop_reason: str
    usage: Usage
    model: str
    request_id: str
    label: Label


class Model(Protocol):
    @property
    def label(self) -> Label: ...

    async def reply(self, request: ModelRequest) -> ModelReply:
        """Raises Unavailable (stalled, overloaded, cut off: worth another try) or Permanent (the request was wrong)."""
        ...


@dataclass(frozen=True, slots=True)
class Badge:
    """Who a session is and where it may work, as the gate knows it. Its token is stored only as a hash.

    What it may do is what its role's grants, its scopes, its task and every badge of its chain of parents allow.
    """

    session: str  # "<delivery>/<iteration>", or "client.<name>/<n>" of a program outside
    role: str
    delivery: str
    repository: Repository
    branch: Branch  # the one branch it may push
    base: Commit
    allowed: tuple[str, ...]
    protected: tuple[str, ...]
    on_behalf_of: str
    tainted: bool = False
    scopes: frozenset[str] | None = None  # None: of Flyball's own sessions, whose grants are narrowed by no token
    parent: Badge | None = None  # None: nobody lent it authority but the loop or a person

    @property
    def principal(self) -> str:
        """As entries name it: a role in one session, never the person who asked."""
        return f"agent:{self.role}/{self.session}"

    @property
    def stream(self) -> StreamId:
        return agent_stream(self.session)

    @property
    def chain(self) -> tuple[Badge, ...]:
        """The badge itself and everyone whose authority it was lent, nearest first."""
        return (self, *(self.parent.chain if self.parent else ()))


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may happen, on exactly these canonical arguments."""

    arguments: Mapping[str, Any]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing happened. `reason` is what the agent is told; unknown and forbidden read the same."""

    reason: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """One tool as the gate knows it."""

    name: str
    description: str
    input_schema: Mapping[str, Any]  # JSON schema, additionalProperties false
    tool_class: str  # "effect" | "contained" | "read"
    path_arguments: tuple[str, ...] = ()  # arguments that are repository-relative paths
    repository_argument: str | None = None  # None: always the session's own repository
    branch_argument: str | None = None  # None: no branch is named
    environment_argument: str | None = None  # None: no environment is named


class Desk(Protocol):
    """The gate's agent side: sessions sign in, and every call is decided.

    The decisions of a turn are handed to whoever records it.
    """

    def sign_in(self, badge: Badge, *, seconds: int | None = None) -> str:
        """A bearer token for this session, good until it signs out or `seconds` have passed.

        None: as long as a session may take. Raises ConfigError for a life of nothing, or of more than a day.
        """
        ...

    def badge(self, token: str) -> Badge | None:
        """None: no live session of this process has this token."""
        ...

    async def authenticated(self, token: str) -> Badge | None:
        """The same, for tokens of programs outside too, which any controller on this log knows.

        None: nobody's, expired, revoked, or made for another resource. Raises Unavailable when nobody can tell.
        """
        ...

    async def scopes_short(self, badge: Badge, tool: str) -> tuple[str, ...]:
        """All scopes that the call needs, when this token lacks one that its client could be given.

        Empty: it lacks none, or no scope would help. A call that comes short is in the log when this returns.
        """
        ...

    def visible(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        """The tools of which some call by this session could be allowed, whatever has been said of it since."""
        ...

    async def listed(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        """As `visible`, for the session itself: none once it, or one that lent it its authority, has been revoked.

        A stop, which may be lifted, hides nothing. Raises Unavailable when nobody can tell.
        """
        ...

    async def may_commit(self, session: str, files: Sequence[str], *, turn: int, index: int) -> Allowed | Denied:
        """Whether the session's working copy, which changes these files, may become a commit.

        Each file was decided when a tool wrote it; here they are decided again, as the tree has them. A refusal names
        the file and is durable before this returns.
        """
        ...

    async def may_push(self, badge: Badge, touched: Touched, *, turn: int, index: int) -> Allowed | Denied:
        """The same of commits that the session made by itself and pushes: by what it has read until now."""
        ...

    async def unreadable(self, badge: Badge, paths: Sequence[str]) -> frozenset[str]:
        """Those of the files that this session could not read."""
        ...

    async def decide(
        self,
        badge: Badge,
        tool: ToolDefinition | None,
        name: str,
        arguments: Mapping[str, Any],
        *,
        turn: int,
        index: int,
    ) -> Allowed | Denied:
        """Decide one call; a refusal is durable before this returns. `tool=None`: there is no such tool."""
        ...

    def completed(
        self,
        badge: Badge,
        tool: ToolDefinition,
        arguments: Mapping[str, Any],
        allowed: Allowed,
        result: ToolResult,
        *,
        turn: int,
        index: int,
    ) -> None:
        """The allowed call has been carried out with this result."""
        ...

    async def turn_records(self, session: str, turn: int) -> tuple[Any, ...]:
        """The `CallRecord`s of a turn, in call order, results sealed; forgets them."""
        ...

    def taint(self, session: str) -> None:
        """Text by somebody outside has reached this session."""
        ...

    def tainted(self, session: str) -> bool: ...

    def sign_out(self, session: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Visit:
    """What a token of a program outside says: who it is, where it is good, and how long."""

    badge: Badge
    audience: str
    expires_at: datetime


class Visitors(Protocol):
    """Programs outside, as the log knows them."""

    async def visitor(self, token: str, now: datetime) -> Visit | None:
        """None: no token of ours, or one that no longer counts. Raises Unavailable when nobody can tell."""
        ...

    async def standing(self, badge: Badge) -> bool:
        """Whether neither the program nor anyone in its chain has been retired or has ended since."""
        ...
