"""Proofs, receipts and full verification of a large log, and what an entry costs on disk.

`python bench/ledger_proofs.py [entries] [folder]` (default: 1,000,000 entries, on the current folder's disk; it takes
about 800 MB there and some minutes). The entries are those of the golden log, in its own mix of kinds and sizes, over
and over under other names; they are written by the log's own SQL without the checks of an append. CPU times are of this
process; wall times are what a caller waits, on whatever else the machine does.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from controller.domain.entry import Entry, decode
from controller.domain.events import EffectIntended
from controller.domain.guards import project
from controller.domain.ids import StreamId, canonical
from controller.ledger import guard_rows, sql
from controller.ledger.checkpoint import Checkpoint, origin_of
from controller.ledger.database import Sync, open_writer, to_text, transaction
from controller.ledger.merkle import Frontier, extends
from controller.ledger.note import SigningKey, sign_note
from controller.ledger.proof import LogProof, receipt
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tile_rows import complete_tiles
from controller.ledger.tiles import consistency, inclusion, root_at
from controller.ledger.verify import verify

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "first.jsonl"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = 10_000  # entries in a transaction while the log is built
ASKED = 2_000  # proofs of each sort


def entries() -> Iterator[Entry]:
    """The golden log again and again, each time in streams and effects of other names. Times go on."""
    pattern = [(decode(line), json.loads(line)) for line in GOLDEN.read_bytes().splitlines()]
    index, turn = 0, 0
    while True:
        turn += 1
        for entry, raw in pattern:
            at, stream = BEGUN + timedelta(milliseconds=100 * index), f"{entry.stream}.{turn}"
            event, body = entry.event, raw["body"]
            if isinstance(event, EffectIntended):
                body = {**body, "key": f"{event.key}.{turn}"}
                event = event.model_copy(update={"key": body["key"]})
            leaf = canonical({**raw, "index": index, "stream": stream, "time": to_text(at), "body": body})
            yield replace(entry, index=index, stream=StreamId(stream), time=at, event=event, leaf=leaf)
            index += 1


def build(path: Path, size: int) -> None:
    db, frontier, source = open_writer(str(path), Sync.OFF), Frontier(), entries()
    while frontier.size < size:
        with transaction(db):
            begun = frontier.size
            for entry in islice(source, min(AT_ONCE, size - begun)):
                db.execute(sql.ADD_ENTRY, (entry.index, entry.stream, entry.version, entry.kind, entry.leaf))
                guard_rows.apply(db, project(entry))
                frontier = frontier.plus(entry.leaf)
            complete_tiles(db, begun, frontier.size)
            db.execute(sql.MOVE_HEAD, (frontier.size, frontier.to_bytes(), to_text(entry.time)))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def timed(what: str, ask: Callable[[], object]) -> list[str]:
    """One row: ASKED calls, each timed."""
    wall, cpu = [], time.process_time()
    for _ in range(ASKED):
        begun = time.perf_counter()
        ask()
        wall.append((time.perf_counter() - begun) * 1000)
    spent = (time.process_time() - cpu) / ASKED * 1000
    cut = statistics.quantiles(wall, n=100)
    return [what, f"{ASKED:,}", f"{spent:.3f}", f"{cut[49]:.3f}", f"{cut[98]:.3f}"]


def proofs(path: Path) -> list[list[str]]:
    chance, key = random.Random(1), SigningKey.generate("flyball/bench")  # noqa: S311 - which entries are asked for
    with snapshot(path) as tree:
        size = tree.size()
        root = root_at(tree, size)
        origin = origin_of(tree.leaf(0))
        key = SigningKey(origin, key.type, key.private)
        note = sign_note(Checkpoint(origin, size, root).text(), [key])
        texts = [(tree.leaf(at), receipt(tree, at, note).text()) for at in (chance.randrange(size) for _ in range(200))]

        def one_receipt() -> None:
            leaf, text = chance.choice(texts)
            assert LogProof.parse(text).check(leaf, [key.verifier], origin).by == (origin,)

        def one_growth() -> None:
            old = chance.randrange(1, size)
            assert extends(old, root_at(tree, old), size, root, consistency(tree, old, size))

        return [
            timed("inclusion proof", lambda: inclusion(tree, chance.randrange(size), size)),
            timed(
                "the same, of the newest 65,536",
                lambda: inclusion(tree, size - 1 - chance.randrange(min(size, 65_536)), size),
            ),
            timed("the same, file opened each time", lambda: _opened(path, chance.randrange(size))),
            timed("consistency proof, both roots, check", one_growth),
            timed("receipt: parse, path, signature", one_receipt),
            ["receipt: bytes", "", "", f"{len(texts[0][1]):,}", ""],
        ]


def _opened(path: Path, index: int) -> None:
    with snapshot(path) as tree:
        inclusion(tree, index, tree.size())


def verification(path: Path, size: int) -> list[list[str]]:
    cpu, wall = time.process_time(), time.perf_counter()
    report = verify(path)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert (report.whole, report.size) == (True, size), report.findings
    return [
        ["full verification, entries per CPU second", f"{size:,}", f"{size / cpu:,.0f}", "", ""],
        ["full verification, entries per second", f"{size:,}", "", f"{size / wall:,.0f}", ""],
    ]


def bytes_an_entry(path: Path, size: int) -> list[list[str]]:
    db = sqlite3.connect(path)
    (leaf,) = db.execute("SELECT sum(length(leaf)) FROM entries").fetchone()
    (tiles,) = db.execute("SELECT sum(length(hashes) + length(root)) FROM tiles").fetchone()
    db.close()
    parts = {"file": path.stat().st_size, "leaf": leaf, "tiles": tiles or 0}
    return [[f"bytes an entry: {name}", "", "", f"{found / size:,.1f}", ""] for name, found in parts.items()]


def main() -> None:
    size = int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else 1_000_000
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path(sys.argv[2]) if len(sys.argv) > 2 else Path.cwd()))
    try:
        build(folder / "log.db", size)
        rows = [*proofs(folder / "log.db"), *verification(folder / "log.db", size)]
        rows += bytes_an_entry(folder / "log.db", size)
    finally:
        shutil.rmtree(folder)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {platform.system()}"
    title = f"A log of {size:,} entries ({datetime.now(UTC).date()}; {machine}; Python {platform.python_version()})"
    table = Table(title=title, title_justify="left")
    for name in ("what", "n", "CPU ms (mean)", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
