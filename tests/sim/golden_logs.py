"""Writes the golden logs: what this version's log looks like, so that every later one can show that it reads it.

`python tests/sim/golden_logs.py NAME` adds tests/golden/NAME.jsonl (one leaf a line), NAME.json (what it folds to) and
NAME.blobs.json (what its verdicts rest on, so that every later version can compute them again). A golden log is never
written again: a new shape of an event is a new golden log beside the old ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from scenarios import BAD, BROKEN, CRASHING, EVOLVE, GOOD, MENDED, UNBUILDABLE, YELLOW, begun, one_by_one

from controller.domain import events as e
from controller.domain.entry import Entry, decode
from controller.domain.ids import kind_of

GOLDEN = Path(__file__).parents[1] / "golden"


def folded(entries: list[Entry]) -> dict[str, str]:
    """Every driven stream's phase. Reads nothing but the leaves."""
    states: dict[str, Any] = {}
    for entry in entries:
        if (kind := kind_of(entry.stream)) in EVOLVE:
            begin, evolve = EVOLVE[kind]
            states[entry.stream] = evolve(states.get(entry.stream) or begin(entry.stream), entry)
    return {stream: state.phase.value for stream, state in sorted(states.items())}


def read(path: Path) -> list[Entry]:
    return [decode(line) for line in path.read_bytes().splitlines()]


async def write(name: str) -> None:
    sim = begun(1)
    sim.world.telemetry.callers = True
    sim.start("w1")
    await one_by_one(sim, GOOD, MENDED, BROKEN, YELLOW, BAD, CRASHING, UNBUILDABLE)
    entries = await sim.entries()
    path = GOLDEN / f"{name}.jsonl"
    if path.exists():
        raise SystemExit(f"{path} exists: a golden log is never written again, choose another name")
    path.write_bytes(b"".join(entry.leaf + b"\n" for entry in entries))
    rests = [entry.event for entry in entries if isinstance(entry.event, e.Observed | e.RecoveryVerified)]
    blobs = {digest: (await sim.blobs.get(digest)).decode() for one in rests for digest in (one.counts, one.policy)}
    path.with_suffix(".blobs.json").write_text(json.dumps(blobs, indent=0, sort_keys=True) + "\n")
    path.with_suffix(".json").write_text(json.dumps(folded(entries), indent=2) + "\n")
    sim.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
