"""Where in the log something stands, spelt so that a commit or a statement far from the log can name it."""

from __future__ import annotations

import hashlib

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Entry
from controller.domain.ids import delivery_stream
from controller.errors import Permanent
from controller.ports import Log, Ports


def origin_of(first_leaf: bytes) -> str:
    """The name of a log that was given none: it names itself after its first entry, as its checkpoints do."""
    return f"flyball/{hashlib.sha256(first_leaf).hexdigest()[:16]}"


async def origin(ports: Ports) -> str:
    """The log's name, for ever. Raises Permanent for a log without entries."""
    return ports.origin or origin_of((await _first(ports.log)).leaf)


def spelt(of_origin: str, index: int) -> str:
    return f"{of_origin}#{index}"


async def audit_entry(d: Delivery, ports: Ports) -> str:
    """Where this delivery's change was taken over. A clean rebase leaves it where it was.

    Raises Permanent where nothing was authored.
    """
    authored = [x for x in await ports.log.read(delivery_stream(d.id)) if isinstance(x.event, e.ChangeAuthored)]
    if not authored:
        raise Permanent(f"{d.id} has no change that the log has taken over", "Run `flyball log verify`")
    return spelt(await origin(ports), authored[-1].index)


async def _first(log: Log) -> Entry:
    async for entry in log.scan(0):
        return entry
    raise Permanent("the log is empty, so it has no name yet", "Begin with: flyball run, or flyball serve")
