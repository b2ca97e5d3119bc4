"""A replayed verdict for people: what was recorded, what came out again, and the way there."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from controller.canary.plain_words import fraction, power
from controller.canary.replay import Replay
from controller.terminal.words import shown


def print_replay(found: Replay, *, with_path: bool) -> None:
    console = Console(highlight=False)
    console.print(f"log#{found.index} {found.kind} of {shown(found.stream)}", style="bold")
    if "sentence" in found.again:
        console.print(f"  {shown(found.again['sentence'])}", soft_wrap=True)
    console.print(f"  under parameters {found.policy}", style="dim", soft_wrap=True)
    if with_path and found.path:
        console.print(_path(found))
    if not found.differences:
        windows = f" over {len(found.path)} windows" if found.path else ""
        console.print(f"Computed again{windows}: agrees exactly, in all {len(found.again)} fields.", style="green")
        return
    console.print("Computed again: DOES NOT AGREE with the record.", style="bold red")
    for name in found.differences:
        console.print(f"  {name}: recorded {found.recorded[name]}, computed {found.again.get(name)}", soft_wrap=True)
    console.print("  The record or the program was changed. Check the log: flyball log verify", style="red")


def _path(found: Replay) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("window", "from", "weight", "canary errors", "baseline errors", "E", "line"):
        table.add_column(name, justify="right" if name in ("window", "weight", "E", "line") else "left")
    for point in found.path:
        counts = point.counts
        crossed = point.log_e_micro >= found.threshold_micro
        table.add_row(
            str(point.window),
            f"{datetime.fromtimestamp(counts.start_ms / 1000, UTC):%H:%M:%S}",
            f"{point.weight_percent} %",
            fraction(counts.canary.errors, counts.canary.requests),
            fraction(counts.baseline.errors, counts.baseline.requests),
            power(point.log_e_micro),
            "crossed" if crossed else power(found.threshold_micro),
            style="red" if crossed else None,
        )
    return table
