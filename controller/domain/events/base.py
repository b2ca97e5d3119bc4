"""What every fact is made of, and the words that several kinds share."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from controller.domain.base import Fact


class Label(StrEnum):
    """How real a model's answer or a metric is. It travels with every figure that rests on it."""

    LIVE = "live"
    REPLAYED = "replayed"
    SCRIPTED = "scripted"
    SIMULATED = "simulated"
    LOAD_TEST = "load_test"


class WaitsFor(StrEnum):
    SESSION = "session"
    CI = "ci"
    CONSENT = "consent"
    QUEUE = "queue"
    ROLLOUT = "rollout"
    AFTER = "after"
    PERSON = "person"
    BUDGET = "budget"
    FREEZE = "freeze"
    EFFECT = "effect"


class Cause(StrEnum):
    TASK = "task"
    REVERT = "revert"
    FIX = "fix"


class Event(Fact):
    v: ClassVar[int] = 1
    terminal: ClassVar[bool] = False  # ends its stream

    @classmethod
    def kind(cls) -> str:
        return cls.__name__
