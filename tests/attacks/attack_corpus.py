"""Attacks as data: a call that must come to nothing, what must be said of it, and a harmless call that looks like it.

A corpus that only counts refusals is passed by a gateway that refuses everything; so most attacks have a twin beside
them, as close as it can be, that must be carried out. Texts may hold `<token>`, `<own>` and other names of the stage
they are played on, and `<x*1000>` for something long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rbac.strict_yaml import parse

FOLDER = Path(__file__).parent
REPEATED = re.compile(r"<([^<>*]+)\*(\d{1,8})>")
NAME = re.compile(r"<([a-z_]+)>")
Words = Annotated[str, Field(min_length=1, max_length=200)]
OneOrMore = Annotated[tuple[Words, ...], Field(min_length=1)]


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(Closed):
    """One request. `raw` is the whole of it, `body` all but its headers; else a call of `tool`."""

    tool: str = ""
    arguments: Any = Field(default_factory=dict)  # of any type: a wrong one may be the attack
    arguments_json: str | None = None  # None: `arguments`, spelt as usual
    meta: Mapping[str, Any] = Field(default_factory=dict)
    body: str | None = None  # None: made of the above
    raw: str | None = None  # None: a well-formed request; else its bytes, lines ending in CRLF
    url: str = "<url>"
    method: str = "POST"
    headers: Mapping[str, str | None] = Field(default_factory=dict)  # instead of the usual ones; None: left out
    also: tuple[tuple[str, str], ...] = ()  # headers beside them
    before: tuple[Mapping[str, Any], ...] = ()  # what is arranged first, see attack_stage
    broken: Mapping[str, Any] = Field(default_factory=dict)  # and what breaks then, until the call is over
    times: Annotated[int, Field(ge=1, le=500)] = 1


class Expected(Closed):
    """What becomes of an attack. Exactly one of the first five, or `done_without`, is said."""

    status: tuple[int, ...] = ()  # stopped at the door, with one of these; the log hears nothing of it, but for
    logged: str = ""  # the rule that it holds although the door has stopped the call
    rule: tuple[str, ...] = ()  # refused by the desk, by one of these; the log holds it once
    not_done: tuple[str, ...] = ()  # allowed by every name in it, and stopped by the tool in one of these words
    answered: str | None = None  # None: not said; else allowed, and its answer holds this and no secret
    done_without: str = ""  # done, and this text stands in no pull request, no entry of the log and no answer
    nothing: str = ""  # any answer will do if it does no harm; here stands why
    told: str = ""  # words in the answer, beside the above
    at_most_bytes: int | None = None  # None: any; else the answer has no more
    runs: bool = False  # code is run, and nothing but that may show
    may_change: str = ""  # a folder of the stage in which something may have changed, and nobody the worse for it
    beside: int = 0  # entries of what is done to the session meanwhile, which are none of the refusal's
    kept: Literal["log", "turn", "theirs"] = "log"  # where a refusal is found afterwards: "theirs" is the other's log

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        ends = (self.status, self.rule, self.not_done, self.nothing, self.done_without)
        said = [*map(bool, ends), self.answered is not None]
        if said.count(True) != 1:
            raise ValueError("say one of status, rule, not_done, answered, nothing, done_without")
        return self


class Twin(Call):
    shows: str = ""  # in its answer


class Case(Closed):
    name: Words
    attack: Call
    expect: Expected
    twin: Twin | None = None  # None: no harmless call is near it


class AttackClass(Closed):
    name: Words = Field(alias="class")
    about: Words
    stage: Literal["shared", "own"] = "shared"  # "own": its attacks break something that others stand on
    cases: tuple[Case, ...]


def corpus() -> dict[str, AttackClass]:
    """By class. Raises ConfigError or ValidationError for a file that is not as above."""
    files = sorted(FOLDER.glob("*.yaml"))
    found = [AttackClass.model_validate(parse(file.read_text(), file.name, any_text=True).content) for file in files]
    return {one.name: one for one in found}


def spelt_out(value: Any, names: Mapping[str, str]) -> Any:
    """The value with every `<name>` and `<x*n>` in its texts replaced."""
    if isinstance(value, str):
        return REPEATED.sub(
            lambda found: found[1] * int(found[2]),
            NAME.sub(lambda found: names.get(found[1], found[0]), value),
        )
    if isinstance(value, Mapping):
        return {spelt_out(key, names): spelt_out(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [spelt_out(inner, names) for inner in value]
    return value
