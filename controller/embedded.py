"""The embedded rung: every adapter outside the log that acts or is looked at, on one machine with nothing installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.blobs_read import ReadBlobs
from controller.adapters.chat_local import LocalChat
from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_local import LocalCi
from controller.adapters.ci_workspace import run_in_workspace
from controller.adapters.clock import SystemClock
from controller.adapters.edge_client import EdgeLink, EdgePlatform, EdgeTelemetry
from controller.adapters.edge_config import CountSource, EdgeConfig, SandboxSettings, ServiceSettings
from controller.adapters.edge_secrets import SecretSource
from controller.adapters.git import GitForge
from controller.adapters.git_export import export
from controller.adapters.git_import import checked_tip, import_repository
from controller.adapters.judge_process import JudgeProcess, judge_command
from controller.adapters.prometheus import PrometheusTelemetry
from controller.adapters.prometheus_http import PrometheusApi
from controller.adapters.sandbox import Sandbox
from controller.adapters.unserved import NoService
from controller.domain.events import Label
from controller.domain.verbs import Port
from controller.errors import ConfigError
from controller.ports import (
    Hands,
    Telemetry,
)
from controller.recording import Folder
from controller.settings import Settings, python_of
from controller.settings_sandbox import SecretSection


def edge_config(
    settings: Settings, root: Path, folder: Folder, orphan_seconds: float | None, hold_ms: int
) -> EdgeConfig | None:
    """None: no service is configured."""
    service, repository = settings.service, settings.configured(root)
    if service is None:
        return None
    one = ServiceSettings(
        name=service.name,
        environment=service.environment,
        repository=repository.name,
        git_dir=(folder.forge / f"{repository.name}.git").resolve(),
        port=service.port,
        build=settings.build.command,
        start=service.start,
        health=service.health,
        ready_seconds=settings.rollout.ready_seconds,
        telemetry=CountSource.AUTO if service.telemetry == "prometheus" else CountSource(service.telemetry),
        gauges=service.gauges,
        probes=service.probes,
        probe_rps=service.probe_rps,
        python=python_of(service, settings.source(root)),
        env=service.env,
        secrets={name: _secret(name, one, root) for name, one in service.secrets.items()},
        build_network=settings.build.network,
        network=service.network,
        reads=tuple(_read_by_instances(root / path, folder) for path in service.reads),
    )
    return EdgeConfig(
        sandbox=SandboxSettings(**settings.sandbox.model_dump()),
        orphan_seconds=orphan_seconds,
        services=(one,),
        hold_ms=hold_ms,
        otlp_port=service.otlp_port,
        otlp_grpc_port=service.otlp_grpc_port,
        otlp_token_file=(root / service.otlp_token_file).resolve() if service.otlp_token_file else None,
    )


def _read_by_instances(path: Path, folder: Folder) -> Path:
    """Raises ConfigError for what is not there, and for what would show the log and its keys."""
    path, state = path.resolve(), folder.root.resolve()
    if not path.exists():
        raise ConfigError(f"service.reads: {path} does not exist", "Make it, or take it out")
    if path.is_relative_to(state) or state.is_relative_to(path):
        raise ConfigError(
            f"service.reads: {path} would show instances the state folder {state}", "Name a folder beside it"
        )
    return path


def _secret(name: str, one: SecretSection, root: Path) -> SecretSource:
    """Raises ConfigError if the file cannot be read: better now than when an instance starts."""
    if one.file is None:
        return SecretSource(command=one.command)
    path = (root / one.file).resolve()
    if not os.access(path, os.R_OK):
        raise ConfigError(
            f"service.secrets.{name}: {path} cannot be read", "Write the value into it, readable by Flyball's user"
        )
    return SecretSource(file=path)


def bring_in(settings: Settings, root: Path, folder: Folder, *, allow_dirty: bool = False) -> None:
    """The person's repository into the embedded forge, or up to date there. Raises ConfigError with nothing changed."""
    repository = settings.configured(root)
    checked_tip(settings.source(root), repository.branch, allow_dirty=allow_dirty)
    folder.make()
    store = GitForge(folder.forge, SystemClock()).store
    import_repository(store, repository.name, settings.source(root), repository.branch, allow_dirty=allow_dirty)


