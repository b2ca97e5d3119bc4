"""Prompts are code: one Markdown file each, reviewed, versioned, and read strictly.

A file starts with what it declares (role, version, variables and the kind of each), then says what always holds (the
system prompt), and after a line of its own what is asked for this time. A variable that is used and not declared, or
declared and not used, is an error of the file.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.errors import ConfigError

SHIPPED = Path(__file__).parent
REQUEST_LINE = "=== request ==="
MAX_BYTES = 60_000
VARIABLE = re.compile(r"\{\{([a-z][a-z0-9_]*)\}\}")
_BRACES = re.compile(r"\{\{|\}\}")
_FRONT = re.compile(r"\A---\n(?P<front>.*?)\n---\n(?P<body>.*)\Z", re.DOTALL)


class Kind(StrEnum):
    """Where a value comes from, which decides how it is shown."""

    PLAIN = "plain"  # our own facts: one line each, inserted as they are
    REQUEST = "request"  # what an authenticated person asks for: cleaned, marked off, to be followed
    MATERIAL = "material"  # anything else: cleaned, fenced, to be read and not followed


class _Front(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    role: Annotated[str, Field(pattern=r"^[a-z]+$")]
    version: Annotated[int, Field(ge=1)]
    variables: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Annotated[Kind, Field(strict=False)]]


class Template(BaseModel):
    """One prompt file, understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # the file's stem
    role: str  # the agent identity whose grants a session with this prompt holds
    version: int
    variables: dict[str, Kind]
    system: str
    request: str
    digest: str  # "sha256:<64 hex>" of the file's text


def load(name: str, folder: Path = SHIPPED) -> Template:
    """Read `<folder>/<name>.md`. Raises ConfigError naming the file and, where there is one, the line."""
    file = folder / f"{name}.md"
    text = _text(file)
    found = _FRONT.match(text)
    if found is None:
        raise ConfigError(
            f"{file.name}:1: there is no front matter",
            "Start with role, version and variables between two lines of ---",
        )
    front = _front(file.name, found["front"])
    first_line = found["front"].count("\n") + 4  # of the body, in the file
    _check_variables(file.name, found["body"], front.variables, first_line)
    system, request = _halves(file.name, found["body"])
    _check_system(file.name, found["body"].partition(REQUEST_LINE)[0], front.variables, first_line)
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return Template(name=name, **front.model_dump(), system=system, request=request, digest=digest)


def _text(file: Path) -> str:
    if not file.is_file():
        raise ConfigError(
            f"there is no prompt {file.name}",
            f"Prompts here: {', '.join(sorted(f.stem for f in file.parent.glob('*.md')))}",
        )
    content = file.read_bytes()
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file.name} is larger than {MAX_BYTES} bytes", "Shorten it; a prompt is read by people too")
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as wrong:
        raise ConfigError(f"{file.name} is no UTF-8 text: byte {wrong.start}", "Save it as UTF-8") from wrong


def _front(file: str, text: str) -> _Front:
    try:
        loaded: Any = yaml.safe_load(text)
        return _Front.model_validate(loaded)
    except yaml.MarkedYAMLError as wrong:
        line = wrong.problem_mark.line + 2 if wrong.problem_mark else 1
        raise ConfigError(f"{file}:{line}: {wrong.problem}", "Correct the YAML") from wrong
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"] if part != "[key]"]
        raise ConfigError(
            f"{file}:{_line_of(text, place)}: {'.'.join(place)}: {first['msg']}", "Correct the front matter"
        ) from wrong


def _line_of(front: str, place: list[str]) -> int:
    """The line in the file of the innermost key named, counted past the opening ---; 1 when it is not there."""
    for key in reversed(place):
        for number, line in enumerate(front.split("\n"), start=2):
            if line.strip().startswith(f"{key}:"):
                return number
    return 1


def _check_variables(file: str, body: str, declared: dict[str, Kind], first_line: int) -> None:
    for number, line in enumerate(body.split("\n"), start=first_line):
        if _BRACES.search(VARIABLE.sub("", line)):
            raise ConfigError(
                f"{file}:{number}: braces that are no variable", "Write {{name}} in small letters, or single braces"
            )
        for name in VARIABLE.findall(line):
            if name not in declared:
                raise ConfigError(
                    f"{file}:{number}: variable {name} is not declared", "Declare it in the front matter with its kind"
                )
    unused = sorted(set(declared) - set(VARIABLE.findall(body)))
    if unused:
        raise ConfigError(f"{file}:1: declared and not used: {', '.join(unused)}", "Use it or take it out")


def _halves(file: str, body: str) -> tuple[str, str]:
    halves = re.split(rf"^{re.escape(REQUEST_LINE)}$", body, flags=re.MULTILINE)
    if len(halves) != 2 or not all(half.strip() for half in halves):  # noqa: PLR2004  # two halves are halves
        raise ConfigError(
            f"{file}:1: one line {REQUEST_LINE!r} must part two texts, found {len(halves)} parts",
            "Put it between what always holds and what is asked",
        )
    return halves[0].strip(), halves[1].strip()


def _check_system(file: str, system: str, kinds: dict[str, Kind], first_line: int) -> None:
    """Only our own facts stand in the system prompt."""
    for number, line in enumerate(system.split("\n"), start=first_line):
        for name in VARIABLE.findall(line):
            if kinds[name] is not Kind.PLAIN:
                raise ConfigError(
                    f"{file}:{number}: {name} is {kinds[name]} in the system prompt", f"Move it below {REQUEST_LINE}"
                )
