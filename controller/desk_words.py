"""What an agent is told of a no: its own repository, branch and paths, and nothing else that there may be."""

from __future__ import annotations

import json

from controller.ports import Badge

FINAL = "Refusals are final: go on without it."
MAX_TOLD_VALUE = 120  # characters of a refused value that are told back

_OF_PATHS = {
    "protected-path": "is protected in this repository and a person's to change",
    "path-never-granted": "is kept from agents",
    "tainted-run-keeps-to-plain-files": "is not for a run that has read text from outside",
    "path-not-granted": "is not granted",
}
_OF_RUNS = {
    "insufficient-scope": "This token does not cover that tool.",
    "tainted-run-moves-nothing-in-production": "A run that has read text from outside moves nothing in production.",
    "tainted-run-with-secrets-stays-silent": "A run that has read outsiders' text and confidential records is silent.",
    "tainted-run-proposes-no-policy": "A run that has read text from outside proposes no policy.",
    "tainted-run-lends-no-authority": "Whoever lent this session its authority has read text from outside.",
}


def shown(value: str) -> str:
    """A value of the agent's own, short and on one line."""
    text = json.dumps(value[:MAX_TOLD_VALUE], ensure_ascii=True)
    return text if len(value) <= MAX_TOLD_VALUE else f"{text}..."


def not_open(repository: str, own: str) -> str:
    """Of any repository but the session's own, whether there is such a repository or not."""
    return f"Repository {shown(repository)} is not open to this session; it works in {own} only."


def no_such_tool(name: str) -> str:
    """Of a tool that there is not, and of one that is not for this agent."""
    return f"There is no tool {shown(name)} on this belt."


def words_for(
    badge: Badge,
    tool: str,
    rules: tuple[str, ...],
    *,
    repository: str | None,
    branch: str | None,
    environment: str | None,
    paths: tuple[str, ...],
) -> str:
    """Of a no by the grants. None: the call names no repository, no branch, no environment."""
    if repository not in (None, badge.repository):
        return not_open(str(repository), badge.repository)
    if branch not in (None, badge.branch):
        return f"Branch {shown(str(branch))} is not this session's; its own branch is {badge.branch}."
    if (words := _of_the_run(rules)) is not None:
        return words
    what = shown(paths[0]) if paths else shown(environment) if environment else tool
    if (of_path := next((told for rule, told in _OF_PATHS.items() if rule in rules), None)) is not None:
        return f"{what} {of_path}."
    if "outside-the-task" in rules:
        return f"{what} is outside this task, which may change {', '.join(badge.allowed[:10])} only."
    return f"{what} is not allowed here."


def _of_the_run(rules: tuple[str, ...]) -> str | None:
    """None: what was refused is not because of the run."""
    if any(rule.startswith("chain/") for rule in rules):
        return "Whoever lent this session its authority may not do that."
    return next((told for rule, told in _OF_RUNS.items() if rule in rules), None)
