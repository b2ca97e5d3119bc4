"""Every path that a commit changes is decided here, whoever made the commit and by whichever door it comes.

What is decided is the tree as git has it: all paths that differ from what the commit stands on, both ends of a renaming
and changes of mode among them, on the way as well as at the end. Names of a call, of a report or of a message decide
nothing. A commit in which one path is refused is refused as a whole, with the rule and the path.

Who asks says under which identity: the desk for a session, the gate for whoever moves a branch, git's door for a push.
A decision over many paths is no more than all of theirs, so they are asked together and taken apart only to name the
one that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from controller.errors import PathRefused, Refused
from controller.ports import Touched
from rbac import canonical
from rbac.model import Decision

MOST_AT_ONCE = 500  # paths in one question
NAMED = 5  # patterns, in words
FAULTS: Mapping[str, str] = {
    "links": "it adds or changes {count} symbolic links; use regular files",
    "submodules": "it adds or changes {count} submodules; leave them as they are",
    "odd_modes": "{count} of its entries have a mode that git gives to no file",
    "unrelated_commits": "its history does not begin in the protected branch's",
    "signed_off": "{count} of its commits have a Signed-off-by, and agents never sign off",
    "excess_commits": "it has too many commits that are new, {count} or more",
    "excess_files": "it changes too many files, {count} or more",
}
Ask = Callable[[Sequence[str]], Decision]


def refused_among(paths: Sequence[str], ask: Ask) -> Iterator[tuple[str, Decision]]:
    """Each path that is refused, with its decision, in order. What is allowed together is asked once."""
    for start in range(0, len(paths), MOST_AT_ONCE):
        yield from _refused(paths[start : start + MOST_AT_ONCE], ask)


def _refused(paths: Sequence[str], ask: Ask) -> Iterator[tuple[str, Decision]]:
    decision = ask(paths)
    if decision.allowed:
        return
    if len(paths) == 1:
        yield paths[0], decision
        return
    half = len(paths) // 2
    yield from _refused(paths[:half], ask)
    yield from _refused(paths[half:], ask)


def decide_commit(touched: Touched, write: Ask, delete: Ask) -> tuple[str, ...]:
    """The rules by which every path was allowed. Raises PathRefused, with the first path that is not and its rule."""
    for fault, count in touched.faults.items():
        if count:
            words = FAULTS.get(fault, f"it has {{count}} {fault}").format(count=count)
            raise PathRefused(f"the commit is not taken: {words}", rules=(f"commit/{fault.replace('_', '-')}",))
    for path in touched.twins:
        raise PathRefused(
            f"{named(path)} looks like another name in its folder", "Name it otherwise", rules=("path/confusable",)
        )
    rules: dict[str, None] = {}
    for paths, ask in ((touched.written, write), (touched.deleted, delete)):
        for path, decision in refused_among(paths, _noted(ask, rules)):
            no = PathRefused(f"{named(path)} may not be changed: {decision.reason}", rules=decision.rules)
            no.path, no.deletes = path, ask is delete and paths is touched.deleted
            raise no
    return tuple(rules)


def _noted(ask: Ask, rules: dict[str, None]) -> Ask:
    def asked(paths: Sequence[str]) -> Decision:
        decision = ask(paths)
        if decision.allowed:
            rules.update(dict.fromkeys(decision.rules))
        return decision

    return asked


def named(path: str) -> str:
    """A path for the log: one that is in no accepted spelling is somebody's free text, and is not repeated."""
    try:
        return canonical.path(path)
    except Refused:
        return "a path that is in no accepted spelling"


def in_words(touched: Touched, inside: Sequence[str]) -> str:
    """What was decided, for the record. `inside`: patterns that all paths had to match; empty: none but the grants'."""
    count = len({*touched.written, *touched.deleted})
    where = ", ".join(inside[:NAMED]) + (", ..." if len(inside) > NAMED else "")
    return f"{count} {'path' if count == 1 else 'paths'}" + (f" inside {where}" if where else "")
