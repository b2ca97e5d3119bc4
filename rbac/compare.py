"""Who gains and who loses what between two folders of rules, found by asking both of them the same questions.

The names to ask about come from the patterns of both sides, so a pattern that is new on one side is tried on the other
too. A file may change and nothing that an agent can do with it; that is said as well, because a reviewer who sees a
changed rule without an effect should ask what it was meant to do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from rbac.catalogue import Role, Tool, with_mounted
from rbac.decide import Authority
from rbac.load import SHIPPED, RuleSet, load
from rbac.model import Closed, Served
from rbac.reach import NO_MOUNTS, Cell, asked_about, reach
from rbac.witnesses import BRANCHES, FILES, Circumstance, Witnesses, witnesses
from rbac.words import branches, paths, where

SCHEMAS = "policy/*.cedarschema"
MAX_EXAMPLES = 5  # calls shown of one change
MAX_PLACES = 30  # patterns and names shown of one change


class Change(Closed):
    """What one role gains, or loses, of one tool."""

    agent: str
    tool: str
    whole: bool  # the tool itself: nothing of it was allowed before, or nothing is afterwards
    calls: int  # witnesses, by which changes can be compared in size; the world has more of them
    where: tuple[str, ...]  # in words
    circumstances: tuple[Circumstance, ...]  # in which it differs
    examples: tuple[str, ...]


class Effect(StrEnum):
    FOUND = "changes what agents may do"
    SHARED = "may be what changes it, with other files of this change"
    NONE_FOUND = "no effect found"
    NOT_COMPARED = "not compared: written for another Flyball"


class FileChange(Closed):
    file: str
    how: str  # "added" | "removed" | "changed"
    effect: Effect


class Comparison(Closed):
    before: str  # digests of all rules
    after: str
    gains: tuple[Change, ...]
    losses: tuple[Change, ...]
    gained_calls: int
    lost_calls: int
    asked: int  # of each side
    files: tuple[FileChange, ...]
    grants_only: tuple[str, ...]  # "before", "after": sides whose policies are of another Flyball and were left out

    @property
    def same_permissions(self) -> bool:
        return not self.gains and not self.losses


def compare(before: Path, after: Path, served: Iterable[Served], mounted: Mapping[str, Tool] = NO_MOUNTS) -> Comparison:
    """Both folders hold `grants/` and `policy/`.

    Takes seconds of one core: who has an event loop gives it a thread. Raises ConfigError for rules that do not load,
    Permanent where there are too many questions.
    """
    places = tuple(served)
    catalogue = with_mounted(mounted)
    rules = (load(before, catalogue), load(after, catalogue))
    tried = witnesses(rules, places)
    sides = {"before": _side(places, before, mounted), "after": _side(places, after, mounted)}
    roles = _roles_to_ask(rules[0], rules[1])
    old, new = (reach(side.authority, places, tried, roles=roles) for side in sides.values())
    asked = _Asked(tried, places, catalogue)
    grants_only = tuple(name for name, side in sides.items() if side.grants_only)
    gained, lost = new.cells - old.cells, old.cells - new.cells
    return Comparison(
        before=rules[0].digest,
        after=rules[1].digest,
        gains=tuple(_changes(gained, old.cells, asked)),
        losses=tuple(_changes(lost, new.cells, asked)),
        gained_calls=len(gained),
        lost_calls=len(lost),
        asked=max(old.asked, new.asked),
        files=_files(before, after, frozenset(cell.agent for cell in gained | lost), with_policies=not grants_only),
        grants_only=grants_only,
    )


def _roles_to_ask(before: RuleSet, after: RuleSet) -> list[Role]:
    """Under the same policies a role's permissions are those of its own grants, so the same grants need no asking."""
    if (before.policies, before.schema) != (after.policies, after.schema):
        return list(Role)
    return [role for role in Role if before.roles.get(role) != after.roles.get(role)]


@dataclass(frozen=True, slots=True)
class _Side:
    authority: Authority
    grants_only: bool


