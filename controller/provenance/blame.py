"""Each line of a file: a person's or an agent's, and where in the log to read why. Pure, over what git and notes say.

The note beside the commit that brought a line is believed first: the controller wrote it from the log. Where there is
none (a commit that others rebased or squashed, or that has only just landed) the commit's own trailers are read; they
tell of the whole commit and not of the line, and the row says which of the two it rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controller.domain.ids import Commit
from controller.provenance.notes import Authorship, Wrote
from controller.provenance.trailers import assisted_by, parsed


class Who(StrEnum):
    AGENT = "agent"
    PERSON = "person"


class RestsOn(StrEnum):
    NOTE = "note"
    TRAILERS = "trailers"
    NOTHING = "nothing"  # neither says that an agent took part


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, and the commit that brought it."""

    number: int
    text: str
    commit: Commit
    path: str  # of the file in that commit
    line: int  # of the line in that file


@dataclass(frozen=True, slots=True)
class Row:
    line: Line
    who: Who
    rests_on: RestsOn
    wrote: Wrote | None  # None: a person's line


@dataclass(frozen=True, slots=True)
class Summary:
    lines: int
    agent_lines: int
    by_model: tuple[tuple[str, int], ...]  # most lines first
    by_session: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one commit."""

    note: Authorship | None  # None: it carries none
    message: str


def rows(lines: Iterable[Line], known: Callable[[Commit], Known]) -> list[Row]:
    """`known` is asked once a commit."""
    seen: dict[Commit, Known] = {}
    found = []
    for line in lines:
        if line.commit not in seen:
            seen[line.commit] = known(line.commit)
        found.append(_row(line, seen[line.commit]))
    return found


def summary(found: Sequence[Row]) -> Summary:
    wrote = [row.wrote for row in found if row.wrote is not None]
    models, sessions = Counter(one.model for one in wrote), Counter(one.session for one in wrote)
    return Summary(len(found), len(wrote), tuple(models.most_common()), tuple(sessions.most_common()))


def _row(line: Line, known: Known) -> Row:
    if known.note is not None:
        wrote = known.note.of_line(line.path, line.line)
        return Row(line, Who.PERSON if wrote is None else Who.AGENT, RestsOn.NOTE, wrote)
    wrote = of_trailers(known.message)
    if wrote is None:
        return Row(line, Who.PERSON, RestsOn.NOTHING, None)
    return Row(line, Who.AGENT, RestsOn.TRAILERS, wrote)


def of_trailers(message: str) -> Wrote | None:
    """Who a commit says assisted it. None: nobody."""
    said = parsed(message)
    assisted = assisted_by(said.get("assisted-by", ""))
    if assisted is None:
        return None
    agent, model = assisted
    return Wrote(
        session=said.get("agent-session", ""),
        agent=agent,
        model=model,
        delivery=said.get("flyball-delivery", ""),
        audit_entry=said.get("audit-entry", ""),
    )
