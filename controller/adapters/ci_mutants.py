"""A run of mutants in the sandbox, heard line by line, as one fact.

The measuring itself is `controller.mutants`, copied beside the tree and run by the repository's own interpreter. What
it says is bounded here; a run that does not say its last line has measured nothing, whatever it said before.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from controller.adapters.ci_driver import has_src
from controller.adapters.ci_execute import CiConfig
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Limits
from controller.domain.change import MutantFacts, MutantSurvived
from controller.domain.ids import Commit

FOLDER = "flyball_mutants"
AS_MODULE = ("python", "-m", "pytest")
MOST_MUTANTS = 40  # of one change: the share is known to some 8 % by then (standard error of 0.6 at 40)
MOST_SURVIVORS = 20  # recorded
OVER_BUDGET_S = 60.0  # the last run and the controls may take so long beyond it
ONLY_PYTEST = "mutants/command: `test.command` is not pytest"


@dataclass
class Heard:
    """What came through the pipe. Bounded; what is malformed is left out."""

    killed: int = 0
    survived: int = 0
    timed_out: int = 0
    survivors: list[MutantSurvived] = field(default_factory=list)
    ended: dict[str, object] | None = None  # None: it has not said its last line

    def add(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            if said["kind"] == "ended":
                self.ended = said
            elif self.killed + self.survived + self.timed_out < MOST_MUTANTS:
                self._count(said)
        except (ValueError, TypeError, KeyError, RecursionError):
            return  # not a line of ours; without the last one nothing counts

    def _count(self, said: dict[str, object]) -> None:
        match said["outcome"]:
            case "killed":
                self.killed += 1
            case "timed-out":
                self.timed_out += 1
            case "survived":
                self.survived += 1
                if len(self.survivors) < MOST_SURVIVORS:
                    line = int(str(said["line"]))
                    where = MutantSurvived(path=str(said["path"])[:300], line=line, operator=str(said["operator"])[:60])
                    self.survivors.append(where)


async def measure(
    sandbox: Sandbox, tree: Path, config: CiConfig, scratch: Path, *, base: Path, commit: Commit
) -> MutantFacts:
    """`base`: the tree that the change is compared with; `scratch`: an existing folder to write to.

    The sample depends on the commit and nothing else. Raises `SandboxBroken`.
    """
    begins = _after_pytest(config.command)
    if not begins:
        return MutantFacts(measured=False, why_not=ONLY_PYTEST)
    seed, budget_s = zlib.crc32(commit.encode()), config.mutants_s
    plan = {
        "base": str(base),
        "arguments": ["-p", "no:cacheprovider", *config.command[begins:]],
        "src": has_src(str(tree)),
        "seed": seed,
        "budget_s": budget_s,
        "most": MOST_MUTANTS,
    }
    heard = Heard()
    folder = _lay_out(scratch, plan)
    ran = await sandbox.run(
        [config.python, str(folder / FOLDER), str(folder / "plan.json")],
        tree=tree,
        python=config.python,
        env=dict(config.environment),
        readable=(folder, base),
        limits=Limits(
            wall_s=budget_s + OVER_BUDGET_S, memory_bytes=config.memory_bytes, output_bytes=config.output_bytes
        ),
        on_result=heard.add,
    )
    limits = MutantFacts(measured=False, seed=seed, budget_ms=int(budget_s * 1000), took_ms=ran.duration_ms)
    return facts_of(heard, limits)


def facts_of(heard: Heard, limits: MutantFacts) -> MutantFacts:
    """`limits` holds what is known whatever was heard."""
    if heard.ended is None:
        return limits.model_copy(update={"why_not": "mutants/ended: the measuring was ended before its last line"})
    if why := str(heard.ended.get("why", ""))[:300]:
        return limits.model_copy(update={"why_not": why})
    counts = {"killed": heard.killed, "survived": heard.survived, "timed_out": heard.timed_out}
    possible = int(str(heard.ended["possible"]))
    known = {"measured": True, "possible": possible, "survivors": tuple(heard.survivors), **counts}
    return limits.model_copy(update=known)


def _after_pytest(command: Sequence[str]) -> int:
    """Where pytest's own arguments begin. 0: this is not pytest."""
    if tuple(command[1:3]) == AS_MODULE[1:]:
        return len(AS_MODULE)
    return 1 if Path(command[0]).name in {"pytest", "py.test"} else 0


def _lay_out(scratch: Path, plan: dict[str, object]) -> Path:
    """A folder that the sandbox's user may read: the measuring, and what it is to measure."""
    folder = scratch / "mutants"
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for module in files("controller.mutants").iterdir():
        if module.name.endswith(".py"):
            with module.open("rb") as source, (folder / FOLDER / module.name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    (folder / "plan.json").write_text(json.dumps(plan))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
