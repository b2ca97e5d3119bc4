"""A bad canary has 25 % of the users, and something happens to the controller: users are back on the confirmed release.

Everything is real: `flyball serve` as a process, its edge, the service, the log on a disk that is full.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kit import (
    PLAIN,
    SCRIPTS,
    State,
    answers,
    ask,
    begun,
    ended_afterwards,
    every_effect_is_accounted_for,
    flyball,
    kill,
    plain,
    traffic,
    until,
    verified,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TTL_S = 4
# The step never ends by itself and proof takes long, so that the canary stays where it is until something happens.
LINGERING = (
    PLAIN.replace("[25, 50, 100]", "[25, 100]")
    .replace("step_requests = 40", "step_requests = 1000000")
    .replace("weight_ttl_ms = 5000", f"weight_ttl_ms = {TTL_S * 1000}")
    .replace("slo_error_ppm = 50000", "alpha_ppm = 1\npage_alpha_ppm = 1")
)
FROST = "/convert?celsius=-4"  # what the bad release cannot answer
BAD = "Say how warm it feels."


@dataclass
class Service:
    """The converter's repository, its state folder, and the controllers that serve it."""

    repo: Path
    state: State
    controllers: list[subprocess.Popen[bytes]]

    @property
    def said(self) -> Path:
        return self.repo.parent / "said.txt"

    def serve(self, script: str) -> subprocess.Popen[bytes]:
        options = ("--repo", self.repo, "--dir", self.state.folder, "--script", SCRIPTS / script)
        process = begun("serve", *options, cwd=self.repo, out=self.said)
        self.controllers.append(process)
        return process

    def live(self) -> int:
        """The public port, once the branch as it is has been confirmed."""
        until(lambda: self.state.has("ReleaseConfirmed", release=1), 60, "the first release is confirmed")
        port = self.state.port("plain")
        assert port is not None
        return port

    async def exposed(self) -> int:
        """The public port, once the bad release has a quarter of the users and hurts them."""
        port = self.live()
        await ask(self.repo, self.state, BAD)
        until(lambda: self.state.has("StepStarted", weight_percent=25), 90, "the bad release has 25 %")
        until(lambda: 500 in answers(port, FROST, 8), 10, "users are hurt")
        return port

    def weightless(self) -> bool:
        return self.state.weight("plain") == 0

    def changes(self) -> list[str]:
        return [change["cause"] for change in self.state.platform("plain")["changes"]]


@contextlib.contextmanager
def service_in(folder: Path, state: Path | None = None, settings: str = LINGERING) -> Iterator[Service]:
    """`state=None`: beside flyball.toml."""
    repo = plain(folder / "plain", settings)
    found = Service(repo, State(state or repo / ".flyball"), [])
    try:
        yield found
    finally:
        with ended_afterwards(found.state, *found.controllers):
            pass


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with service_in(tmp_path) as found:
        yield found


def users_are_well(port: int) -> bool:
    return set(answers(port, FROST, 60)) == {200}


async def test_killed_controller_leaves_users_on_the_confirmed_release(service: Service) -> None:
    controller = service.serve("plain_bad.yaml")
    port = await service.exposed()
    kill(controller)
    died = time.monotonic()
    until(service.weightless, TTL_S + 2, "the platform takes the weight back by itself")
    assert time.monotonic() - died < TTL_S + 2
    assert users_are_well(port)
    assert service.changes()[-1] == "lapsed"

    service.serve("plain_bad.yaml")
    until(lambda: service.state.has("WeightLapsed"), 30, "the next controller sees what happened and records it")
    verified(service.state.folder)


async def test_stop_takes_a_running_canary_to_the_confirmed_release_and_resume_lets_it_go_on(service: Service) -> None:
    service.serve("plain_bad.yaml")
    port = await service.exposed()
    stopped = flyball("stop", "--repo", service.repo, "--because", "a strange noise")
    assert stopped.returncode == 0
    assert "flyball resume" in stopped.stdout
    until(service.weightless, 5, "the canary is taken back")
    assert users_are_well(port)
    paused = until(lambda: service.state.has("ReleasePaused"), 10, "it is recorded")
    assert paused.body["reason"].endswith("is stopped")
    assert "a strange noise" not in str(paused.body)  # a person's words: they stand, sealed, beside it
    assert "a strange noise" in flyball("status", "--repo", service.repo).stdout
    assert service.changes()[-1] == "restored"

    assert flyball("resume", "--repo", service.repo).returncode == 0
    until(lambda: service.state.has("ReleaseResumed"), 30, "it goes on")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root on Linux can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """A file that takes whatever is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="mounts a small disk")
async def test_full_disk_under_the_log_takes_users_back_and_nothing_is_done_unrecorded(
    tmp_path: Path, tiny_disk: Path
) -> None:
    with service_in(tmp_path) as service:
        service.state.folder.mkdir()
        (service.state.folder / "log.db").symlink_to(tiny_disk / "log.db")
        service.serve("plain_bad.yaml")
        port = await service.exposed()
        acted_before = set(service.state.acted_on_the_edge())
        # A reader that holds its snapshot keeps SQLite from writing over what it has: every append needs new space.
        with contextlib.closing(sqlite3.connect(tiny_disk / "log.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            size = reader.execute("SELECT count(*) FROM entries").fetchone()
            filler = fill(tiny_disk)
            until(service.weightless, TTL_S + 2, "nobody could renew the weight")
            assert users_are_well(port)
            assert set(service.state.acted_on_the_edge()) - acted_before <= intents(service.state)
            assert reader.execute("SELECT count(*) FROM entries").fetchone() == size
            reader.execute("COMMIT")
        until(lambda: "disk is full" in service.said.read_text(), 10, "it says what is wrong")
        filler.unlink()
        until(lambda: service.state.has("WeightLapsed"), 40, "it goes on, and records what happened meanwhile")
        assert set(service.state.acted_on_the_edge()) <= intents(service.state)
        verified(service.state.folder)


def intents(state: State) -> set[str]:
    return {entry.body["key"] for entry in state.of_kind("EffectIntended")}


async def test_two_controllers_on_one_folder_do_everything_once(tmp_path: Path) -> None:
    with service_in(tmp_path, settings=PLAIN) as service:
        both = [service.serve("plain_good.yaml"), service.serve("plain_good.yaml")]
        port = service.live()
        with traffic(port, tmp_path):
            delivery = await ask(service.repo, service.state, "Show kelvin as well.")
            stream = f"delivery/{delivery}"
            confirmed = until(lambda: service.state.of_kind("DeliveryConfirmed"), 120, "the change is confirmed")
        assert [entry.stream for entry in confirmed] == [stream]
        until(lambda: not open_effects(service.state), 30, "nothing is under way")
        for controller in both:
            controller.send_signal(signal.SIGTERM)
        assert [controller.wait(30) for controller in both] == [0, 0]
        every_effect_is_accounted_for(service.state, "plain")
        assert len(service.state.pull_requests("plain")) == 1
        assert "Traceback" not in service.said.read_text()
        verified(service.state.folder)


def open_effects(state: State) -> set[str]:
    outcomes = {e.stream for e in state.of_kind("EffectDone", "EffectFailed", "EffectUnknown")}
    return {e.stream for e in state.of_kind("EffectIntended")} - outcomes
