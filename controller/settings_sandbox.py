"""The settings of other people's code: where it runs, what it may reach, and which secrets an instance is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

HostPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?:[1-9][0-9]{0,4}$")]
Places = Annotated[tuple[HostPort, ...], Field(max_length=64)]  # what code in the sandbox may reach
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SandboxSection(Section):
    """Where code that somebody else wrote runs: tests, builds, instances."""

    rung: Literal["best", "bubblewrap", "namespaces", "plain"] = "best"  # of those that isolate
    unsafe_accept_plain: bool = False  # True: where none starts, such code runs as whoever runs Flyball


class SecretSection(Section):
    """Where a service's secret lies; the value never stands here."""

    file: Path | None = None  # relative to flyball.toml. None: `command` prints it
    command: Annotated[tuple[str, ...], Field(max_length=64)] = ()  # of a secret store. Empty: it lies in `file`

    @model_validator(mode="after")
    def _one_source(self) -> SecretSection:
        if (self.file is None) == (not self.command):
            raise ValueError("names neither one file nor one command: set `file` or `command`")
        return self
