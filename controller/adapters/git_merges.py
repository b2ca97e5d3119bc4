"""Merges, rebases, reverts and comparisons in memory: from commits to a commit, with no work tree, no ref and no hook.

Every result is fixed by its arguments: identity, date and message are given, the author of a rebased change is kept
out of it. Merge drivers, filters and text converters that a repository asks for in its attributes are never run;
libgit2 knows none that start a program.
"""

from __future__ import annotations

from datetime import datetime

import pygit2
from pygit2.enums import SortMode

from controller.adapters.git_store import Identity, commit_of
from controller.adapters.git_trees import PLAIN, Comparison
from controller.domain.ids import Commit
from controller.errors import Permanent
from controller.ports import Candidate, Change, Conflict

MOST_PATHS = 100_000  # that both sides have changed


def merge(
    repository: pygit2.Repository, base: Commit, head: Commit, message: str, *, by: Identity, at: datetime
) -> Candidate | Conflict:
    mine, theirs = commit_of(repository, base), commit_of(repository, head)
    index = repository.merge_commits(mine.id, theirs.id)
    made = _candidate(repository, index, message, (base, head), by.signed(at))
    return _of(repository, made, mine.tree, theirs.tree)


def rebase(
    repository: pygit2.Repository, base: Commit, head: Commit, onto: Commit, *, by: Identity, at: datetime
) -> Candidate | Conflict:
    """The message is `head`'s, trailers included."""
    change, target = commit_of(repository, head), commit_of(repository, onto)
    index = repository.merge_trees(commit_of(repository, base).tree, target.tree, change.tree)
    made = _candidate(repository, index, change.message, (onto,), by.signed(at))
    return _of(repository, made, target.tree, change.tree)


def revert(
    repository: pygit2.Repository, bad: Commit, onto: Commit, message: str, *, by: Identity, at: datetime
) -> Candidate | Conflict:
    """A merge is undone as seen from its first parent: what it brought to the branch goes away."""
    undone, target = commit_of(repository, bad), commit_of(repository, onto)
    if not undone.parents:
        raise Permanent(f"commit {bad} is the first of its history", "Fix it forward: there is nothing to go back to")
    index = repository.merge_trees(undone.tree, target.tree, undone.parents[0].tree)
    made = _candidate(repository, index, message, (onto,), by.signed(at))
    return _of(repository, made, target.tree, undone.parents[0].tree)


def _candidate(
    repository: pygit2.Repository,
    index: pygit2.Index,
    message: str,
    parents: tuple[Commit, ...],
    signature: pygit2.Signature,
) -> Candidate | Conflict:
    if index.conflicts is not None:
        sides = (side for conflict in index.conflicts for side in conflict if side is not None)
        return Conflict(tuple(sorted({side.path for side in sides})))
    try:
        tree = index.write_tree(repository)
    except pygit2.GitError as no:
        raise Permanent(
            f"libgit2 cannot write what merging makes ({no}): an entry has a mode that git does not write any more",
            "Write that file with git add and commit, so that its mode is 100644 or 100755",
        ) from no
    commit = repository.create_commit(None, signature, signature, message, tree, list(parents))
    return Candidate(Commit(str(commit)), str(tree))


def _of(
    repository: pygit2.Repository, made: Candidate | Conflict, mine: pygit2.Tree, theirs: pygit2.Tree
) -> Candidate | Conflict:
    """Whatever is in neither of the trees that it is made of is a plain file or folder, in git's own spelling.

    libgit2 reads odd modes otherwise than git, and could make a file of a link, or the other way round.
    """
    if isinstance(made, Conflict):
        return made
    found = Comparison(repository, MOST_PATHS).compare(pygit2.Oid(hex=made.tree), [mine.id, theirs.id])
    odd = found.odd | {path for path, kind in found.written.items() if kind not in PLAIN}
    if odd:
        names = ", ".join(sorted(path.decode(errors="replace") for path in odd)[:3])
        raise Permanent(
            f"merging makes {len(odd)} links, submodules or odd modes that neither side has: {names}",
            "Write these files with git add and commit, so that their modes are 100644 or 100755",
        )
    return made


def behind(repository: pygit2.Repository, base: Commit, tip: Commit) -> int:
    walk = repository.walk(commit_of(repository, tip).id, SortMode.NONE)
    walk.simplify_first_parent()
    walk.hide(commit_of(repository, base).id)
    return sum(1 for _ in walk)


def change(repository: pygit2.Repository, base: Commit, head: Commit) -> Change:
    return change_between(commit_of(repository, base).tree, commit_of(repository, head).tree)


def change_between(base: pygit2.Tree, head: pygit2.Tree) -> Change:
    """A renamed file counts as two: the path that went and the path that came."""
    found = base.diff_to_tree(head)
    files = {side.path for delta in found.deltas for side in (delta.old_file, delta.new_file)}
    try:
        lines = found.stats.insertions + found.stats.deletions
    except pygit2.NotFoundError as no:
        raise Permanent(
            f"libgit2 cannot compare two trees ({no}): an entry has a mode that git does not write any more",
            "Remove that entry, or write it with git add and commit",
        ) from no
    return Change(tuple(sorted(files)), lines)


def diff(repository: pygit2.Repository, base: Commit, head: Commit, limit_bytes: int) -> str:
    """A unified diff of at most `limit_bytes`; its last line says so when something was cut off."""
    found = commit_of(repository, base).tree.diff_to_tree(commit_of(repository, head).tree)
    whole = bytearray()
    for patch in found:
        whole += b"" if patch is None else patch.data
        if len(whole) > limit_bytes:
            return _cut(bytes(whole), limit_bytes)
    return whole.decode(errors="replace")


def _cut(text: bytes, limit_bytes: int) -> str:
    note = f"\n[cut off: the diff is longer than {limit_bytes} bytes]\n"
    kept = text[: max(0, limit_bytes - len(note))].decode(errors="ignore")
    return (kept + note)[:limit_bytes]
