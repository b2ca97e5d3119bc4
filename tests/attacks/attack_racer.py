"""Swaps a folder for a link and back as fast as it can, in a process of its own: `attack_racer.py real link aside`.

Calls that go through the folder meanwhile may make one of that name; then it is thrown away and the swapping goes on.
Ends when it is told to, or when whoever started it is gone.
"""

# ruff: noqa: PTH104, PTH114 - the race is won by calls that do little else
from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress

LOOK_UP_EVERY = 1_000  # swaps


def swap(real: str, link: str, aside: str) -> None:
    with suppress(OSError):
        os.rename(real, aside)
    with suppress(OSError):
        os.rename(link, real)
    if os.path.islink(real):
        os.rename(real, link)
    else:
        shutil.rmtree(real, ignore_errors=True)
    with suppress(OSError):
        os.rename(aside, real)


def main() -> None:
    real, link, aside = sys.argv[1:]
    parent = os.getppid()
    sys.stdout.write("swapping\n")
    sys.stdout.flush()
    while os.getppid() == parent:
        for _ in range(LOOK_UP_EVERY):
            swap(real, link, aside)


if __name__ == "__main__":
    main()
