"""CI's reporter as it was, kept as evidence: a plugin in the process of the tests, believed if all it says agrees."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_rungs import Limits

FORMER = Path(__file__).with_name("former")


async def believed(sandbox: Sandbox, tree: Path) -> bool:
    """Whether the former rule called this tree's run passed: exit code 0, a finished session, every result a pass."""
    said: list[dict[str, object]] = []

    def hear(line: bytes) -> None:
        try:
            said.append(json.loads(line))
        except ValueError:
            return

    ran = await sandbox.run(
        [sys.executable, "-m", "pytest", "-p", "flyball_results", "-p", "no:cacheprovider"],
        tree=tree,
        env={"PYTHONPATH": str(FORMER), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        readable=(FORMER,),
        limits=Limits(wall_s=10),
        on_result=hear,
    )
    tests = [one for one in said if one["kind"] == "test"]
    ended = [one for one in said if one["kind"] == "finished"]
    whole = bool(ended) and ended[-1]["exit"] == 0 and int(str(ended[-1]["collected"])) <= len(tests)
    return ran.exit_code == 0 and whole and bool(tests) and all(one["passed"] for one in tests)
