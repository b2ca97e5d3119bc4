"""Commits of one simulated repository: trees of path to text, named by what is in them."""

from __future__ import annotations

import difflib
import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain.ids import Commit, Repository, canonical
from controller.errors import Permanent
from controller.sim.merging import Tree

CUT = "\n[the diff is cut off here]\n"


@dataclass(frozen=True, slots=True)
class SimCommit:
    id: Commit
    tree: Mapping[str, str]
    parents: tuple[Commit, ...]
    message: str
    generation: int  # longest way to a root: a commit is never an ancestor of one with a smaller number


@dataclass
class History:
    repository: Repository
    commits: dict[Commit, SimCommit] = field(default_factory=dict)

    def of(self, commit: Commit) -> SimCommit:
        found = self.commits.get(commit)
        if found is None:
            raise Permanent(f"{self.repository} has no commit {commit}", "Push it first")
        return found

    def make(self, tree: Tree, parents: tuple[Commit, ...], message: str, at: datetime) -> SimCommit:
        named = {"tree": tree_id(tree), "parents": list(parents), "message": message, "at": at.isoformat()}
        commit = Commit(hashlib.sha1(canonical(named), usedforsecurity=False).hexdigest())
        generation = max((self.of(parent).generation + 1 for parent in parents), default=0)
        return self.commits.setdefault(commit, SimCommit(commit, dict(tree), parents, message, generation))

    def contains(self, commit: Commit, ancestor: Commit) -> bool:
        goal = self.of(ancestor)
        seen, ahead = {commit}, [self.of(commit)]
        while ahead:
            one = ahead.pop()
            if one.id == ancestor:
                return True
            for parent in one.parents:
                if parent not in seen and self.of(parent).generation >= goal.generation:
                    seen.add(parent)
                    ahead.append(self.of(parent))
        return False

    def common(self, one: Commit, other: Commit) -> SimCommit | None:
        """The newest commit that both contain; the oldest name where there are several. None: they share no history."""
        sides: dict[Commit, int] = {}
        ahead: list[tuple[int, Commit, int]] = []
        for commit, side in ((one, 1), (other, 2)):
            heapq.heappush(ahead, (-self.of(commit).generation, commit, side))
        while ahead:
            _, commit, side = heapq.heappop(ahead)
            before = sides.get(commit, 0)
            if before | side == before:
                continue
            sides[commit] = before | side
            if sides[commit] == 3:  # noqa: PLR2004 - both sides
                return self.of(commit)
            for parent in self.of(commit).parents:
                heapq.heappush(ahead, (-self.of(parent).generation, parent, side))
        return None

    def first_parents(self, tip: Commit) -> list[SimCommit]:
        """From the tip back to the root."""
        found = [self.of(tip)]
        while found[-1].parents:
            found.append(self.of(found[-1].parents[0]))
        return found

    def between(self, base: Commit, tip: Commit) -> int:
        """First-parent commits from `tip` back to the first one that `base` contains."""
        count = 0
        for one in self.first_parents(tip):
            if self.contains(base, one.id):
                return count
            count += 1
        return count


def tree_id(tree: Tree) -> str:
    return hashlib.sha1(canonical({"tree": dict(tree)}), usedforsecurity=False).hexdigest()


def changed_files(before: Tree, after: Tree) -> tuple[str, ...]:
    return tuple(path for path in sorted({*before, *after}) if before.get(path) != after.get(path))


def diff_lines(before: Tree, after: Tree, path: str) -> list[str]:
    """Unified diff of one path, with its lines' ends."""
    old, new = before.get(path, "").splitlines(keepends=True), after.get(path, "").splitlines(keepends=True)
    return list(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))


def lines_changed(before: Tree, after: Tree, path: str) -> int:
    """Lines added and lines removed."""
    return sum(line[0] in "+-" for line in diff_lines(before, after, path)[2:])


def cut_to(text: str, limit_bytes: int) -> str:
    raw = text.encode()
    if len(raw) <= limit_bytes:
        return text
    return raw[: limit_bytes - len(CUT.encode())].decode(errors="ignore") + CUT
