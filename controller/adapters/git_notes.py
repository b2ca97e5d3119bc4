"""Notes beside commits in a bare repository: what they are to say of a landing, and how they are written.

A notes ref names a commit whose tree holds a blob for each annotated commit, under the commit's own name, split into
folders of two digits. git reads any depth of splitting, flat trees and mixtures; this writes one level, so that ten
thousand notes cost a note two trees of a few kilobytes and not one of a megabyte. A note is replaced where it stands,
and what stood there before stays in the ref's history. Refs are left to the caller, who moves them under the lock.

The lines of a landing are noted beside the commits that brought them, which is where `git blame` finds them; the merge
itself brought none, and its note says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pygit2
from pygit2.enums import FileMode, SortMode

from controller.adapters.git_refs import RefMove
from controller.adapters.git_store import Identity, commit_of, ref_value
from controller.domain.ids import Commit
from controller.domain.verbs import AnnotateCommit, Annotated, Author
from controller.errors import Permanent
from controller.provenance.notes import LINES_REF, STATEMENTS_REF, lines_note

MAX_COMMITS = 1_000  # of one landing; a push through the door has 200 at most
MAX_NOTE_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 19  # folders of two digits above the last two of a name
_HEX = 40


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the notes are to say once a landing is annotated."""

    notes: Mapping[str, Mapping[Commit, str]]  # by ref
    result: Annotated


def wanted(repository: pygit2.Repository, verb: AnnotateCommit) -> Wanted:
    """Fixed by the commits and the verb: who looks later computes the same."""
    commit_of(repository, verb.commit)
    lines: dict[Commit, str] = {}
    agent_lines = 0
    for commit, author in _brought(repository, verb).items():
        added = _added(repository, repository[commit].peel(pygit2.Commit))
        agent_lines += sum(len(found) for found in added.values())
        lines[commit] = lines_note(commit, author, added)
    lines.setdefault(verb.commit, lines_note(verb.commit, None, {}))
    notes = {LINES_REF: lines, STATEMENTS_REF: {verb.commit: f"{verb.envelope}\n"}}
    return Wanted(notes, Annotated(agent_lines=agent_lines, commits=len(lines)))


def found(repository: pygit2.Repository, verb: AnnotateCommit) -> Annotated | None:
    """None: some note is not there, or says something else."""
    asked = wanted(repository, verb)
    every = ((ref, commit, text) for ref, notes in asked.notes.items() for commit, text in notes.items())
    return asked.result if all(note_of(repository, ref, commit) == text for ref, commit, text in every) else None


def annotating(
    repository: pygit2.Repository, verb: AnnotateCommit, by: Identity, at: datetime
) -> tuple[Annotated, list[RefMove]]:
    """The moves of the notes' refs that make it so; none where it is so already."""
    asked = wanted(repository, verb)
    moves = []
    for ref, notes in asked.notes.items():
        missing = {commit: text for commit, text in notes.items() if note_of(repository, ref, commit) != text}
        if missing:
            moves.append(_noting(repository, ref, missing, by, at))
    return asked.result, moves


def note_of(repository: pygit2.Repository, ref: str, commit: Commit) -> str | None:
    """None: there is none. Text that is no UTF-8 comes with replacement characters, and is like no note of ours."""
    tip = ref_value(repository, ref)
    blob = None if tip is None else _blob(commit_of(repository, tip).tree, commit)
    if blob is None:
        return None
    if blob.size > MAX_NOTE_BYTES:
        raise Permanent(
            f"the note of {commit} in {ref} has {blob.size} bytes, more than {MAX_NOTE_BYTES}",
            f"Remove it with: git notes --ref {ref} remove {commit}",
        )
    return blob.data.decode(errors="replace")


# --- whose commits a landing brought ---------------------------------------------------------------


