"""session/<delivery>/<n>: one run of an agent."""

from __future__ import annotations

from typing import ClassVar, Literal

from controller.domain.base import Fact
from controller.domain.events.base import Event, Label
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    EffectKey,
    MicroUsd,
    Repository,
)
from controller.domain.money import Usage
from controller.domain.sealed import Sealed


class SessionStarted(Event):
    delivery: DeliveryId
    iteration: int
    role: str
    repository: Repository
    base: Commit
    branch: Branch
    model: str
    label: Label
    prompt_digest: Digest
    prompt: Sealed
    tools: tuple[str, ...]
    tools_digest: Digest
    tainted: bool
    allowed_paths: tuple[str, ...]


class ModelCallReserved(Event):
    """Worst-case cost of the next call, reserved before it is made."""

    turn: int
    micro_usd: MicroUsd
    request_digest: Digest


class ReplyRecorded(Event):
    """A paid answer, durable before anything is done with it. A resumed session replays it and never asks again."""

    turn: int
    reply: Digest
    reply_sealed: Sealed
    stop_reason: str
    usage: Usage
    cost_micro_usd: MicroUsd
    reserved_micro_usd: MicroUsd  # what the reservation held, and this settles
    model: str
    label: Label
    request_id: str
    thinking: Digest | None = None  # of the model's thinking as it came; None: it returned none
    thinking_sealed: Sealed | None = None  # a supplement: nothing needs it, and it may be erased


class CallRecord(Fact):
    index: int
    tool: str
    tool_class: Literal["effect", "contained", "read"]
    args: Digest
    allowed: bool
    rules: tuple[str, ...]
    result: Digest | None  # None: refused
    result_sealed: Sealed | None = None
    error: bool = False
    effect: EffectKey | None = None  # None: not visible outside


class TurnRecorded(Event):
    turn: int
    reply: Digest
    calls: tuple[CallRecord, ...]
    tainted: bool


class CallRefused(Event):
    """Durable at once. `count` is how often this session has been refused."""

    turn: int
    tool: str
    args: Digest
    rules: tuple[str, ...]
    reason: str
    count: int


class SessionResumed(Event):
    turn: int
    from_checkpoint: bool
    reason: str


class SessionEnded(Event):
    terminal: ClassVar[bool] = True
    outcome: Literal["done", "no_change", "refused", "budget", "turns", "stalled", "nonsense", "failed", "revoked"]
    reason: str
    head: Commit | None  # None: nothing was committed
    files: tuple[str, ...] = ()
    lines_changed: int = 0
    turns: int
    cost_micro_usd: MicroUsd
    transcript: Digest
    tainted: bool
    summary: Sealed | None = None
