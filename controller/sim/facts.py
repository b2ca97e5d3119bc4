"""What the simulated world's changes are: statuses, roles and lines of its trees, by the same names as in the real one.

Its files are scraps, not programs, so nothing in them is parsed: a test file that came or changed counts as one that
asserts something new, and one that went as weakened. What the analyser makes of real texts is tested where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.domain.change import ChangeFacts, FileFact, FileStatus, Finding, Role
from controller.domain.ids import Commit, Repository
from controller.facts.roles import roles_of
from controller.sim.forge import SimForge
from controller.sim.history import changed_files, diff_lines
from controller.sim.merging import Tree


class SimFacts:
    """`Facts` over a `SimForge`."""

    def __init__(self, forge: SimForge) -> None:
        self._forge = forge

    async def of(self, repository: Repository, base: Commit, head: Commit, task: str) -> ChangeFacts:
        del task
        history = self._forge.repository(repository).history
        before, after = history.of(base).tree, history.of(head).tree
        files = tuple(_fact(before, after, path) for path in changed_files(before, after))
        tests = [one for one in files if Role.TEST in one.roles]
        gone = [one for one in tests if one.status is FileStatus.DELETED]
        return ChangeFacts(
            files=files,
            tests_touched=tuple(Finding(rule=_rule(one.status), path=one.path) for one in tests),
            irreversible=tuple(_steps(after, files)),
            weakened=tuple(Finding(rule="weakened/test-removed", path=one.path) for one in gone),
        )


def _steps(after: Tree, files: tuple[FileFact, ...]) -> Iterator[Finding]:
    """A migration that drops something, at its first line."""
    for one in files:
        if Role.MIGRATION in one.roles and "DROP" in after.get(one.path, ""):
            yield Finding(rule="irreversible/drop", path=one.path, line=1)


def _fact(before: Tree, after: Tree, path: str) -> FileFact:
    status = FileStatus.ADDED if path not in before else FileStatus.DELETED if path not in after else FileStatus.CHANGED
    lines = [line for line in diff_lines(before, after, path) if not line.startswith(("+++", "---"))]
    return FileFact(
        path=path,
        status=status,
        bytes_after=len(after.get(path, "").encode()),
        lines_added=sum(line.startswith("+") for line in lines),
        lines_removed=sum(line.startswith("-") for line in lines),
        roles=tuple(sorted(roles_of(path))),
    )


def _rule(status: FileStatus) -> str:
    return {FileStatus.ADDED: "test/added", FileStatus.DELETED: "test/removed"}.get(status, "test/changed")
