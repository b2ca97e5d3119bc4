"""What a decision takes, measured in this process: 500 agents, each a session of its own in a repository of its own.

Roles are a closed set, so more agents are more sessions, branches, tasks and repositories, never more policies. Asked
first, an answer comes from Cedar; asked again, mostly from the answers that the rule set remembers.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from rbac.decide import Authority
from rbac.model import Request, Served

AGENTS = 500
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("read_file", {"paths": ("src/cart.py",)}),
    ("write_file", {"paths": ("src/cart.py",)}),
    ("write_file", {"paths": (".github/workflows/ci.yml",)}),
    ("git_push", {"branch": "agent/shop-{number}/1"}),
    ("git_push", {"branch": "main"}),
    ("read_file", {"paths": ("config/.env",)}),
)


@dataclass(frozen=True)
class Decisions:
    asked: list[float]  # us
    again: list[float]  # us

    def p50_us(self) -> tuple[float, float]:
        return statistics.median(self.asked), statistics.median(self.again)


def decisions() -> Decisions:
    authority = Authority([Served(repository=f"shop-{number}", branch="main") for number in range(AGENTS)])
    requests = [_request(number, tool, facts) for number in range(AGENTS) for tool, facts in CALLS]
    allowed = [authority.decide(request).allowed for request in requests[: len(CALLS)]]
    assert allowed == [True, True, False, True, False, False], allowed
    asked = [_timed(authority, request) for request in requests[len(CALLS) :]]
    again = [_timed(authority, request) for request in requests]
    return Decisions(asked, again)


def _request(number: int, tool: str, facts: dict[str, Any]) -> Request:
    own = f"agent/shop-{number}/1"
    places = {**facts, "branch": str(facts["branch"]).format(number=number)} if "branch" in facts else facts
    return Request(
        agent="author",
        tool=tool,
        repository=f"shop-{number}",
        own_repository=f"shop-{number}",
        own_branch=own,
        delivery=f"shop-{number}",
        task_paths=("src/**", "tests/**"),
        protected_paths=("src/payments/**",),
        **places,
    )


def _timed(authority: Authority, request: Request) -> float:
    at = time.perf_counter()
    authority.decide(request)
    return (time.perf_counter() - at) * 1e6
