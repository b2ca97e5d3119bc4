"""`flyball run` with somebody who listens, and with nobody there: the task ends the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import ENVIRONMENT, EXAMPLES, SCRIPTS, flyball, kill, repository, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TASK = "Let the caller choose what joins the words."


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Path]:
    """What the example's receiver prints."""
    out = tmp_path / "told"
    with out.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "telemetry" / "receiver.py"), "0"],
            env=ENVIRONMENT,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    until(lambda: "listening at" in out.read_text(), 30, "the receiver listens")
    yield out
    kill(process)


def library(folder: Path, endpoint: str) -> Path:
    repo = repository(folder / "library", EXAMPLES / "library")
    assert flyball("init", "--repo", repo).returncode == 0
    with (repo / "flyball.toml").open("a") as settings:
        settings.write(f'\n[telemetry]\nendpoint = "{endpoint}"\ntimeout_seconds = 2\n')
    return repo


def test_a_run_is_told_as_one_trace_before_it_is_over(tmp_path: Path, told: Path) -> None:
    (address,) = re.findall(r"listening at (\S+)", told.read_text())
    done = flyball("run", "--repo", library(tmp_path, address), TASK, "--script", SCRIPTS / "library.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = told.read_text()
    assert len(re.findall(r"^trace [0-9a-f]{32}$", printed, re.MULTILINE)) == 1
    names = re.findall(r"^ *([^=\n]+?) +\d+\.\d{3} s", printed, re.MULTILINE)
    assert names[0] == "RUN deliver"
    assert {"author", "invoke_agent author", "ci", "classify", "landing", "forge.land"} <= set(names)
    assert "FAILED" not in printed


def test_a_run_that_nobody_listens_to_ends_well_and_says_so_once(tmp_path: Path) -> None:
    repo = library(tmp_path, "http://127.0.0.1:9")  # discard: nobody has listened there for decades
    done = flyball("run", "--repo", repo, TASK, "--script", SCRIPTS / "library.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("nobody takes own telemetry at http://127.0.0.1:9") == 1, done.stderr
