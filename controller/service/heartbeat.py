"""A log in which nothing happens still says so: an idle controller appends a heartbeat, so that silence is an alarm.

Several controllers beat on one log: whoever comes first has said it for all, for any entry ends the silence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from controller.domain.entry import Caller, Draft
from controller.domain.events.ledger import ClockSource, Heartbeat
from controller.domain.ids import StreamId
from controller.errors import FlyballError
from controller.ledger.alarms import Alarm, standing_alarms
from controller.ledger.publication import Publication
from controller.ports import Clock, Log

if TYPE_CHECKING:
    from controller.ledger.checkpoint_book import Heard

HEARTBEAT = StreamId("heartbeat")
LOOKS = 10  # in one heartbeat's time: silence is seen at most a tenth too late
ASK_WITHIN_S = 2.0
MAX_SOURCE_CHARS = 200


@dataclass
class Pulse:
    """Since when nothing has been appended, as far as this process has seen."""

    size: int = -1  # of the log at the last look; -1: has not looked yet
    since: datetime | None = None  # None: has not looked yet

    def silent_seconds(self, size: int, now: datetime) -> int:
        """At this look. 0: something was appended since the last one."""
        if self.since is None or size != self.size:
            self.size, self.since = size, now
        return int((now - self.since).total_seconds())


async def beat(log: Log, clock: Clock, by: Caller, every_seconds: int) -> None:
    """For ever: append a Heartbeat when nothing has been appended for `every_seconds`.

    Raises what the log raises: whoever runs this decides whether to go on.
    """
    pulse = Pulse()
    while True:
        silent = await beat_once(log, clock, by, pulse, every_seconds)
        await clock.sleep(max(1, min(every_seconds - silent, every_seconds // LOOKS)))


async def beat_once(log: Log, clock: Clock, by: Caller, pulse: Pulse, every_seconds: int) -> int:
    """One look. Returns for how many seconds nothing has been appended, 0 right after a heartbeat."""
    head = await log.head()
    silent = pulse.silent_seconds(head.size, clock.now())
    if silent < every_seconds:
        return silent
    row = await log.stream(HEARTBEAT)
    fact = Heartbeat(size=head.size, silent_seconds=silent)
    await log.append([Draft(HEARTBEAT, fact)], expect={HEARTBEAT: row.version if row else 0}, by=by)
    # A refusal means that another controller was faster: either way the log has spoken.
    return pulse.silent_seconds((await log.head()).size, clock.now())


# --- for people -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What `flyball status` says about the log's signatures."""

    words: str  # "unwitnessed", "witnessed by NAME", "not signed yet, unwitnessed"
    signed_size: int  # 0: nothing is signed yet
    signed_at: datetime | None  # None: nothing is signed yet
    alarms: tuple[Alarm, ...]
    witnesses: tuple[Heard, ...]


def ledger_state(folder: Path, publication: Publication) -> LedgerState:
    """`folder`: the signer's. What cannot be read is said in `words`: a status must always come."""
    try:
        signed = publication.signed()
        alarms, heard = standing_alarms(folder), publication.heard()
        size, at = (0, None) if signed is None else (signed.size, signed.at)
        return LedgerState(publication.words(), size, at, alarms, heard)
    except FlyballError as error:
        return LedgerState(str(error), 0, None, (), ())


# --- whose time the log bears -----------------------------------------------------------------------------------------


async def clock_source() -> ClockSource:
    """What this machine says about its clock: chrony, else systemd, else unknown. Takes at most a few seconds."""
    tracking = await _asked("chronyc", "-c", "tracking")
    if tracking is not None and (found := from_chrony(tracking)) is not None:
        return found
    shown = await _asked("timedatectl", "show", "--property=NTPSynchronized", "--property=NTP")
    return from_systemd(shown or "")


def from_chrony(tracking: str) -> ClockSource | None:
    """From `chronyc -c tracking`. None: it is no such line."""
    fields = tracking.strip().split(",")
    if len(fields) < 14:  # noqa: PLR2004 - chrony 4: 14 fields, the leap status last
        return None
    name = fields[1] or fields[0]
    return ClockSource(source=f"chrony: {name}"[:MAX_SOURCE_CHARS], synchronised=fields[13] != "Not synchronised")


def from_systemd(shown: str) -> ClockSource:
    """From `timedatectl show`. Empty: nobody knows."""
    said = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if "NTPSynchronized" not in said:
        return ClockSource(source="unknown", synchronised=None)
    source = "systemd-timesyncd" if said.get("NTP") == "yes" else "the kernel's clock"
    return ClockSource(source=source, synchronised=said["NTPSynchronized"] == "yes")


async def _asked(*words: str) -> str | None:
    """What a program prints. None: it is not here, fails, or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return printed.decode(errors="replace") if process.returncode == 0 else None
