"""What must pass, what is skipped and why, and what came out of it: two files against what the suite has reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

HERE = Path(__file__).parent
WIRE_CHECK = "wire-schema-valid"  # stands beside every scenario's own checks


class Leg(StrEnum):
    SERVER = "server"
    CLIENT = "client"


class How(StrEnum):
    FAILS = "fails"
    UNTRIED = "untried"
    NOT_RUN = "not-run"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Skip(_Record):
    revision: str
    leg: Leg
    how: How
    why: str = Field(min_length=10)
    scenarios: tuple[str, ...] = Field(min_length=1)


class Excuse(_Record):
    revision: str
    leg: Leg
    scenario: str
    why: str = Field(min_length=10)
    checks: tuple[str, ...] = Field(min_length=1)


class Skipped(_Record):
    scenarios: tuple[Skip, ...]
    checks: tuple[Excuse, ...]


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One scenario at one revision of the wire."""

    revision: str
    leg: Leg
    scenario: str


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    status: str  # SUCCESS, FAILURE, WARNING, SKIPPED or INFO, as the suite says it
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`complaint` "": as expected."""

    case: Case
    expected: str
    checks: tuple[Check, ...]
    complaint: str

    @property
    def counts(self) -> Mapping[str, int]:
        return Counter(check.status for check in self.checks)


class Expectations:
    """The two files. Raises ValueError for a scenario that stands in them twice."""

    def __init__(self, folder: Path = HERE) -> None:
        applies = TypeAdapter(dict[str, dict[Leg, tuple[str, ...]]]).validate_python(_yaml(folder / "applies.yaml"))
        skipped = Skipped.model_validate(_yaml(folder / "skipped.yaml"), strict=False)
        self.revisions = tuple(applies)
        self.applies = {Case(revision, leg, name) for revision, leg, name in _applied(applies)}
        self.skipped = {
            Case(skip.revision, skip.leg, name): skip for skip in skipped.scenarios for name in skip.scenarios
        }
        self._excused = {Case(one.revision, one.leg, one.scenario): one.checks for one in skipped.checks}
        counted = Counter(
            [*_all(applies), *(Case(s.revision, s.leg, n) for s in skipped.scenarios for n in s.scenarios)]
        )
        if twice := sorted(case for case, times in counted.items() if times > 1):
            raise ValueError(f"in applies.yaml and skipped.yaml twice: {', '.join(map(_name, twice))}")

    def is_run(self, case: Case) -> bool:
        return case in self.applies or (case in self.skipped and self.skipped[case].how is not How.NOT_RUN)

    def judged(self, case: Case, checks: Sequence[Check]) -> Verdict:
        """What one scenario that has been run means."""
        skip = self.skipped.get(case)
        if skip is not None:
            return Verdict(case, f"{skip.how}: {skip.why}", tuple(checks), _skip_complaint(skip.how, checks))
        return Verdict(case, "passes", tuple(checks), _complaint(checks, set(self._excused.get(case, ()))))

    def unlisted(self, known: set[Case]) -> list[str]:
        """Scenarios that the suite has and no file names, and the other way round."""
        listed = self.applies | set(self.skipped)
        return [
            *(
                f"{_name(case)} is new: put it into applies.yaml, or into skipped.yaml with a reason"
                for case in sorted(known - listed)
            ),
            *(f"{_name(case)} is no longer in the suite: take it out of the lists" for case in sorted(listed - known)),
        ]


def _complaint(checks: Sequence[Check], excused: set[str]) -> str:
    failed = {check.name for check in checks if check.status == "FAILURE"}
    own = [check for check in checks if check.name != WIRE_CHECK]
    if unexpected := sorted(failed - excused):
        return f"failed: {', '.join(unexpected)}"
    if stale := sorted(excused - failed):
        return f"did not fail, so take out of skipped.yaml: {', '.join(stale)}"
    return "" if any(check.status == "SUCCESS" for check in own) else "nothing was checked"


def _skip_complaint(how: How, checks: Sequence[Check]) -> str:
    """What is not served is refused in a message that is well-formed all the same."""
    failed = {check.name for check in checks if check.status == "FAILURE"}
    if WIRE_CHECK in failed:
        return f"failed: {WIRE_CHECK}"
    if how is How.FAILS and not failed:
        return "passes: move it from skipped.yaml to applies.yaml"
    return "failed, and was to pass untried" if how is How.UNTRIED and failed else ""


def _applied(applies: Mapping[str, Mapping[Leg, Sequence[str]]]) -> Iterator[tuple[str, Leg, str]]:
    for revision, legs in applies.items():
        for leg, names in legs.items():
            yield from ((revision, leg, name) for name in names)


def _all(applies: Mapping[str, Mapping[Leg, Sequence[str]]]) -> list[Case]:
    return [Case(*one) for one in _applied(applies)]


def _name(case: Case) -> str:
    return f"{case.revision} {case.leg} {case.scenario}"


def _yaml(file: Path) -> object:
    return yaml.safe_load(file.read_text())
