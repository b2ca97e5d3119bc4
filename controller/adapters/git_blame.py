"""A file of a bare repository, each of its lines with who wrote it: git's blame, and the notes beside its commits."""

from __future__ import annotations

import pygit2
from pygit2.enums import BlameFlag

from controller.adapters.git_notes import note_of
from controller.adapters.git_store import Store, commit_of
from controller.domain.ids import Commit, Repository
from controller.errors import Permanent
from controller.provenance.blame import Known, Line, Row, rows
from controller.provenance.notes import LINES_REF, read


def blamed(store: Store, name: Repository, revision: str, path: str) -> list[Row]:
    """Raises Permanent for a revision or a file that there is not, and for a note that cannot be read."""
    repository = store.open(name)
    commit = _resolved(repository, revision)
    return rows(blame(repository, commit, path), lambda one: _known(repository, one))


def blame(repository: pygit2.Repository, revision: Commit, path: str) -> list[Line]:
    """Raises Permanent where there is no such text file."""
    tree = commit_of(repository, revision).tree
    blob = tree[path] if path in tree else None  # noqa: SIM401 - a tree has no get
    if not isinstance(blob, pygit2.Blob):
        raise Permanent(f"{revision[:12]} has no file {path!r}", "Name a file as it stands in the repository")
    if blob.is_binary:
        raise Permanent(f"{path} is no text", "Only lines can be blamed on somebody")
    texts = blob.data.decode(errors="replace").split("\n")
    hunks = repository.blame(path, flags=BlameFlag.NORMAL, newest_commit=revision)
    return [
        Line(
            number=hunk.final_start_line_number + offset,
            text=texts[hunk.final_start_line_number + offset - 1],
            commit=Commit(str(hunk.orig_commit_id)),
            path=hunk.orig_path or path,
            line=hunk.orig_start_line_number + offset,
        )
        for hunk in hunks
        for offset in range(hunk.lines_in_hunk)
    ]


def _known(repository: pygit2.Repository, commit: Commit) -> Known:
    note = note_of(repository, LINES_REF, commit)
    return Known(None if note is None else read(note), commit_of(repository, commit).message)


def _resolved(repository: pygit2.Repository, revision: str) -> Commit:
    try:
        return Commit(str(repository.revparse_single(revision).peel(pygit2.Commit).id))
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise Permanent(f"{revision[:100]!r} names no commit", "Name a commit, a branch or a tag") from error
