"""Changed trees from texts, as git would tell them, and what the analysis says of them in short."""

from __future__ import annotations

from difflib import SequenceMatcher
from textwrap import dedent

from controller.domain.change import FileStatus
from controller.facts.analyse import analysis_of
from controller.facts.tree import Analysis, ChangedFile, ChangedTree


def changed(path: str, before: str | None, after: str | None, *, was: str | None = None) -> ChangedFile:
    """`before=None`: new. `after=None`: gone. Texts are dedented."""
    old, new = (None if one is None else dedent(one).lstrip("\n") for one in (before, after))
    lines = (old or "").splitlines(), (new or "").splitlines()
    added, removed = list[int](), list[int]()
    for kind, i, j, k, end in SequenceMatcher(None, *lines, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += range(i + 1, j + 1)
            added += range(k + 1, end + 1)
    return ChangedFile(
        path=path,
        status=_status(old, new, was),
        was=was,
        before=old,
        after=new,
        added=tuple(added),
        removed=tuple(removed),
        lines_added=len(added),
        lines_removed=len(removed),
        bytes_after=len((new or "").encode()),
    )


def _status(old: str | None, new: str | None, was: str | None) -> FileStatus:
    if was is not None:
        return FileStatus.RENAMED
    return FileStatus.ADDED if old is None else FileStatus.DELETED if new is None else FileStatus.CHANGED


def found(*files: ChangedFile, task: str = "Make it better", public: bool = True, owners: str = "") -> Analysis:
    return analysis_of(ChangedTree(task=task, files=files, public=public, owners=owners))


def weakened(analysis: Analysis) -> list[str]:
    """Rules of what proves less and was not asked for, without their first word."""
    return [one.rule.removeprefix("weakened/") for one in analysis.weakened if not one.asked]


def touched(analysis: Analysis) -> list[str]:
    return [one.rule.removeprefix("test/") for one in analysis.tests_touched]
