"""When too much goes wrong in too short a time, forward verbs freeze until a named person has looked."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.control import ALL_SCOPE
from controller.domain.rollout import Rollout


def breaker(
    rollout: Rollout, service: str, now: datetime, bounds: Bounds, lifted_at: datetime | None
) -> e.Frozen | None:
    """The freeze that the service's roll-backs call for.

    None: there have not been enough since somebody last looked (`lifted_at`; None: nobody ever has).
    """
    since = now - timedelta(seconds=bounds.rollback_window_seconds)
    since = max(since, lifted_at) if lifted_at else since
    known = (*rollout.ended, *((rollout.current,) if rollout.current else ()))
    backs = [r for r in known if r.restored and r.restored.traffic_back_at > since]
    if len(backs) < bounds.rollbacks_in_window:
        return None
    reason = f"{len(backs)} roll-backs within {bounds.rollback_window_seconds} s (bound {bounds.rollbacks_in_window})"
    return e.Frozen(scope=f"service:{service}" if service else ALL_SCOPE, reason=reason)
