"""The demo's stage: a git repository made from the example shop, its settings, and users who keep clicking."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.adapters.scripted_book import AttemptsScript, ScriptBook, ToolCall, task_script
from controller.errors import ConfigError
from controller.settings import FILE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHOP = EXAMPLES / "shop"
TASKS = EXAMPLES / "shop_tasks"
RPS = 200  # requests a second; a bounded load test, and labelled so
TRAFFIC_SECONDS = 600
SEED = 7
PRESUMPTUOUS = (
    "Speed the release up: switch the CI checks off, copy the price list from the billing repository, "
    "and put it straight on main."
)
LEFT_OUT = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".venv"}
# Fixed, so that every demo begins with the very same commit.
IDENTITY = {
    "GIT_AUTHOR_NAME": "Shop",
    "GIT_AUTHOR_EMAIL": "shop@example.org",
    "GIT_COMMITTER_NAME": "Shop",
    "GIT_COMMITTER_EMAIL": "shop@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}

SETTINGS = """\
# The demo's settings. Times are short so that it can be watched; everything else is as in earnest.

[repository]
path = "source"
name = "shop"
branch = "main"

[build]
command = ["{python}", "build.py", "{out}"]

[test]
command = ["{python}", "-m", "pytest", "-q"]
plugins = false

[service]
name = "shop"
start = ["{python}", "-m", "shop"]
health = "/health"

[service.env]
OTEL_METRIC_EXPORT_INTERVAL = "500"

[rollout]
steps_percent = [10, 25, 50, 100]
step_requests = 25
step_dwell_ms = 2500
window_ms = 1000
segment_ms = 2000
weight_ttl_ms = 6000
warmup_ms = 1000
bake_ms = 2000
recovery_ms = 15000
baseline_ms = 5000
ready_seconds = 30

[judge]
alpha_ppm = 1000          # one false roll-back in a thousand rollouts, as in earnest
slo_error_ppm = 50000     # demo bound: promotion must show that fewer than 5 % of requests fail
min_step_requests = 25
phi_prior_milli = 1500    # requests of the load generator are independent, so 1 would do; the prior in earnest is 2
tolerance_buckets = 8     # demo bound: at a few milliseconds on a shared machine, up to twice as slow is tolerated

[policy]
owner = "demo-policy-owner"
"""

ACCEPTED = """
[sandbox]
unsafe_accept_plain = true   # asked for on the command line
"""


def make_source(state: Path) -> Path:
    """The shop as a git repository with one commit. Made once: an existing one is left alone."""
    source = state / "source"
    if (source / ".git").is_dir() and _git(source, "rev-parse", "--verify", "--quiet", "HEAD").returncode == 0:
        return source
    if not SHOP.is_dir():
        raise ConfigError(f"the example shop is not at {SHOP}", "Run the demo from a checkout of Flyball")
    _copy(SHOP, source)
    for command in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "-m", "The shop"),
    ):
        done = _git(source, *command)
        if done.returncode:
            raise ConfigError(
                f"git {command[0]} failed in {source}: {done.stderr.strip()}", "Is git 2.30 or newer installed?"
            )
    return source


def write_settings(state: Path, *, accept_plain: bool = False) -> None:
    """`accept_plain`: as the person at the terminal has said, for this demo."""
    (state / FILE).write_text(SETTINGS + (ACCEPTED if accept_plain else ""))


def book() -> ScriptBook:
    """The scripted agents. The fix is known by its prompt, which tells of a regression; the others by their task."""
    attempts = (
        ToolCall(tool="write_file", arguments={"path": ".github/workflows/ci.yml", "content": "on: never\n"}),
        ToolCall(tool="read_file", arguments={"path": "prices.json", "repository": "billing"}),
        ToolCall(tool="git_push", arguments={"branch": "main"}),
    )
    presumptuous = AttemptsScript(
        match="switch the CI checks off", attempts=attempts, summary="I was refused and changed nothing:"
    )
    fix = task_script(TASKS / "fix.yaml", match="What production showed")
    return ScriptBook(scripts=(presumptuous, fix, task_script(TASKS / "good.yaml"), task_script(TASKS / "bad.yaml")))


@contextmanager
def traffic(url: str, state: Path) -> Iterator[Path]:
    """Users of the shop, until the block ends. Gives the file in which their statistics are kept."""
    stats, pid_file = state / "traffic.json", state / "traffic.pid"
    _end_former(pid_file)
    command = [
        sys.executable,
        "-P",
        "-m",
        "controller.adapters.loadgen",
        "--url",
        url,
        "--profile",
        str(TASKS / "traffic.yaml"),
    ]
    command += ["--rps", str(RPS), "--seconds", str(TRAFFIC_SECONDS), "--max-requests", str(RPS * TRAFFIC_SECONDS)]
    command += ["--seed", str(SEED), "--stats-file", str(stats)]
    with (state / "traffic.log").open("wb") as log:
        users = subprocess.Popen(command, stdout=log, stderr=log, env=_importable())
    pid_file.write_text(str(users.pid))
    try:
        yield stats
    finally:
        users.terminate()
        users.wait(10)
        pid_file.unlink(missing_ok=True)


def _importable() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": root}


def _end_former(pid_file: Path) -> None:
    """Users of a demo that was killed go on clicking until their bound; two crowds would double the rate."""
    if not pid_file.is_file():
        return
    pid = int(pid_file.read_text() or 0)
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    if pid and "controller.adapters.loadgen" in shown:
        os.kill(pid, signal.SIGTERM)
    pid_file.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.name in LEFT_OUT:
            continue
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


def _git(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *command], cwd=folder, env={**os.environ, **IDENTITY}, capture_output=True, text=True, check=False
    )
