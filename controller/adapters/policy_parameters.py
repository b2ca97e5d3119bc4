"""What a deployment decides about the table of risk colours."""

from __future__ import annotations

from pydantic import Field

from controller.domain.base import Fact


class TableParameters(Fact):
    """Patterns are those of `rbac.patterns`."""

    owner: str = Field(min_length=1, max_length=200)  # the named person who answers for what this table lets through
    protected: tuple[str, ...]  # a change here lands only with a person's consent
    max_lines: int = Field(default=400, ge=1)  # review studies see defect discovery fall beyond 200-400 lines
    max_files: int = Field(default=25, ge=1)  # a wider change is one that nobody overlooks
    max_rounds: int = Field(default=2, ge=1)  # distinct heads on shared CI; `Bounds.ci_rounds`
    max_binary_bytes: int = Field(default=100_000, ge=0)  # of a picture in the documentation; others always ask
    mutants_killed_percent: int = Field(default=60, ge=0, le=100)  # below it, the tests prove too little
    mutants_required: bool = False  # True: a change whose mutants could not be measured asks for a person
    exit_code_is_green: bool = False  # True: a command of which only the exit code is seen may make a change Green
    asked_moves_are_green: bool = True  # a version that moves, of a package that is there and that the task names
    owners_are_asked: bool = True  # CODEOWNERS of the base
