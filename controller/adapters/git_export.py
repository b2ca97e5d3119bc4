"""A commit's tree as plain files, with nothing in it run: no hooks, no filters, no links followed."""

from __future__ import annotations

from pathlib import Path

from controller.adapters.git_store import Store, commit_of
from controller.adapters.git_workspaces import lay_out
from controller.domain.ids import Commit, Repository


def export(store: Store, repository: Repository, commit: Commit, dest: Path) -> None:
    """Into an empty folder. Raises Permanent: there is no such commit."""
    lay_out(commit_of(store.open(repository), commit).tree, dest)
