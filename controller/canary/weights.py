"""A canary's share of traffic as an effect: set with a deadline, renewed with another, settled after a crash.

The deadline is part of what is meant, so every renewal has a key of its own, and a worker that died between intent and
act leaves a key that nobody means again. The key says everything that was meant; whoever sets the next weight settles
it first. One whose deadline has passed is refused by the platform, and that is the outcome which the record then holds.
"""

from __future__ import annotations

from datetime import UTC, datetime

from controller.canary.common import RELEASER, current, ms, place
from controller.domain.decision import Decision
from controller.domain.events import EffectIntended
from controller.domain.ids import EffectKey, StreamId, rest_of
from controller.domain.rollout import Rollout
from controller.domain.verbs import SetWeight
from controller.ports import Outcome, Ports, ServiceConfig

PARTS = 4  # release, attempt, weight and deadline, at the end of the key


async def set_weight(
    r: Rollout, ports: Ports, service: ServiceConfig, weight_percent: int, decision: Decision
) -> tuple[Outcome, datetime]:
    """From now on for the plan's time to live. Returns the gate's answer and the deadline."""
    await settle(r, ports)
    release, until_ms = current(r).number, ms(ports.clock.now()) + service.plan.weight_ttl_ms
    key = EffectKey(f"weight/{rest_of(r.stream)}/{release}/{r.attempts}/{weight_percent}/{until_ms}")
    verb = _verb(service, release, weight_percent, until_ms)
    outcome = await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)
    return outcome, datetime.fromtimestamp(until_ms / 1000, UTC)


async def settle(r: Rollout, ports: Ports) -> None:
    """Bring every weight that was intended and has no outcome to one. What is still under way is left alone."""
    _, service = place(r, ports)
    for row in await ports.log.live(f"effect/weight/{rest_of(r.stream)}/"):
        key = EffectKey(rest_of(row.stream))
        release, _, weight, until_ms = (int(part) for part in key.split("/")[-PARTS:])
        decision = await _decision(row.stream, ports)
        verb = _verb(service, release, weight, until_ms)
        await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)


async def _decision(effect: StreamId, ports: Ports) -> Decision:
    """The one that the intent was recorded with."""
    first = (await ports.log.read(effect))[0].event
    if not isinstance(first, EffectIntended):
        raise TypeError(first)
    return first.decision


def _verb(service: ServiceConfig, release: int, weight_percent: int, until_ms: int) -> SetWeight:
    return SetWeight(
        service=service.name,
        environment=service.environment,
        release=release,
        weight_percent=weight_percent,
        until_ms=until_ms,
    )
