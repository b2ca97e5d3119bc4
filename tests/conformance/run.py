"""The official conformance suite and the inspector against the real gateway, and the suite against our own client.

    python tests/conformance/run.py --node FILE --modules FOLDER

Exits 0 only if all that applies passes, all that is skipped behaves as skipped.yaml says, and every scenario of the
suite stands in one of the two lists. Needs nothing but loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expected import HERE, Case, Check, Expectations, Leg, Verdict
from inspections import ERAS, inspected, inspections
from suite import Node, against_client, against_server

WHOLE_RUN_S = 170
UP_S = 30
FIXTURES_RUN = ("test_simple_text", "test_error_handling")
_MARKS = {"SUCCESS": "passed", "FAILURE": "failed", "WARNING": "warned", "SKIPPED": "skipped"}


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that is up. `end` tells what has become of the session."""

    gateway: str
    shim: str
    token: str
    branch: str
    process: asyncio.subprocess.Process

    async def end(self) -> dict[str, Any]:
        out, _ = await asyncio.wait_for(self.process.communicate(b""), UP_S)
        told: dict[str, Any] = json.loads(out)
        return told


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, HERE / "serve.py", stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), UP_S)
        if not line:
            raise RuntimeError("the gateway did not come up; what it said stands above")
        yield Served(process=process, **json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def suite_verdicts(node: Node, expectations: Expectations, out: Path) -> list[Verdict]:
    found: dict[Case, tuple[Check, ...]] = {}
    complaints: list[Verdict] = []
    for revision in expectations.revisions:
        async with serving() as served:
            found |= await against_server(node, revision, served.shim, out / revision / Leg.SERVER)
            ran = (await served.end())["carried_out"]
        complaints += [_never_ran(revision, name) for name in FIXTURES_RUN if not ran.get(name)]
    clients = sorted(case for case in expectations.applies if case.leg is Leg.CLIENT)
    found |= await against_client(node, clients, HERE / "client.py", out / Leg.CLIENT)
    wanted = sorted(
        case for revision in expectations.revisions for case in node.cases(revision) if expectations.is_run(case)
    )
    return [*(expectations.judged(case, found.get(case, ())) for case in wanted), *complaints]


def _never_ran(revision: str, tool: str) -> Verdict:
    return Verdict(Case(revision, Leg.SERVER, tool), "runs", (), "was called by nothing that passed")


async def inspector_complaints(node: Node) -> int:
    wrong = 0
    async with serving() as served:
        for era in ERAS:
            for one in inspections(served.branch):
                ended, complaint = await inspected(node, one, era, served.gateway, served.token)
                tell(f"  {'WRONG' if complaint else 'ok':<6}{era:<8}{one.name} (exit code {ended.code})")
                if complaint:
                    wrong += 1
                    tell(f"        {complaint}\n        {ended.out[-300:]}{ended.err[-300:]}")
    return wrong


def table(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        case = verdict.case
        counts = ", ".join(
            f"{verdict.counts[status]} {word}" for status, word in _MARKS.items() if verdict.counts[status]
        )
        mark = "WRONG" if verdict.complaint else "ok" if verdict.expected == "passes" else "-"
        tell(f"  {mark:<6}{case.revision}  {case.leg:<8}{case.scenario:<48}{counts or 'no checks'}")
        if verdict.complaint:
            tell(f"        {verdict.complaint}")
            for check in verdict.checks:
                if check.status == "FAILURE":
                    tell(f"          {check.name}: {check.message}")


def skipped_table(expectations: Expectations) -> None:
    by_reason: dict[tuple[str, str, str, str], list[str]] = {}
    for case, skip in expectations.skipped.items():
        by_reason.setdefault((case.revision, case.leg, skip.how, skip.why), []).append(case.scenario)
    for (revision, leg, how, why), names in by_reason.items():
        tell(f"  {revision}  {leg:<8}{how:<8}{len(names):>3}  {why}")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def check(node: Node, out: Path) -> int:
    """How many things are not as expected."""
    expectations, begun = Expectations(), time.monotonic()
    known = {case for revision in node.requirements for case in node.cases(revision)}
    unlisted = expectations.unlisted(known)
    tell("\nThe suite (ok: passes, -: skipped, see below)")
    verdicts = await suite_verdicts(node, expectations, out)
    table(verdicts)
    tell("\nSkipped, and why")
    skipped_table(expectations)
    tell("\nThe inspector")
    wrong = await inspector_complaints(node)
    for line in unlisted:
        tell(f"  WRONG {line}")
    complaints = sum(bool(verdict.complaint) for verdict in verdicts)
    applied = sum(verdict.expected == "passes" for verdict in verdicts)
    tell(f"\n{applied} scenarios apply, {len(expectations.skipped)} are skipped; {time.monotonic() - begun:.0f} s")
    return complaints + wrong + len(unlisted)


async def main() -> int:
    reader = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    reader.add_argument("--node", type=Path, required=True, help="the node program, 22.19 or later")
    reader.add_argument("--modules", type=Path, required=True, help="the node_modules folder that `npm ci` has made")
    given = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="flyball-conformance-") as folder:
        node = Node(given.node.resolve(), given.modules.resolve(), Path(folder))
        wrong = await asyncio.wait_for(check(node, Path(folder) / "results"), WHOLE_RUN_S)
    tell("All as expected." if not wrong else f"{wrong} not as expected.")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
