"""queue/<repository>@<branch>: what lands, and in which order."""

from __future__ import annotations

from typing import Literal

from controller.domain.decision import Decision
from controller.domain.events.base import Event
from controller.domain.ids import (
    Commit,
    DeliveryId,
)
from controller.domain.sealed import Sealed

Doubt = Literal[
    "missing",  # the branch does not hold the tested commit: somebody outside has moved it
    "another_tree",  # the landed commit's tree is not the tree that was tested
    "stray_files",  # it touches files that its change does not have
]


class LandingPlanned(Event):
    landing: int
    base: Commit
    tested: Commit
    deliveries: tuple[DeliveryId, ...]
    heads: tuple[Commit, ...]
    lane: Literal["fast", "normal"]
    order: tuple[DeliveryId, ...]  # the whole line as it stood, so that the order can be replayed
    tree: str | None = None  # of the tested commit, as it was made. None: an older log


class LandingChecked(Event):
    landing: int
    passed: bool
    run: str
    reused: bool  # the very same commit had been tested for the pull request
    failures: tuple[str, ...]  # names in clear that say nothing (older logs have the real ones)
    detail: Sealed | None = None  # the tests' names, or why the run broke; None: it passed, or an older log


class LandingVoided(Event):
    """Somebody else moved the branch: nothing landed, and the line is looked at again."""

    landing: int
    reason: str
    detail: Sealed | None = None  # what the forge said; None: nothing to add


class Landed(Event):
    landing: int
    commit: Commit
    base: Commit
    deliveries: tuple[DeliveryId, ...]
    heads: tuple[Commit, ...]
    verified: bool
    decision: Decision
    doubts: tuple[Doubt, ...] = ()  # why it is not verified; empty: it is, or an older log


class LandingDoubted(Event):
    """A landing that is not verified has been acted on: the branch is frozen, and its repair is proposed."""

    landing: int
    commit: Commit
    doubts: tuple[Doubt, ...]
    repair: DeliveryId | None  # the revert that was asked for. None: a person repairs it, as `proposal` says
    proposal: str  # what is to be done, in words, with the command
    decision: Decision


class Evicted(Event):
    landing: int | None  # None: never got as far as a landing
    delivery: DeliveryId
    head: Commit
    why: Literal["conflict", "red", "refused", "stale_consent", "base_moved"]
    reason: str
    new_head: Commit | None = None  # the clean rebase, if there is one, and
    new_base: Commit | None = None  # what it now stands on
    detail: Sealed | None = None  # names of files and tests; None: nothing to add
