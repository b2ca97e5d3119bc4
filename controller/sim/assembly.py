"""A controller's ports in the simulated world: what wiring is to the real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from controller.agents.parts import SessionParts
from controller.agents.session import Checkpoints, SessionRunner
from controller.canary.court import InProcessCourt
from controller.desk import SessionDesk
from controller.domain.entry import Caller
from controller.domain.events import Label
from controller.domain.ids import Repository
from controller.domain.verbs import Port
from controller.gate import EffectGate, Grants, Paths
from controller.ports import Badge, Blobs, Forge, Hands, Lease, Log, Policy, Ports, RepositoryConfig, Seals
from controller.sim.facts import SimFacts
from controller.sim.limits import SimLimits
from controller.sim.process import Process, ProcessHands, ProcessLease, ProcessLog
from controller.sim.workspaces import TOOLS, TOOLS_DIGEST, SimTools
from controller.sim.world import SimWorld
from rbac.decide import Authority

ORIGIN = "flyball/simulated"  # of every simulated log: commits that name it are the same in every run


BadgeOf = Callable[[str], Awaitable[Badge | None]]
PathsBy = Callable[[Forge, Mapping[Repository, RepositoryConfig], BadgeOf], Paths]


@dataclass(frozen=True)
class Shared:
    """What all controllers of one world share besides the world itself."""

    log: Log
    lease: Lease
    blobs: Blobs
    seals: Seals
    policy: Policy
    grants: Grants
    authority: Authority
    paths: PathsBy  # what the gate decides a commit's paths by
    checkpoints: Checkpoints | None = None  # None: sessions keep none


@dataclass(frozen=True)
class Wired:
    ports: Ports
    runner: SessionRunner
    lease: Lease


def wire(world: SimWorld, shared: Shared, process: Process) -> Wired:
    """One process's way to the log and the world. Everything it keeps in memory is made anew."""
    log = ProcessLog(shared.log, process)
    chosen: dict[Port, Hands] = {
        "forge": world.forge,
        "ci": world.ci,
        "platform": world.platform,
        "chat": world.chat,
    }
    hands: dict[Port, Hands] = {port: ProcessHands(hand, process) for port, hand in chosen.items()}
    desk = SessionDesk(
        log=log,
        seals=shared.seals,
        authority=shared.authority,
        bounds=world.bounds,
        clock=world.clock,
        limits=SimLimits(world.clock),
    )
    tools = SimTools(log, desk, world.workspaces, world.repositories)
    gate = EffectGate(
        log=log,
        clock=world.clock,
        grants=shared.grants,
        hands=hands,
        worker=process.name,
        seals=shared.seals,
        paths=shared.paths(world.forge, world.repositories, tools.badge_of),
    )
    caller = Caller("service:controller", shared.grants.digest)
    ports = Ports(
        clock=world.clock,
        log=log,
        blobs=shared.blobs,
        seals=shared.seals,
        gate=gate,
        forge=world.forge,
        ci=world.ci,
        platform=world.platform,
        telemetry=world.telemetry,
        court=InProcessCourt(world.telemetry, shared.blobs),
        policy=shared.policy,
        facts=SimFacts(world.forge),
        bounds=world.bounds,
        repositories=world.repositories,
        model_label=Label.SIMULATED,
        tools=tuple(tool.name for tool in TOOLS),
        tools_digest=TOOLS_DIGEST,
        worker=process.name,
        origin=ORIGIN,
        caller=caller,
    )
    parts = SessionParts(
        log=log,
        blobs=shared.blobs,
        seals=shared.seals,
        clock=world.clock,
        model=world.model,
        tools=tools,
        desk=desk,
        workspaces=world.workspaces,
        bounds=world.bounds,
        caller=caller,
        retry_wait_s=0.0,
    )
    return Wired(ports, SessionRunner(parts, shared.checkpoints), ProcessLease(shared.lease, process))
