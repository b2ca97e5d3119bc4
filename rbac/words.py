"""A table of allowed calls as sentences that a reviewer reads. They are made of the answers, never of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rbac.catalogue import TOOLS, Need, Tool
from rbac.model import Served
from rbac.patterns import matches, protects
from rbac.reach import Cell
from rbac.witnesses import PLAIN_FILE, Circumstance, Witnesses

NARROWED = (Circumstance.TAINTED, Circumstance.TAINTED_CONFIDENTIAL)


@dataclass(frozen=True, slots=True)
class Permission:
    """Some tools of a role that reach the same places."""

    agent: str
    tools: tuple[str, ...]
    where: str  # in words


def permissions(
    cells: Iterable[Cell], tried: Witnesses, served: Iterable[Served], tools: Mapping[str, Tool] = TOOLS
) -> tuple[Permission, ...]:
    """Every role's, tools with the same words together."""
    places, by_tool = tuple(served), dict[tuple[str, str], set[Cell]]()
    for cell in cells:
        by_tool.setdefault((cell.agent, cell.tool), set()).add(cell)
    together: dict[tuple[str, str], list[str]] = {}
    for (agent, tool), found in sorted(by_tool.items()):
        together.setdefault((agent, where(found, tools[tool], tried, places)), []).append(tool)
    return tuple(Permission(agent, tuple(names), words) for (agent, words), names in together.items())


def where(cells: set[Cell], tool: Tool, tried: Witnesses, served: tuple[Served, ...]) -> str:
    """Where the calls of one role and tool are allowed."""
    ordinary = {cell for cell in cells if cell.circumstance is Circumstance.ORDINARY}
    if not ordinary:
        return "never in an ordinary run, but " + "; ".join(sorted({cell.circumstance for cell in cells}))
    said = [_grounds(ordinary, tool, served)]
    if Need.BRANCH in tool.needs:
        said.append("on " + ", ".join(branches({cell.branch for cell in ordinary}, tried)))
    if Need.PATHS in tool.needs:
        said.append(_paths({cell.path for cell in ordinary}, tried))
    said += _circumstances(cells, ordinary, tool, tried)
    return "; ".join(part for part in said if part)


def _grounds(ordinary: set[Cell], tool: Tool, served: tuple[Served, ...]) -> str:
    environments = {name for one in served for name in one.environments}
    repositories = {one.repository for one in served}
    said = []
    if Need.REPOSITORY in tool.needs:
        said.append(_all_or_some("repository", {cell.repository for cell in ordinary}, repositories))
    if Need.ENVIRONMENT in tool.needs:
        said.append(_all_or_some("environment", {cell.environment for cell in ordinary}, environments))
    return "in " + " and ".join(said) if said else "naming no place"


def _all_or_some(what: str, found: set[str], every: set[str]) -> str:
    return f"every served {what}" if found == every else f"{what} " + ", ".join(sorted(found))


def _paths(allowed: set[str], tried: Witnesses) -> str:
    refused = set(tried.paths) - allowed
    if not refused:
        return "every path"
    if PLAIN_FILE in allowed:
        return "every path but " + ", ".join(paths(refused, tried))
    return "no path but " + ", ".join(paths(allowed, tried))


def paths(names: set[str], tried: Witnesses) -> tuple[str, ...]:
    """The patterns of which every witness is among these names, and then the names that no such pattern covers.

    A pattern that protects covers more than one that allows: other capitals, and the folder itself.
    """
    whole = [
        pattern
        for pattern in tried.path_patterns
        if all(name in names for name in tried.paths if matches(pattern, name))
    ]
    whole = _widest(whole, protects)
    rest = sorted(name for name in names if not any(protects(pattern, name) for pattern in whole))
    return (*whole, *rest)


def branches(names: set[str], tried: Witnesses) -> tuple[str, ...]:
    """As `paths`, with "its own branch" and the like for the names."""
    whole = {
        written: filled
        for written, filled in tried.branch_patterns.items()
        if all(name in names for name in tried.branches if matches(filled, name))
    }
    widest = {filled: written for written, filled in whole.items()}
    widest = {filled: widest[filled] for filled in _widest(list(widest), matches)}
    rest = {name for name in names if not any(matches(filled, name) for filled in widest)}
    return (
        *(f"branches like {one}" for one in sorted(widest.values())),
        *sorted({tried.branches[name] for name in rest}),
    )


def _widest(patterns: list[str], covers: Callable[[str, str], bool]) -> list[str]:
    """Without those that another one covers; of two that cover each other the first stays."""
    kept: list[str] = []
    for one in patterns:
        if not any(covers(other, one) for other in kept):
            kept = [other for other in kept if not covers(one, other)] + [one]
    return kept


def _circumstances(cells: set[Cell], ordinary: set[Cell], tool: Tool, tried: Witnesses) -> list[str]:
    said: list[str] = []
    lost_before: set[Cell] = set()
    for circumstance in NARROWED:
        lost = {cell for cell in ordinary if cell._replace(circumstance=circumstance) not in cells}
        if lost == ordinary != lost_before:
            said.append(f"not {circumstance}")
        elif lost != lost_before and Need.PATHS in tool.needs:
            said.append(f"{circumstance} also not {', '.join(paths({cell.path for cell in lost}, tried))}")
        lost_before = lost
    if Need.PATHS in tool.needs:
        said += [f"not {one}" for one in (Circumstance.OUTSIDE_TASK, Circumstance.PROTECTED_FILE) if _none(cells, one)]
    moved = {cell.branch for cell in cells if cell.circumstance is Circumstance.OWN_IS_PROTECTED}
    more = branches(moved - {cell.branch for cell in ordinary}, tried)
    return [*said, *(f"{words} too, {Circumstance.OWN_IS_PROTECTED}" for words in more)]


def _none(cells: set[Cell], circumstance: Circumstance) -> bool:
    return not any(cell.circumstance is circumstance for cell in cells)
