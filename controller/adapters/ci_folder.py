"""A CI run as a folder: all that is known of it is in files, and survives the controller and its own worker.

- `spec.json`: what to run; written once.
- `state.json`: where it is; replaced by rename, so that a reader sees the old one or the new one.
- `tests.jsonl`: one line per finished test, appended while it runs.
- `base`: what the change is compared with, where the run compares. `mutants.json`: what became of its mutants.
- `benchmarks.json`: what its tests measured; `facts.json`: what the run says of the change and which tests its commit
  has. Both are written before the state that ends it.
- `log.txt`: the output, once it has ended. `worker.txt`: what the worker itself had to say.
- `lock`: held (flock) by whoever prepares or runs it. Nobody holds it and the state is not final: the worker is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from time import monotonic, sleep
from typing import Any

from controller.adapters.ci_results import MOST_TESTS, RunState, TestLine
from controller.adapters.ci_verdict import Collected
from controller.domain.benchmark import Benchmark
from controller.domain.change import MutantFacts, TestFacts

SLOT_POLL_S = 0.02


@dataclass(frozen=True)
class Progress:
    """`state.json`."""

    state: RunState
    starts: int = 0  # workers started for it so far
    started_at: datetime | None = None  # None: still queued
    finished_at: datetime | None = None  # None: not finished
    reason: str = ""
    isolation: str = ""
    forged: bool = False  # the report is not believed


@dataclass(frozen=True)
class Found:
    """`facts.json`."""

    facts: TestFacts
    names: tuple[str, ...]  # of the tests that the facts name
    collected: Collected | None  # of the commit; None: its tests were not listed


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def tree(self) -> Path:
        return self.path / "tree"

    @property
    def base(self) -> Path:
        """The tree of the commit that the run's is compared with."""
        return self.path / "base"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    def exists(self) -> bool:
        return (self.path / "spec.json").exists()

    def write_spec(self, spec: dict[str, Any]) -> None:
        self._replace("spec.json", json.dumps(spec, sort_keys=True))

    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "spec.json").read_text())
        return found

    def write(self, progress: Progress) -> None:
        self._replace("state.json", json.dumps(asdict(progress), default=datetime.isoformat))

    def progress(self) -> Progress:
        try:
            found = json.loads((self.path / "state.json").read_text())
        except FileNotFoundError:
            return Progress(RunState.QUEUED)
        times = {name: datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at") if found[name]}
        return Progress(**{**found, **times, "state": RunState(found["state"])})

    def _replace(self, name: str, text: str) -> None:
        draft = self.path / f"{name}.{os.getpid()}.{get_ident()}.tmp"
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / name)

    def forget_tests(self) -> None:
        for name in ("tests.jsonl", "benchmarks.json", "facts.json", "mutants.json"):
            (self.path / name).unlink(missing_ok=True)

    def add_test(self, line: TestLine) -> None:
        with (self.path / "tests.jsonl").open("a") as file:
            file.write(line.as_json() + "\n")

    def write_tests(self, lines: Sequence[TestLine]) -> None:
        """All of them, once the run has ended: those that were running when it was cut short included."""
        self._replace("tests.jsonl", "".join(line.as_json() + "\n" for line in lines))

    def write_found(self, found: Found) -> None:
        collected = asdict(found.collected) if found.collected else None
        kept = {"facts": found.facts.model_dump(mode="json"), "names": found.names, "collected": collected}
        self._replace("facts.json", json.dumps(kept))

    def found(self) -> Found | None:
        """None: the run has not ended, or it found nothing out."""
        text = self.text("facts.json")
        if not text:
            return None
        kept = json.loads(text)
        listed = kept["collected"]
        collected = Collected(tuple(listed["ids"]), tuple(listed["skipped"])) if listed else None
        return Found(TestFacts.model_validate(kept["facts"]), tuple(kept["names"]), collected)

    def tests(self) -> list[TestLine]:
        """Those that have finished so far. A last line without its end is still being written, and left out."""
        try:
            text = (self.path / "tests.jsonl").read_text()
        except FileNotFoundError:
            return []
        whole, _, _ = text.rpartition("\n")
        return [TestLine(**json.loads(line)) for line in whole.splitlines()[:MOST_TESTS]]

    def write_benchmarks(self, found: Sequence[Benchmark]) -> None:
        self._replace("benchmarks.json", json.dumps([one.model_dump(mode="json") for one in found]))

    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Empty: none were recorded, or the run has not ended."""
        return tuple(Benchmark.model_validate(one) for one in json.loads(self.text("benchmarks.json") or "[]"))

    def write_mutants(self, found: MutantFacts) -> None:
        self._replace("mutants.json", found.model_dump_json())

    def mutants(self) -> MutantFacts | None:
        """None: not a run of mutants, or it has not ended."""
        text = self.text("mutants.json")
        return MutantFacts.model_validate_json(text) if text else None

    def write_log(self, text: str) -> None:
        (self.path / "log.txt").write_text(text)

    def text(self, name: str) -> str:
        """The contents of one of its files. Empty: not written yet."""
        try:
            return (self.path / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def lock(self) -> int | None:
        """An open, locked descriptor; whoever inherits it keeps the lock. None: somebody holds it."""
        return try_lock(self.path / "lock")


def try_lock(path: Path) -> int | None:
    """None: somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def slot(folder: Path, slots: int, wait_s: float) -> Iterator[None]:
    """One of `slots` places to run, on this machine, among all processes. Raises TimeoutError after `wait_s`.

    Only the holder of `turn` looks for a free place: however many wait, one polls the slots. Their order is not kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    give_up = monotonic() + wait_s
    turn = _wait_for([folder / "turn"], give_up)
    try:
        held = _wait_for([folder / f"{number}.slot" for number in range(slots)], give_up)
    finally:
        os.close(turn)
    try:
        yield
    finally:
        os.close(held)


def _wait_for(paths: list[Path], give_up: float) -> int:
    while True:
        for path in paths:
            if (held := try_lock(path)) is not None:
                return held
        if monotonic() > give_up:
            raise TimeoutError
        sleep(SLOT_POLL_S)


def now() -> datetime:
    return datetime.now(UTC)
