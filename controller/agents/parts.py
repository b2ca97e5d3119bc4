"""What a session is made of, and how a run of it is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from controller.domain.bounds import Bounds
from controller.domain.entry import Caller
from controller.domain.ids import MicroUsd, SessionId
from controller.ports import Blobs, Clock, Desk, Log, Model, Seals, Tools, Workspaces


class Left(StrEnum):
    """Why a run of a session has returned. Only the first of them is an end."""

    ENDED = "ended"
    PARKED = "parked"  # a stop or freeze stands in the way; it goes on when that is lifted
    LOST = "lost"  # another worker has it


@dataclass(frozen=True, slots=True)
class SessionProgress:
    """For a terminal: what a session is doing. Tool names only, no text of anybody's."""

    session: SessionId
    turn: int
    doing: Literal["asking", "acting", "ended"]
    tools: tuple[str, ...]
    cost_micro_usd: MicroUsd
    outcome: str = ""  # when ended


def _unseen(_: SessionProgress) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionParts:
    log: Log
    blobs: Blobs
    seals: Seals
    clock: Clock
    model: Model
    tools: Tools
    desk: Desk
    workspaces: Workspaces
    bounds: Bounds
    caller: Caller
    on_progress: Callable[[SessionProgress], None] = _unseen
    retry_wait_s: float = 2.0  # before the first retry of a node; doubles
