"""Finding entries in a log of a million: what a reviewer waits for.

`python bench/audit_search.py [folder] [entries]` builds a log file of that many entries in the folder (default: a
temporary one, 1,000,000), in the shape of real ones: the golden log over and over, every delivery, session, commit,
effect and hour its own, four models and twenty features in turn. Then it builds the index, asks every kind of question
as often as it takes for a percentile, and says how large everything is. The processor is shared with whatever else
runs on the machine.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.ledger.database import Sync, open_writer
from controller.ledger.merkle import Frontier
from controller.ledger.sqlite_tree import SqliteTree, snapshot
from controller.ledger.tile_rows import complete_tiles
from controller.metrics.audit_facets import Facet
from controller.metrics.audit_index import AuditIndex
from controller.metrics.audit_query import Question, ask

ENTRIES = 1_000_000
ASKED = 40  # times each question, with other values
GROUP = 10_000  # entries in one transaction
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "first.jsonl"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5-20261007")
_MODEL = b'"model":"claude-sonnet-5-5"'
_NAMES = re.compile(rb"shop-[0-9a-f]{6}")
_COMMITS, _SPLIT = re.compile(rb"[0-9a-f]{40}"), re.compile(rb"\b([0-9a-f]{40})\b")


def leaves(count: int) -> Iterator[tuple[int, str, int, str, bytes]]:
    """Rows as the log has them. Names and commits get the number of the copy that they are in."""
    golden = GOLDEN.read_bytes().splitlines()
    for index in range(count):
        copy, at = divmod(index, len(golden))
        mark = f"{copy:06x}".encode()
        leaf = _NAMES.sub(rb"\g<0>-" + mark, golden[at])
        leaf = b"".join(mark + part[6:] if _COMMITS.fullmatch(part) else part for part in _SPLIT.split(leaf))
        model = MODELS[copy % len(MODELS)].encode()
        entry = json.loads(leaf.replace(_MODEL, b'"model":"' + model + b'"'))
        if "/" in entry["stream"] and mark.decode() not in entry["stream"]:
            entry["stream"] += f"-{copy}"
        if entry["kind"] == "TaskRequested":
            entry["body"]["feature"] = f"feature-{copy % 20}"
        entry |= {"index": index, "time": (BEGAN + timedelta(seconds=26 * index)).isoformat(timespec="microseconds")}
        raw = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        yield index, entry["stream"], entry["version"], entry["kind"], raw


def build(path: Path, count: int) -> None:
    frontier, rows = Frontier(), leaves(count)
    with closing(open_writer(str(path), Sync.OFF)) as db:
        while group := [row for _, row in zip(range(GROUP), rows, strict=False)]:
            before = frontier.size
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO entries (idx, stream, version, kind, leaf) VALUES (?, ?, ?, ?, ?)", group)
            for *_, leaf in group:
                frontier = frontier.plus(leaf)
            complete_tiles(db, before, frontier.size)
            db.execute("UPDATE head SET size = ?, frontier = ?", (frontier.size, frontier.to_bytes()))
            db.execute("COMMIT")


def questions(chance: random.Random, log: SqliteTree) -> dict[str, Question]:
    some = [json.loads(log.leaf(chance.randrange(log.size()))) for _ in range(50)]
    session = next(entry["stream"][8:] for entry in some if entry["stream"].startswith("session/"))
    since = BEGAN + timedelta(seconds=26 * chance.randrange(log.size()))
    model = (chance.choice(MODELS),)
    return {
        "changes by a model in 30 days": Question(
            {F.KIND: ("Merged",), F.MODEL: model}, since=since, until=since + timedelta(days=30)
        ),
        "one session": Question({F.SESSION: (session,)}),
        "one kind": Question({F.KIND: (chance.choice(some)["kind"],)}),
        "model, feature and colour": Question(
            {F.MODEL: model, F.FEATURE: (f"feature-{chance.randrange(20)}",), F.COLOUR: ("green",)}
        ),
        "agent and tool": Question({F.AGENT: ("merger",), F.TOOL: ("forge.merge",)}),
        "two common values, never together": Question({F.KIND: ("TurnRecorded",), F.AGENT: ("releaser",)}),
        "four common words": Question(text="errors canary rule alpha"),
        "a word and a service": Question({F.SERVICE: ("shop",)}, text="regression"),
        "a page far back": Question({F.REPOSITORY: ("shop",)}, before=chance.randrange(1, log.size())),
        "nothing but a time": Question(since=since),
    }


F = Facet


def main(folder: Path, count: int) -> None:
    path = folder / "log.db"
    if not path.exists():
        build(path, count)
    with snapshot(path) as log:
        begun = time.perf_counter()
        index = AuditIndex(folder / "audit-index.db")
        read = index.catch_up(log)
        took = time.perf_counter() - begun
        print(
            f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}"
        )
        print(f"log {log.size():,} entries, {path.stat().st_size / log.size():.0f} bytes an entry")
        print(f"index: {read:,} entries read in {took:.1f} s ({read / max(took, 1e-9):,.0f}/s)")
        times = asked(index, log)
        index.close()
    every = sorted(ms for each in times.values() for ms in each)
    cut = statistics.quantiles(every, n=20)
    print(f"all: p50 {cut[9]:.1f} ms, p95 {cut[18]:.1f} ms, {len(every)} questions")
    size = (folder / "audit-index.db").stat().st_size
    print(f"index {size / 1e6:.0f} MB, {size / log_size(path):.0f} bytes an entry")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB (on Linux)")


def asked(index: AuditIndex, log: SqliteTree) -> dict[str, list[float]]:
    chance, times = random.Random(22), dict[str, list[float]]()  # noqa: S311 - which questions are asked
    for _ in range(ASKED):
        for name, question in questions(chance, log).items():
            begun = time.perf_counter()
            answer = ask(index, log, question)
            for at in answer.hits:
                json.loads(log.leaf(at))  # what the page shows comes out of the log
            times.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    for name, each in times.items():
        cut = statistics.quantiles(each, n=20)
        print(f"  {name:<36} p50 {cut[9]:7.1f} ms  p95 {cut[18]:7.1f} ms")
    return times


def log_size(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        found: int = db.execute("SELECT size FROM head").fetchone()[0]
    return found


if __name__ == "__main__":
    entries = int(sys.argv[2]) if len(sys.argv) > 2 else ENTRIES
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), entries)
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name), entries)
