"""Who wrote which lines, as git notes in the git-ai format (authorship/3.0.0, refs/notes/ai). Pure.

A note has two parts: files with line ranges by session, then `---`, then JSON that says who the sessions are. Its line
numbers are those of the commit that it lies beside. A session is `s_` and 14 hex digits of SHA-256 over
`<tool>:<session>`, so it is the same beside every commit; `::t_` and 14 more name the commit that it wrote. What was
said in the session stays in the log, sealed: the format's transcripts (`prompts`) are left empty.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.domain.ids import Commit
from controller.domain.verbs import Author
from controller.errors import Permanent

LINES_REF = "refs/notes/ai"
STATEMENTS_REF = "refs/notes/attestations"
SCHEMA = "authorship/3.0.0"
TOOL = "flyball"
MAX_NOTE_CHARS = 4_000_000
_ID_HEX = 14
_SESSION = re.compile(r"s_[0-9a-f]{14}")
_ENTRY = re.compile(r"  (?P<session>s_[0-9a-f]{14})(?:::t_[0-9a-f]{14})? (?P<ranges>[0-9][0-9,-]*)")
_ODD = re.compile(r"[\s\"\x00-\x1f]")

Ranges = tuple[tuple[int, int], ...]  # first and last line, both counted from 1, ascending


@dataclass(frozen=True, slots=True)
class Wrote:
    """A session as a note names it."""

    session: str
    agent: str
    model: str
    delivery: str = ""  # "": not said
    audit_entry: str = ""  # "": not said


@dataclass(frozen=True, slots=True)
class Authorship:
    """A note, read. A line in no range is a person's."""

    commit: str
    sessions: Mapping[str, Wrote] = field(default_factory=dict)  # by the id that the lines name
    files: Mapping[str, Mapping[str, Ranges]] = field(default_factory=dict)  # path -> session id -> lines

    def of_line(self, path: str, line: int) -> Wrote | None:
        """None: no agent's session wrote it."""
        for session, ranges in self.files.get(path, {}).items():
            if any(first <= line <= last for first, last in ranges):
                return self.sessions.get(session)
        return None


def session_id(session: str) -> str:
    return "s_" + hashlib.sha256(f"{TOOL}:{session}".encode()).hexdigest()[:_ID_HEX]


def trace_id(commit: Commit) -> str:
    return "t_" + hashlib.sha256(commit.encode()).hexdigest()[:_ID_HEX]


def lines_note(commit: Commit, author: Author | None, added: Mapping[str, Sequence[int]]) -> str:
    """The note of one commit, the same whichever version writes it.

    `added` has the lines that it brought, by path, as it numbers them. `author` None: no session wrote this commit (a
    clean merge, a revert by code), and the note names no line.
    """
    parts: list[str] = []
    if author is not None:
        name = f"{session_id(author.session)}::{trace_id(commit)}"
        for path in sorted(path for path, lines in added.items() if lines):
            parts += [_path(path), f"  {name} {spelt(as_ranges(added[path]))}"]
    sessions = {} if author is None else {session_id(author.session): _record(author)}
    metadata = {
        "schema_version": SCHEMA,
        "base_commit_sha": commit,
        "prompts": {},
        "sessions": sessions,
    }
    return "\n".join([*parts, "---", json.dumps(metadata, indent=2, sort_keys=True), ""])


def read(note: str) -> Authorship:
    """Raises Permanent for what is no note of this format, or says more than one session of a line's id."""
    if len(note) > MAX_NOTE_CHARS:
        raise _unreadable(f"it has more than {MAX_NOTE_CHARS} characters")
    head, divider, tail = ("\n" + note).partition("\n---\n")
    try:
        metadata = json.loads(tail) if divider else None
    except (ValueError, RecursionError) as error:
        raise _unreadable("what follows its divider is no JSON") from error
    if not isinstance(metadata, dict) or metadata.get("schema_version") != SCHEMA:
        raise _unreadable(f"it does not say {SCHEMA}")
    sessions = {name: _wrote(record) for name, record in _records(metadata) if _SESSION.fullmatch(name)}
    return Authorship(str(metadata.get("base_commit_sha", "")), sessions, _files(head.splitlines()))


def as_ranges(lines: Iterable[int]) -> Ranges:
    found: list[tuple[int, int]] = []
    for line in sorted(set(lines)):
        if found and found[-1][1] == line - 1:
            found[-1] = (found[-1][0], line)
        else:
            found.append((line, line))
    return tuple(found)


def spelt(ranges: Ranges) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _record(author: Author) -> Mapping[str, Any]:
    return {
        "agent_id": {"tool": TOOL, "id": author.session, "model": author.model},
        "custom_attributes": {
            "agent": author.agent,
            "audit_entry": author.audit_entry,
            "delivery": author.delivery,
            "prompt_digest": author.prompt_digest or "",
        },
    }


def _records(metadata: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    sessions = metadata.get("sessions", {})
    if not isinstance(sessions, dict):
        raise _unreadable("its sessions are no object")
    return [(name, record) for name, record in sessions.items() if isinstance(record, dict)]


def _wrote(record: Mapping[str, Any]) -> Wrote:
    agent, custom = record.get("agent_id"), record.get("custom_attributes")
    who = agent if isinstance(agent, dict) else {}
    more = custom if isinstance(custom, dict) else {}
    return Wrote(
        session=str(who.get("id", "")),
        agent=str(more.get("agent") or who.get("tool", "")),
        model=str(who.get("model", "")),
        delivery=str(more.get("delivery", "")),
        audit_entry=str(more.get("audit_entry", "")),
    )


def _files(lines: Sequence[str]) -> Mapping[str, Mapping[str, Ranges]]:
    """Entries of other tools' kinds (people, older sessions) are passed over: their lines are no session's of ours."""
    found: dict[str, dict[str, Ranges]] = {}
    path = ""
    for line in lines:
        entry = _ENTRY.fullmatch(line)
        if entry is not None and path:
            of_path = found.setdefault(path, {})
            of_path[entry["session"]] = (*of_path.get(entry["session"], ()), *_ranges(entry["ranges"]))
        elif line and not line.startswith(" "):
            path = _unquoted(line)
    return found


def _ranges(text: str) -> Ranges:
    try:
        pairs = [(int(first), int(last or first)) for first, _, last in (one.partition("-") for one in text.split(","))]
    except ValueError as error:
        raise _unreadable(f"{text[:60]!r} are no lines") from error
    if any(not 0 < first <= last for first, last in pairs):
        raise _unreadable(f"{text[:60]!r} are no lines")
    return tuple(pairs)


def _path(path: str) -> str:
    """In quotes where it has blanks, as the format has it, and where it could pass for another line."""
    return json.dumps(path, ensure_ascii=False) if _ODD.search(path) or path == "---" else path


def _unquoted(line: str) -> str:
    if not line.startswith('"'):
        return line
    try:
        return str(json.loads(line))
    except ValueError:
        return line.strip('"')


def _unreadable(what: str) -> Permanent:
    return Permanent(f"this is no note of lines: {what}", "Look at it with: git notes --ref ai show <commit>")
