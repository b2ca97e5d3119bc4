"""The settings of other people's code: where it runs, what it may reach, and which secrets an instance is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

PLACE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?:([1-9][0-9]{0,4})")
LAST_PORT = 65_535


def _a_place(text: str) -> str:
    found = PLACE.fullmatch(text)
    if found is None or int(found[2]) > LAST_PORT:
        raise ValueError(f"is no host:port, such as pypi.org:443 (ports end at {LAST_PORT})")
    return text


HostPort = Annotated[str, AfterValidator(_a_place)]
Places = Annotated[tuple[HostPort, ...], Field(max_length=64)]  # what code in the sandbox may reach
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_own_type(cls, value: object, info: ValidationInfo) -> object:
        """TOML has booleans and numbers: "no" in quotes must not be read as one, nor 1 as true."""
        wanted = cls.model_fields[str(info.field_name)].annotation
        if wanted is bool and not isinstance(value, bool):
            raise ValueError("is neither true nor false: write one of them, without quotes")
        if wanted in (int, float) and isinstance(value, bool | str):
            raise ValueError("is no number: write one, without quotes")
        return value


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
