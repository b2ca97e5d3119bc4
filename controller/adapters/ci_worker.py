"""One CI run, in a process of its own that outlives the controller which started it.

    python -m controller.adapters.ci_worker <run folder>

It inherits the run's lock, waits for a slot, runs the tests in their sandbox and leaves the result in the folder. If
it dies, its sandbox dies with it, the lock is free, and the next look at the run starts another one.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.adapters.ci_execute import Base, CiConfig, Executed, execute
from controller.adapters.ci_folder import Found, Progress, RunFolder, now, slot
from controller.adapters.ci_mutants import measure
from controller.adapters.ci_results import RunState
from controller.adapters.ci_verdict import Collected
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Rung
from controller.domain.change import MutantFacts
from controller.domain.ids import Commit
from controller.errors import Unavailable


def work(folder: RunFolder) -> None:
    spec = folder.spec()
    queued = folder.progress()
    try:
        with slot(Path(spec["slots_folder"]), spec["slots"], spec["queue_wait_s"]):
            running = replace(queued, state=RunState.RUNNING, started_at=now())
            folder.write(running)
            _run_and_record(folder, running)
    except TimeoutError:
        reason = f"waited {spec['queue_wait_s']:g} s for one of {spec['slots']} places; allow more with test.slots"
        folder.write(replace(queued, state=RunState.BROKEN, finished_at=now(), reason=reason))
    for tree in (folder.tree, folder.base, folder.scratch):
        remove(tree)


def _run_and_record(folder: RunFolder, running: Progress) -> None:
    try:
        if folder.spec().get("purpose") == "mutants":
            folder.write_mutants(asyncio.run(_measure(folder)))
            folder.write(replace(running, state=RunState.PASSED, finished_at=now()))
            return
        executed = asyncio.run(_execute(folder))
    except Unavailable as error:
        folder.write(replace(running, state=RunState.BROKEN, finished_at=now(), reason=str(error)))
        return
    folder.write_log(executed.output)
    folder.write_benchmarks(executed.benchmarks)
    folder.write_tests(executed.tests)
    if executed.facts is not None:
        folder.write_found(Found(executed.facts, executed.names, executed.collected))
    ended = replace(running, finished_at=now(), isolation=executed.isolation, forged=executed.forged)
    folder.write(replace(ended, state=executed.state, reason=executed.reason))


async def _measure(folder: RunFolder) -> MutantFacts:
    spec = folder.spec()
    sandbox = Sandbox(Rung(spec["rung"]), spec["why"])
    config, commit = CiConfig.of_json(spec["config"]), Commit(spec["commit"])
    return await measure(sandbox, folder.tree, config, folder.scratch, base=folder.base, commit=commit)


async def _execute(folder: RunFolder) -> Executed:
    spec = folder.spec()
    sandbox = Sandbox(Rung(spec["rung"]), spec["why"])
    config = CiConfig.of_json(spec["config"])
    base = Base(folder.base, _known(folder, spec)) if spec.get("base") else None
    return await execute(sandbox, folder.tree, config, folder.scratch, folder.add_test, base)


def _known(folder: RunFolder, spec: dict[str, Any]) -> Collected | None:
    """The base's tests, from the run that tested it before it landed. None: there is none of the same settings."""
    earlier = RunFolder(folder.path.parent / spec["base_run"])
    if not earlier.exists() or earlier.spec()["config"] != spec["config"] or not earlier.progress().state.final:
        return None
    found = earlier.found()
    return found.collected if found else None


if __name__ == "__main__":
    work(RunFolder(Path(sys.argv[1])))
