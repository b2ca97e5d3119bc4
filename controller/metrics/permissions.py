"""Which of their permissions agents use, folded from the log for whoever would like to take some away.

One pass over the kinds that say who called what. What is kept grows with roles and tools, never with the log: sessions
are forgotten at their end, and of those that never end only the newest are known. Shows, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import StreamId
from controller.errors import ConfigError
from controller.ports import Log
from rbac.catalogue import TOOLS, Direction, Need, Tool
from rbac.load import SHIPPED, RuleSet, load
from rbac.trimming import LineChange, without

MAX_SESSIONS = 10_000  # open at one time
MAX_RULES = 50  # different ones that refused one tool
MAX_DAYS = 3650
ANY_OTHER = "any other"  # a tool that no catalogue names, and a rule beyond MAX_RULES
KINDS = frozenset(
    kind.kind()
    for kind in (
        e.SessionStarted,
        e.SessionEnded,
        e.ClientSessionStarted,
        e.ClientSessionEnded,
        e.TurnRecorded,
        e.CallsRecorded,
        e.CallRefused,
        e.EffectIntended,
    )
)


@dataclass(slots=True)
class Used:
    """Of one tool by one role."""

    times: int = 0
    last: datetime | None = None  # None: never
    refused: int = 0
    refused_by: Counter[str] = field(default_factory=Counter)

    def call(self, at: datetime) -> None:
        self.times += 1
        self.last = at

    def refusal(self, rules: tuple[str, ...]) -> None:
        self.refused += 1
        for rule in rules:
            self.refused_by[rule if rule in self.refused_by or len(self.refused_by) < MAX_RULES else ANY_OTHER] += 1


@dataclass(slots=True)
class Usage:
    """What the log says of calls, however many there were."""

    tools: Mapping[str, Tool]
    by_role: dict[tuple[str, str], Used] = field(default_factory=dict)
    unattributed: int = 0  # calls of sessions whose beginning is not known any more
    _roles: dict[StreamId, str] = field(default_factory=dict)  # of open sessions

    def take(self, entry: Entry) -> None:
        match entry.event:
            case e.SessionStarted() | e.ClientSessionStarted() as started:
                self._begin(entry.stream, started.role)
            case e.SessionEnded() | e.ClientSessionEnded():
                self._roles.pop(entry.stream, None)
            case e.TurnRecorded() | e.CallsRecorded() as recorded:
                for call in recorded.calls:
                    if call.allowed and (used := self._of(entry.stream, call.tool)):
                        used.call(entry.time)
            case e.CallRefused() as refused:
                if used := self._of(entry.stream, refused.tool):
                    used.refusal(refused.rules)
            case e.EffectIntended() as intended:
                self._for(intended.agent, intended.verb).call(entry.time)
            case _:
                pass

    def _begin(self, stream: StreamId, role: str) -> None:
        if len(self._roles) >= MAX_SESSIONS:
            del self._roles[next(iter(self._roles))]
        self._roles[stream] = role

    def _of(self, stream: StreamId, tool: str) -> Used | None:
        """None: whose call it was is not known any more."""
        role = self._roles.get(stream)
        if role is None:
            self.unattributed += 1
            return None
        return self._for(role, tool)

    def _for(self, role: str, tool: str) -> Used:
        return self.by_role.setdefault((role, tool if tool in self.tools else ANY_OTHER), Used())


class Kept(StrEnum):
    """Why a tool stays that nobody needed for some weeks."""

    BAD_DAYS = "it takes users off a bad release"
    LOOP = "the loop's own code needs it when its turn comes"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One row of the report. A tool that is not granted stands here because somebody tried it."""

    role: str
    tool: str
    grant: str | None  # None: no grant of this role gives it
    times: int
    last: datetime | None  # None: not in this log
    refused: int
    refused_by: tuple[tuple[str, int], ...]  # most frequent first
    unused: bool  # granted, and not used in the days that the report looks at
    kept: Kept | None  # why it stays though it is unused. None: nothing speaks for it


@dataclass(frozen=True, slots=True)
class PermissionReport:
    as_of: datetime
    since: datetime | None  # the log's first entry. None: the log is empty
    days: int  # asked for
    rows: tuple[ToolUse, ...]
    drops: tuple[LineChange, ...]  # lines of the grants that nobody needed
    unattributed: int
    policy: str

    @property
    def young(self) -> bool:
        """Whether the log does not reach back as far as the report should."""
        return self.since is None or self.as_of - self.since < timedelta(days=self.days)


async def permission_report(
    log: Log, *, as_of: datetime, days: int = 30, folder: Path = SHIPPED, catalogue: Mapping[str, Tool] = TOOLS
) -> PermissionReport:
    """Read the whole log once. `catalogue` has the mounted tools too, where there are any. Raises ConfigError."""
    if not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"{days} days cannot be looked at", f"Name 1 to {MAX_DAYS}")
    usage = Usage(catalogue)
    async for entry in log.scan(kinds=KINDS):
        usage.take(entry)
    rules = load(folder, catalogue)
    rows = tuple(_rows(rules, usage, as_of - timedelta(days=days)))
    return PermissionReport(
        as_of=as_of,
        since=await _first(log),
        days=days,
        rows=rows,
        drops=_drops(folder, rows),
        unattributed=usage.unattributed,
        policy=rules.digest,
    )


async def _first(log: Log) -> datetime | None:
    async for entry in log.scan():
        return entry.time
    return None


def _rows(rules: RuleSet, usage: Usage, since: datetime) -> Iterator[ToolUse]:
    granted = {
        (str(role), tool): grant.name
        for role, found in rules.roles.items()
        for grant in found.grants
        for tool in grant.tools
    }
    for role, tool in sorted(granted.keys() | usage.by_role.keys()):
        used, grant = usage.by_role.get((role, tool), Used()), granted.get((role, tool))
        yield ToolUse(
            role=role,
            tool=tool,
            grant=grant,
            times=used.times,
            last=used.last,
            refused=used.refused,
            refused_by=tuple(used.refused_by.most_common()),
            unused=grant is not None and (used.last is None or used.last < since),
            kept=_kept(usage.tools[tool]) if tool in usage.tools else None,
        )


def _kept(tool: Tool) -> Kept | None:
    steers = Need.ENVIRONMENT in tool.needs and not tool.scope.endswith(":read")
    if tool.direction is Direction.SAFE and steers:
        return Kept.BAD_DAYS
    return None if tool.scope else Kept.LOOP


def _drops(folder: Path, rows: tuple[ToolUse, ...]) -> tuple[LineChange, ...]:
    unused: dict[str, set[str]] = {}
    for row in rows:
        if row.unused and row.kept is None:
            unused.setdefault(row.role, set()).add(row.tool)
    return tuple(change for role, tools in unused.items() for change in without(folder, role, tools))
