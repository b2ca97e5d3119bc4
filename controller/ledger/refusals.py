"""What a guard says no to, and in which words: the same for every store.

A store says where control, counters and effects are looked up; the decision and its reason are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from controller.domain.guards import ControlRow, EffectRow, Guard, HoldsFence, NotStopped, Under
from controller.domain.ids import EffectKey, StreamId
from controller.ports import Rejected


class Standing(Protocol):
    """The guards as they stand under the lock that orders entries."""

    def version_of(self, stream: StreamId) -> int:
        """0: it has no entries."""
        ...

    def control_of(self, scope: str) -> ControlRow | None:
        """None: nothing was ever said of it."""
        ...

    def counter(self, scope: str, window: str) -> tuple[int, int]:
        """(reserved, spent) in micro-USD."""
        ...

    def effect(self, key: EffectKey) -> EffectRow | None:
        """None: it has no intent."""
        ...


def refusal(standing: Standing, expect: Mapping[StreamId, int], guards: Sequence[Guard]) -> Rejected | None:
    """The first expectation or guard that does not hold. None: all of them hold."""
    for stream, version in expect.items():
        found = standing.version_of(stream)
        if found != version:
            return Rejected(f"{stream} is at version {found}, not {version}", stream=stream)
    for guard in guards:
        reason = _refuses(standing, guard)
        if reason is not None:
            return Rejected(reason, guard=guard)
    return None


def _refuses(standing: Standing, guard: Guard) -> str | None:
    match guard:
        case NotStopped():
            return _stopped(standing, guard)
        case Under():
            return _over(standing, guard)
        case HoldsFence():
            return _fence_lost(standing, guard)


def _stopped(standing: Standing, guard: NotStopped) -> str | None:
    for scope in guard.scopes:
        found = standing.control_of(scope)
        if found is not None and found.state != "running":
            return f"{scope} is {found.state} since entry {found.since}: {found.reason}"
    return None


def _over(standing: Standing, guard: Under) -> str | None:
    reserved, spent = standing.counter(guard.scope, guard.window)
    if reserved + spent + guard.amount <= guard.limit:
        return None
    taken = f"{spent} micro-USD spent and {reserved} reserved"
    return f"{guard.scope} in {guard.window}: {guard.amount} asked, {taken} of {guard.limit}"


def _fence_lost(standing: Standing, guard: HoldsFence) -> str | None:
    found = standing.effect(guard.key)
    if found is None:
        return f"effect {guard.key} has no intent"
    if (found.state, found.owner, found.fence) == ("open", guard.owner, guard.fence):
        return None
    now = f"{found.state}, owner {found.owner or 'nobody'}, fence {found.fence}"
    return f"effect {guard.key} is {now}; asked for open, owner {guard.owner}, fence {guard.fence}"
