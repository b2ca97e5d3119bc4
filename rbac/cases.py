"""Policy tests as data: a call, the answer that it must get, and the rules that must have given it.

A file of cases names the repositories that it speaks about, so that it means the same wherever it runs. It is read as
strictly as the rules themselves: a case with a misspelt fact would otherwise test something else, and pass.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from controller.errors import ConfigError
from rbac.catalogue import Role, Tool
from rbac.decide import Authority
from rbac.load import SHIPPED
from rbac.model import Closed, Decision, Request, RoleGrants, Served
from rbac.reach import NO_MOUNTS
from rbac.strict_yaml import MAX_BYTES, parse

CASES = SHIPPED / "tests"
MAX_FILES = 100


class Expect(StrEnum):
    ALLOW = "allow"
    REFUSE = "refuse"


class Case(Closed):
    name: Annotated[str, Field(min_length=1, max_length=200)]  # a sentence
    ask: Request
    expect: Annotated[Expect, Field(strict=False)]
    rules: tuple[str, ...] = ()  # must be among those that the answer names; for a refusal at least one

    @model_validator(mode="after")
    def _a_refusal_says_by_what(self) -> Case:
        if self.expect is Expect.REFUSE and not self.rules:
            raise ValueError("a case that expects a refusal names the rules that must give it, under `rules`")
        return self


class CaseFile(Closed):
    """`granting` stands in the place of those roles' grants, to try what holds whatever a mistake in them gives."""

    granting: Annotated[tuple[RoleGrants, ...], Field(max_length=len(Role))] = ()
    served: Annotated[tuple[Served, ...], Field(min_length=1, max_length=20)]
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _each_name_once(self) -> CaseFile:
        names = [case.name for case in self.cases]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two cases are called {twice!r}")
        return self


class Failure(Closed):
    """A case that got another answer than it should have."""

    file: str
    line: int
    name: str
    expected: str
    got: Decision


class Outcome(Closed):
    passed: int
    failures: tuple[Failure, ...]


def run(rules: Path = SHIPPED, cases: Path = CASES, mounted: Mapping[str, Tool] = NO_MOUNTS) -> Outcome:
    """All cases of a folder against the rules of another. Raises ConfigError for either that does not load."""
    passed, failures = 0, list[Failure]()
    for file, found, lines in read(cases):
        authority = _authority(found, rules, mounted)
        for case, line in zip(found.cases, lines, strict=True):
            got = authority.decide(case.ask)
            if as_expected(case, got):
                passed += 1
            else:
                failures.append(Failure(file=file, line=line, name=case.name, expected=_expected(case), got=got))
    return Outcome(passed=passed, failures=tuple(failures))


def _authority(cases: CaseFile, rules: Path, mounted: Mapping[str, Tool]) -> Authority:
    if not cases.granting:
        return Authority(cases.served, rules, mounted)
    with TemporaryDirectory() as folder:
        mistaken = Path(folder)
        for part in ("grants", "policy"):
            shutil.copytree(rules / part, mistaken / part)
        for role in cases.granting:  # JSON is YAML too
            (mistaken / "grants" / f"{role.role}.yaml").write_text(role.model_dump_json())
        return Authority(cases.served, mistaken, mounted)


def as_expected(case: Case, got: Decision) -> bool:
    return got.allowed is (case.expect is Expect.ALLOW) and set(case.rules) <= set(got.rules)


def _expected(case: Case) -> str:
    return f"{case.expect} by {', '.join(case.rules)}" if case.rules else str(case.expect)


def read(folder: Path = CASES) -> tuple[tuple[str, CaseFile, tuple[int, ...]], ...]:
    """Each file's name, what it holds, and the line of each case. Raises ConfigError naming file and line."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{folder} holds no *.yaml", "Name a folder of policy tests; docs/reviewing-permissions.md")
    if len(files) > MAX_FILES:
        raise ConfigError(f"{folder} holds more than {MAX_FILES} files", "Put cases that belong together into one")
    return tuple(_read(file) for file in files)


def _read(file: Path) -> tuple[str, CaseFile, tuple[int, ...]]:
    if file.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_BYTES} bytes", "Split it into several files")
    try:
        document = parse(file.read_text(), file.name)
    except UnicodeDecodeError as wrong:
        raise ConfigError(f"{file} is no UTF-8 text: byte {wrong.start}", "Save it as UTF-8") from wrong
    try:
        found = CaseFile.model_validate_json(json.dumps(document.content))
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        line = document.line_of(tuple(first["loc"]))
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{file.name}:{line}: {place}: {first['msg']}",
            "Correct that line; the fields of `ask` are those of Request in rbac/model.py",
        ) from wrong
    return file.name, found, tuple(document.line_of(("cases", at)) for at in range(len(found.cases)))
