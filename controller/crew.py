"""What agents work with, put together: their desk and tools, and the doors by which programs outside reach them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from controller.adapters.anthropic_ import AnthropicModel
from controller.adapters.git import GitForge
from controller.adapters.git_http import GitHttp
from controller.adapters.git_workspaces import GitWorkspaces
from controller.adapters.issuer import IssuerTokens, Outsiders
from controller.adapters.limits import SharedLimits
from controller.adapters.mount_wire import endpoint
from controller.adapters.mounts import Mount
from controller.client_records import Records
from controller.clients import Clients
from controller.desk import SessionDesk
from controller.domain.entry import Caller
from controller.domain.ids import Branch, Digest, Repository
from controller.errors import ConfigError, Unavailable
from controller.off_loop import OffLoop
from controller.ports import (
    Badge,
    Ci,
    Gate,
    Platform,
    RepositoryConfig,
    Telemetry,
    ToolDefinition,
)
from controller.recording import Record
from controller.requests import AgentRequests
from controller.settings import GatewaySection, Settings
from tools.catalogue import toolbelt
from tools.gateway import Gateway, Listening, listen
from tools.git_door import GitDoor
from tools.mounts import MountBelt, catalogue_of
from tools.oauth import TokenDesk, oauth_app
from tools.refusals import Refusals, telling
from tools.runs import RunTests
from tools.sites import KnownWorkspaces
from tools.toolbox import Toolbox

logger = logging.getLogger("flyball.gateway")


@dataclass(frozen=True)
class Surroundings:
    """Of the world outside the log: what agents may look at, and what is theirs."""

    forge: GitForge
    ci: Ci
    platform: Platform
    telemetry: Telemetry
    run_tests: RunTests
    repositories: Mapping[Repository, RepositoryConfig]
    own_badge: Callable[[str], Awaitable[Badge]]  # of a session of Flyball's own


@dataclass(frozen=True)
class Means:
    """What a crew is made from. `mounts` are open."""

    record: Record
    around: Surroundings
    gate: Gate
    settings: Settings
    mounts: list[Mount]


@dataclass(frozen=True)
class Crew:
    desk: SessionDesk
    workspaces: KnownWorkspaces
    gateway: Gateway
    definitions: list[ToolDefinition]
    model: AnthropicModel
    limits: SharedLimits
    mounts: list[Mount]
    issuer: IssuerTokens | None  # None: only our own tokens count

    async def close(self) -> None:
        await self.gateway.stop()
        await self.desk.close()
        for mount in self.mounts:
            await mount.close()
        if self.issuer is not None:
            await self.issuer.close()
        self.limits.close()
        await self.model.close()


def crew(means: Means, model: AnthropicModel) -> Crew:
    """Nothing is served before `Crew.gateway` is started. Raises ConfigError for an issuer that cannot be."""
    record, section = means.record, means.settings.gateway
    listening = _listening(section)
    limits = SharedLimits(record.folder.limits, record.clock)
    clients = _clients(means, listening)
    issuer = _issuer(record, section, listening)
    desk = SessionDesk(
        log=record.log,
        seals=record.seals,
        authority=record.authority,
        bounds=means.settings.bounded(),
        clock=record.clock,
        limits=limits,
        visitors=clients if issuer is None else Outsiders(clients, issuer),
        resource=lambda: listening.address.resource,
        runner=OffLoop(),
    )
    working_copies = GitWorkspaces(record.folder.root / "workspaces", means.around.forge.store)
    workspaces = KnownWorkspaces(working_copies, record.seals.redactor.clean_text)
    toolbox, definitions = _toolbox(means, desk, workspaces)
    by = Caller("service:controller", Digest(record.authority.digest))
    gateway = Gateway(
        desk,
        toolbox,
        listening=listening,
        oauth=_oauth(clients, desk, limits, section, listening),
        git=_git(means, desk, listening),
        refusals=Refusals(record.log, record.clock, by, telling(means.gate)),
    )
    return Crew(desk, workspaces, gateway, definitions, model, limits, means.mounts, issuer)


async def opened_mounts(section: GatewaySection) -> list[Mount]:
    """One that cannot be reached is tried again for as long as the controller runs.

    Raises ConfigError for a mount that cannot be.
    """
    found = [Mount(name, one, endpoint(name, one, os.environ.get)) for name, one in section.mounts.items()]
    await asyncio.gather(*(mount.open() for mount in found))
    return found


def _listening(section: GatewaySection) -> Listening:
    """A second controller on the same state finds the port taken: it serves its own agents on another."""
    try:
        return listen(section.port, section.public_url)
    except Unavailable as taken:
        logger.warning("%s: programs outside cannot reach this controller; its own agents can", taken.message)
        return listen()


def _clients(means: Means, listening: Listening) -> Clients:
    record, around, bounds = means.record, means.around, means.settings.bounded()
    return Clients(
        log=record.log,
        clock=record.clock,
        records=Records(record.log, around.repositories, around.own_badge, bounds),
        authority=record.authority,
        tip=around.forge.tip,
        bounds=bounds,
        resource=lambda: listening.address.resource,
    )


def _issuer(record: Record, section: GatewaySection, listening: Listening) -> IssuerTokens | None:
    """None: none is configured."""
    if section.issuer is None:
        return None
    if not (section.port or section.public_url):
        raise ConfigError(
            "gateway.issuer is set, and gateway.port is 0: no issuer can name this gateway in its tokens",
            "Set gateway.port, or gateway.public_url where a proxy stands before it",
        )
    return IssuerTokens(section.issuer, listening.address.resource, record.clock)


def _toolbox(means: Means, desk: SessionDesk, workspaces: KnownWorkspaces) -> tuple[Toolbox, list[ToolDefinition]]:
    record, around, gate, settings = means.record, means.around, means.gate, means.settings
    log, seals, bounds, authority = record.log, record.seals, settings.bounded(), record.authority
    tools = toolbelt(
        gate=gate,
        workspaces=workspaces,
        desk=desk,
        log=log,
        seals=seals,
        run_in_workspace=around.run_tests,
        clock=record.clock,
        forge=around.forge,
        ci=around.ci,
        platform=around.platform,
        telemetry=around.telemetry,
        requests=AgentRequests(log=log, seals=seals, policy=lambda: Digest(authority.digest), bounds=bounds),
        authority=authority,
        repositories=around.repositories,
        bounds=bounds,
        policy_folder=record.rules,
        mounted=catalogue_of(settings.gateway.mounts),
        keeps=settings.test.keeps,
    )
    mounted = MountBelt(means.mounts, gate=gate, seals=seals).tools
    toolbox = Toolbox(desk, tools, result_bytes=bounds.tool_result_bytes, mounted=mounted)
    return toolbox, [tool.definition for tool in tools]


def _oauth(
    clients: Clients, desk: SessionDesk, limits: SharedLimits, section: GatewaySection, listening: Listening
) -> ASGIApp:
    issuer = section.issuer.url if section.issuer else ""
    return oauth_app(TokenDesk(clients, desk, limits, listening.address.resource, section.token_seconds, issuer=issuer))


def _git(means: Means, desk: SessionDesk, listening: Listening) -> ASGIApp:
    protected: dict[str, Branch] = {name: one.branch for name, one in means.around.repositories.items()}
    plumbing, authority = GitHttp(means.around.forge.store, protected), means.record.authority
    return GitDoor(desk, means.gate, plumbing, lambda: authority.digest, listening.address.hosts)
