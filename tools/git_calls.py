"""git's requests as calls that the desk decides: tools by the names that are granted, and what no push may have.

What is wrong with a push stands in its arguments, as counts that the schema holds to none. So the desk refuses it like
any other call that does not fit, and the log says which count it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controller.domain.decision import Claim, Decision, decide
from controller.domain.verbs import PushBranch
from controller.ports import Badge, Blocked, Done, Failed, Outcome, Pending, ToolDefinition, Unknown
from tools.belt import schema, text_schema
from tools.git_plumbing import Offer

PATHS_AT_ONCE = 1_000  # as many as one decision takes
NOT_THERE = "the branch is not where it was expected; fetch first"

FAULTS: Mapping[str, str] = {
    "other_refs": "a push moves one branch; this one moves {count} more",
    "deletions": "a push deletes nothing",
    "shallow_commits": "the clone is shallow; run git fetch --unshallow first",
    "broken_packs": "what came is not whole or not well-formed",
    "no_commits": "a branch points at a commit, and nothing else",
    "foreign_objects": "{count} objects neither came with the push nor are in branches that this session may read",
    "unrelated_commits": "its history does not begin in the protected branch's",
    "stray_objects": "{count} objects came that its commits do not reach",
    "signed_off": "{count} of its commits have a Signed-off-by, and agents never sign off; amend them",
    "forged_trailers": "{count} of its commits have trailers that code alone writes (Co-authored-by, Reviewed-by, "
    "Flyball-Delivery, Agent-Session and the like); take them out of the messages",
    "foreign_identities": "{count} of its commits name another author or committer than this session's: run "
    "git config user.name {name} && git config user.email {email}, then git rebase origin/main "
    "--exec 'git commit --amend --no-edit --reset-author'",
    "absurd_dates": "{count} of its commits have a date that cannot be; make them again with the clock set",
    "extra_headers": "{count} of its commits have a signature, an encoding or other headers; commit with "
    "-c commit.gpgSign=false -c i18n.commitEncoding=UTF-8",
    "unreadable_messages": "{count} of its commits have a message that is not UTF-8, is too long, or holds "
    "characters that cannot be seen; amend them",
    "secret_messages": "{count} of its commits have a message that holds what looks like a secret; amend them, and "
    "have the secret changed if it is one",
    "odd_parents": "{count} of its commits have one parent twice, or more than 16; make them again",
    "odd_modes": "it has {count} new entries that are empty folders, or of a mode other than 40000, 100644 and 100755",
    "links": "it adds or changes {count} symlinks; use regular files",
    "submodules": "it adds or changes {count} submodules; leave them as they are",
    "excess_bytes": "it is too large, at {count} bytes or more",
    "deep_deltas": "its deltas stand {count} deep on each other; push with -c pack.depth=50",
    "excess_objects": "it has too many objects, {count} or more",
    "excess_commits": "it has too many commits that are new, {count} or more",
    "excess_files": "it changes too many files, {count} or more",
}
WHICH = [f"path_{at}" for at in range(PATHS_AT_ONCE)]

GIT_FETCH = ToolDefinition(
    "git_fetch",
    "Fetch the protected branch and the session's own branches with git.",
    schema(("repository",), repository=text_schema(minLength=1, maxLength=200)),
    tool_class="read",
    repository_argument="repository",
)
GIT_PUSH = ToolDefinition(
    "git_push",
    "Push one branch with git. The counts are of what no push may have.",
    schema(
        ("repository", "branch"),
        repository=text_schema(minLength=1, maxLength=200),
        branch=text_schema(),
        **{fault: {"type": "integer", "maximum": 0} for fault in FAULTS},
    ),
    tool_class="effect",
    repository_argument="repository",
    branch_argument="branch",
)
WITHOUT_EFFECT = replace(GIT_PUSH, tool_class="read")  # a push that was allowed and did not come to an effect


def _of_files(name: str, tool_class: str) -> ToolDefinition:
    """The tool of this name on the workspace's belt, asked about many files at once."""
    properties = {which: text_schema() for which in WHICH}
    return ToolDefinition(name, "Files in git.", schema((), **properties), tool_class, path_arguments=tuple(WHICH))


READ_FILES = _of_files("read_file", "read")
WRITE_FILES = _of_files("write_file", "contained")
DELETE_FILES = _of_files("delete_file", "contained")


def told(outcome: Outcome) -> str:
    match outcome:
        case Done():
            return ""
        case Pending():
            return "the same push is under way; push again in some seconds to hear how it ended"
        case Blocked():
            return "pushing is stopped from outside at the moment"
        case Failed():
            return NOT_THERE
        case Unknown():
            return "nobody knows whether the push went through; a person will look"


def decision_on(badge: Badge, verb: PushBranch, offer: Offer, rules: tuple[str, ...]) -> Decision:
    touched = f"{len(offer.written)} paths written and {len(offer.deleted)} deleted in {offer.commits} commits"
    return decide(
        f"Move {verb.branch} to what session {badge.session} pushed with git?",
        "push",
        over={"refuse it": "the branch is the session's own, and each path is one that it may change"},
        because=(Claim(text=f"{verb.commit[:12]}: {touched}", evidence=f"commit {verb.commit}"),),
        would_change="another branch, a path outside the task or kept from agents, a link, or a branch that has moved",
        fallback=f"push {verb.expect or 'nothing'} to {verb.branch}; nothing lands from it without the merge queue",
        rules=tuple(dict.fromkeys(rules)),
    )
