"""The agents' `run_tests`: the same sandbox and the same verdict as CI, told as text with the failures first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from controller.adapters.ci_execute import CiConfig, Executed, execute, with_command
from controller.adapters.ci_results import TestLine
from controller.adapters.sandbox import Sandbox

MOST_SUMMARY_CHARS = 16_000
MOST_FAILURES = 10
MOST_OUTPUT_CHARS = 4_000


async def run_in_workspace(
    path: Path, command: Sequence[str] = (), *, sandbox: Sandbox, config: CiConfig | None = None
) -> str:
    """Run tests in a working copy and tell what happened, in at most `MOST_SUMMARY_CHARS`.

    `command` empty: the repository's own; `config=None`: the defaults. Run by root on an isolated rung, the tree is
    given to the sandbox's uid. Raises `SandboxBroken`.
    """
    wanted = with_command(config or CiConfig(), tuple(command))
    with tempfile.TemporaryDirectory(prefix="flyball-tests-") as scratch:
        executed = await execute(sandbox, path, wanted, Path(scratch), _told_at_the_end)
    return summary(executed)


def _told_at_the_end(_: TestLine) -> None:
    """An agent reads the whole run at once."""


def summary(executed: Executed) -> str:
    failures = [line for line in executed.tests if not line.passed]
    skipped = sum(line.skipped for line in executed.tests)
    counted = f"{len(executed.tests) - len(failures) - skipped} passed, {len(failures)} failed"
    counted += f", {skipped} skipped" if skipped else ""
    parts = [f"{executed.state}: {counted} in {executed.duration_ms / 1000:.1f} s"]
    parts += [executed.reason] if executed.reason else []
    parts += [f"FAILED {line.test}\n{line.message}" for line in failures[:MOST_FAILURES]]
    if len(failures) > MOST_FAILURES:
        parts.append(
            f"and {len(failures) - MOST_FAILURES} more: " + ", ".join(line.test for line in failures[MOST_FAILURES:])
        )
    parts.append("output:\n" + executed.output[-MOST_OUTPUT_CHARS:].strip())
    text = "\n\n".join(parts)
    return text if len(text) <= MOST_SUMMARY_CHARS else text[:MOST_SUMMARY_CHARS] + "\n[... cut here ...]"
