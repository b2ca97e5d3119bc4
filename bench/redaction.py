"""Redaction: precision and recall on the seeded set, every miss and false alarm, and lines a CPU second of one core.

`PYTHONPATH=. python bench/redaction.py [file ...]`: files named are read too, as a check on real text (a finding there
is printed without its value).
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fixtures"))

from secrets_seeded import CREDENTIALS, INNOCENT, Seeded, seeded

from controller.ledger.redaction import Redactor, secrets_in

SECONDS = 3.0
LINE_CHARS = 1_100  # as in the measurement that the target comes from
TARGET_LINES = 3_000
OTHER_DRAWS = 20


@dataclass
class Score:
    """A secret counts as found only where no character of it is left."""

    hit: int = 0
    missed: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)  # found, with more than two characters beside it taken too

    @property
    def recall(self) -> float:
        return self.hit / (self.hit + len(self.missed))

    @property
    def precision(self) -> float:
        return self.hit / (self.hit + len(self.false_alarms))


def scored(texts: list[Seeded]) -> Score:
    score = Score()
    for one in texts:
        found = list(secrets_in(one.text))
        for start, end in one.secrets:
            covering = [f for f in found if f.start <= start and end <= f.end]
            if covering:
                score.hit += 1
                if covering[0].end - covering[0].start > end - start + 2:
                    score.loose.append(one.name)
            else:
                score.missed.append(one.name)
        for f in found:
            if not any(f.start < end and start < f.end for start, end in one.secrets):
                score.false_alarms.append(f"{one.name}: {f.kind} {one.text[f.start : f.end]!r}")
    return score


def lines() -> list[str]:
    """Lines of some 1.1 KB, of all seeded texts one after the other: far more secrets than in any log."""
    text = "".join(one.text.replace("\n", " ") for one in seeded())
    return [text[at : at + LINE_CHARS] for at in range(0, len(text), LINE_CHARS)]


def plain_lines() -> list[str]:
    """The same of what holds no secret: what most lines are."""
    text = "".join(one.text.replace("\n", " ") for one in seeded() if not one.secrets)
    return [text[at : at + LINE_CHARS] for at in range(0, len(text), LINE_CHARS)]


def lines_per_second(some: list[str]) -> float:
    redactor, count = Redactor(b"k" * 32), 0
    begun = time.process_time()
    while (spent := time.process_time() - begun) < SECONDS:
        for line in some:
            redactor.redact(line)
        count += len(some)
    return count / spent


def main() -> None:
    score = scored(seeded())
    print(f"seeded set: {len(CREDENTIALS)} texts with {score.hit + len(score.missed)} secrets, {len(INNOCENT)} without")
    print(f"recall {score.recall:.3f}   precision {score.precision:.3f}")
    for what, names in (("missed", score.missed), ("false alarms", score.false_alarms), ("took more", score.loose)):
        print(f"{what}: {len(names)}", *names, sep="\n  ")
    others = [scored(seeded(seed)) for seed in range(OTHER_DRAWS)]
    recalls, alarms = sorted(one.recall for one in others), sum(len(one.false_alarms) for one in others)
    mean = sum(recalls) / len(recalls)
    print(f"{OTHER_DRAWS} other draws of the values: recall {recalls[0]:.3f} to {recalls[-1]:.3f}, mean {mean:.3f};")
    print(f"  {alarms} false alarms in all of them")
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC).date()}"
    for what, some in (("full of secrets", lines()), ("without any", plain_lines())):
        rate = lines_per_second(some)
        print(f"{rate:,.0f} lines of {LINE_CHARS} characters a CPU second, {what} (target {TARGET_LINES:,}; {machine})")
    for name in sys.argv[1:]:
        text = Path(name).read_text(errors="replace")
        for f in secrets_in(text):
            print(f"{name}:{text.count(chr(10), 0, f.start) + 1}: {f.kind}, {f.end - f.start} characters")


if __name__ == "__main__":
    main()
