"""Every tool that there is, put together from its belts. What a session sees of them is the desk's to say."""

from __future__ import annotations

from controller.desk import SessionDesk
from controller.ports import Gate, Log, Seals
from tools.belt import Tool
from tools.ci import CiBelt, failures_in_log
from tools.forge import ForgeBelt
from tools.sites import KnownWorkspaces
from tools.workspace import RunTests, WorkspaceBelt


def toolbelt(
    *,
    gate: Gate,
    workspaces: KnownWorkspaces,
    desk: SessionDesk,
    log: Log,
    seals: Seals,
    run_in_workspace: RunTests,
) -> list[Tool]:
    workspace = WorkspaceBelt(workspaces.root, desk.readable, run_in_workspace)
    forge = ForgeBelt(gate=gate, workspaces=workspaces, log=log)
    return [*workspace.tools(), *forge.tools(), *CiBelt(failures_in_log(log, seals)).tools()]
