"""The judge as the loop sees it: what is asked of one look at a canary, and what it found. It can change nothing.

A court may sit in this process or in one of its own that holds no more than the right to look. Either way everything
that the verdict rests on goes in and comes out, so that whoever asked can compute it again.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.counts import EpochMs, WindowCounts
from controller.domain.events import CanaryReady, Label
from controller.domain.ids import Commit, Digest, Service
from controller.domain.verdict import JudgeConfig, Verdict
from controller.errors import Unavailable


class SealedCounts(Fact):
    """A segment of the release that stands in the record, and the weight and step that it was seen at."""

    counts: Digest
    weight_percent: int
    step_start_ms: EpochMs


class LookRequest(Fact):
    """Everything that a verdict depends on besides the counts that are still to be asked for."""

    service: Service
    canary: Commit
    baseline: Commit
    from_ms: EpochMs  # of the first window, a multiple of the width
    width_ms: int = Field(ge=1)
    config: JudgeConfig
    ready: CanaryReady
    segments: tuple[SealedCounts, ...]  # in order
    weight_percent: int
    step_start_ms: EpochMs


class Seen(Fact):
    """What one look found."""

    windows: tuple[WindowCounts, ...]  # new ones, in order; those after a crossing are left out
    verdict: Verdict
    source: str  # which telemetry was counted, in words
    label: Label
    excluded: dict[str, int] = Field(default_factory=dict)  # received and not counted, by reason


class Contradicted(Unavailable):
    """A court says what does not follow from the counts that it names. Nothing may rest on it."""


class Reader(Protocol):
    """Blobs, for whoever may only read them."""

    async def get(self, digest: Digest) -> bytes:
        """Raises Permanent if it is not there or does not match its digest."""
        ...


class Court(Protocol):
    async def look(self, request: LookRequest) -> Seen:
        """Raises Unavailable when nobody judges in time, and Contradicted when the answer does not hold."""
        ...
