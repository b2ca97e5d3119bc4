"""One change of the example shop on its way to users, with a fault that its version or everybody has.

Everything is real: `flyball serve` as a process, its edge, the shop's instances, OTLP over HTTP, the load generator.
Scripted: the agent that writes the change. Load test: the users. What came of it is read from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import kit
import yaml
from kit import (
    ENVIRONMENT,
    EXAMPLES,
    Entry,
    State,
    ask,
    begun,
    ended_afterwards,
    repository,
    traffic,
)

from controller.demo.stage import RPS, SETTINGS

PROFILE = EXAMPLES / "shop_tasks" / "traffic.yaml"
LOOK_S = 0.1  # at the whole log: more often would keep a core from the service
LIVE_WITHIN_S, EXPOSED_WITHIN_S, ENDED_WITHIN_S = 90, 120, 240  # on a busy machine
HEALTH = 'health = "/health"\n'
NONE: Mapping[str, str] = MappingProxyType({})

# The demo's, with 19 % slower tolerated instead of twice as slow, and a deadline that a busy machine keeps.
QUICK = {
    'path = "source"\n': "",
    "steps_percent = [10, 25, 50, 100]": "steps_percent = [25, 50, 100]",
    "tolerance_buckets = 8 ": "tolerance_buckets = 2 ",
    "weight_ttl_ms = 6000": "weight_ttl_ms = 10000",
}


def until(found: Callable[[], Any], within_s: float, what: str) -> Any:
    return kit.until(found, within_s, what, LOOK_S)


def settings(env: Mapping[str, str], setting: Mapping[str, str]) -> str:
    text = SETTINGS
    for old, new in (*QUICK.items(), *setting.items()):
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the demo's settings"
        text = text.replace(old, new)
    told = "".join(f'{name} = "{value}"\n' for name, value in env.items())
    return text.replace("[service.env]\n", f"[service.env]\n{told}")


@dataclass(frozen=True)
class Change:
    """What a scripted agent is asked for, and does."""

    task: str
    edits: tuple[dict[str, str], ...]

    @property
    def script(self) -> dict[str, Any]:
        return {"task": self.task, "summary": self.task, "edits": list(self.edits)}


def switching_on(fault: str) -> Change:
    """The fault is the new version's alone. Its tests pass, as those of a fault that users meet first do."""
    test = "from shop.faults import FAULTS\n\n\ndef test_fault_is_switched_on() -> None:\n    assert FAULTS == (%r,)\n"
    off = "FAULTS: tuple[str, ...] = ()"
    return Change(
        f"Switch {fault} on.",
        (
            {"path": "shop/faults.py", "old": off, "new": off.replace("()", f'("{fault}",)')},
            {"path": "tests/test_switched_on.py", "content": test % fault},
        ),
    )


def renaming(product: str, name: str) -> Change:
    """An innocent change, and its test."""
    words = f"{name}, boxed"
    test = "from shop.catalog import PRODUCTS\n\n\ndef test_name() -> None:\n    assert PRODUCTS[%r].name == %r\n"
    return Change(
        f"Say that the {product} comes in a box.",
        (
            {"path": "shop/catalog.py", "old": name, "new": words},
            {"path": f"tests/test_{product}.py", "content": test % (product, words)},
        ),
    )


INNOCENT = (
    renaming("scale", "Brewing scale"),
    renaming("kettle", "Gooseneck kettle"),
    renaming("dripper", "Ceramic dripper"),
)


@dataclass(frozen=True)
class RolledBack:
    """How a release was taken back, by the log."""

    rule: str  # that of its RegressionFound
    reason: str
    weight_percent: int
    exposed_at: datetime | None  # None: no user ever met it
    first_bad_at: datetime | None  # None: no request failed
    back_at: datetime

    @property
    def hurt_s(self) -> float:
        """From the first bad request, or where none failed from the first user, to traffic back."""
        since = self.first_bad_at or self.exposed_at
        return (self.back_at - since).total_seconds() if since else 0.0


