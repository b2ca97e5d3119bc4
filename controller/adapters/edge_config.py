"""What the edge is told to run: one JSON file, refused as a whole when anything in it is unknown.

Commands are argument lists, never shell lines; `{python}`, `{port}`, `{source}` and `{out}` are the only placeholders.
A running edge takes a new configuration for everything that the next build or the next instance reads; what is bound
already (ports, names, repositories) needs a restart.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from controller.adapters.edge_secrets import SecretSource, VariableName
from controller.adapters.sandbox_doors import MOST_PLACES, place_of
from controller.domain.base import Fact
from controller.domain.counts import MOST_GAUGES
from controller.domain.ids import Repository, Service
from controller.errors import ConfigError

PortNumber = Annotated[int, Field(ge=0, le=65535)]
Arguments = Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/[!-~]*$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_./-]{0,199}$")]


def _a_place(text: str) -> str:
    place_of(text)
    return text


Places = Annotated[tuple[Annotated[str, AfterValidator(_a_place)], ...], Field(max_length=MOST_PLACES)]


class CountSource(StrEnum):
    """Whose counts a service is judged by. Both arms of a comparison always have the same."""

    OTLP = "otlp"  # the service's own metrics
    PROXY = "proxy"  # what the proxy saw of it
    AUTO = "auto"  # otlp when the confirmed version has sent any, else proxy


class ServiceSettings(Fact):
    name: Name
    environment: Name = "production"
    repository: Name
    git_dir: Path  # bare repository that commits are exported from
    port: PortNumber = 0  # public, on loopback; 0: any free one
    build: Arguments | None = None  # None: the exported tree is the artefact
    start: Arguments
    health: UrlPath = "/health"
    ready_seconds: Annotated[float, Field(gt=0, le=600)] = 60
    build_seconds: Annotated[float, Field(gt=0, le=280)] = 240  # below the deadline of the Build verb, 300 s
    telemetry: CountSource = CountSource.AUTO
    gauges: Annotated[tuple[MetricName, ...], Field(max_length=MOST_GAUGES)] = ("process.memory.usage",)
    probes: Annotated[tuple[UrlPath, ...], Field(max_length=16)] = ()  # asked by the edge while a canary has weight
    probe_rps: Annotated[float, Field(ge=0, le=50)] = 0  # of all versions together
    python: str = sys.executable
    env: dict[str, str] = Field(default_factory=dict, max_length=64)
    secrets: dict[VariableName, SecretSource] = Field(default_factory=dict, max_length=64)  # for instances alone
    build_network: Places = ()  # what the build may reach, as host:port
    network: Places = ()  # what instances may reach besides the OTLP receiver
    reads: Annotated[tuple[Path, ...], Field(max_length=16)] = ()  # folders that instances may read

    @model_validator(mode="after")
    def _told_once(self) -> ServiceSettings:
        twice = sorted(set(self.env) & set(self.secrets))
        if twice:
            raise ValueError(f"env and secrets both have {', '.join(twice)}: say each once")
        return self

    @property
    def slot(self) -> str:
        """What its state is kept under."""
        return f"{self.name}@{self.environment}"


class SandboxSettings(Fact):
    rung: Literal["best", "bubblewrap", "namespaces", "plain"] = "best"  # of those that isolate
    unsafe_accept_plain: bool = False  # True: where none starts, code by agents runs as our own user


class EdgeConfig(Fact):
    sandbox: SandboxSettings = SandboxSettings()
    orphan_seconds: Annotated[float, Field(gt=0)] | None = None  # None: it never ends by itself
    otlp_port: PortNumber = 0  # 0: any free one
    otlp_grpc_port: PortNumber = 0  # 0: any free one
    otlp_token_file: Path | None = None  # None: the edge makes a token of its own, in `otlp-token` of its folder
    hold_ms: Annotated[int, Field(ge=0, le=60_000)] = (
        1_000  # a window stays open this long for late points: two export intervals
    )
    services: Annotated[tuple[ServiceSettings, ...], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _names_once(self) -> EdgeConfig:
        names = [service.name for service in self.services]
        if len(names) != len(set(names)):
            raise ValueError("services must have different names: telemetry knows a service by its name alone")
        return self

    def service(self, name: Service, environment: str) -> ServiceSettings | None:
        """None: this edge does not run it."""
        return next((s for s in self.services if (s.name, s.environment) == (name, environment)), None)

    def unchangeable(self, new: EdgeConfig) -> list[str]:
        """The settings in `new` that a running edge cannot take over, as "setting: old -> new"."""
        found = [
            f"{field}: {getattr(self, field)} -> {getattr(new, field)}"
            for field in ("otlp_port", "otlp_grpc_port", "otlp_token_file", "sandbox")
            if getattr(self, field) != getattr(new, field)
        ]
        after = {service.slot: service for service in new.services}
        for service in self.services:
            other = after.pop(service.slot, None)
            if other is None:
                found.append(f"service {service.slot}: gone")
                continue
            for field in ("port", "repository", "git_dir"):
                was, is_now = getattr(service, field), getattr(other, field)
                found += [] if was == is_now else [f"service {service.slot}, {field}: {was} -> {is_now}"]
        return found + [f"service {slot}: new" for slot in after]


def load_config(path: Path) -> EdgeConfig:
    """Raises `ConfigError` that names the field."""
    try:
        return EdgeConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise ConfigError(f"edge configuration {path} is unusable: {error}", "Correct the file") from error


def filled(arguments: tuple[str, ...], **values: str) -> list[str]:
    """The command with its placeholders replaced; other braces stay as they are."""
    words = []
    for argument in arguments:
        word = argument
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        words.append(word)
    return words


def repository_of(settings: ServiceSettings) -> Repository:
    return Repository(settings.repository)
