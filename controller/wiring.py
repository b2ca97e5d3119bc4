"""One configuration object chooses an adapter for every port. Nothing else in the house knows which one it has got."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from controller import VERSION
from controller.adapters.anthropic_ import AnthropicModel
from controller.adapters.edge_client import EdgeLink
from controller.adapters.git_facts import FactsOptions, GitFacts
from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import CommitPaths
from controller.adapters.mcp_client import McpTools
from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.adapters.workers import LocalWorkers
from controller.agents.parts import SessionParts, SessionProgress
from controller.agents.session import SessionRunner, checkpoints_in
from controller.canary.court import InProcessCourt
from controller.client_records import Records
from controller.crew import Crew, Means, Surroundings, crew, opened_mounts
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Caller, Draft
from controller.domain.events import ControllerStarted, Label, SessionStarted
from controller.domain.ids import (
    CLIENTS,
    CONTROL,
    Digest,
    Repository,
    SessionId,
    agent_stream,
    delivery_stream,
    digest_of,
    session_stream,
)
from controller.domain.session import fold as fold_session
from controller.embedded import Embedded, edge_config, embedded
from controller.errors import ConfigError, Permanent, Temporary
from controller.gate import EffectGate
from controller.ledger.lease import SqliteLease
from controller.ledger.publication import Need, Publication
from controller.loop import Loop
from controller.off_loop import OffLoop
from controller.ports import (
    Badge,
    Gate,
    Lease,
    Log,
    Ports,
    Receipt,
    RepositoryConfig,
    ToolDefinition,
)
from controller.provenance.attestation_key import attestor_in
from controller.recording import Folder, Record, dsn_of, open_record
from controller.service.heartbeat import beat, clock_source
from controller.service.signing import plan_of, publication_of
from controller.service.signing_child import signing
from controller.service.sweep import Pace, Sweep
from controller.service.telling_beside import telling
from controller.settings import Settings
from rbac.load import check_moves
from rbac.load import load as load_rules
from tools.belt import digest_of_definition
from tools.gateway import Address
from tools.mounts import MountHands

logger = logging.getLogger("flyball.controller")


@dataclass
class Controller:
    """A whole controller in one process."""

    record: Record
    ports: Ports
    sweep: Sweep
    edge: EdgeLink | None  # None: no service is configured
    address: Address  # of the gateway
    isolation: str  # of code that agents write, in words
    isolated: bool  # False: it runs as whoever runs Flyball, and that was accepted


@dataclass(frozen=True)
class ModelChoice:
    """Which model answers, and how real its answers are."""

    api_key: str
    base_url: str | None  # None: the provider's own address
    label: Label


def model_from_environment(settings: Settings) -> ModelChoice:
    """Raises ConfigError that says how to get one."""
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        raise ConfigError(
            "no model is configured: ANTHROPIC_API_KEY is not set",
            "Set it, or let a scripted agent work with --script FILE (see docs/scripted-agents.md)",
        )
    return ModelChoice(key, settings.agents.base_url, Label.LIVE)


def ports_of(record: Record, world: Embedded, gate: Gate, at_work: Crew, *, settings: Settings, root: Path) -> Ports:
    repository = settings.configured(root)
    return Ports(
        clock=record.clock,
        log=record.log,
        blobs=record.blobs,
        seals=record.seals,
        gate=gate,
        forge=world.forge,
        ci=world.ci,
        platform=world.platform,
        telemetry=world.telemetry,
        court=world.judge or InProcessCourt(world.telemetry, record.blobs),
        policy=policy_of(settings),
        facts=GitFacts(world.forge.store, record.seals, facts_options(settings)),
        bounds=settings.bounded(),
        repositories={repository.name: repository},
        model_label=at_work.model.label,
        tools=tuple(sorted(definition.name for definition in at_work.definitions)),
        tools_digest=tools_digest(at_work.definitions),
        origin=settings.ledger.origin,
        attestor=attestor_in(record.folder.keys),
        caller=Caller("service:controller", Digest(record.authority.digest)),
    )


def runner_of(
    ports: Ports, at_work: Crew, url: str, checkpoints: Path, on_progress: Callable[[SessionProgress], None]
) -> SessionRunner:
    parts = SessionParts(
        log=ports.log,
        blobs=ports.blobs,
        seals=ports.seals,
        clock=ports.clock,
        model=at_work.model,
        tools=McpTools(url, at_work.desk, badges(ports.log, ports.repositories)),
        desk=at_work.desk,
        workspaces=at_work.workspaces,
        bounds=ports.bounds,
        caller=ports.caller,
        on_progress=on_progress,
    )
    return SessionRunner(parts, checkpoints_in(checkpoints))


@asynccontextmanager
async def controller(
    settings: Settings,
    root: Path,
    folder: Folder,
    model: ModelChoice,
    *,
    label: Label = Label.LIVE,
    pace: Pace | None = None,  # None: the pace for earnest
    orphan_seconds: float | None = None,  # None: the edge never ends by itself
    hold_ms: int = 1_000,
    on_progress: Callable[[SessionProgress], None] = lambda _: None,
) -> AsyncIterator[Controller]:
    """Everything on the embedded rung, ready to sweep. Closes what it opened, but leaves the edge serving."""
    record = open_record(folder, settings, root)
    check_moves(load_rules(record.rules, record.authority.catalogue))
    config = edge_config(settings, root, folder, orphan_seconds, hold_ms)
    redactor = record.seals.redactor
    world = await embedded(settings, root, folder, config, label, clean=redactor.clean_text)
    workers = LocalWorkers(folder.root / "workers")
    worker = workers.enlist()
    mounts, plan = await opened_mounts(settings.gateway), plan_of(folder.root, settings.ledger)
    gate = EffectGate(
        log=record.log,
        clock=record.clock,
        grants=RbacGrants(record.authority),
        hands={**world.hands, "mounts": MountHands(mounts, record.seals)},
        worker=worker,
        gone=workers.gone,
        seals=record.seals,
        covered=covered_by(publication_of(plan), settings),
        runner=OffLoop(),
        clean=redactor.clean_text,
        paths=commit_paths(record, world, settings, root),
    )
    means = Means(record, around(world, record, settings, root), gate, settings, mounts)
    at_work = crew(means, model_of(model, settings))
    ports = replace(ports_of(record, world, gate, at_work, settings=settings, root=root), worker=worker)
    runner = runner_of(ports, at_work, await at_work.gateway.start(), folder.checkpoints, on_progress)
    await announce(ports, settings, label)
    lease = leases(settings, record, folder, workers)
    heart = asyncio.create_task(beating(record, ports, settings.ledger.heartbeat_seconds), name="heartbeat")
    try:
        sweep = Sweep(ports, Loop(ports), lease, runner.run, pace or Pace())
        told = telling(
            settings.telemetry,
            folder.root,
            settings.ledger.origin,
            log=record.log,
            clock=record.clock,
            lease=lease,
            owner=worker,
        )
        async with signing(plan), told:
            box = world.sandbox
            yield Controller(record, ports, sweep, world.edge, at_work.gateway.address, box.isolation, box.isolated)
    finally:
        heart.cancel()
        await asyncio.wait({heart})
        await at_work.close()
        if world.judge is not None:
            await world.judge.close()
        await world.close()
        record.close()
        workers.leave()


def commit_paths(record: Record, world: Embedded, settings: Settings, root: Path) -> CommitPaths:
    """What the gate decides a commit's paths by: the badge of a session is that of its first entry."""
    repository = settings.configured(root)
    repositories = {repository.name: repository}
    own = badges(record.log, repositories)
    outside = Records(record.log, repositories, own, settings.bounded())

    async def badge_of(session: str) -> Badge | None:
        if session.startswith(CLIENTS):
            return await outside.badge(session, record.clock.now())
        return await own(session) if await record.log.stream(agent_stream(session)) is not None else None

    return CommitPaths(record.authority, world.forge, repositories, badge_of, OffLoop())


