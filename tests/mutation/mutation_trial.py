"""One mutant on trial: written into a copy of the project, held against the tests that may notice it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutation_plugin import CHOSEN
from mutation_sites import Mutant
from mutation_tests import Covering, environment

START_S = 30.0  # for the imports, on a busy machine
SLOWER = 3.0  # a test may take this many times as long as it did
FIRST = 8  # tests that are tried by themselves: most mutants die of them, and few files are imported
LEAST = 5
NO_TESTS = 5  # pytest's exit status


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


def tried(mutant: Mutant, tree: Path, covering: Covering, tests_s: float) -> Trial:
    """In the copy `tree`, which is afterwards as it was."""
    tests, known = chosen(covering, mutant, tests_s), len(covering.of(mutant))
    path = tree / mutant.file
    original = path.read_bytes()
    try:
        _write(path, mutant.source(original))
        for part in (tests[:FIRST], tests[FIRST:]):
            seconds = sum(covering.seconds[name] for name in part)
            end, by = _run(tree, part, START_S + SLOWER * seconds) if part else (End.SURVIVED, "")
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


def _run(tree: Path, tests: Sequence[str], limit_s: float) -> tuple[End, str]:
    order = tree / "chosen.json"
    order.write_text(json.dumps(list(tests)))
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "mutation_plugin",
        *files,
    ]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(**{CHOSEN: str(order)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return End.TIMEOUT, ""
    finally:
        _end(process)
    if process.returncode == 0:
        return End.SURVIVED, ""
    if process.returncode == NO_TESTS:
        raise SystemExit(f"None of the chosen tests was found in {', '.join(files)}:\n{output[-2000:]}")
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return End.KILLED, failed[0].split(" - ")[0].partition(" ")[2] if failed else "it cannot be imported"


def _end(process: subprocess.Popen[str]) -> None:
    """It, and whatever it has started and left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
