"""The facts behind a colour, for whoever may read sealed words: the summary, then each finding with its place."""

from __future__ import annotations

from collections.abc import AsyncIterator

from controller.domain.change import ChangeFacts, Finding
from controller.domain.risk import RiskInputs
from controller.history.citing import opened
from controller.ports import Seals
from controller.terminal.explain import evidence_of

MOST_LINES = 12  # of findings; `flyball show DELIVERY --json` has them all


async def fact_lines(inputs: RiskInputs, seals: Seals) -> list[str]:
    lines = [f"facts: {evidence_of(inputs)}"]
    if inputs.change is not None:
        found = [line async for line in _of(inputs.change, seals)]
        lines += found[:MOST_LINES]
        lines += [f"  and {len(found) - MOST_LINES} more"] if len(found) > MOST_LINES else []
    return lines


async def _of(change: ChangeFacts, seals: Seals) -> AsyncIterator[str]:
    for found in (change.unread, change.secrets, change.weakened, change.irreversible, change.interfaces_removed):
        for one in found:
            yield await _line(one, seals)
    for moved in change.dependencies:
        name = await opened(seals, moved.name)
        yield f"  {moved.path}: {moved.ecosystem} {name} {moved.what}{_asked(asked=moved.asked)}"
    for owned in change.owned:
        yield f"  {owned.path}: owned by {', '.join(owned.owners)}"


async def _line(one: Finding, seals: Seals) -> str:
    place = one.path + (f":{one.line}" if one.line is not None else "")
    words = await opened(seals, one.words)
    return f"  {one.rule} {place}{f': {words}' if words else ''}{_asked(asked=one.asked)}"


def _asked(*, asked: bool) -> str:
    return " (the task names it)" if asked else ""