def covered_by(publication: Publication, settings: Settings) -> Callable[[int], Awaitable[None]]:
    """What an intent waits for before its effect is acted, by `ledger.effects_wait_for`."""
    need = Need(settings.ledger.effects_wait_for)

    async def covered(index: int) -> None:
        await publication.covers(index, need, COVERED_WITHIN_S)

    return covered


async def beating(record: Record, ports: Ports, every_seconds: int) -> None:
    """A log that does not answer for a while is everybody's trouble, and no reason to beat no more."""
    while True:
        try:
            await beat(record.log, record.clock, ports.caller, every_seconds)
        except Temporary as error:
            logger.warning("the heartbeat waits for the log: %s", error)
            await record.clock.sleep(every_seconds / 2)


def leases(settings: Settings, record: Record, folder: Folder, workers: LocalWorkers) -> Lease:
    """Where the log is, so that all controllers on it see them. Only workers of this machine are known to be dead."""
    if dsn := dsn_of(settings):
        from controller.ledger.postgres_lease import PostgresLease  # noqa: PLC0415 - libpq only where it is used

        return PostgresLease(dsn, record.clock, gone=workers.gone)
    return SqliteLease(folder.log, record.clock, gone=workers.gone)


def around(world: Embedded, record: Record, settings: Settings, root: Path) -> Surroundings:
    repository = settings.configured(root)
    repositories = {repository.name: repository}
    return Surroundings(
        forge=world.forge,
        ci=world.ci,
        platform=world.platform,
        telemetry=world.telemetry,
        run_tests=world.run_tests,
        repositories=repositories,
        own_badge=badges(record.log, repositories),
    )


