"""One mutant on trial: written into a copy of the project, held against the tests that may notice it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutation_plugin import CHOSEN
from mutation_sites import Mutant
from mutation_tests import HERE, QUIET, Covering, environment

START_S = 30.0  # for the imports, on a busy machine
SLOWER = 3.0  # a test may take this many times as long as it did
FIRST = 8  # tests that are tried by themselves: most mutants die of them, and few files are imported
LEAST = 5
FAILED, CANNOT_COLLECT, CANNOT_BEGIN = 1, 2, 4  # pytest's exit statuses; any other failure is ours
NO_IMPORT = "ImportError while loading conftest"


class End(StrEnum):
    KILLED = "killed"
    TIMEOUT = "timeout"  # no end: counts as killed
    SURVIVED = "survived"
    NO_TEST = "no test"  # nothing executes it: counts as survived


@dataclass(frozen=True)
class Trial:
    mutant: Mutant
    end: End
    by: str  # the test that failed; "": none
    tried: int  # tests that were run, at most
    known: int  # tests that execute it

    @property
    def noticed(self) -> bool:
        return self.end in (End.KILLED, End.TIMEOUT)


def chosen(covering: Covering, mutant: Mutant, tests_s: float) -> list[str]:
    """The tests for this mutant: as many as took `tests_s` seconds together without it, and at least LEAST."""
    found: list[str] = []
    seconds = 0.0
    for name in covering.of(mutant):
        if len(found) >= LEAST and seconds + covering.seconds[name] > tests_s:
            continue
        found.append(name)
        seconds += covering.seconds[name]
    return found


def tried(mutant: Mutant, nursery: Nursery, covering: Covering, tests_s: float) -> Trial:
    """In the nursery's copy of the project, which is afterwards as it was."""
    tests, known = chosen(covering, mutant, tests_s), len(covering.of(mutant))
    path = nursery.tree / mutant.file
    original = path.read_bytes()
    try:
        _write(path, mutant.source(original))
        for part in (tests[:FIRST], tests[FIRST:]):
            seconds = sum(covering.seconds[name] for name in part)
            end, by = nursery.run(part, START_S + SLOWER * seconds) if part else (End.SURVIVED, "")
            if end is not End.SURVIVED:
                return Trial(mutant, end, by, len(tests), known)
    finally:
        _write(path, original)
    return Trial(mutant, End.SURVIVED if tests else End.NO_TEST, "", len(tests), known)


def _write(path: Path, source: bytes) -> None:
    """And forget what was compiled: two versions of a size within a second look the same to Python."""
    path.write_bytes(source)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


class Nursery:
    """The forking process of one copy of the project. Its runs are one after the other."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "mutation_nursery.py")],
            cwd=tree,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tests: Sequence[str], limit_s: float) -> tuple[End, str]:
        """Raises SystemExit when a run ends in a way that says nothing of the mutant."""
        output, order = self.tree / "output.txt", self.tree / "chosen.json"
        order.write_text(json.dumps(list(tests)))
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        pid = int(
            self._asked({"args": ["-x", *QUIET, *files], "output": str(output), "environment": {CHOSEN: str(order)}})
        )
        over = threading.Timer(limit_s, _end, [pid])
        over.start()
        status = int(self._said())
        in_time = over.is_alive()
        over.cancel()
        _end(pid)  # whatever it has started and left
        if not in_time:
            return End.TIMEOUT, ""
        return self._meaning(status, files, output.read_text(errors="replace"))

    def _meaning(self, status: int, files: Sequence[str], output: str) -> tuple[End, str]:
        if status == 0:
            return End.SURVIVED, ""
        failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if status in (FAILED, CANNOT_COLLECT) and failed:
            return End.KILLED, failed[0].split(" - ")[0].partition(" ")[2]
        if status == CANNOT_BEGIN and NO_IMPORT in output:
            return End.KILLED, "it cannot be imported"
        raise SystemExit(
            f"A run of {', '.join(files)} ended with {status}, and says nothing of the mutant:\n{output[-3000:]}"
        )

    def _asked(self, request: dict[str, object]) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._said()

    def _said(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("The process that forks the runs has ended by itself")
        return line

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
