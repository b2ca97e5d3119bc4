"""Every tool and verb that can be granted, and the facts without which a call of it is not decided.

The names are those of the loop's verbs and of the tools on agents' belts; a test holds them against both. A name that
is not here is unknown, to grants and to calls alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Need(StrEnum):
    REPOSITORY = "repository"
    BRANCH = "branch"
    PATHS = "path"
    ENVIRONMENT = "environment"


class Direction(StrEnum):
    FORWARD = "forward"  # moves a change towards users
    SAFE = "safe"  # moves users away from a change, tells people, or changes nothing outside


class Role(StrEnum):
    INTAKE = "intake"
    AUTHOR = "author"
    CHECKER = "checker"
    REVIEWER = "reviewer"
    MERGER = "merger"
    RELEASER = "releaser"
    OBSERVER = "observer"
    RESPONDER = "responder"


@dataclass(frozen=True, slots=True)
class Tool:
    direction: Direction
    needs: frozenset[Need]


def _forward(*needs: Need) -> Tool:
    return Tool(Direction.FORWARD, frozenset(needs))


def _safe(*needs: Need) -> Tool:
    return Tool(Direction.SAFE, frozenset(needs))


VERBS: dict[str, Tool] = {
    "forge.push": _forward(Need.REPOSITORY, Need.BRANCH),
    "forge.open_pull_request": _forward(Need.REPOSITORY, Need.BRANCH),
    "forge.land": _forward(Need.REPOSITORY, Need.BRANCH),
    "forge.close_pull_request": _safe(Need.REPOSITORY),
    "forge.comment": _safe(Need.REPOSITORY),
    "ci.start": _forward(Need.REPOSITORY),
    "platform.build": _forward(Need.REPOSITORY, Need.ENVIRONMENT),
    "platform.start_canary": _forward(Need.ENVIRONMENT),
    "platform.set_weight": _forward(Need.ENVIRONMENT),
    "platform.confirm": _forward(Need.ENVIRONMENT),
    "platform.restore": _safe(Need.ENVIRONMENT),
    "chat.tell": _safe(),
}

AGENT_TOOLS: dict[str, Tool] = {
    "read_file": _safe(Need.REPOSITORY, Need.PATHS),
    "list_files": _safe(Need.REPOSITORY),
    "search": _safe(Need.REPOSITORY),
    "read_ci_failures": _safe(Need.REPOSITORY),
    "run_tests": _forward(Need.REPOSITORY),
    "edit_file": _forward(Need.REPOSITORY, Need.PATHS),
    "write_file": _forward(Need.REPOSITORY, Need.PATHS),
    "delete_file": _forward(Need.REPOSITORY, Need.PATHS),
    "git_push": _forward(Need.REPOSITORY, Need.BRANCH),
}

TOOLS: dict[str, Tool] = VERBS | AGENT_TOOLS
