"""What a commit changes, as the gate decides it: every path on the way from where it left what it stands on.

The same look as git's door takes at a push, over a commit that is in the repository already.
"""

from __future__ import annotations

from pathlib import Path

from controller.adapters.git_changes import Pushed, changes_of
from controller.domain.ids import Commit
from controller.ports import Touched
from controller.provenance.identity import GitIdentity

MAX_COMMITS = 200  # as many as one push may bring
MAX_FILES = 5_000
NOTHING_CAME: frozenset[bytes] = frozenset()  # so nobody's identity is looked at: that was done when it came
NOBODY = GitIdentity("", "")


def touched(bare: Path, base: Commit, head: Commit) -> Touched:
    here = Pushed(bare, bare / "objects", NOTHING_CAME, NOBODY, max_commits=MAX_COMMITS, max_files=MAX_FILES)
    found = changes_of(here, head, base)
    return Touched(found.written, found.deleted, found.faults)
