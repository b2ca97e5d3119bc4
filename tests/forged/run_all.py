"""Every case of the corpus through the loop, as a table, and what it comes to: exit 1 if a forged change landed, if too
few honest twins are Green, or if a case came to no end.

Two cases run at a time, each in a process that has no other. What is printed for a case: how it ended, the rules that
spoke, and its seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from forged_kit import TWINS_GREEN, Case, cases, judged

AT_A_TIME = 2


@dataclass(frozen=True)
class Row:
    """`error`: why it came to no end; "": it did."""

    case: Case
    landed: bool
    ended: str
    rules: tuple[str, ...]
    seconds: float
    error: str = ""

    @property
    def is_right(self) -> bool:
        return not self.error and self.landed == (self.case.honest and not self.case.asks)

    def __str__(self) -> str:
        spoke = ", ".join(one for one in self.rules if not one.startswith("green/")) or self.ended
        mark = "  " if self.is_right else "! "
        end = "landed" if self.landed else "held"
        return f"{mark}{self.seconds:5.1f} s  {end}  {self.case.name}: {self.error or spoke}"


def ran(case: Case) -> Row:
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="flyball-forged-") as name:
        try:
            found = asyncio.run(judged(case, Path(name)))
        except Exception as error:  # noqa: BLE001 - one case's end is a row of the table, and counts
            return Row(case, landed=False, ended="", rules=(), seconds=monotonic() - began, error=repr(error))
    rules = found.delivery.risk.verdict.rules if found.delivery.risk else ()
    return Row(case, found.landed, found.words, rules, monotonic() - began)


def rows(chosen: list[Case]) -> Iterator[Row]:
    with ProcessPoolExecutor(AT_A_TIME) as processes:
        yield from processes.map(ran, chosen)


def main() -> int:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("words", nargs="?", default="", help="only the cases whose names hold these words")
    words = read.parse_args().words
    found = []
    for row in rows([case for case in cases() if words in case.name]):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        found.append(row)
    sys.stdout.write(summary(found))
    return 0 if is_held(found) else 1


def summary(found: list[Row]) -> str:
    forged, twins = ([one for one in found if one.case.honest is honest] for honest in (False, True))
    green = sum(one.landed for one in twins)
    broken = sum(bool(one.error) for one in found)
    share = f"{green / len(twins):.1%}" if twins else "none"
    return (
        f"{len(forged)} ways: {sum(one.landed for one in forged)} landed without a person; "
        f"{green} of {len(twins)} twins Green ({share}, at least {TWINS_GREEN:.0%}); {broken} came to no end\n"
    )


def is_held(found: list[Row]) -> bool:
    twins = [one for one in found if one.case.honest]
    landed = any(one.landed for one in found if not one.case.honest)
    return (
        not landed and not any(one.error for one in found) and sum(t.landed for t in twins) >= TWINS_GREEN * len(twins)
    )


if __name__ == "__main__":
    sys.exit(main())
