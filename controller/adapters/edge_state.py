"""What the edge must remember when it dies, and what may happen to a service next: pure values, one file.

A service has a confirmed release and one canary slot, named by release: a verb for another release than the one in the
slot is a definite no, which is how `world-CAS` is kept. The canary's weight has a deadline; `weight_at` is what routing
asks, so an expired weight is worth nothing from the very millisecond on, whoever notices it first. A restarted edge
starts from the confirmed release and has no canary.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controller.domain.base import Fact
from controller.domain.ids import Commit, Digest
from controller.errors import Permanent

CHANGES_KEPT = 200
DONE_KEPT = 1_000
LONGEST_WEIGHT_MS = 24 * 3600 * 1000


class Cause(StrEnum):
    SET = "set"
    LAPSED = "lapsed"  # the deadline passed and nobody had renewed it
    RESTORED = "restored"
    CONFIRMED = "confirmed"
    RESTARTED = "restarted"  # the edge came back without its canary


class WeightChange(Fact):
    at_ms: int
    release: int
    weight_percent: int
    cause: Cause


class Deployed(Fact):
    release: int
    commit: Commit
    artefact: Digest
    instances: int = Field(ge=1, le=16)


class Canary(Deployed):
    weight_percent: int = Field(default=0, ge=0, le=100)
    until_ms: int | None = None  # None: no weight is out, or there is nothing that it could return to

    def weight_at(self, now_ms: int) -> int:
        expired = self.until_ms is not None and now_ms >= self.until_ms
        return 0 if expired else self.weight_percent


class ServiceState(Fact):
    """One service in one environment. Every method gives the state after; `Permanent` means that nothing may change."""

    confirmed: Deployed | None = None  # None: nothing was ever deployed
    canary: Canary | None = None  # None: the slot is free
    lapsed_release: int | None = None  # None: no weight was taken back since the last one was set
    changes: tuple[WeightChange, ...] = ()  # the newest ones

    def having(self, **changes: Any) -> ServiceState:
        return self.model_copy(update=changes)

    def noted(self, at_ms: int, release: int, weight_percent: int, cause: Cause) -> ServiceState:
        change = WeightChange(at_ms=at_ms, release=release, weight_percent=weight_percent, cause=cause)
        return self.having(changes=(*self.changes, change)[-CHANGES_KEPT:])

    def _canary_of(self, release: int) -> Canary:
        if self.canary is None:
            raise Permanent(f"release {release} is not under canary: the slot is free", "Start its canary first")
        if self.canary.release != release:
            raise Permanent(
                f"release {release} is not under canary: release {self.canary.release} is",
                "Act on the release that holds the slot",
            )
        return self.canary

    def canary_started(self, canary: Deployed, now_ms: int, *, held_is_down: bool) -> ServiceState:
        """A newer release takes the slot of one that no user sees."""
        if self.canary is not None and self._same(canary):
            return self.having(lapsed_release=None)
        if self.canary is not None and not self._displaced(self.canary, canary, now_ms, held_is_down=held_is_down):
            raise Permanent(
                f"release {canary.release} cannot start: the canary slot holds release {self.canary.release} "
                f"({self.canary.commit[:10]}), asked for {canary.commit[:10]}",
                "Restore traffic or confirm the release in the slot first",
            )
        if self.confirmed is not None and canary.release <= self.confirmed.release:
            raise Permanent(f"release {canary.release} is no newer than the confirmed release {self.confirmed.release}")
        return self.having(canary=Canary(**canary.model_dump()), lapsed_release=None)

    def _displaced(self, held: Canary, by: Deployed, now_ms: int, *, held_is_down: bool) -> bool:
        unseen = held.weight_at(now_ms) == 0 or (held_is_down and self.confirmed is None)
        return unseen and by.release > held.release

    def _same(self, canary: Deployed) -> bool:
        held = self.canary
        return held is not None and (held.release, held.commit, held.artefact) == (
            canary.release,
            canary.commit,
            canary.artefact,
        )

    def weight_set(self, release: int, weight_percent: int, until_ms: int, now_ms: int) -> ServiceState:
        canary = self._canary_of(release)
        if self.confirmed is None and weight_percent not in {0, 100}:
            raise Permanent(
                f"release {release} is the first one: nothing could take the other {100 - weight_percent} %",
                "Set its weight to 100",
            )
        if not now_ms < until_ms <= now_ms + LONGEST_WEIGHT_MS:
            raise Permanent(
                f"the weight's deadline {until_ms} is not within 24 h after now, {now_ms}", "Give a deadline ahead"
            )
        deadline = until_ms if weight_percent and self.confirmed else None
        held = canary.model_copy(update={"weight_percent": weight_percent, "until_ms": deadline})
        now = self.having(canary=held, lapsed_release=None)
        same = canary.weight_at(now_ms) == weight_percent
        return now if same else now.noted(now_ms, release, weight_percent, Cause.SET)

    def lapsed(self, now_ms: int) -> ServiceState | None:
        """The state after the deadline has passed. None: no deadline has."""
        canary = self.canary
        if canary is None or canary.until_ms is None or now_ms < canary.until_ms:
            return None
        return self._taken_back(canary, Cause.LAPSED, canary.until_ms)

    def _taken_back(self, canary: Canary, cause: Cause, at_ms: int) -> ServiceState:
        held = canary.model_copy(update={"weight_percent": 0, "until_ms": None})
        lapsed = self.having(canary=held, lapsed_release=canary.release)
        return lapsed.noted(at_ms, canary.release, 0, cause)

    def restored(self, release: int, now_ms: int, *, stop_canary: bool) -> ServiceState:
        """All weight on the confirmed release. Already so: the same state."""
        if self.confirmed is not None and self.confirmed.release == release:
            raise Permanent(
                f"release {release} is the confirmed one: there is no older one to return to",
                "Deploy a revert as a new release",
            )
        if self.canary is None:
            return self
        canary = self._canary_of(release)
        held = None if stop_canary else canary.model_copy(update={"weight_percent": 0, "until_ms": None})
        now = self.having(canary=held)
        return now.noted(now_ms, release, 0, Cause.RESTORED) if canary.weight_percent else now

    def confirmed_by(self, release: int, now_ms: int) -> ServiceState:
        if self.canary is None and self.confirmed is not None and self.confirmed.release == release:
            return self
        canary = self._canary_of(release)
        confirmed = Deployed(**canary.model_dump(include=set(Deployed.model_fields)))
        now = self.having(confirmed=confirmed, canary=None, lapsed_release=None)
        return now.noted(now_ms, release, 100, Cause.CONFIRMED)

    def restarted(self, now_ms: int) -> ServiceState:
        """As a new edge process finds it: the canary is gone, and so is its weight."""
        if self.canary is None:
            return self
        back = self._taken_back(self.canary, Cause.RESTARTED, now_ms) if self.canary.weight_percent else self
        return back.having(canary=None, lapsed_release=self.canary.release)


class DoneEffect(Fact):
    verb: str
    intent: Digest  # of the verb's arguments: the same key with others is an error
    result: dict[str, Any]


class BuildRecord(Fact):
    artefact: Digest
    duration_ms: int
    isolation: str = ""  # which sandbox built it, in words. Empty: an older edge built it


class EdgeState(Fact):
    services: dict[str, ServiceState] = Field(default_factory=dict)  # by slot
    builds: dict[str, BuildRecord] = Field(default_factory=dict)  # by "slot commit", oldest first
    done: dict[str, DoneEffect] = Field(default_factory=dict)  # by effect key, oldest first

    def with_service(self, slot: str, state: ServiceState) -> EdgeState:
        return self.model_copy(update={"services": {**self.services, slot: state}})

    def with_done(self, key: str, effect: DoneEffect) -> EdgeState:
        kept = list({**self.done, key: effect}.items())[-DONE_KEPT:]
        return self.model_copy(update={"done": dict(kept)})

    def with_builds(self, builds: dict[str, BuildRecord]) -> EdgeState:
        return self.model_copy(update={"builds": builds})


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Durable and all at once: a reader sees the old content or the new."""
    beside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> EdgeState:
    """Empty when there is no file. Raises `Permanent` when unreadable: guessing would forget what is confirmed."""
    if not path.exists():
        return EdgeState()
    try:
        return EdgeState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Permanent(
            f"the edge's state {path} is unreadable: {error}", "Move it away to start with nothing deployed"
        ) from error


class StateKeeper:
    """The state of this process, and its file."""

    def __init__(self, path: Path) -> None:
        self.state = load_state(path)
        self._path = path
        self._writing = asyncio.Lock()

    async def update(self, change: Callable[[EdgeState], EdgeState]) -> None:
        """Durable when it returns."""
        self.state = change(self.state)
        async with self._writing:
            await asyncio.to_thread(replace_file, self._path, self.state.model_dump_json().encode())
