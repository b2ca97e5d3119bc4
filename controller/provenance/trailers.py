"""What a commit says of where it came from. Pure: the same delivery gives the same message, and so the same commit."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.ids import Commit

TITLE_CHARS = 72


def title_of(task: str) -> str:
    """The first line of a task, short enough for a commit's subject."""
    first = next((line.strip() for line in task.splitlines() if line.strip()), "Change")
    return first if len(first) <= TITLE_CHARS else first[: TITLE_CHARS - 1].rstrip() + "…"


def trailers(d: Delivery) -> tuple[str, ...]:
    """Trailer lines of a delivery's change. Agents never sign off."""
    change = d.change
    lines = [f"Flyball-Delivery: {d.id}", f"Requested-By: {d.asked.asked_by}"]
    if d.asked.caused_by:
        lines.append(f"Caused-By: {d.asked.caused_by}")
    if change is not None and change.model is not None:
        lines += [
            f"Assisted-by: flyball-author:{change.model}",
            f"Agent-Session: {change.session}",
            f"Agent-Iterations: {change.iteration}",
            f"Prompt-Digest: {change.prompt_digest}",
            f"Model-Label: {change.label}",
        ]
    if d.asked.cause is e.Cause.REVERT and d.asked.bad_commit:
        lines.append(f"Reverts: {d.asked.bad_commit}")
    return tuple(lines)


def merge_message(d: Delivery, task: str, head: Commit) -> str:
    """The landing's message: it is tested as it will land, so nothing that is learned later can stand in it."""
    return "\n".join((title_of(task), "", f"Lands {head[:12]}.", "", *trailers(d), ""))
