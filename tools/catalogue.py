"""Every tool that there is, put together from its belts. What a session sees of them is the desk's to say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from controller.desk import SessionDesk
from controller.domain.bounds import Bounds
from controller.domain.ids import Repository
from controller.ports import Ci, Clock, Gate, Log, Platform, RepositoryConfig, Seals, Telemetry
from controller.requests import AgentRequests
from rbac.catalogue import Tool as Catalogued
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Served
from tools.belt import Tool
from tools.ci import CiBelt
from tools.deploy import DeployBelt
from tools.forge import ForgeBelt
from tools.forge_read import ForgeReadBelt, PullRequests
from tools.ledger import LedgerBelt
from tools.policy import PolicyBelt, Rules
from tools.runs import Runs, RunTests
from tools.sites import KnownWorkspaces
from tools.telemetry import TelemetryBelt
from tools.workspace import WorkspaceBelt

NO_MOUNTS: Mapping[str, Catalogued] = {}


def toolbelt(
    *,
    gate: Gate,
    workspaces: KnownWorkspaces,
    desk: SessionDesk,
    log: Log,
    seals: Seals,
    run_in_workspace: RunTests,
    clock: Clock,
    forge: PullRequests,
    ci: Ci,
    platform: Platform,
    telemetry: Telemetry,
    requests: AgentRequests,
    authority: Authority,
    repositories: Mapping[Repository, RepositoryConfig],
    bounds: Bounds,
    policy_folder: Path = SHIPPED,
    mounted: Mapping[str, Catalogued] = NO_MOUNTS,
    keeps: tuple[str, ...] = (),
) -> list[Tool]:
    """`policy_folder` and `mounted` are those that the authority was made from. `keeps`: as in `Runs`."""
    page = bounds.tool_result_bytes
    rules = Rules(authority, policy_folder, served(repositories), mounted)
    return [
        *WorkspaceBelt(
            workspaces.root_of, desk.readable, Runs(workspaces, desk, run_in_workspace, keeps), workspaces.ignored
        ).tools(),
        *ForgeBelt(
            gate=gate, desk=desk, workspaces=workspaces, log=log, requests=requests, repositories=repositories
        ).tools(),
        *ForgeReadBelt(forge, log, page).tools(),
        *CiBelt(ci, gate, log, seals, page).tools(),
        *TelemetryBelt(telemetry, clock, log, repositories, page).tools(),
        *DeployBelt(platform, log, requests, repositories).tools(),
        *LedgerBelt(log, seals, requests, page).tools(),
        *PolicyBelt(rules=rules, requests=requests, seals=seals, tainted=desk.tainted, page_bytes=page).tools(),
    ]


def served(repositories: Mapping[Repository, RepositoryConfig]) -> tuple[Served, ...]:
    """As an authority knows repositories: the branch that releases are made from, and where they go."""
    return tuple(
        Served(
            repository=one.name,
            branch=one.branch,
            environments=(one.service.environment,) if one.service else (),
        )
        for one in repositories.values()
    )