def _brought(repository: pygit2.Repository, verb: AnnotateCommit) -> dict[Commit, Author]:
    """Commits that are new with this landing and that the log gives to a session, merges left out."""
    base = commit_of(repository, verb.base).id
    found: dict[Commit, Author] = {}
    for author in verb.authors:
        walk = repository.walk(commit_of(repository, author.head).id, SortMode.TOPOLOGICAL)
        walk.hide(base)
        for commit in walk:
            if len(found) >= MAX_COMMITS:
                raise Permanent(
                    f"{verb.commit} brings more than {MAX_COMMITS} commits", "Land it in parts: each is noted by itself"
                )
            if len(commit.parents) <= 1:
                found.setdefault(Commit(str(commit.id)), author)
    return found


def _added(repository: pygit2.Repository, commit: pygit2.Commit) -> dict[str, list[int]]:
    """The lines that a commit adds to each text file, as it numbers them. No line of context is looked at."""
    empty = repository[repository.TreeBuilder().write()].peel(pygit2.Tree)
    before = commit.parents[0].tree if commit.parents else empty
    found: dict[str, list[int]] = {}
    for patch in before.diff_to_tree(commit.tree, context_lines=0):
        if patch is None or patch.delta.is_binary or patch.delta.new_file.mode == FileMode.COMMIT:
            continue
        lines = [line.new_lineno for hunk in patch.hunks for line in hunk.lines if line.origin == "+"]
        if lines:
            found[patch.delta.new_file.path] = lines
    return found


# --- a notes tree ----------------------------------------------------------------------------------


def _noting(
    repository: pygit2.Repository, ref: str, notes: Mapping[Commit, str], by: Identity, at: datetime
) -> RefMove:
    old = ref_value(repository, ref)
    tree = None if old is None else commit_of(repository, old).tree
    for commit, text in notes.items():
        tree = _with(repository, tree, commit, repository.create_blob(text.encode()))
    if tree is None:
        raise ValueError("there is nothing to note")
    signature = by.signed(at)
    message = "Notes added by Flyball\n"
    new = repository.create_commit(None, signature, signature, message, tree.id, [] if old is None else [old])
    return RefMove(ref, old, Commit(str(new)))


def _with(repository: pygit2.Repository, tree: pygit2.Tree | None, name: str, blob: pygit2.Oid) -> pygit2.Tree:
    """The tree with this note where one stands already, or else one folder down. `tree` None: there is none yet."""
    place = None if tree is None else next(_places(tree, name), None)
    parts = place or (name[:2], name[2:])
    return _replaced(repository, tree, parts, blob)


def _replaced(
    repository: pygit2.Repository, tree: pygit2.Tree | None, parts: tuple[str, ...], blob: pygit2.Oid
) -> pygit2.Tree:
    builder = repository.TreeBuilder() if tree is None else repository.TreeBuilder(tree)
    if len(parts) == 1:
        builder.insert(parts[0], blob, FileMode.BLOB)
    else:
        inner = tree[parts[0]] if tree is not None and parts[0] in tree else None
        below = inner if isinstance(inner, pygit2.Tree) else None
        builder.insert(parts[0], _replaced(repository, below, parts[1:], blob).id, FileMode.TREE)
    return repository[builder.write()].peel(pygit2.Tree)


def _blob(tree: pygit2.Tree, name: str) -> pygit2.Blob | None:
    """None: nothing is noted under this name."""
    found: pygit2.Object = tree
    for part in next(_places(tree, name), ()):
        found = found.peel(pygit2.Tree)[part]
    return found if isinstance(found, pygit2.Blob) else None


def _places(tree: pygit2.Tree, name: str) -> Iterator[tuple[str, ...]]:
    """Where a note stands: under what is left of its name, in folders named by the digits before."""
    if name in tree and isinstance(tree[name], pygit2.Blob):
        yield (name,)
    if len(name) > _HEX - 2 * MAX_DEPTH and name[:2] in tree:
        inner = tree[name[:2]]
        if isinstance(inner, pygit2.Tree):
            for rest in _places(inner, name[2:]):
                yield (name[:2], *rest)
