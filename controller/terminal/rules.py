"""Rule ids in plain words, for people who were not there when the rules were written.

An id without words is shown as it is.
"""

from __future__ import annotations

WORDS = {
    "only-the-merger-moves-main": "only the merge queue moves the branch that releases are made from",
    "main-moves-by-landing-only": "that branch moves by landing tested commits only",
    "landing-is-the-mergers": "landing is the merge queue's business",
    "releasing-is-the-releasers": "releasing is the releaser's business",
    "these-roles-only-watch-and-tell": "this role only watches and tells",
    "protected-path": "the path is protected in this repository, and a person's to change",
    "path-never-granted": "no agent may touch that path",
    "path-not-granted": "the path is not granted to this role",
    "outside-the-task": "the path is outside the task",
    "outside-the-sessions-repository": "the session works in another repository",
    "unknown-repository": "that repository is not open to it",
    "unknown-tool": "there is no such tool on its belt",
    "unknown-agent": "the agent is unknown",
    "unknown-environment": "that environment is unknown",
    "tainted-run-keeps-to-plain-files": "it has read text from outside, and keeps to plain files from then on",
    "tainted-run-moves-nothing-in-production": "it has read text from outside, and moves nothing in production",
    "tainted-run-with-secrets-stays-silent": "it has read outsiders' text and confidential records, and tells nobody",
    "tainted-run-proposes-no-policy": "it has read text from outside, and proposes no policy",
    "tainted-run-lends-no-authority": "whoever lent it authority has read text from outside",
    "promoting-is-for-whoever-is-on-call": "promoting is the business of whoever is on call",
    "programs-outside-stay-out-of-the-loop": "programs outside neither land nor build nor release",
    "insufficient-scope": "its token does not cover that tool",
    "rate-limit": "too many calls at once",
    "limits-unavailable": "nobody could tell how many calls there had been",
    "refused-too-often": "too many of its calls had been refused already",
    "tool-not-granted": "its role has no such tool",
    "no-permit": "nothing grants it",
    "engine-error": "the policy engine failed, which is a no",
}


def in_words(rules: tuple[str, ...]) -> str:
    """What the rules say, in one sentence."""
    return "; ".join(WORDS.get(rule, rule) for rule in rules)
