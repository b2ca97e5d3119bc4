"""What Flyball's gateway costs, beside the same tools without any check and beside other gateways, in one run.

`PYTHONPATH=. .venv/bin/python bench/gateway.py [--rounds 5] [--seconds 1.0] [--json FILE] [--without NAME ...]`

Every server is a process of its own on loopback, and so is the one client, which sends bytes made before over one kept
connection. Bursts go round by round through all servers, so that a busy minute meets all of them. "Added" is against
the plain server of the same round. Peers are installed under .bench-peers (git-ignored) on the first run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import appends
from gateway_peers.inside import decisions
from gateway_peers.processes import MAX_CALLS, Load, NotRunning, Peer, Processes, environment
from rich.console import Console
from rich.table import Table

OURS, OWN, PLAIN = "flyball", "flyball, own session", "plain SDK server"
TEXT = "".join(f"line {number} of a text that is two hundred bytes long\n" for number in range(1, 5))
READ = ("read_file", {"path": "src/bench.txt"}, "line 4 of a text")
WRITE = ("write_file", {"path": "src/out.txt", "content": TEXT}, "out.txt")
REASON = {
    "question": "Which way?",
    "options": [{"name": "left"}, {"name": "right", "why_not": "it is longer"}],
    "choice": "left",
    "claims": [{"text": "it is shorter", "evidence": "src/bench.txt"}],
    "confidence_percent": 80,
    "would_change": "a shorter way",
    "fallback": "turn back",
}
EFFECT = ("record_reasoning", REASON, "Recorded")
LISTED = 50
EFFECTS_A_SESSION = 90  # its bound is 100
MAX_ROUNDS = 38  # as many as there are sessions for
ADDED_P50_MS, ADDED_P99_MS, CALLS_A_CORE, DECISION_US, LIST_MS, EFFECT_ADDED_MS = 0.5, 5.0, 1_000, 100, 2.0, 0.5


@dataclass
class Row:
    """All bursts of one kind of call at one server, one list of latencies a round."""

    server: str
    call: str
    rounds: list[list[float]] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def calls(self) -> int:
        return sum(map(len, self.rounds))

    def ms(self, percent: int) -> float:
        """Of the median round, so that one disturbed burst does not speak for all."""
        return statistics.median(statistics.quantiles(one, n=100)[percent - 1] for one in self.rounds) / 1000

    def figures(self, plain: Row | None) -> dict[str, Any]:
        return {
            "server": self.server,
            "call": self.call,
            "n": self.calls,
            "calls_per_s": round(self.calls / (sum(map(sum, self.rounds)) / 1e6)),
            "p50_ms": round(self.ms(50), 3),
            "p99_ms": round(self.ms(99), 3),
            "cpu_us_per_call": round(self.cpu_s * 1e6 / self.calls),
            "calls_per_core_s": round(self.calls / self.cpu_s) if self.cpu_s else None,
            "added_p50_ms": round(self.ms(50) - plain.ms(50), 3) if plain else None,
            "added_p99_ms": round(self.ms(99) - plain.ms(99), 3) if plain else None,
        }


@dataclass(frozen=True)
class Limit:
    what: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def started(running: Processes, folder: Path, without: list[str]) -> tuple[list[Peer], dict[str, str]]:
    """The servers that are up, and why others are not."""
    tree, text = folder / "tree", folder / "bench.txt"
    (tree / "src").mkdir(parents=True)
    text.write_text(TEXT)
    (tree / "src" / "bench.txt").write_text(TEXT)
    for name in ("ours", "contextforge"):
        (folder / name).mkdir()
    here = Path(sys.executable)
    plain = running.peer(PLAIN, here, "plain.py", str(tree))
    own = running.peer(OWN, here, "ours.py", str(folder / "ours"), str(text))
    peers = [plain, replace(own, name=OURS, token=own.outside, spare=()), own]
    absent: dict[str, str] = {}
    others = (
        ("FastMCP", "requirements.txt", "fastmcp_native.py", (str(tree),)),
        ("FastMCP proxy", "requirements.txt", "fastmcp_proxy.py", (plain.url,)),
        ("ContextForge", "requirements-contextforge.txt", "contextforge.py", (str(folder / "contextforge"), plain.url)),
    )
    for name, requirements, program, arguments in others:
        if name in without:
            absent[name] = "left out by --without"
            continue
        try:
            python = environment(name.split()[0].lower(), requirements)
            binaries = (str(python.parent),) if name == "ContextForge" else ()
            peers.append(running.peer(name, python, program, *binaries, *arguments, legacy=name == "ContextForge"))
        except NotRunning as why:
            absent[name] = str(why)
    return peers, absent


def measured(load: Load, peers: list[Peer], rounds: int, seconds: float) -> dict[tuple[str, str], Row]:
    """Reads and contained calls at every server, effects at ours. The first round only warms up."""
    rows: dict[tuple[str, str], Row] = {}
    for at in range(-1, rounds):
        for peer in peers:
            kinds: dict[str, tuple[tuple[str, dict[str, Any], str], Peer]] = {
                "read": (READ, peer),
                "contained": (WRITE, peer),
            }
            if peer.spare:
                kinds["effect"] = (EFFECT, replace(peer, token=peer.spare[at + 1]))
            for call, ((tool, arguments, expect), caller) in kinds.items():
                row = rows.setdefault((peer.name, call), Row(peer.name, call))
                before = peer.cpu_s()
                most = EFFECTS_A_SESSION if call == "effect" else MAX_CALLS
                took = load.burst(peer.url, caller.request(tool, arguments), expect, seconds, most)
                if at >= 0 and len(took) > 1:
                    row.rounds.append(took)
                    row.cpu_s += peer.cpu_s() - before
    return rows


def listed(running: Processes, load: Load, folder: Path, rounds: int, seconds: float) -> Row:
    (folder / "listing").mkdir()
    text = str(folder / "bench.txt")
    peer = running.peer("listing", Path(sys.executable), "ours.py", str(folder / "listing"), text, str(LISTED))
    row = Row(OURS, f"tools/list of {LISTED}")
    for _ in range(rounds):
        before = peer.cpu_s()
        row.rounds.append(load.burst(peer.url, peer.listing(), f"bench__tool_{LISTED - 20}", seconds))
        row.cpu_s += peer.cpu_s() - before
    return row


def limits(
    rows: Mapping[tuple[str, str], Row], listing: Row, decision_us: tuple[float, float], commit_ms: float
) -> list[Limit]:
    found = []
    for call in ("read", "contained"):
        ours, plain = rows[OURS, call], rows[PLAIN, call]
        found += [
            Limit(f"{call}: added p50", ours.ms(50) - plain.ms(50), ADDED_P50_MS, "ms"),
            Limit(f"{call}: added p99", ours.ms(99) - plain.ms(99), ADDED_P99_MS, "ms"),
            Limit(f"{call}: calls a second of CPU", ours.calls / ours.cpu_s, CALLS_A_CORE, "/s", at_least=True),
        ]
    effect = rows[OWN, "effect"].ms(50) - rows[PLAIN, "contained"].ms(50)
    return [
        *found,
        Limit("effect: added p50, beyond one commit", effect - commit_ms, EFFECT_ADDED_MS, "ms"),
        Limit("decision p50, 500 agents, asked first", decision_us[0], DECISION_US, "us"),
        Limit("decision p50, 500 agents, asked again", decision_us[1], DECISION_US, "us"),
        Limit(f"tools/list p50, {LISTED} tools", listing.ms(50), LIST_MS, "ms"),
    ]


def run(rounds: int, seconds: float, without: list[str], folder: Path) -> dict[str, Any]:
    appends.SECONDS = max(1.0, seconds)
    disk, commit = appends.disk(folder), asyncio.run(appends.on_file(folder, 1))
    with Processes(folder) as running:
        peers, absent = started(running, folder, without)
        load = running.load()
        rows = measured(load, peers, rounds, seconds)
        listing = listed(running, load, folder, rounds, seconds)
    asked = decisions().p50_us()
    commit_ms = statistics.median(commit.latencies_ms)
    found = limits(rows, listing, asked, commit_ms)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {platform.system()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": rounds,
        "seconds": seconds,
        "rows": [row.figures(rows.get((PLAIN, row.call))) for row in (*rows.values(), listing)],
        "disk_fsync_p50_ms": round(statistics.median(disk.latencies_ms), 3),
        "commit_p50_ms": round(commit_ms, 3),
        "decision_p50_us": {"asked": round(asked[0], 1), "again": round(asked[1], 1)},
        "limits": [
            {"what": one.what, "measured": round(one.measured, 3), "limit": one.limit, "unit": one.unit, "met": one.met}
            for one in found
        ],
        "absent": absent,
    }


def show(found: Mapping[str, Any]) -> None:
    console = Console(width=120)
    console.print(f"Gateways, {found['date']}; {found['machine']}; Python {found['python']}; {found['rounds']} rounds")
    names = ["server", "call", "n", "calls/s", "p50 ms", "p99 ms", "CPU us", "/s a core", "+p50 ms", "+p99 ms"]
    table = Table(*names)
    for row in found["rows"]:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    decision = found["decision_p50_us"]
    console.print(
        f"disk: write and fsync p50 {found['disk_fsync_p50_ms']} ms; one commit p50 {found['commit_p50_ms']} ms;"
        f" decision p50 {decision['asked']} us asked first, {decision['again']} us asked again"
    )
    for one in found["limits"]:
        verdict = "met    " if one["met"] else "NOT MET"
        console.print(f"{verdict} {one['what']}: {one['measured']} {one['unit']} (limit {one['limit']})")
    for name, why in found["absent"].items():
        console.print(f"not measured: {name}: {why}", markup=False)


def _cell(value: float | str | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    wanted.add_argument("--rounds", type=int, default=5, choices=range(1, MAX_ROUNDS + 1), metavar=f"1-{MAX_ROUNDS}")
    wanted.add_argument("--seconds", type=float, default=1.0, help="of one burst")
    wanted.add_argument("--json", type=Path, help="also write the figures there")
    wanted.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    given = wanted.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        found = run(given.rounds, given.seconds, given.without, folder)
    finally:
        shutil.rmtree(folder)
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
