"""What the end-to-end tests share: the command line as a process, repositories, and the state folder as evidence.

Nothing here knows more than a person at the same machine could find out: commands and their output, git, the files of
the state folder, HTTP, and `flyball log verify`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from controller.recording import Folder, open_record
from controller.settings import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = Path(__file__).with_name("scripts")
CALM = {
    name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY" and not name.startswith("GIT_")
}
ENVIRONMENT = {
    **CALM,
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{
        f"GIT_{who}_{what}": f"ann{at}"
        for who in ("AUTHOR", "COMMITTER")
        for what, at in (("NAME", ""), ("EMAIL", "@a.b"))
    },
}
LOOK_S = 0.02

# --- the command line ------------------------------------------------------------------------------------------------


def words(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "controller.cli", *map(str, arguments)]


def flyball(*arguments: object, cwd: Path = ROOT, within_s: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*arguments), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=within_s, check=False
    )


def begun(*arguments: object, cwd: Path, out: Path) -> subprocess.Popen[bytes]:
    """A command that goes on, in a process group of its own; what it says goes into a file."""
    with out.open("ab") as said:
        return subprocess.Popen(
            words(*arguments),
            cwd=cwd,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """This process alone, without a word."""
    process.kill()
    process.wait(10)


def until(found: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true answer. Looks often, and not for ever."""
    deadline = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(LOOK_S)
    return answer


# --- repositories ----------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)} in {folder}: {done.stderr}"
    return done.stdout.strip()


def repository(folder: Path, source: Path | None = None, *, branch: str = "main") -> Path:
    """A person's repository with one commit. `source=None`: whatever is in the folder already."""
    if source is not None:
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    git(folder, "init", "--quiet", f"--initial-branch={branch}")
    commit(folder, "First")
    return folder


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def exported(git_dir: Path, revision: str, into: Path) -> Path:
    """A revision's tree as files."""
    into.mkdir(parents=True)
    archive = subprocess.run(["git", "--git-dir", str(git_dir), "archive", revision], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(into)], input=archive.stdout, check=True)
    return into


PLAIN = """\
[repository]
name = "plain"

[service]
name = "plain"
start = ["{python}", "-m", "converter"]
telemetry = "proxy"

[rollout]
steps_percent = [25, 50, 100]
step_requests = 40
step_dwell_ms = 2000
window_ms = 1000
segment_ms = 2000
weight_ttl_ms = 5000
warmup_ms = 500
bake_ms = 1000
recovery_ms = 10000
baseline_ms = 3000
ready_seconds = 20

[judge]
slo_error_ppm = 50000
min_step_requests = 40
"""


def plain(folder: Path, settings: str = PLAIN) -> Path:
    """The example without telemetry of its own, and a flyball.toml for it."""
    repository(folder, EXAMPLES / "plain")
    (folder / "flyball.toml").write_text(settings)
    return folder


@contextlib.contextmanager
def traffic(port: int, folder: Path, *, rps: int = 60, seconds: int = 240) -> Iterator[Path]:
    """A bounded crowd, three in ten of whom ask about frost. Gives the file of their statistics."""
    stats = folder / "traffic.json"
    command = [sys.executable, "-m", "controller.adapters.loadgen", "--url", f"http://127.0.0.1:{port}", "--seed", "7"]
    command += ["--profile", str(SCRIPTS / "traffic.yaml"), "--rps", str(rps), "--seconds", str(seconds)]
    command += ["--max-requests", str(rps * seconds), "--stats-file", str(stats)]
    with (folder / "traffic.log").open("wb") as said:
        users = subprocess.Popen(command, env=ENVIRONMENT, stdout=said, stderr=said)
    try:
        yield stats
    finally:
        users.terminate()
        users.wait(10)


# --- the state folder, as evidence -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    index: int
    stream: str
    kind: str
    time: str
    body: dict[str, Any]


