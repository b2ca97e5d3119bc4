"""CI on this machine: each run is a folder and a detached worker process, so that a killed controller costs it nothing.

Starting a run makes its folder (named by repository, commit and attempt: the same run cannot exist twice), exports
the commit into it and starts `ci_worker` holding the folder's lock. Everything afterwards is reading files. A look at
a run whose lock is free and whose state is not final finds a dead worker and starts another on a fresh tree, twice at
most; then the run is `broken`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import controller
from controller.adapters.ci_execute import CiConfig
from controller.adapters.ci_folder import Progress, RunFolder, now
from controller.adapters.ci_results import RunState
from controller.adapters.removal import remove
from controller.adapters.sandbox import Sandbox
from controller.domain.ids import Commit, EffectKey, Repository
from controller.domain.verbs import RunStarted, StartRun, Verb
from controller.errors import Permanent, Unavailable
from controller.ports import CiRun, TestResult

MOST_STARTS = 3  # the first, and two more when a worker died
MOST_FOLDERS = 500  # finished runs kept
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")

Export = Callable[[Repository, Commit, Path], None]
"""Writes a commit's tree into an empty folder, running nothing that it brings. Raises Permanent: no such commit."""


def run_name(verb: StartRun) -> str:
    purpose = "" if verb.purpose == "tests" else f"\0{verb.purpose}\0{verb.base}"
    exact = hashlib.sha256(f"{verb.repository}\0{verb.commit}\0{verb.attempt}{purpose}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", verb.repository).lstrip("-._")[:80]
    return f"{readable or 'run'}-{verb.commit[:12]}-{verb.attempt}-{exact}"


@dataclass
class LocalCi:
    """`Ci` and the hands of `StartRun`: `slots` runs at a time on this root, `most_waiting` unfinished ones in all."""

    root: Path
    export: Export
    sandbox: Sandbox
    configs: Mapping[Repository, CiConfig] = field(
        default_factory=dict
    )  # a repository that is not in it has the defaults
    slots: int = 2
    most_waiting: int = 16
    queue_wait_s: float = 3_600.0
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)  # our children, kept until they are reaped

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        """The run exists and is on its way. Raises Unavailable: too many are unfinished; Permanent: no such commit."""
        del key  # the run's own name is unique in the world
        return await asyncio.to_thread(self._ensure, _start_run(verb))

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        del key
        name = run_name(_start_run(verb))
        return RunStarted(run=name) if self._folder(name).exists() else None

    async def run(self, run: str) -> CiRun | None:
        return await asyncio.to_thread(self._look, run)

    def _folder(self, name: str) -> RunFolder:
        return RunFolder(self.root / "runs" / name)

    def _ensure(self, verb: StartRun) -> RunStarted:
        name = run_name(verb)
        folder = self._folder(name)
        if not folder.exists():
            self._make_room()
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_spec(self._spec(verb))
        try:
            self._keep_going(folder)
        except Permanent:
            remove(folder.path)  # nothing has begun: the world said no
            raise
        return RunStarted(run=name)

    def _spec(self, verb: StartRun) -> dict[str, Any]:
        return {
            **verb.model_dump(mode="json"),
            "config": self.configs.get(verb.repository, CiConfig()).as_json(),
            "rung": str(self.sandbox.rung),
            "why": self.sandbox.why,
            "slots_folder": str((self.root / "slots").resolve()),
            "slots": self.slots,
            "queue_wait_s": self.queue_wait_s,
            "base_run": run_name(StartRun(repository=verb.repository, commit=verb.base)) if verb.base else None,
        }

    def _make_room(self) -> None:
        known = [RunFolder(path) for path in (self.root / "runs").glob("*") if (path / "spec.json").exists()]
        finished = [folder for folder in known if folder.progress().state.final]
        waiting = len(known) - len(finished)
        if waiting >= self.most_waiting:
            raise Unavailable(
                f"{waiting} CI runs are unfinished, the bound is {self.most_waiting}",
                "Wait for them, or let more run at a time with test.slots",
            )
        finished.sort(key=lambda folder: folder.path.stat().st_mtime)
        for folder in finished[: max(0, len(finished) - MOST_FOLDERS)]:
            remove(folder.path)

    def _look(self, run: str) -> CiRun | None:
        if not RUN_NAME.fullmatch(run) or not self._folder(run).exists():
            return None
        folder = self._folder(run)
        self._keep_going(folder)
        progress = folder.progress()
        lines = folder.tests()
        found = folder.found() if progress.state.final else None
        return CiRun(
            run=run,
            commit=Commit(folder.spec()["commit"]),
            state=str(progress.state),
            started_at=progress.started_at,
            finished_at=progress.finished_at,
            tests=tuple(TestResult(one.test, one.passed, one.duration_ms, one.message, one.skipped) for one in lines),
            isolation=progress.isolation or self.sandbox.isolation,
            reason=progress.reason,
            log=folder.text("log.txt"),
            benchmarks=folder.benchmarks() if progress.state.final else (),
            mutants=folder.mutants() if progress.state.final else None,
            facts=found.facts if found else None,
            named=found.names if found else (),
            forged=progress.forged,
        )

    def _keep_going(self, folder: RunFolder) -> None:
        """A run that is not finished has a worker afterwards, or is broken because three of them died."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        if folder.progress().state.final or (lock := folder.lock()) is None:
            return
        try:
            progress = folder.progress()  # again, under the lock: the worker may have finished in between
            if not progress.state.final:
                self._start(folder, progress, lock)
        finally:
            os.close(lock)

    def _start(self, folder: RunFolder, before: Progress, lock: int) -> None:
        if before.starts >= MOST_STARTS:
            said = folder.text("worker.txt")[-300:]
            reason = f"{before.starts} workers died without a result; the last one said: {said!r}"
            folder.write(replace(before, state=RunState.BROKEN, finished_at=now(), reason=reason))
            return
        folder.write(Progress(RunState.QUEUED, starts=before.starts + 1))
        folder.forget_tests()
        spec = folder.spec()
        for fresh in (folder.tree, folder.scratch, folder.base):
            remove(fresh)
            fresh.mkdir()
        self.export(Repository(spec["repository"]), Commit(spec["commit"]), folder.tree)
        if spec.get("base"):
            self.export(Repository(spec["repository"]), Commit(spec["base"]), folder.base)
        self.workers.append(_spawn_worker(folder, lock))


def _start_run(verb: Verb) -> StartRun:
    match verb:
        case StartRun():
            return verb
        case _:
            raise Permanent(f"local CI has no hands for {verb.name}", "Route it to the adapter of its port")


def _spawn_worker(folder: RunFolder, lock: int) -> subprocess.Popen[bytes]:
    """In a session of its own, without our environment: no key of ours is in a process that tests could look at."""
    home = Path(next(iter(controller.__path__))).parent
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder.path / "worker.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "controller.adapters.ci_worker", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )
