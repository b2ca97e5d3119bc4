"""Every tool and verb that can be granted, and the facts without which a call of it is not decided.

The names are those of the loop's verbs and of the tools on agents' belts; a test holds them against both. Tools of
other servers join them under `<mount>__<tool>` when an authority is made, never here. A name that is in neither is
unknown, to grants and to calls alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

from controller.errors import ConfigError

MOUNTED_NAME = re.compile(r"(?P<mount>[a-z][a-z0-9-]*)__[A-Za-z0-9_-]{1,64}")


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
    # Of programs outside: a coding agent, an assistant of whoever is on call, one of whoever reviews.
    CONTRIBUTOR = "contributor"
    ON_CALL = "on-call"
    COMPLIANCE = "compliance"


class Sensitivity(IntEnum):
    """Of what a tool gives back."""

    PUBLIC = 0
    INTERNAL = 1  # the organisation's own: code, CI, counts
    CONFIDENTIAL = 2  # reasons, records of people and agents


@dataclass(frozen=True, slots=True)
class Tool:
    """What rules are made over. The annotations are those that a reviewer of agents asks about first."""

    direction: Direction
    needs: frozenset[Need]
    scope: str = ""  # of tokens: "<belt>:read" or "<belt>:write". "": a verb of the loop, which no token reaches
    production_impacting: bool = False  # it changes what users meet
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    broadcasts: bool = False  # words of the caller's choosing reach people or systems beyond its own sandbox
    taints: bool = False  # it gives back text by somebody outside
    reads: bool = False  # of mounted tools, whose action is made from this: it changes nothing over there


def _forward(*needs: Need, **annotations: Any) -> Tool:
    return Tool(Direction.FORWARD, frozenset(needs), **annotations)


def _safe(*needs: Need, **annotations: Any) -> Tool:
    return Tool(Direction.SAFE, frozenset(needs), **annotations)


VERBS: dict[str, Tool] = {
    "forge.push": _forward(Need.REPOSITORY, Need.BRANCH),
    "forge.open_pull_request": _forward(Need.REPOSITORY, Need.BRANCH, broadcasts=True),
    "forge.land": _forward(Need.REPOSITORY, Need.BRANCH, production_impacting=True),
    "forge.close_pull_request": _safe(Need.REPOSITORY),
    "forge.comment": _safe(Need.REPOSITORY, broadcasts=True),
    "forge.annotate": _safe(Need.REPOSITORY),
    "ci.start": _forward(Need.REPOSITORY),
    "platform.build": _forward(Need.REPOSITORY, Need.ENVIRONMENT),
    "platform.start_canary": _forward(Need.ENVIRONMENT, production_impacting=True),
    "platform.set_weight": _forward(Need.ENVIRONMENT, production_impacting=True),
    "platform.confirm": _forward(Need.ENVIRONMENT, production_impacting=True),
    "platform.restore": _safe(Need.ENVIRONMENT, production_impacting=True),
    "chat.tell": _safe(broadcasts=True),
    "mount.call": _forward(Need.REPOSITORY, broadcasts=True),
}

_CONFIDENTIAL = Sensitivity.CONFIDENTIAL
AGENT_TOOLS: dict[str, Tool] = {
    "read_file": _safe(Need.REPOSITORY, Need.PATHS, scope="workspace:read"),
    "list_files": _safe(Need.REPOSITORY, scope="workspace:read"),
    "search": _safe(Need.REPOSITORY, scope="workspace:read"),
    "run_tests": _forward(Need.REPOSITORY, scope="workspace:write"),
    "edit_file": _forward(Need.REPOSITORY, Need.PATHS, scope="workspace:write"),
    "write_file": _forward(Need.REPOSITORY, Need.PATHS, scope="workspace:write"),
    "delete_file": _forward(Need.REPOSITORY, Need.PATHS, scope="workspace:write"),
    "git_fetch": _safe(Need.REPOSITORY, scope="forge:read"),
    "git_push": _forward(Need.REPOSITORY, Need.BRANCH, scope="forge:write"),
    "read_pull_request": _safe(Need.REPOSITORY, Need.BRANCH, scope="forge:read"),
    "open_pull_request": _forward(Need.REPOSITORY, Need.BRANCH, scope="forge:write", broadcasts=True),
    "comment": _safe(Need.REPOSITORY, scope="forge:write", broadcasts=True),
    "request_revert": _safe(Need.REPOSITORY, scope="forge:write"),
    "read_ci_failures": _safe(Need.REPOSITORY, scope="ci:read"),
    "read_ci_results": _safe(Need.REPOSITORY, scope="ci:read"),
    "read_ci_log": _safe(Need.REPOSITORY, scope="ci:read"),
    "rerun_ci": _forward(Need.REPOSITORY, scope="ci:write"),
    "query_telemetry": _safe(Need.ENVIRONMENT, scope="telemetry:read"),
    "read_deployment": _safe(Need.ENVIRONMENT, scope="deploy:read"),
    "hold_release": _safe(Need.ENVIRONMENT, scope="deploy:write"),
    "promote": _forward(Need.ENVIRONMENT, scope="deploy:write", production_impacting=True),
    "roll_back": _safe(Need.ENVIRONMENT, scope="deploy:write", production_impacting=True),
    "record_reasoning": _safe(scope="ledger:write"),
    "read_own_record": _safe(scope="ledger:read", sensitivity=_CONFIDENTIAL),
    "read_policy": _safe(scope="policy:read"),
    "propose_policy": _safe(scope="policy:write"),
}

TOOLS: dict[str, Tool] = VERBS | AGENT_TOOLS
SCOPES: tuple[str, ...] = tuple(sorted({tool.scope for tool in AGENT_TOOLS.values()}))


def mount_scope(mount: str) -> str:
    """The one scope of a mount's tools."""
    return f"mount:{mount}"


def with_mounted(mounted: Mapping[str, Tool]) -> Mapping[str, Tool]:
    """Every name that there is for one authority. Raises ConfigError for a mounted tool that could pass for another."""
    for name, tool in mounted.items():
        _check_mounted(name, tool)
    return MappingProxyType(TOOLS | dict(mounted))


def _check_mounted(name: str, tool: Tool) -> None:
    spelling = MOUNTED_NAME.fullmatch(name)
    if name in TOOLS:
        raise ConfigError(f"mounted tool {name!r} is called like one of Flyball's own", "Mount it under another name")
    if spelling is None:
        raise ConfigError(f"mounted tool {name!r} is not named <mount>__<tool>", f"Name it by {MOUNTED_NAME.pattern}")
    if tool.scope != mount_scope(spelling["mount"]):
        raise ConfigError(
            f"mounted tool {name!r} has scope {tool.scope!r}", f"Give it {mount_scope(spelling['mount'])!r}"
        )
    if tool.needs != frozenset({Need.REPOSITORY}):
        raise ConfigError(
            f"mounted tool {name!r} needs {sorted(tool.needs)}",
            "A mounted tool is decided for the session's repository: let it need that and nothing else",
        )
