"""After every roll-back: has there been one too many? Then forward verbs freeze, and a named person lifts it."""

from __future__ import annotations

from datetime import datetime

from controller.domain import events as e
from controller.domain.control import by_agent
from controller.domain.entry import Draft, Entry
from controller.domain.ids import CONTROL, rest_of
from controller.domain.rollout import fold
from controller.history.breaker import breaker
from controller.ports import Ports


async def trip(ports: Ports, entry: Entry) -> None:
    """Append the freeze that this roll-back calls for.

    A lost race means that somebody else has just written it, or a person a stop.
    """
    service = rest_of(entry.stream).partition("@")[0]
    until_then = [one for one in await ports.log.read(entry.stream) if one.version <= entry.version]
    rollout = fold(entry.stream, until_then)  # a log that is read again tells of roll-backs that came later
    control = await ports.log.read(CONTROL)
    frozen = breaker(rollout, service, entry.time, ports.bounds, _lifted(control, f"service:{service}"))
    already = any(row.scope == f"service:{service}" for row in await ports.log.control())
    if frozen is None or already:
        return
    await ports.log.append([Draft(CONTROL, frozen)], expect={CONTROL: len(control)}, by=ports.caller)


def _lifted(control: list[Entry], scope: str) -> datetime | None:
    """When a person last lifted this scope; an agent that takes its own stop back counts for nothing. None: never."""
    lifts = [
        entry.time
        for entry in control
        if isinstance(entry.event, e.Resumed) and entry.event.scope == scope and not by_agent(entry.event.by)
    ]
    return lifts[-1] if lifts else None
