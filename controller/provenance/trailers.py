"""What a commit says of where it came from. Pure: the same delivery gives the same message, and so the same commit.

Trailers follow the kernel's rule for coding assistants (Documentation/process/coding-assistants.rst): `Assisted-by:
AGENT:MODEL [TOOL] …`, and agents never sign off, because a sign-off is a person's word about the law. They are written
by code alone: a model has one line, the title, and whatever it writes elsewhere that looks like one of these lines is
taken out. They stand on the session's own commit and again on the landing, so that whoever squashes or rebases keeps
them with the message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.ids import Commit, SessionId

TITLE_CHARS = 72
AGENT = "flyball-author"
SIGNED_OFF = "signed-off-by"
WRITTEN_BY_CODE = frozenset(
    {
        "assisted-by",
        "agent-session",
        "agent-iterations",
        "agent-role",
        "audit-entry",
        "caused-by",
        "co-authored-by",
        "flyball-delivery",
        "model-label",
        "prompt-digest",
        "requested-by",
        "reverts",
        SIGNED_OFF,
    }
)
OF_PEOPLE = "-by"  # Reviewed-by, Acked-by, Tested-by, ...: a person's word
OF_OURS = ("flyball-", "agent-")
# git reads a key of letters, digits and dashes, blanks before the colon included; a line that begins with a blank
# goes on with the one before it.
_TRAILER = re.compile(r"(?P<key>[A-Za-z0-9-]+)[ \t]*:[ \t]*(?P<value>.*)")
_MARKS = "> \t*-#\ufeff\u200b\u200c\u200d\u2060"  # what may stand before a key and still read as one to people
_ASSISTED = re.compile(r"(?P<agent>[^:\s]+):(?P<model>\S+)(?: .*)?")
_LINES = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # everything that somebody takes for a line's end


def title_of(task: str) -> str:
    """The first line of a task, short enough for a commit's subject."""
    first = next((line.strip() for line in task.splitlines() if line.strip()), "Change")
    return first if len(first) <= TITLE_CHARS else first[: TITLE_CHARS - 1].rstrip() + "…"


def trailers(d: Delivery, audit_entry: str | None = None) -> tuple[str, ...]:
    """Trailer lines of a delivery's change. Agents never sign off.

    `audit_entry` names the log and the index of the entry by which the change was taken over; None before there is one.
    """
    change = d.change
    lines = [f"Flyball-Delivery: {d.id}", f"Requested-By: {d.asked.asked_by}"]
    if d.asked.caused_by:
        lines.append(f"Caused-By: {d.asked.caused_by}")
    if change is not None and change.model is not None:
        lines += [
            f"Assisted-by: {AGENT}:{change.model}",
            f"Agent-Session: {change.session}",
            f"Agent-Iterations: {change.iteration}",
            f"Prompt-Digest: {change.prompt_digest}",
            f"Model-Label: {change.label}",
        ]
    if d.asked.cause is e.Cause.REVERT and d.asked.bad_commit:
        lines.append(f"Reverts: {d.asked.bad_commit}")
    if audit_entry is not None:
        lines.append(f"Audit-Entry: {audit_entry}")
    return tuple(lines)


def session_trailers(started: e.SessionStarted, session: SessionId, requested_by: str | None) -> tuple[str, ...]:
    """Trailer lines of a session's own commit, made before the log has taken the change over.

    `requested_by` is who asked for the delivery; None where the session does not know.
    """
    asked = (f"Requested-By: {requested_by}",) if requested_by is not None else ()
    return (
        f"Flyball-Delivery: {started.delivery}",
        *asked,
        f"Assisted-by: flyball-{started.role}:{started.model}",
        f"Agent-Session: {session}",
        f"Agent-Iterations: {started.iteration}",
        f"Prompt-Digest: {started.prompt_digest}",
        f"Model-Label: {started.label.value}",
    )


def merge_message(d: Delivery, task: str, head: Commit, audit_entry: str | None = None) -> str:
    """The landing's message: it is tested as it will land, so nothing that is learned later can stand in it.

    `audit_entry`: see `trailers`. It is known before the first test, so every landing of one head says the same.
    """
    return "\n".join((title_of(task), "", f"Lands {head[:12]}.", "", *trailers(d, audit_entry), ""))


def parsed(message: str) -> Mapping[str, str]:
    """The trailers of a commit, by key in lower case: the last paragraph, if every line of it is one.

    Of a key that stands twice the last counts, as for `git log --format='%(trailers:key=…)'` read from the end.
    """
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", message.strip("\n")) if part.strip()]
    if len(paragraphs) < 2:  # noqa: PLR2004 - a title alone has no trailers
        return {}
    found: dict[str, str] = {}
    last = ""
    for line in paragraphs[-1].splitlines():
        if line[:1] in {" ", "\t"} and last:
            found[last] = f"{found[last]} {line.strip()}"
            continue
        match = _TRAILER.fullmatch(line.rstrip())
        if match is None:
            return {}
        last = match["key"].lower()
        found[last] = match["value"].strip()
    return found


def assisted_by(value: str) -> tuple[str, str] | None:
    """Agent and model of an Assisted-by trailer. None: it is not in that form."""
    match = _ASSISTED.fullmatch(value.strip())
    return None if match is None else (match["agent"], match["model"])


def stripped(words: str) -> str:
    """A model's words without lines that would pass for trailers, wherever they stand, and what continues them."""
    kept, dropping = [], False
    for line in _LINES.split(words):
        if dropping and line[:1] in {" ", "\t"} and line.strip():
            continue
        dropping = _claims(line)
        if not dropping:
            kept.append(line)
    return "\n".join(kept)


def claimed_keys(message: str) -> frozenset[str]:
    """Keys of lines that speak of people or of where a change came from, in lower case, wherever they stand.

    Letters that only look wide, and characters that cannot be seen, do not hide one.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKC", message) if unicodedata.category(c) != "Cf")
    keys = {_key(line) for line in _LINES.split(plain)}
    return frozenset(
        key for key in keys if key in WRITTEN_BY_CODE or key.endswith(OF_PEOPLE) or key.startswith(OF_OURS)
    )


def faults_of_agent_commit(message: str) -> tuple[str, ...]:
    """What an agent's commit must not be let in with, by name: `signed_off`, `unassisted`. Empty: nothing.

    A sign-off is looked for in every line: git, forges and people do not agree on where trailers end.
    """
    keys = {_key(line) for line in _LINES.split(message)}
    faults = ("signed_off",) if SIGNED_OFF in keys else ()
    said = assisted_by(parsed(message).get("assisted-by", ""))
    return faults if said is not None else (*faults, "unassisted")


def _claims(line: str) -> bool:
    return _key(line) in WRITTEN_BY_CODE


def _key(line: str) -> str:
    match = _TRAILER.match(line.lstrip(_MARKS))
    return "" if match is None else match["key"].lower()
