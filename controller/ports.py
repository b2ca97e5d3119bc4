"""What the loop needs of the world: Protocols, and the plain values they exchange. Nothing else.

Steps see readers and a `Gate`. Whatever changes the world is a `Verb` and goes through the gate, which alone knows the
`Hands` that act.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.decision import Decision
from controller.domain.entry import Caller, Draft, Entry
from controller.domain.events import Label
from controller.domain.guards import ControlRow, Guard, StreamRow
from controller.domain.ids import NO_DIGEST, Branch, Commit, Digest, EffectKey, Repository, Service, StreamId
from controller.domain.money import Usage
from controller.domain.risk import RiskInputs, RiskVerdict
from controller.domain.sealed import Sealed
from controller.domain.verbs import Verb
from controller.domain.verdict import Histogram, InstanceMinute, JudgeConfig, WindowCounts

# --- time -------------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """Durable and integrated. `index` is the first entry's; `size` is the tree's afterwards."""

    index: int
    size: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was appended. `stream` has moved on (another worker won), or a guard said no."""

    reason: str
    stream: StreamId | None = None  # None: a guard said no
    guard: Guard | None = None  # None: a version had moved on


@dataclass(frozen=True, slots=True)
class Head:
    size: int
    root: str  # hex of the Merkle tree head over `size` leaves


class Log(Protocol):
    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expect: Mapping[StreamId, int],
        by: Caller,
        guards: Sequence[Guard] = (),
    ) -> Receipt | Rejected:
        """All of `drafts` or none.

        `expect` names the version of every stream appended to (0: it must not exist yet).
        """
        ...

    async def read(self, stream: StreamId, after: int = 0) -> list[Entry]:
        """The entries of a stream whose version is above `after`, in order."""
        ...

    def scan(self, from_index: int = 0, kinds: frozenset[str] | None = None) -> AsyncIterator[Entry]:
        """Entries in log order. `kinds=None`: all of them."""
        ...

    async def head(self) -> Head: ...

    async def stream(self, stream: StreamId) -> StreamRow | None:
        """None: it has no entries."""
        ...

    async def live(self, prefix: str = "") -> list[StreamRow]:
        """Streams that have not ended and whose name begins with `prefix`, by name."""
        ...

    async def waiting_on(self, stream: StreamId) -> list[StreamRow]:
        """Streams that wait on this one, first come first."""
        ...

    async def control(self) -> list[ControlRow]:
        """Scopes that are stopped, frozen or revoked."""
        ...

    async def spent(self, scope: str, window: str) -> tuple[int, int]:
        """(reserved, spent) in micro-USD."""
        ...


class Blobs(Protocol):
    async def put(self, content: bytes) -> Digest:
        """Durable when it returns. Same content, same digest."""
        ...

    async def get(self, digest: Digest) -> bytes:
        """Raises Permanent if it is not there or does not match its digest."""
        ...


class Seals(Protocol):
    async def seal(self, text: str) -> Sealed: ...

    async def open(self, sealed: Sealed) -> str:
        """Raises Permanent when the key has been destroyed."""
        ...

    def pseudonym(self, person: str) -> str:
        """The keyed pseudonym of a person, as principals carry it: "person:<12 hex>"."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    stream: StreamId
    owner: str
    fence: int
    until: datetime


class Lease(Protocol):
    """Leases save work. Nothing is correct because of them."""

    async def acquire(self, stream: StreamId, owner: str, seconds: int) -> Held | None:
        """None: somebody else holds it."""
        ...

    async def renew(self, held: Held, seconds: int) -> Held | None:
        """None: it has been lost."""
        ...

    async def release(self, held: Held) -> None: ...


# --- the forge --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit made in memory: no ref points at it. The same inputs give the same commit id."""

    commit: Commit
    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    files: tuple[str, ...]  # repository-relative paths touched between two commits
    lines_changed: int


