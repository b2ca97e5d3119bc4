"""How often the right change is blamed, among several in one release; by simulation, with intervals.

    PYTHONPATH=. .venv/bin/python bench/blame.py [releases]

Simulated traces, real attribution. How often a faulty change stands on none of its failing stacks is an assumption:
three are shown. `wrong` is what costs most: an innocent change reverted.
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections import Counter
from datetime import UTC, datetime

from controller.canary.blame import blame
from controller.canary.rivals import rivals
from controller.domain.blame import Share
from controller.domain.verdict import JudgeConfig
from controller.sim.incidents import Kind, incident

CONFIG = JudgeConfig()
KINDS = {
    "2 to 6 changes, 5 % off the stack": Kind(),
    "2 to 6 changes, 0 % off the stack": Kind(off_stack=0.0),
    "2 to 6 changes, 20 % off the stack": Kind(off_stack=0.2),
    "2 to 12 changes, 5 % off the stack": Kind(most_changes=12),
    "shared incident": Kind(shared=True),
}


def measured(kind: Kind, releases: int) -> Counter[str]:
    seen = Counter[str]()
    for seed in range(releases):
        one = incident(seed, kind)
        found = blame(one.suspects, one.scene, rivals(None, one.scene, CONFIG), CONFIG)
        order = [candidate.delivery for candidate in found.candidates]
        place = order.index(one.culprit) if one.culprit else None
        seen["on stack"] += one.on_stack
        seen["first"] += place == 0
        seen["three"] += place is not None and place < 3
        seen["three, on stack"] += one.on_stack and place is not None and place < 3
        seen[found.share.value] += 1
        seen["right"] += found.share is Share.CLEAR and found.culprit == one.culprit
        seen["wrong"] += found.share is Share.CLEAR and found.culprit != one.culprit
    return seen


def interval(hits: int, of: int) -> str:
    """Wilson's, at 95 %."""
    if not of:
        return "-"
    p, z = hits / of, 1.96
    middle, half = (p + z * z / 2 / of), z * math.sqrt(p * (1 - p) / of + z * z / 4 / of / of)
    low, high = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return f"{100 * p:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def main() -> None:
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    print(f"{datetime.now(UTC):%Y-%m-%d} {platform.machine()}, Python {platform.python_version()}, simulated")
    for name, kind in KINDS.items():
        begun = time.process_time()
        seen = measured(kind, releases)
        print(f"\n{name}, n = {releases}, {1000 * (time.process_time() - begun) / releases:.2f} ms of CPU each")
        clear = seen["right"] + seen["wrong"]
        if kind.shared:
            print(f"  no change blamed      {interval(releases - clear, releases)}")
            print(f"  said to be shared     {interval(seen['shared'], releases)}")
            continue
        print(f"  right one first       {interval(seen['first'], releases)}")
        print(f"  among the first three {interval(seen['three'], releases)}")
        print(f"  the same, on a stack  {interval(seen['three, on stack'], seen['on stack'])}")
        print(f"  reverted alone        {interval(clear, releases)}   recall {interval(seen['right'], releases)}")
        print(f"  precision             {interval(seen['right'], clear)}   wrong {interval(seen['wrong'], releases)}")


if __name__ == "__main__":
    main()
