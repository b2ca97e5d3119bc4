"""All ports of one controller, and how its repositories and services are configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.approvals import ApprovalRules
from controller.domain.bounds import Bounds, RolloutPlan
from controller.domain.entry import Caller
from controller.domain.events import Label
from controller.domain.ids import NO_DIGEST, Branch, Digest, Repository, Service
from controller.domain.verdict import JudgeConfig
from controller.ports.forge import Forge
from controller.ports.gate import Gate
from controller.ports.judging import Court
from controller.ports.provenance import Attestor
from controller.ports.record import Blobs, Log, Seals
from controller.ports.time import Clock
from controller.ports.world import Ci, Facts, Platform, Policy, Telemetry


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """How a repository's service is deployed and watched."""

    name: Service
    environment: str
    plan: RolloutPlan
    judge: JudgeConfig


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    name: Repository
    branch: Branch
    model: str
    protected: tuple[str, ...]  # path patterns that no agent may touch
    allowed: tuple[str, ...]  # path patterns that a task may touch
    service: ServiceConfig | None = None  # None: nothing is deployed; a delivery ends when it has merged
    approvals: ApprovalRules = field(default_factory=ApprovalRules)


@dataclass(frozen=True, slots=True)
class Ports:
    clock: Clock
    log: Log
    blobs: Blobs
    seals: Seals
    gate: Gate
    forge: Forge
    ci: Ci
    platform: Platform
    telemetry: Telemetry
    court: Court
    policy: Policy
    facts: Facts
    bounds: Bounds
    repositories: Mapping[Repository, RepositoryConfig]
    model_label: Label = Label.LIVE
    tools: tuple[str, ...] = ()  # names of the tools that sessions can be given
    tools_digest: Digest = NO_DIGEST  # of their definitions
    worker: str = "controller"  # this process, as leases and intents name it
    origin: str = ""  # the log's name. "": it is named after its first entry
    attestor: Attestor | None = None  # None: nothing is said about what lands
    caller: Caller = field(default_factory=lambda: Caller("service:controller", NO_DIGEST))

    def repository(self, name: Repository) -> RepositoryConfig:
        return self.repositories[name]

    def service(self, name: Service, environment: str) -> tuple[RepositoryConfig, ServiceConfig]:
        """The repository that a service is built from, and how it is deployed."""
        for repository in self.repositories.values():
            found = repository.service
            if found is not None and (found.name, found.environment) == (name, environment):
                return repository, found
        raise KeyError(f"{name}@{environment}")