class Forge(Protocol):
    async def tip(self, repository: Repository, branch: Branch) -> Commit | None:
        """None: there is no such branch."""
        ...

    async def contains(self, repository: Repository, commit: Commit, ancestor: Commit) -> bool:
        """`commit` is `ancestor` or descends from it."""
        ...

    async def behind(self, repository: Repository, base: Commit, tip: Commit) -> int:
        """First-parent commits on the way from `base` to `tip`."""
        ...

    async def change(self, repository: Repository, base: Commit, head: Commit) -> Change: ...

    async def diff(self, repository: Repository, base: Commit, head: Commit, limit_bytes: int) -> str: ...

    async def merge(
        self, repository: Repository, base: Commit, head: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        """`head` merged onto `base`, two parents (base first), identity and dates fixed by the arguments."""
        ...

    async def rebase(
        self, repository: Repository, base: Commit, head: Commit, onto: Commit, at: datetime
    ) -> Candidate | Conflict:
        """The change base..head as one commit on `onto`."""
        ...

    async def revert(
        self, repository: Repository, bad: Commit, onto: Commit, message: str, at: datetime
    ) -> Candidate | Conflict:
        """Undo merge (or plain) commit `bad` on top of `onto`."""
        ...

    async def pull_request_of(self, repository: Repository, branch: Branch) -> int | None:
        """The open pull request of a head branch. None: there is none."""
        ...


# --- agents' surroundings ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    head: Commit
    files: tuple[str, ...]
    lines_changed: int


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

    async def discard(self, session: str) -> None: ...


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


# --- ci, platform, telemetry ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TestResult:
    __test__ = False
    test: str
    passed: bool
    duration_ms: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class CiRun:
    """A run as the CI system knows it. `tests` grows while it runs: results are streamed, test by test."""

    run: str
    commit: Commit
    state: str  # "queued" | "running" | "passed" | "failed" | "broken"
    started_at: datetime | None  # None: still queued
    finished_at: datetime | None  # None: not finished
    tests: tuple[TestResult, ...]
    isolation: str
    reason: str = ""  # why it is broken, in words
    log: str = ""


class Ci(Protocol):
    async def run(self, run: str) -> CiRun | None:
        """None: the CI system does not know it (it was lost before it began)."""
        ...


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    confirmed_commit: Commit | None  # None: nothing deployed yet
    confirmed_release: int | None
    canary_release: int | None  # None: no canary
    canary_commit: Commit | None
    canary_healthy: bool
    canary_reason: str  # why it is not healthy, in words
    weight_percent: int
    weight_until: datetime | None  # None: no weight is out
    lapsed_release: int | None  # the platform took this release's weight back by itself; None: it has not


class Platform(Protocol):
    async def status(self, service: Service, environment: str) -> PlatformStatus: ...


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a version before it is compared with a canary."""

    instances: tuple[InstanceMinute, ...]
    latency: Histogram
    requests: int


class Telemetry(Protocol):
    @property
    def source(self) -> str:
        """Which counts these are: "the service's own OTLP metrics" or "the proxy's status codes and latencies"."""
        ...

    @property
    def label(self) -> Label: ...

    async def windows(
        self, service: Service, *, canary: Commit, baseline: Commit, from_ms: int, width_ms: int
    ) -> list[WindowCounts]:
        """Closed windows from `from_ms` (a multiple of the width) on, in order, without a gap.

        Late points are counted apart, never added.
        """
        ...

    async def baseline(self, service: Service, version: Commit, *, from_ms: int, to_ms: int) -> Baseline: ...

    async def first_failure_ms(self, service: Service, version: Commit) -> int | None:
        """Epoch ms of the first failed request of a version. None: none has failed."""
        ...


class Policy(Protocol):
    @property
    def digest(self) -> Digest: ...

    async def classify(self, inputs: RiskInputs) -> RiskVerdict: ...


# --- the gate ---------------------------------------------------------------------------------------------------------


class Hands(Protocol):
    """What acts. Only the gate holds hands."""

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        """Make it so and return the verb's result. Raises Failed when the world says no and nothing was changed."""
        ...

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        """The result, if this effect has happened already. None: it has not.

        Only asked of verbs that are not `neither`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done:
    result: Any  # the verb's result model
    index: int  # log index of the intent


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody is on it, or may be until `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Blocked:
    """A stop or a freeze stands in the way."""

    scope: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The world said no, and nothing was changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened. A person must look."""

    reason: str


Outcome = Done | Pending | Blocked | Failed | Unknown


class Gate(Protocol):
    async def act(
        self,
        agent: str,
        verb: Verb,
        *,
        key: EffectKey,
        decision: Decision,
        subject: StreamId,
        on_behalf_of: str | None = None,
    ) -> Outcome:
        """Decide, record, act, record. Raises Refused when this agent may not."""
        ...

    async def blocked(
        self, agent: str, verb: type[Verb], *, repository: Repository, service: Service | None
    ) -> Blocked | None:
        """Whether a stop or freeze blocks this agent's forward verbs there. None: nothing does."""
        ...


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """How a repository's service is deployed and watched."""

    name: Service
    environment: str
    plan: RolloutPlan
    judge: JudgeConfig


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    name: Repository
    branch: Branch
    model: str
    protected: tuple[str, ...]  # path patterns that no agent may touch
    allowed: tuple[str, ...]  # path patterns that a task may touch
    service: ServiceConfig | None = None  # None: nothing is deployed; a delivery ends when it has merged


@dataclass(frozen=True, slots=True)
class Ports:
    clock: Clock
    log: Log
    blobs: Blobs
    seals: Seals
    gate: Gate
    forge: Forge
    ci: Ci
    platform: Platform
    telemetry: Telemetry
    policy: Policy
    bounds: Bounds
    repositories: Mapping[Repository, RepositoryConfig]
    model_label: Label = Label.LIVE
    tools: tuple[str, ...] = ()  # names of the tools that sessions can be given
    tools_digest: Digest = NO_DIGEST  # of their definitions
    worker: str = "controller"  # this process, as leases and intents name it
    caller: Caller = field(default_factory=lambda: Caller("service:controller", NO_DIGEST))

    def repository(self, name: Repository) -> RepositoryConfig:
        return self.repositories[name]

    def service(self, name: Service, environment: str) -> tuple[RepositoryConfig, ServiceConfig]:
        """The repository that a service is built from, and how it is deployed."""
        for repository in self.repositories.values():
            found = repository.service
            if found is not None and (found.name, found.environment) == (name, environment):
                return repository, found
        raise KeyError(f"{name}@{environment}")


# --- agents' calls through the gate -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Badge:
    """Who a session is and where it may work, as the gate knows it. Its token is stored only as a hash."""

    session: str  # "<delivery>/<iteration>"
    role: str
    delivery: str
    repository: Repository
    branch: Branch  # the one branch it may push
    base: Commit
    allowed: tuple[str, ...]
    protected: tuple[str, ...]
    on_behalf_of: str
    tainted: bool = False


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


class Desk(Protocol):
    """The gate's agent side: sessions sign in, and every call is decided.

    The decisions of a turn are handed to whoever records it.
    """

    def sign_in(self, badge: Badge) -> str:
        """A bearer token for this session, valid until it signs out."""
        ...

    def badge(self, token: str) -> Badge | None:
        """None: no live session has this token."""
        ...

    def visible(self, badge: Badge, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        """The tools of which some call by this session could be allowed."""
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
