"""A traffic mix as data, and the sequence of requests that it stands for.

A profile is a list of weighted request templates. Paths and JSON bodies may hold `$name`, filled from the template's
`values`, so that a few lines give many different requests. Profile, rate and seed decide the whole sequence.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from controller.errors import ConfigError


class Method(StrEnum):
    """Methods a profile may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Body(_Data):
    """One JSON body out of several; `$name` in its texts stands for one of the template's values."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    content: JsonValue


Value = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,64}$")]


class RequestTemplate(_Data):
    """One kind of request. `weight` is its share relative to the others."""

    name: str
    method: Method
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$")]
    weight: Annotated[float, Field(gt=0)]
    values: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(default_factory=dict)
    bodies: tuple[Body, ...] = ()


class Profile(_Data):
    """A traffic mix."""

    traffic: Annotated[tuple[RequestTemplate, ...], Field(min_length=1)]


def load_profile(path: Path) -> Profile:
    """The profile in a YAML file. Raises `ConfigError` that names the field."""
    try:
        profile = Profile.model_validate(yaml.safe_load(path.read_text()))
        for template in profile.traffic:
            for body in template.bodies or (None,):
                _filled(template, body, {name: values[0] for name, values in template.values.items()})
    except (OSError, yaml.YAMLError, ValidationError, KeyError, ValueError) as error:
        raise ConfigError(f"traffic profile {path} is unusable: {error}", "Correct the file") from error
    return profile


@dataclass(frozen=True)
class Arrival:
    """A request, and when it is due in seconds since the start."""

    due_s: float
    name: str
    method: Method
    path: str
    body: bytes
    traceparent: str

    def request(self, host: str) -> bytes:
        """The bytes to send."""
        kind = f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nTraceparent: {self.traceparent}\r\n{kind}\r\n"
        return head.encode() + self.body


def arrivals(profile: Profile, rps: float, seed: int, trace_ratio: float) -> Iterator[Arrival]:
    """The endless sequence of profile, rate and seed. `trace_ratio` of the requests carry the sampled flag."""
    dice = random.Random(seed)  # noqa: S311  traffic, no secret
    weights = [template.weight for template in profile.traffic]
    due_s = 0.0
    while True:
        due_s += dice.expovariate(rps)
        (template,) = dice.choices(profile.traffic, weights)
        body = dice.choices(template.bodies, [body.weight for body in template.bodies])[0] if template.bodies else None
        chosen = {name: dice.choice(values) for name, values in sorted(template.values.items())}
        path, content = _filled(template, body, chosen)
        sampled = "01" if dice.random() < trace_ratio else "00"
        # An id of zeros is invalid in W3C trace context.
        traceparent = f"00-{dice.getrandbits(128) | 1:032x}-{dice.getrandbits(64) | 1:016x}-{sampled}"
        yield Arrival(due_s, template.name, template.method, path, content, traceparent)


def _filled(template: RequestTemplate, body: Body | None, chosen: dict[str, str]) -> tuple[str, bytes]:
    path = Template(template.path).substitute(chosen)
    if body is None:
        return path, b""
    return path, Template(json.dumps(body.content, separators=(",", ":"))).substitute(chosen).encode()
