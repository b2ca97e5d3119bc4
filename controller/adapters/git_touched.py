"""What a commit changes, as the gate decides it: every path on the way from where it left what it stands on.

The same look as git's door takes at a push, over a commit that is in the repository already.
"""

from __future__ import annotations

from pathlib import Path

from controller.adapters.git_changes import changes_of
from controller.domain.ids import Commit
from controller.ports import Touched
from controller.provenance.identity import GitIdentity

MAX_COMMITS = 200  # as many as one push may bring
MAX_FILES = 5_000
NOBODY = GitIdentity("", "")  # nothing of it came from outside just now, so nobody's name is held against it


def touched(bare: Path, base: Commit, head: Commit) -> Touched:
    found = changes_of(bare, head, base, max_commits=MAX_COMMITS, max_files=MAX_FILES)
    return Touched(found.written, found.deleted, found.faults)
