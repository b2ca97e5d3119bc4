"""A proposed text for one file of rules, tried beside those in force: who gains and loses what, which tests fail.

`tried` is called by name in a process of its own (`controller.confined`), as the text is an agent's and parsers crash.
It works in the folder that it is started in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rbac.cases import Failure
from rbac.cases import run as run_cases
from rbac.catalogue import Tool
from rbac.compare import Comparison, compare
from rbac.decide import Authority
from rbac.model import Closed, Served

TRIED = "rbac.trial:tried"
PATTERNS = ("grants/*.yaml", "policy/*.cedar", "policy/*.cedarschema", "tests/*.yaml")


class Trial(Closed):
    """`rules`: the texts in force, by name beneath their folder."""

    rules: Mapping[str, str]
    file: str
    text: str
    served: tuple[Served, ...]
    mounted: Mapping[str, Tool]


class Tried(Closed):
    """What a proposal would do."""

    after: str  # digest of all rules with it
    comparison: Comparison
    failed: tuple[Failure, ...]


def texts_of(folder: Path) -> dict[str, str]:
    """Of every file that a trial needs. Raises UnicodeDecodeError."""
    found = [file for pattern in PATTERNS for file in sorted(folder.glob(pattern))]
    return {file.relative_to(folder).as_posix(): file.read_text() for file in found}


def tried(payload: bytes) -> bytes:
    """A Trial to a Tried, both as JSON. Raises ConfigError and Permanent for a proposal that cannot be tried."""
    trial = Trial.model_validate_json(payload)
    before, after = Path("in-force"), Path("proposed")
    _written(before, trial.rules)
    _written(after, {**trial.rules, trial.file: trial.text})
    digest = Authority(trial.served, after, trial.mounted).digest
    comparison = compare(before, after, trial.served, trial.mounted)
    cases = before / "tests"
    failed = run_cases(after, cases, trial.mounted).failures if cases.is_dir() else ()
    return Tried(after=digest, comparison=comparison, failed=failed).model_dump_json().encode()


def _written(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