@dataclass
class Stage:
    folder: Path
    state: State
    repo: Path
    release: int = 1
    outage: Path = field(init=False)  # the file that switches faults on for every version

    def __post_init__(self) -> None:
        (self.folder / "switches").mkdir()
        self.outage = self.folder / "switches" / "faults.txt"

    def switch(self, *faults: str) -> None:
        """For every version, from now on."""
        beside = self.outage.with_suffix(".new")
        beside.write_text(",".join(faults))
        beside.replace(self.outage)

    def ask(self, change: Change) -> None:
        """Its release is the next one."""
        self.release += 1
        asyncio.run(ask(self.repo, self.state, change.task))

    # --- what happens to the newest release

    def exposed(self) -> Entry:
        found: Entry = until(lambda: self.seen("StepStarted"), EXPOSED_WITHIN_S, "the change meets its first users")
        return found

    def rolled_back(self) -> RolledBack:
        back: Entry = until(
            lambda: self.seen("TrafficRestored") or self.seen("Promoted"),
            ENDED_WITHIN_S,
            "it is taken back, or promoted",
        )
        assert back.kind == "TrafficRestored", self.verdicts()
        found, step = self.seen("RegressionFound"), self.seen("StepStarted")
        assert found is not None
        return RolledBack(
            rule=found.body["decision"]["rules"][0],
            reason=found.body["reason"],
            weight_percent=found.body["weight_percent"],
            exposed_at=datetime.fromisoformat(step.time) if step else None,
            first_bad_at=_moment(found.body["first_bad_request_at"]),
            back_at=datetime.fromisoformat(back.body["traffic_back_at"]),
        )

    def confirmed(self, unless: str = "") -> bool:
        """False: whoever is on call was told by the rule `unless` that it is held."""
        until(
            lambda: self.not_regressed() and (self.seen("ReleaseConfirmed") or (unless and self.told(unless))),
            ENDED_WITHIN_S,
            "the change is confirmed",
        )
        return self.seen("ReleaseConfirmed") is not None

    def paged(self, rule: str) -> None:
        """Whoever is on call hears of it; nothing was rolled back until then."""
        until(lambda: self.not_regressed() and self.told(rule), ENDED_WITHIN_S, f"somebody is paged by {rule}")

    def told(self, rule: str) -> bool:
        return any(message["key"].endswith(f"/{self.release}/{rule}") for message in self.state.messages())

    def renewed(self, times: int) -> None:
        """The canary keeps its users for so many more renewals of its weight."""
        known = len(self.state.of_kind("WeightRenewed"))
        until(
            lambda: self.not_regressed() and len(self.state.of_kind("WeightRenewed")) >= known + times,
            ENDED_WITHIN_S,
            "the canary's weight is renewed",
        )

    def not_regressed(self) -> bool:
        assert self.seen("RegressionFound") is None, self.verdicts()
        return True

    def seen(self, kind: str) -> Entry | None:
        return self.state.has(kind, release=self.release)

    def verdicts(self) -> list[str]:
        return [
            f"{e.body['weight_percent']} %: {e.body['verdict']['sentence']}" for e in self.state.of_kind("Observed")
        ]


@contextlib.contextmanager
def on_stage(
    folder: Path,
    *changes: Change,
    env: Mapping[str, str] = NONE,
    setting: Mapping[str, str] = NONE,
    failures: int = 0,
) -> Iterator[Stage]:
    """The shop live with its users, and the first change asked for once so many of their requests have failed.

    `setting`: what differs from the demo's settings.
    """
    repo = repository(folder / "shop", EXAMPLES / "shop")
    stage = Stage(folder, State(repo / ".flyball"), repo)
    stage.switch()
    reaches = [url.removeprefix("http://") for url in (env.get("SHOP_RATES_URL", ""),) if url]
    shown = {HEALTH: f'{HEALTH}reads = ["{stage.outage.parent}"]\nnetwork = {json.dumps(reaches)}\n'}
    (repo / "flyball.toml").write_text(settings({"SHOP_FAULTS_FILE": str(stage.outage), **env}, {**setting, **shown}))
    script = folder / "book.yaml"
    script.write_text(yaml.safe_dump([change.script for change in changes]))
    said = folder / "said.txt"
    controller = begun("serve", "--repo", repo, "--script", script, cwd=repo, out=said)
    with ended_afterwards(stage.state, controller):
        until(
            lambda: controller.poll() is not None or stage.state.has("ReleaseConfirmed", release=1),
            LIVE_WITHIN_S,
            "the shop as it is has gone live",
        )
        assert controller.poll() is None, said.read_text()
        port = stage.state.port("shop")
        assert port is not None
        with traffic(port, folder, profile=PROFILE, rps=RPS) as users:
            until(lambda: _failed(users) >= failures, LIVE_WITHIN_S, f"{failures} requests have failed")
            stage.ask(changes[0])
            yield stage


@contextlib.contextmanager
def rates(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service that the shop asks for currency rates, as a process; it listens when the block begins."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shop.rates"],
        cwd=EXAMPLES / "shop",
        env={**ENVIRONMENT, "PYTHONPATH": str(EXAMPLES / "shop"), "PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _answers(port), 20, "the rates service answers")
        yield process
    finally:
        process.kill()
        process.wait(10)


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"{url_of(port)}/health", timeout=1, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _failed(users: Path) -> int:
    return int(json.loads(users.read_text())["failed"]) if users.exists() else 0


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