@dataclass
class State:
    """A state folder and what anybody could read in it."""

    folder: Path

    def entries(self, from_index: int = 0) -> list[Entry]:
        """Read from the file itself. Empty: there is no log yet."""
        path = self.folder / "log.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
            try:
                rows = db.execute("SELECT leaf FROM entries WHERE idx >= ? ORDER BY idx", (from_index,)).fetchall()
            except sqlite3.OperationalError:
                return []  # its schema is just being made
        return [_entry(json.loads(leaf)) for (leaf,) in rows]

    def of_kind(self, *kinds: str) -> list[Entry]:
        return [entry for entry in self.entries() if entry.kind in kinds]

    def has(self, kind: str, **fields: Any) -> Entry | None:
        """The first entry of that kind with these fields in its body. None: there is none (yet)."""
        found = (entry for entry in self.of_kind(kind) if all(entry.body.get(k) == v for k, v in fields.items()))
        return next(found, None)

    def messages(self) -> list[dict[str, Any]]:
        path = self.folder / "messages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def forge(self, name: str) -> Path:
        return self.folder / "forge" / f"{name}.git"

    def pull_requests(self, name: str) -> dict[int, dict[str, Any]]:
        refs = git(self.forge(name), "for-each-ref", "--format=%(refname)", "refs/pull").splitlines()
        meta = [ref for ref in refs if ref.endswith("/meta")]
        return {
            int(ref.split("/")[2]): json.loads(git(self.forge(name), "log", "-1", "--format=%B", ref)) for ref in meta
        }

    # --- the edge

    def edge(self) -> dict[str, Any] | None:
        """Where it can be reached. None: it does not run."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "edge" / "ports.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def platform(self, service: str) -> dict[str, Any]:
        """What the edge says of a service: status, weight changes, instances."""
        edge = self.edge()
        assert edge is not None, "the edge does not run"
        token = (self.folder / "edge" / "token").read_text()
        answer = httpx2.get(
            f"http://127.0.0.1:{edge['admin']}/status",
            params={"service": service, "environment": "production"},
            headers={"authorization": f"Bearer {token}"},
            timeout=5,
            trust_env=False,
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def weight(self, service: str) -> int:
        return int(self.platform(service)["status"]["weight_percent"])

    def acted_on_the_edge(self) -> dict[str, str]:
        """Effect keys that the edge has carried out, with their verbs."""
        state = json.loads((self.folder / "edge" / "state.json").read_text())
        return {key: done["verb"] for key, done in state["done"].items()}

    def port(self, service: str) -> int | None:
        """Where users reach the service. None: nowhere yet."""
        edge = self.edge()
        return int(edge["services"][service]) if edge else None

    def end_edge(self) -> None:
        edge = self.edge()
        if edge is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(edge["pid"], signal.SIGTERM)


def _entry(leaf: dict[str, Any]) -> Entry:
    return Entry(leaf["index"], leaf["stream"], leaf["kind"], leaf["time"], leaf["body"])


def verified(folder: Path) -> dict[str, Any]:
    """`flyball log verify` finds nothing wrong."""
    done = flyball("log", "verify", "--dir", folder, "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["findings"] == []
    return report


def every_effect_is_accounted_for(state: State, repository_name: str) -> None:
    """No effect without an intent, no intent without an outcome, nothing twice: in git, at the edge, in messages."""
    entries = state.entries()
    intents = {e.body["key"]: e for e in entries if e.kind == "EffectIntended"}
    outcomes = Counter(e.stream for e in entries if e.kind in ("EffectDone", "EffectFailed", "EffectUnknown"))
    assert len(intents) == sum(e.kind == "EffectIntended" for e in entries)
    assert outcomes == Counter({f"effect/{key}": 1 for key in intents})
    assert not [e for e in entries if e.kind == "EffectUnknown"]
    for intent in intents.values():
        assert intent.body["decision"]["claims"], intent

    told = Counter(message["key"] for message in state.messages())
    assert set(told.values()) <= {1}, told
    assert set(told) <= set(intents)
    assert [m["number"] for m in state.messages()] == list(range(1, len(told) + 1))

    pulls = state.pull_requests(repository_name)
    assert len({pull["key"] for pull in pulls.values()}) == len(pulls)
    assert {pull["key"] for pull in pulls.values()} <= set(intents)

    landed = [e.body["commit"] for e in entries if e.kind == "Landed"]
    on_main = git(state.forge(repository_name), "rev-list", "--first-parent", "HEAD").splitlines()
    assert on_main[:-1] == landed[::-1]  # the last one is what the repository began with
    assert {f"land/{repository_name}/{commit}" for commit in landed} <= set(intents)

    if (state.folder / "edge" / "state.json").exists():
        assert set(state.acted_on_the_edge()) <= set(intents)


@contextlib.contextmanager
def ended_afterwards(state: State, *processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever the test has started is gone when it ends, however it ends."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                kill(process)
        state.end_edge()


@contextlib.contextmanager
def ended_on_failure(state: State, *processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """As `ended_afterwards`, but only when the block fails: what it has started is wanted alive."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_afterwards(state, *processes))
        yield
        stack.pop_all()


# --- asking, while a controller runs ---------------------------------------------------------------------------------


async def ask(repo: Path, state: State, task: str) -> str:
    """Ask as somebody at another terminal would; a controller that runs takes it up. Gives the delivery."""
    settings = load(repo / "flyball.toml")
    record = open_record(Folder(state.folder), settings, repo)
    try:
        known = settings.configured(repo)
        asked = await record.intake.ask(
            getpass.getuser(), task, repository=known.name, branch=known.branch, source="cli", event_id=task
        )
    finally:
        record.close()
    return str(asked.delivery)


def answers(port: int, target: str, times: int) -> list[int]:
    """The statuses that a user gets."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
        return [client.get(target).status_code for _ in range(times)]


# --- the demo --------------------------------------------------------------------------------------------------------


@dataclass
class Demo(State):
    """A demo's state folder, and what it said."""

    exit_code: int
    lines: list[dict[str, Any]]
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = next(line for line in self.lines if line["what"] == "summary")
        return found


NOT_SINGLE = {"platform.set_weight", "platform.start_canary", "ci.start"}  # renewed, or begun again after a lapse


def facts(state: State) -> dict[str, Any]:
    """What a demo comes to, whatever happened on the way: the same for every run of it, killed or not."""
    ends = {"DeliveryConfirmed", "Abandoned", "HandedOver", "Stuck"}
    entries = state.entries()
    trees = git(state.forge("shop"), "log", "--first-parent", "--format=%T", "main").splitlines()
    verbs = Counter(e.body["verb"] for e in entries if e.kind == "EffectIntended" and not _by_chance(e.body["key"]))
    return {
        "deliveries": {e.stream: e.kind for e in entries if e.kind in ends},
        "landed trees": trees,
        "releases": [(e.kind, e.body["release"]) for e in entries if e.kind in ("ReleaseConfirmed", "TrafficRestored")],
        "effects": {verb: count for verb, count in verbs.items() if verb not in NOT_SINGLE},
        "builds": len({e.body["commit"] for e in entries if e.kind == "ReleaseOpened"}),
        "pull requests": {n: (p["branch"], p["state"]) for n, p in state.pull_requests("shop").items()},
        "messages": [m["key"] for m in state.messages() if not _by_chance(m["key"])],
        "closed regressions": sum(e.kind == "RegressionClosed" for e in entries),
    }


def _by_chance(key: str) -> bool:
    """What depends on what the windows happened to show, or on when a canary was interrupted."""
    return key.startswith(("page/", "pause/"))
