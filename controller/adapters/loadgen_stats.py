"""What a load run has seen so far, in bounded memory, as a small file that is replaced at once."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

LATENCY_STEP = 1.05  # buckets of the latency histogram: a percentile is right to 5 %


class Outcome(StrEnum):
    """How a request ended. `error`: no answer: the connection failed, or it took too long."""

    OK = "ok"
    REJECTED = "rejected"  # 4xx
    FAILED = "failed"  # 5xx
    ERROR = "error"

    @classmethod
    def of(cls, status: int) -> Outcome:
        if status >= 500:  # noqa: PLR2004  the classes of RFC 9110
            return cls.FAILED
        return cls.OK if status < 400 else cls.REJECTED  # noqa: PLR2004


@dataclass
class LoadStats:
    """Counts of one run; a file of them is a snapshot."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    by_name: dict[str, Counter[Outcome]] = field(default_factory=dict)
    latencies: Counter[int] = field(default_factory=Counter)  # number of answers per latency bucket
    dropped: int = 0
    first_failure_at: int | None = None  # epoch ms; None: nothing has failed
    running: bool = True

    def count(self, name: str, outcome: Outcome, latency_s: float) -> None:
        self.outcomes[outcome] += 1
        self.by_name.setdefault(name, Counter())[outcome] += 1
        if outcome is not Outcome.ERROR:
            self.latencies[math.ceil(math.log(max(latency_s * 1000, 0.01), LATENCY_STEP))] += 1
        if outcome is Outcome.FAILED and self.first_failure_at is None:
            self.first_failure_at = time.time_ns() // 1_000_000

    def percentile_ms(self, share: float) -> float | None:
        """The upper edge of the bucket that holds it. None: nothing was answered yet."""
        left = share * self.latencies.total()
        for bucket, number in sorted(self.latencies.items()):
            left -= number
            if left <= 0:
                return round(LATENCY_STEP**bucket, 2)
        return None

    def snapshot(self) -> dict[str, Any]:
        return {
            "origin": "load_test",
            "running": self.running,
            "sent": self.outcomes.total(),
            "ok": self.outcomes[Outcome.OK],
            "rejected": self.outcomes[Outcome.REJECTED],
            "failed": self.outcomes[Outcome.FAILED],
            "errors": self.outcomes[Outcome.ERROR],
            "dropped": self.dropped,
            "p50_ms": self.percentile_ms(0.5),
            "p99_ms": self.percentile_ms(0.99),
            "first_failure_at": self.first_failure_at,
            "by_name": {
                name: {"sent": counts.total(), "failed": counts[Outcome.FAILED]}
                for name, counts in self.by_name.items()
            },
        }

    def write(self, path: Path) -> None:
        """Replaces the file at once: a reader sees the old snapshot or the new one."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(self.snapshot()))
        beside.replace(path)