def _side(served: tuple[Served, ...], folder: Path, mounted: Mapping[str, Tool]) -> _Side:
    """Rules whose schema is of another Flyball give their grants only, under the policies that are shipped here.

    A schema says what a call is made of, and so belongs to the code; policies over another one mean nothing to this.
    """
    if _schema(folder) == _schema(SHIPPED):
        return _Side(asked_about(served, folder, mounted), grants_only=False)
    with TemporaryDirectory() as scratch:
        shutil.copytree(folder / "grants", Path(scratch) / "grants")
        shutil.copytree(SHIPPED / "policy", Path(scratch) / "policy")
        return _Side(asked_about(served, Path(scratch), mounted), grants_only=True)


def _schema(folder: Path) -> list[str]:
    """Without comments and line ends."""
    texts = [file.read_text() for file in sorted(folder.glob(SCHEMAS))]
    return [word for text in texts for line in text.splitlines() for word in line.partition("//")[0].split()]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What both sides were asked about."""

    tried: Witnesses
    served: tuple[Served, ...]
    catalogue: Mapping[str, Tool]


def _changes(cells: frozenset[Cell], other_side: frozenset[Cell], asked: _Asked) -> Iterator[Change]:
    reached = {(cell.agent, cell.tool) for cell in other_side}
    by_tool: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(cells):
        by_tool.setdefault((cell.agent, cell.tool), []).append(cell)
    for (agent, tool), found in by_tool.items():
        whole = (agent, tool) not in reached
        yield Change(
            agent=agent,
            tool=tool,
            whole=whole,
            calls=len(found),
            where=(where(set(found), asked.catalogue[tool], asked.tried, asked.served),)
            if whole
            else _narrowly(found, asked.tried),
            circumstances=tuple(one for one in Circumstance if any(cell.circumstance is one for cell in found)),
            examples=tuple(spelt_out(cell) for cell in sorted(found, key=_plainness)[:MAX_EXAMPLES]),
        )


def _plainness(cell: Cell) -> tuple[bool, bool, Cell]:
    """Ordinary runs and names that a reader knows come first."""
    known = cell.path in (*FILES, "") and cell.branch in (*BRANCHES, "")
    return cell.circumstance is not Circumstance.ORDINARY, not known, cell


def _narrowly(found: list[Cell], tried: Witnesses) -> tuple[str, ...]:
    """The patterns and names that tell best which calls these are; places only where nothing finer tells them apart."""
    finer = paths({cell.path for cell in found if cell.path}, tried)
    finer += branches({cell.branch for cell in found if cell.branch}, tried)
    places = sorted({f"{cell.repository} {cell.environment}".strip() for cell in found} - {""})
    said = finer or tuple(places)
    return said if len(said) <= MAX_PLACES else (*said[:MAX_PLACES], f"and {len(said) - MAX_PLACES} more names")


def spelt_out(cell: Cell) -> str:
    """One call in words."""
    parts = [
        cell.path,
        f"on branch {cell.branch}" if cell.branch else "",
        f"in repository {cell.repository}" if cell.repository else "",
        f"in environment {cell.environment}" if cell.environment else "",
        cell.circumstance,
    ]
    return " ".join(part for part in parts if part)


def _files(before: Path, after: Path, changed_roles: frozenset[str], *, with_policies: bool) -> tuple[FileChange, ...]:
    old, new = _texts(before), _texts(after)
    touched = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    grants = {name for name in touched if name.startswith("grants/")}
    own = {PurePosixPath(name).stem for name in grants}
    return tuple(
        FileChange(
            file=name,
            how="added" if name not in old else "removed" if name not in new else "changed",
            effect=_effect(name, changed_roles, own) if with_policies or name in grants else Effect.NOT_COMPARED,
        )
        for name in touched
    )


def _effect(file: str, changed_roles: frozenset[str], roles_with_own_change: set[str]) -> Effect:
    """A role's file reaches that role only. A policy's effect is certain only on roles whose own file stayed."""
    if file.startswith("grants/"):
        return Effect.FOUND if PurePosixPath(file).stem in changed_roles else Effect.NONE_FOUND
    if changed_roles - roles_with_own_change:
        return Effect.FOUND
    return Effect.SHARED if changed_roles else Effect.NONE_FOUND


def _texts(folder: Path) -> dict[str, str]:
    """Of every file that `load` has just read, line ends unified as there."""
    files = [file for pattern in ("grants/*.yaml", "policy/*.cedar", SCHEMAS) for file in folder.glob(pattern)]
    return {file.relative_to(folder).as_posix(): file.read_text().replace("\r\n", "\n") for file in files}
