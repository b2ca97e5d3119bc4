"""What the signer has found and a person must look at: the file `alarm` in its folder.

One alarm of a kind stands there, the first: what comes after it is its consequence. A silent log that speaks again ends
its alarm by itself; a log that shrank, forked or was refused by a witness does not become innocent, and its alarm stays
until a person takes the file away.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from controller.domain.base import Fact
from controller.errors import Permanent
from controller.ledger.files import replace_file

ALARM_FILE = "alarm"
MAX_EVIDENCE_CHARS = 20_000  # two checkpoints with all their signatures


class AlarmKind(StrEnum):
    SHRANK = "shrank"  # the log has fewer entries than were signed, or than a witness has seen
    FORKED = "forked"  # the log does not begin with what was signed, or than what a witness has seen
    SILENT = "silent"  # nothing was appended for twice the heartbeat


class Alarm(Fact):
    kind: AlarmKind
    what: str
    way_out: str
    at: datetime
    evidence: tuple[str, ...] = ()  # checkpoints as they were signed


_ALARMS: TypeAdapter[tuple[Alarm, ...]] = TypeAdapter(tuple[Alarm, ...])


class Misgrown(Permanent):  # noqa: N818 - read where it is raised, as its parent
    """The log did not grow out of what was signed before. It is not signed any further."""

    def __init__(self, kind: AlarmKind, message: str, way_out: str, evidence: tuple[str, ...] = ()) -> None:
        super().__init__(message, way_out)
        self.kind, self.evidence = kind, evidence

    def alarm(self, at: datetime) -> Alarm:
        kept = tuple(text[:MAX_EVIDENCE_CHARS] for text in self.evidence)
        return Alarm(kind=self.kind, what=self.message, way_out=self.way_out, at=at, evidence=kept)


def standing_alarms(folder: Path) -> tuple[Alarm, ...]:
    """Raises Permanent for a file that nobody can read: an alarm it is all the same."""
    path = folder / ALARM_FILE
    try:
        return _ALARMS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise Permanent(f"there is an alarm in {path} that cannot be read: {error}", "Read it yourself") from error


def raise_alarm(folder: Path, alarm: Alarm) -> bool:
    """Whether it is new. Durable when it returns."""
    standing = standing_alarms(folder)
    if any(one.kind is alarm.kind for one in standing):
        return False
    _keep(folder, (*standing, alarm))
    return True


def end_silence(folder: Path) -> bool:
    """Whether there was one."""
    standing = standing_alarms(folder)
    others = tuple(one for one in standing if one.kind is not AlarmKind.SILENT)
    if others == standing:
        return False
    if others:
        _keep(folder, others)
    else:
        (folder / ALARM_FILE).unlink(missing_ok=True)
    return True


def _keep(folder: Path, alarms: tuple[Alarm, ...]) -> None:
    replace_file(folder / ALARM_FILE, _ALARMS.dump_json(alarms, indent=1), 0o644)
