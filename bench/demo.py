"""How long the loop takes, for real: n runs of `flyball demo`, each in a fresh state folder.

    python bench/demo.py --runs 3

Time to production (asked for to confirmed, of the good change), first bad request to traffic back, detection to traffic
back, and the whole demo. The model is scripted, the traffic a load test on this machine: both are labelled so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 600
GIB = 1 << 30


@dataclass(frozen=True)
class Run:
    """One demo, in seconds."""

    whole: float
    to_production: float
    first_bad_to_back: float
    detection_to_back: float
    as_it_should: bool


def one_demo() -> Run:
    with tempfile.TemporaryDirectory(prefix="flyball-bench-") as folder:
        command = [sys.executable, "-P", "-m", "controller.cli", "demo", "--json", "--dir", f"{folder}/state"]
        environment = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
        )
    summary = next((line for line in map(json.loads, done.stdout.splitlines()) if line["what"] == "summary"), None)
    if summary is None:
        raise SystemExit(f"the demo ended with exit code {done.returncode} and no summary: {done.stderr[-2000:]}")
    return measured(summary)


def measured(summary: dict[str, object]) -> Run:
    deliveries, recoveries = summary["deliveries"], summary["recoveries"]
    assert isinstance(deliveries, list)
    assert isinstance(recoveries, list)
    good, back = deliveries[0], recoveries[0]
    return Run(
        whole=float(str(summary["seconds"])),
        to_production=good["total_ms"] / 1000,
        first_bad_to_back=back["first_bad_request_to_rollback_ms"] / 1000,
        detection_to_back=back["detection_to_rollback_ms"] / 1000,
        as_it_should=bool(summary["as_it_should"]),
    )


def machine() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    python = platform.python_version()
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} CPUs, {memory:.1f} GiB, {system}, Python {python}, load before {load}"


def spread(values: list[float]) -> str:
    return f"median {median(values):6.1f} s   from {min(values):.1f} to {max(values):.1f} s"


def main() -> None:
    options = argparse.ArgumentParser(description="Time n runs of `flyball demo`.")
    options.add_argument("--runs", type=int, default=3)
    runs = max(1, options.parse_args().runs)
    print(f"{datetime.now(UTC):%Y-%m-%d}, n={runs}, {machine()}")
    print(f"command: python {' '.join(sys.argv)}   (model: scripted; traffic: load test)")
    found = [one_demo() for _ in range(runs)]
    print(f"time to production            {spread([run.to_production for run in found])}")
    print(f"first bad request to restored {spread([run.first_bad_to_back for run in found])}")
    print(f"detection to restored         {spread([run.detection_to_back for run in found])}")
    print(f"the whole demo                {spread([run.whole for run in found])}")
    print(f"ended as they should          {sum(run.as_it_should for run in found)} of {runs}")


if __name__ == "__main__":
    main()
