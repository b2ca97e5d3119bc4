"""Run a repository's test command in a sandbox, hear its results as they come, and say what they amount to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from controller.adapters import ci_pytest_plugin
from controller.adapters.ci_results import Ending, Results, RunState, TestLine, Verdict, judge_command, judge_pytest
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_doors import place_of
from controller.adapters.sandbox_rungs import Limits
from controller.domain.benchmark import Benchmark

PLUGIN = "flyball_results"


@dataclass(frozen=True)
class CiConfig:
    """A repository's `test:` section."""

    command: tuple[str, ...] = ("python", "-m", "pytest")
    python: str = sys.executable  # the interpreter that `python` means, and whose environment the sandbox shows
    wall_s: float = 600.0
    memory_bytes: int = 4 << 30  # per process
    output_bytes: int = 256 * 1024
    environment: tuple[tuple[str, str], ...] = ()  # such as PYTEST_DISABLE_PLUGIN_AUTOLOAD
    network: tuple[str, ...] = ()  # host:port of what tests may reach. Empty: no network
    mutants_s: float = 60.0  # for all mutants of a change together

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> CiConfig:
        pairs = tuple((name, value) for name, value in found["environment"])
        network = tuple(found.get("network", ()))
        return cls(**{**found, "command": tuple(found["command"]), "environment": pairs, "network": network})

    @property
    def limits(self) -> Limits:
        return Limits(wall_s=self.wall_s, memory_bytes=self.memory_bytes, output_bytes=self.output_bytes)


@dataclass(frozen=True)
class Executed:
    state: RunState
    reason: str
    tests: tuple[TestLine, ...]
    output: str
    isolation: str
    duration_ms: int
    benchmarks: tuple[Benchmark, ...] = ()


async def execute(
    sandbox: Sandbox, tree: Path, config: CiConfig, scratch: Path, on_test: Callable[[TestLine], None]
) -> Executed:
    """`scratch` is an existing folder that this call may write to. `on_test` hears of each test once."""
    results = Results(on_test)
    if shutil.which(config.python) is None:
        reason = f"the interpreter {config.python} is not there; install it or set `test.python`"
        return Executed(RunState.BROKEN, reason, (), "", sandbox.isolation, 0)
    command, pytest = prepared(config)
    ran = await sandbox.run(
        command,
        tree=tree,
        python=config.python,
        env=dict(config.environment) | ({"PYTHONPATH": str(scratch / "plugin")} if pytest else {}),
        readable=(_lay_out_plugin(scratch),),
        limits=config.limits,
        reach=tuple(map(place_of, config.network)) or None,
        on_result=results.add,
    )
    ending = Ending(ran.exit_code, ran.timed_out, ran.output, config.wall_s, config.memory_bytes)
    verdict: Verdict = (
        judge_pytest(config.python, ending, results) if pytest else judge_command(config.command, ending, results)
    )
    return Executed(
        verdict.state,
        verdict.reason,
        tuple(results.tests),
        "\n".join((ran.output, *results.refused)),
        ran.isolation,
        ran.duration_ms,
        tuple(results.benchmarks.values()),
    )


def prepared(config: CiConfig) -> tuple[list[str], bool]:
    """The command line with `python` resolved, and whether it is pytest (streamed results, cold caches)."""
    words = list(config.command)
    if words[0] in {"python", "python3"}:
        words[0] = config.python
    after = _after_pytest(words)
    if after:
        words[after:after] = ["-p", PLUGIN, "-p", "no:cacheprovider"]
    return words, after > 0


def _after_pytest(words: list[str]) -> int:
    """Where pytest's own arguments begin. 0: this is not pytest."""
    if Path(words[0]).name in {"pytest", "py.test"}:
        return 1
    if words[1:3] == ["-m", "pytest"]:
        return 3
    return 0


def _lay_out_plugin(scratch: Path) -> Path:
    """A folder with the plugin alone: its own folder on the module path would shadow the tree's modules."""
    folder = scratch / "plugin"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # the sandbox's user must read it
    copied = folder / f"{PLUGIN}.py"
    shutil.copyfile(ci_pytest_plugin.__file__, copied)
    copied.chmod(0o644)
    return folder


def with_command(config: CiConfig, command: tuple[str, ...]) -> CiConfig:
    """The same settings for another command. Empty: the configured one."""
    return replace(config, command=command) if command else config