def model_of(choice: ModelChoice, settings: Settings) -> AnthropicModel:
    stall_s = settings.bounded().model_stall_seconds
    return AnthropicModel(choice.api_key, base_url=choice.base_url, label=choice.label, stall_s=stall_s)


async def announce(ports: Ports, settings: Settings, label: Label) -> None:
    """Which program, under which rules and settings, writes from here on."""
    started = ControllerStarted(version=VERSION, policy=ports.caller.policy, settings=settings.digest, label=label)
    clock = await clock_source()
    for _ in range(ANNOUNCEMENTS):
        row = await ports.log.stream(CONTROL)
        expect = {CONTROL: row.version if row else 0}
        drafts = [Draft(CONTROL, started), Draft(CONTROL, clock)]
        if isinstance(await ports.log.append(drafts, expect=expect, by=ports.caller), Receipt):
            return


COVERED_WITHIN_S = 5.0  # below the deadline of every effect
ANNOUNCEMENTS = 10  # tries beside other controllers that start, and people who stop things


def policy_of(settings: Settings) -> PolicyTable:
    policy = settings.policy
    return PolicyTable(
        TableParameters(
            owner=policy.owner,
            protected=tuple(dict.fromkeys((*policy.careful, *settings.repository.protected))),
            max_lines=policy.large_change_lines,
            mutants_killed_percent=policy.mutants_killed_percent,
            mutants_required=policy.mutants_required,
            exit_code_is_green=policy.exit_code_is_green,
            asked_moves_are_green=policy.asked_moves_are_green,
        )
    )


def facts_options(settings: Settings) -> FactsOptions:
    service, build = settings.service, settings.build.command
    public = settings.policy.interfaces == "always" or (settings.policy.interfaces == "auto" and service is None)
    return FactsOptions(
        build=(build,) if build else (),
        start=(service.start,) if service else (),
        test=settings.test.command,
        public=public,
    )


def tools_digest(definitions: list[ToolDefinition]) -> Digest:
    """Of everything that a model is told about its tools."""
    return digest_of({one.name: digest_of_definition(one) for one in definitions})


def badges(log: Log, repositories: Mapping[Repository, RepositoryConfig]) -> Callable[[str], Awaitable[Badge]]:
    """A session's badge, from its first entry: never from anything that the session says."""

    async def badge_for(session: str) -> Badge:
        state = fold_session(SessionId(session), await log.read(session_stream(SessionId(session))))
        started: SessionStarted | None = state.started
        if started is None:
            raise Permanent(f"session {session} has not begun", "Run `flyball log verify`")
        repository = repositories[started.repository]
        delivery = fold_delivery(started.delivery, await log.read(delivery_stream(started.delivery)))
        return Badge(
            session=session,
            role=started.role,
            delivery=started.delivery,
            repository=started.repository,
            branch=started.branch,
            base=started.base,
            allowed=started.allowed_paths,
            protected=repository.protected,
            on_behalf_of=delivery.requested_by,
            tainted=state.tainted,
        )

    return badge_for
