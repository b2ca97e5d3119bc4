"""What a commit changes, as the gate decides it: every path on the way from where it left what it stands on.

The same look as git's door takes at a push, over a commit that is in the repository already; and one more, over the
whole tree: a new name must not pass for another one in its folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pygit2

from controller.adapters.git_changes import changes_of
from controller.domain.ids import Commit
from controller.ports import Touched
from rbac.lookalikes import twins

MAX_COMMITS = 200  # as many as one push may bring
MAX_FILES = 5_000


def touched(bare: Path, base: Commit, head: Commit) -> Touched:
    found = changes_of(bare, head, base, max_commits=MAX_COMMITS, max_files=MAX_FILES)
    if found.faults:
        return Touched(found.written, found.deleted, found.faults)
    repository = pygit2.Repository(str(bare))
    before, after = (_tree(repository, one) for one in (str(repository.merge_base(base, head)), head))
    return Touched(found.written, found.deleted, twins=tuple(_twins(before, after, found.written)))


def _tree(repository: pygit2.Repository, commit: str) -> pygit2.Tree:
    return repository[commit].peel(pygit2.Tree)


def _twins(before: pygit2.Tree, after: pygit2.Tree, written: Sequence[str]) -> Iterator[str]:
    """New names, folders among them, that look like another in the folder that they are in."""
    new: dict[str, set[str]] = {}
    for path in written:
        segments = path.split("/")
        for at in range(len(segments)):
            if not _has(before, "/".join(segments[: at + 1])):
                new.setdefault("/".join(segments[:at]), set()).add(segments[at])
    for folder, names in sorted(new.items()):
        for name in twins(sorted(names), _names(after, folder)):
            yield f"{folder}/{name}" if folder else name


def _has(tree: pygit2.Tree, path: str) -> bool:
    try:
        return path in tree
    except UnicodeEncodeError:
        return False  # a name that is not UTF-8, which its spelling refuses


def _names(tree: pygit2.Tree, folder: str) -> list[str]:
    """Of one folder. Empty: `after` has it no more, for one commit has added it and another taken it away."""
    try:
        found = tree[folder] if folder else tree
    except (KeyError, UnicodeEncodeError):
        return []
    return [os.fsdecode(entry.raw_name or b"") for entry in found] if isinstance(found, pygit2.Tree) else []
