"""Runs the official suite, one process for all scenarios of a server and one each for those of a client.

A client scenario has its process because a client that does what the suite did not foresee can end the whole suite.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from expected import Case, Check, Leg

SUITE = Path("@modelcontextprotocol/conformance")
INSPECTOR = Path("@modelcontextprotocol/inspector/clients/launcher/build/index.js")
SCENARIO_S = 20
SERVER_S = 60  # all scenarios of a revision, which take 3
CLIENTS_AT_ONCE = 2
_RESULT = re.compile(r"^(?:server-)?(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z$")


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` is the exit code; negative: a signal's number."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Node:
    """`binary` runs programs of `modules`; whatever they keep in a home folder goes into `home`."""

    binary: Path
    modules: Path
    home: Path

    async def run(self, program: Path, *arguments: str, seconds: float) -> Ended:
        """Raises TimeoutError, with the process and its children ended."""
        process = await asyncio.create_subprocess_exec(
            self.binary,
            self.modules / program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.home), "NO_COLOR": "1"},
            start_new_session=True,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        return Ended(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))

    @property
    def requirements(self) -> dict[str, Path]:
        """The suite's own lists of what a revision requires, by revision."""
        return {file.stem: file for file in sorted((self.modules / SUITE / "requirements").glob("*.yaml"))}

    def cases(self, revision: str) -> set[Case]:
        """Everything that the suite runs for a revision, scored or not."""
        listed = yaml.safe_load(self.requirements[revision].read_text())
        found = {Case(revision, leg, name) for leg in Leg for name in listed.get(leg, ())}
        return found | {Case(revision, Leg(one["leg"]), one["scenario"]) for one in listed.get("not_scored", ())}


async def against_server(node: Node, revision: str, url: str, out: Path) -> dict[Case, tuple[Check, ...]]:
    await node.run(
        SUITE / "dist/index.js",
        *("server", "--url", url, "--requirements", revision),
        *("--timeout", str(SCENARIO_S * 1000), "-o", str(out)),
        seconds=SERVER_S,
    )
    return _results(out, revision, Leg.SERVER)


async def against_client(node: Node, cases: Sequence[Case], client: Path, out: Path) -> dict[Case, tuple[Check, ...]]:
    places = asyncio.Semaphore(CLIENTS_AT_ONCE)

    async def one(case: Case) -> dict[Case, tuple[Check, ...]]:
        async with places:
            ended = await node.run(
                SUITE / "dist/index.js",
                *("client", "--command", shlex.join([sys.executable, str(client)])),
                *("--scenario", case.scenario, "--spec-version", case.revision),
                *("--timeout", str(SCENARIO_S * 1000), "-o", str(out / case.scenario)),
                seconds=SCENARIO_S + 10,
            )
        found = _results(out / case.scenario, case.revision, Leg.CLIENT)
        return found or {case: (Check("the suite ended without a result", "FAILURE", ended.err[-500:]),)}

    merged: dict[Case, tuple[Check, ...]] = {}
    for found in await asyncio.gather(*map(one, cases)):
        merged |= found
    return merged


def _results(out: Path, revision: str, leg: Leg) -> dict[Case, tuple[Check, ...]]:
    found = {}
    for file in out.rglob("checks.json"):
        named = _RESULT.match(file.parent.relative_to(out).as_posix())
        if named is None:
            raise ValueError(f"{file.parent} is not named as results of the suite are: has its version changed?")
        checks = json.loads(file.read_text())
        found[Case(revision, leg, named["scenario"])] = tuple(
            Check(one["id"], one["status"], one.get("errorMessage") or "") for one in checks
        )
    return found
