"""`PYTHONPATH=. .venv/bin/python -m bench.detect`: the tables of docs/detection.md, measured again."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from . import table
from .bound_cells import bounded, needed
from .cells import Cell, Sizes
from .error_cells import errors
from .latency_cells import latency
from .noise_cells import noisy
from .traffic import CANARY_RPS
from .variant_cells import variants

SECTIONS = ("errors", "latency", "noise", "bound", "variants")
EPILOG = """\
sections:
  errors    false alarms and detections of error rates: E1 beside Argo Rollouts, Flagger and Kayenta
  latency   the same for durations: E2 and the whole judge
  noise     errors in bursts: what phi costs, and what ignoring it costs
  bound     the most powerful test that is possible, computed exactly, beside E1 (run with errors)
  variants  other grids, shares, baselines and tests at the same alpha

examples:
  python -m bench.detect --quick                    every table, roughly, in a minute
  python -m bench.detect --only errors --only bound one part of it
  python -m bench.detect --json all.json            every cell with its counts, for other programs
Everything is simulated; progress goes to stderr, tables to stdout. Null cells decide whether the promise is kept, so
they want many runs: with n runs and no false alarm, the upper bound is 3.7/n.
"""


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.detect",
        description="Does the canary judge keep its promise, and does it find regressions first?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=_positive, default=2_000, help="rollouts per effect cell (default %(default)s)")
    parser.add_argument("--null-runs", type=_positive, default=100_000, help="rollouts per null cell (%(default)s)")
    parser.add_argument(
        "--alpha-ppm", type=_alpha, action="append", help="false alarms allowed, in millionths; may be given again "
        "(default 1000, which is the judge's own, and 10000)",
    )  # fmt: skip
    parser.add_argument(
        "--rps", type=float, choices=CANARY_RPS, action="append", help="only these canary requests a second; may be "
        "given again (default: all; a selection draws other rollouts than all do)",
    )  # fmt: skip
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be given again (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every cell there")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same rollouts (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few rollouts at two rates: a look, not a measurement")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rollouts show nothing: give at least 1")
    return number


def _alpha(text: str) -> int:
    ppm = int(text)
    if not 1 <= ppm <= 500_000:
        raise argparse.ArgumentTypeError(f"{ppm} ppm: give 1 to 500000 millionths, as judge.alpha_ppm takes them")
    return ppm


def sizes_of(options: argparse.Namespace) -> Sizes:
    alphas = tuple(sorted(set(options.alpha_ppm or (1_000, 10_000))))
    if options.quick:
        few = min(options.null_runs, 200)
        return Sizes(min(options.runs, 60), few, few, alphas, rates=tuple(options.rps or (0.5, 5.0)))
    rates = tuple(options.rps or CANARY_RPS)
    return Sizes(options.runs, options.null_runs, min(options.null_runs, 20_000), alphas, rates)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    sizes, wanted, begun = sizes_of(options), options.only or list(SECTIONS), time.monotonic()
    cells: list[Cell] = []
    # Each section draws from a stream of its own, so that leaving one out changes no other.
    streams = dict(zip(SECTIONS, np.random.default_rng(options.seed).spawn(len(SECTIONS)), strict=True))
    print("\n".join(_head(options, sizes)))
    for name, measure in (("errors", errors), ("latency", latency), ("noise", noisy)):
        if name in wanted:
            found = list(measure(streams[name], sizes))
            cells += found
            print("\n".join(_section(name, found)), flush=True)
    bounds = list(bounded(sizes, cells)) if "bound" in wanted else []
    fewest = list(needed(sizes)) if "bound" in wanted else []
    if bounds:
        print("\n".join(["", "## bound", "", *table.bound_lines(bounds), "", *table.needed_lines(fewest)]), flush=True)
    others = list(variants(streams["variants"], sizes)) if "variants" in wanted else []
    if others:
        print("\n".join(["", "## variants", "", *table.variant_lines(others)]))
    seconds = time.monotonic() - begun
    print(f"\n{seconds:.0f} s, of which {time.process_time():.0f} s on a core")
    if options.json:
        options.json.write_text(json.dumps(_as_json(options, sizes, cells, bounds, fewest, others), indent=1))


def _head(options: argparse.Namespace, sizes: Sizes) -> Iterator[str]:
    yield f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_machine()}"
    yield (
        f"numpy {np.__version__}, seed {options.seed}; n={sizes.effect_runs:,} per effect, {sizes.null_runs:,} per "
        f"null, {sizes.peer_null_runs:,} per null of a peer; load {os.getloadavg()[0]:.1f}. Simulated."
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return (
        f"{os.cpu_count()} CPUs, {model or platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )


def _section(name: str, found: Sequence[Cell]) -> Iterator[str]:
    yield from ("", f"## {name}", "")
    yield from (table.turned if name == "noise" else table.grid)(found)
    yield from ("", "False alarms:", *table.promise_lines(found))
    if name != "noise":
        yield from ("", "First, the best of ours:", *table.first_lines(found, table.is_ours))
        yield from ("", "First, as configured by default:", *table.first_lines(found, table.by_default))


def _as_json(options: argparse.Namespace, sizes: Sizes, cells: list[Cell], *rest: Sequence[Any]) -> dict[str, Any]:
    bounds, fewest, others = rest
    return {
        "measured_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": _machine(),
        "seed": options.seed,
        "sizes": asdict(sizes),
        "cells": [_cell(cell) for cell in cells],
        "bound": [asdict(row) for row in bounds],
        "needed": [asdict(row) for row in fewest],
        "variants": [_cell(cell) for cell in others],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {**asdict(cell), "percent": cell.percent, "interval_percent": cell.interval_percent}


if __name__ == "__main__":
    main()
