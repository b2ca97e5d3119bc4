"""Whose change it was, as data: every candidate with its evidence and its prior, and every other explanation tried."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.counts import Count, Name
from controller.domain.ids import DeliveryId

Sentence = Annotated[str, Field(min_length=1, max_length=600)]
Ppm = Annotated[int, Field(ge=0, le=1_000_000)]


class Share(StrEnum):
    CLEAR = "clear"  # one change stands out by the configured lead: it is reverted
    SPLIT = "split"  # none does: they go out again in parts
    SHARED = "shared"  # none explains it: no change is to blame


class Candidate(Fact):
    """One change that may have done it. Evidence is the natural log of an e-value, in micro-nats."""

    delivery: DeliveryId
    log_e_micro: int  # exposed against unexposed; 0: nothing tells it from the others
    prior_ppm: Ppm  # by size, risk and the record of its kind
    posterior_ppm: Ppm
    lines: Count
    files: tuple[Name, ...] = Field(default=(), max_length=50)  # of its own, on the failing stacks
    exposed: Count = 0  # canary failures that passed through what it changed
    broke: Count = 0  # of those, the ones that broke in what it changed
    veto: str = ""  # why it cannot have been; empty: it can
    counts_micro: int = 0  # what the evidence counts for, after the chance that an innocent change stands on the stack


class Blame(Fact):
    share: Share
    culprit: DeliveryId | None  # None: no clear one
    candidates: tuple[Candidate, ...] = Field(max_length=200)  # likeliest first
    reason: Sentence


class Rival(Fact):
    """Another explanation, and what became of it."""

    name: Name
    held: bool  # True: it explains what was seen
    reason: Sentence
    exculpates: bool = True  # held, it clears the changes; False: it only comes beside


class Badness(Fact):
    """What was seen, so that its end can be proven: bad requests of the canary, and what was usual before."""

    bad_ppm: Ppm
    usual_ppm: Ppm
    boundary: int | None = None  # None: errors; else slower than base^boundary ms
