"""Which entries belong to a change, and what stands beside an entry: found by the audit index, read from the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from controller.compliance.export import About
from controller.domain.entry import Entry
from controller.domain.ids import kind_of, rest_of
from controller.errors import Refused
from controller.metrics.audit_facets import Facet
from controller.metrics.audit_index import AuditIndex, Leaves
from controller.metrics.audit_query import Question, every

MIN_COMMIT_CHARS = 7
_LOG = re.compile(r"log#(\d+)")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Link:
    what: str
    where: str  # a log index as "#12", or the name of a stream or a delivery


def delivery_of(index: AuditIndex, log: Leaves, change: str) -> str:
    """The delivery of that name, or the one that a commit belongs to; the first seven digits of a commit will do.

    Raises Refused when there is none, or more than one.
    """
    if every(index, log, Question({Facet.DELIVERY: (change,)})):
        return change
    found = sorted({name for commit in _commits(index, change) for name in _landed(index, log, commit)})
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{change} belongs to {len(found)} deliveries: {', '.join(found[:10])}", "Name one of them")
    raise Refused(f"there is no delivery and no commit {change!r} in the log", "See them: flyball status")


def about(index: AuditIndex, log: Leaves, delivery: str) -> About:
    """Every entry about a delivery, those of its sessions, landings, releases and effects included."""
    indices = every(index, log, Question({Facet.DELIVERY: (delivery,)}))
    return About(f"Delivery {delivery}", tuple(indices), tuple(_reverts(index, log, indices)))


def neighbours(entry: Entry, stream: Sequence[Entry]) -> Iterator[Link]:
    """Where to read on from an entry. `stream` is the whole of its stream."""
    beside = {other.version: other for other in stream}
    for what, version in (("before it in its stream", entry.version - 1), ("after it", entry.version + 1)):
        if version in beside:
            yield Link(what, f"#{beside[version].index} {beside[version].kind}")
    body: dict[str, Any] = json.loads(entry.leaf)["body"]
    if kind_of(entry.stream) == "effect":
        intent = json.loads(stream[0].leaf)["body"]
        yield Link("done for", str(intent.get("subject", "")))
        if entry.version == 1 and len(stream) > 1:
            yield Link("its outcome", f"#{stream[-1].index} {stream[-1].kind}")
    if kind_of(entry.stream) == "session":
        yield Link("its delivery", rest_of(entry.stream).rpartition("/")[0])
    for name in ("caused_by", "after", "root", "revert", "fix", "by", "session"):
        if isinstance(body.get(name), str):
            yield Link(name.replace("_", " "), body[name])
    if isinstance(body.get("verdict_entry"), int):
        yield Link("the verdict", f"#{body['verdict_entry']}")
    for cited in dict.fromkeys(_LOG.findall(json.dumps(body))):
        yield Link("cites as evidence", f"#{cited}")


def _commits(index: AuditIndex, change: str) -> list[str]:
    if len(change) < MIN_COMMIT_CHARS or not _HEX.fullmatch(change):
        return []
    return [value for value in index.values(Facet.COMMIT, change) if value.startswith(change)]


def _landed(index: AuditIndex, log: Leaves, commit: str) -> set[str]:
    """Deliveries whose own stream speaks of the commit as theirs: landed, or authored."""
    kinds = ("Merged", "ChangeAuthored")
    found = every(index, log, Question({Facet.COMMIT: (commit,), Facet.KIND: kinds}))
    return {rest_of(json.loads(log.leaf(at))["stream"]) for at in found}


def _reverts(index: AuditIndex, log: Leaves, indices: Sequence[int]) -> Iterator[int]:
    """The requests to revert what landed here, and their landings."""
    for merged in (raw for raw in (json.loads(log.leaf(at)) for at in indices) if raw["kind"] == "Merged"):
        asked = {Facet.COMMIT: (merged["body"]["commit"],), Facet.KIND: ("TaskRequested",)}
        for at in every(index, log, Question(asked)):
            yield at
            revert = rest_of(json.loads(log.leaf(at))["stream"])
            yield from every(index, log, Question({Facet.DELIVERY: (revert,), Facet.KIND: ("Merged",)}))