@dataclass(frozen=True)
class Embedded:
    """The embedded rung's adapters: everything outside the log that acts or is looked at."""

    forge: GitForge
    ci: LocalCi
    ci_config: CiConfig
    sandbox: Sandbox
    edge: EdgeLink | None  # None: no service is configured
    platform: EdgePlatform | NoService
    telemetry: Telemetry
    judge: JudgeProcess | None  # None: canaries are judged in this process
    chat: LocalChat

    @property
    def hands(self) -> dict[Port, Hands]:
        return {"forge": self.forge, "ci": self.ci, "chat": self.chat, "platform": self.platform}

    async def close(self) -> None:
        """What it opened; the edge serves on."""
        if self.edge is not None:
            await self.edge.close()
        if isinstance(self.telemetry, PrometheusTelemetry):
            await self.telemetry.close()

    async def run_tests(self, path: Path, target: str) -> str:
        """An agent's own test run, in the sandbox and by the command that CI uses. `target` empty: all of them."""
        command = (*self.ci_config.command, target) if target else ()
        return await run_in_workspace(path, command, sandbox=self.sandbox, config=self.ci_config)


async def embedded(
    settings: Settings,
    root: Path,
    folder: Folder,
    config: EdgeConfig | None,
    label: Label,
    *,
    clean: Callable[[str], str],
) -> Embedded:
    """`config=None`: no service is configured. `clean` takes secrets out of what people are told and commits say."""
    clock, repository = SystemClock(), settings.configured(root)
    forge, wanted = GitForge(folder.forge, clock, clean=clean), settings.sandbox
    sandbox = await Sandbox.chosen(wanted.rung, accept_plain=wanted.unsafe_accept_plain)
    ci_config = CiConfig(
        command=tuple(word.replace("{python}", "python") for word in settings.test.command),
        python=python_of(settings.test, settings.source(root)),
        wall_s=settings.test.seconds,
        mutants_s=settings.test.mutants_seconds,
        environment=(("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),) if not settings.test.plugins else (),
        network=settings.test.network,
    )
    ci = LocalCi(
        folder.root / "ci",
        lambda name, commit, dest: export(forge.store, name, commit, dest),
        sandbox,
        {repository.name: ci_config},
        slots=settings.test.slots,
    )
    edge = EdgeLink(folder.edge, config) if config else None
    return Embedded(
        forge=forge,
        ci=ci,
        ci_config=ci_config,
        sandbox=sandbox,
        edge=edge,
        platform=EdgePlatform(edge) if edge else NoService(),
        telemetry=telemetry_of(settings, edge, label),
        judge=judge_in(settings, folder, label),
        chat=LocalChat(folder.outbox, clock, clean),
    )


def judge_in(settings: Settings, folder: Folder, label: Label) -> JudgeProcess | None:
    """None: canaries are judged in the controller's own process."""
    if settings.service is None or not settings.service.judge_process:
        return None
    command = judge_command(folder.edge, folder.blobs, label)
    within_s = settings.bounded().step_seconds / 2  # the step also asks the platform, and may act
    return JudgeProcess(command, ReadBlobs(folder.blobs), label, within_s=within_s)


def telemetry_of(settings: Settings, edge: EdgeLink | None, label: Label) -> Telemetry:
    """`edge=None`: no service is configured. Raises ConfigError for an address or a token that cannot be used."""
    if edge is None or settings.service is None:
        return NoService()
    if settings.service.telemetry != "prometheus":
        return EdgeTelemetry(edge, label)
    section = settings.prometheus
    token = os.environ.get(section.token_env, "") if section.token_env else ""
    if section.token_env and not token:
        raise ConfigError(
            f"prometheus.token_env is {section.token_env!r}, and that environment variable is not set",
            "Set it to the token, or remove token_env if the server asks for none",
        )
    api = PrometheusApi(section.url, token)
    return PrometheusTelemetry(api, section, SystemClock(), health_route=settings.service.health, label=label)
