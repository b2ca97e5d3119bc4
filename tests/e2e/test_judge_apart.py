"""A whole delivery judged by a process that may only look, which somebody kills on the way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import (
    PLAIN,
    SCRIPTS,
    State,
    begun,
    ended_afterwards,
    every_effect_is_accounted_for,
    plain,
    traffic,
    until,
    verified,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells whose child the judge is"),
]
APART = PLAIN.replace("[service]\n", "[service]\njudge_process = true\n")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[State]:
    state = State(plain(tmp_path / "plain", APART) / ".flyball")
    with ended_afterwards(state):
        yield state


def judge_of(controller: int) -> int | None:
    """The process that judges for this controller. None: none does."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told, parent = (process / "cmdline").read_bytes(), (process / "stat").read_text().rpartition(") ")[2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"controller.service.judging" in told and int(parent.split()[1]) == controller:
            return int(process.name)
    return None


def test_release_is_promoted_by_a_judge_apart_though_it_is_killed_once(service: State, tmp_path: Path) -> None:
    repo, out = service.folder.parent, tmp_path / "said.txt"
    script = SCRIPTS / "plain_good.yaml"
    asked = begun("run", "--repo", repo, "Show kelvin as well.", "--script", script, cwd=repo, out=out)
    with ended_afterwards(service, asked):
        until(lambda: service.has("ReleaseConfirmed"), 60, "the branch as it is has gone live")
        port = service.port("plain")
        assert port is not None
        with traffic(port, tmp_path):
            first = until(lambda: judge_of(asked.pid), 120, "a judge looks")
            os.kill(first, signal.SIGKILL)
            second = until(lambda: judge_of(asked.pid), 60, "another judge looks")
            asked.wait(200)
        assert asked.returncode == 0, out.read_text()
        assert second != first
        assert {e.body["source"] for e in service.of_kind("Observed")} == {"the proxy's status codes and latencies"}
        assert service.of_kind("Promoted")[-1].body["verdict"]["outcome"] == "promote"
        every_effect_is_accounted_for(service, "plain")
    assert not Path(f"/proc/{second}").exists()
    verified(service.folder)
