"""Which delivery and which session stand behind a branch. Only the session's own repository is looked at."""

from __future__ import annotations

import re

from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.events import ChangeAuthored, ClientSessionStarted, SessionStarted
from controller.domain.ids import Branch, Commit, DeliveryId, agent_stream, delivery_stream
from controller.ports import Badge, Log

BRANCH = re.compile(r"agent/(?P<delivery>[^/]+)/(?P<number>[1-9][0-9]{0,5})")


async def delivery_behind(log: Log, badge: Badge, branch: Branch | None) -> Delivery | None:
    """`branch=None`: the session's own delivery. None: there is none, or it is of another repository."""
    if branch is not None:
        found = BRANCH.fullmatch(branch)
        name = found["delivery"] if found else ""
    else:
        name = badge.delivery
    entries = await log.read(delivery_stream(DeliveryId(name))) if name else []
    state = fold_delivery(DeliveryId(name), entries) if entries else None
    return state if state is not None and state.repository == badge.repository else None


async def base_of(log: Log, branch: Branch, delivery: Delivery | None) -> Commit | None:
    """The commit that the branch's change starts from. None: nothing in the log made this branch."""
    if delivery is not None and delivery.change is not None and delivery.change.branch == branch:
        return delivery.change.base
    if delivery is not None:
        entries = await log.read(delivery_stream(delivery.id))
        made = [one.event for one in entries if isinstance(one.event, ChangeAuthored)]
        bases = [one.base for one in made if one.branch == branch]
        if bases:
            return bases[-1]
    found = BRANCH.fullmatch(branch)
    entries = await log.read(agent_stream(f"{found['delivery']}/{found['number']}")) if found else []
    first = entries[0].event if entries else None
    begun = isinstance(first, SessionStarted | ClientSessionStarted) and first.branch == branch
    return first.base if begun and isinstance(first, SessionStarted | ClientSessionStarted) else None
