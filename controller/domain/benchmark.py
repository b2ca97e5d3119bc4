"""What a test measured, and what was found slower than on the branch.

A benchmark's name is chosen by the repository and stands in clear, so it is held to an identifier of letters that ends
in its unit. Values are whole micro-units: 14.2 of `pricing_ms` is 14,200,000.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import median

from pydantic import Field

from controller.domain.base import Fact

MICRO = 1_000_000
UNITS = ("ns", "us", "ms", "s", "bytes", "kib", "mib", "count", "per_s")
RATE = "_per_s"  # more of it is better; of everything else less is
NAME = r"[a-z][a-z0-9_]{0,60}_(?:" + "|".join(UNITS) + ")"
MOST_BENCHMARKS = 64  # of a run
MOST_SAMPLES = 100  # of one of them
LEAST, MOST = 1e-3, 1e12  # in the name's unit: below, a micro-unit is too coarse; above, choose a larger unit
SMALLEST_P = 1e-12  # no tail of a real machine's noise is known beyond


class Benchmark(Fact):
    name: str = Field(pattern=f"^{NAME}$")
    value_micro: int = Field(ge=1)  # the median of its samples
    samples: int = Field(ge=1, le=MOST_SAMPLES)


class SlowerBenchmark(Fact):
    """A head's result that is worse than the level of what has landed."""

    name: str
    before_micro: int
    after_micro: int
    p_log10_milli: int = Field(le=0)  # 1000 log10 p, p times the number of benchmarks compared
    landings: int  # that the comparison rests on

    @property
    def words(self) -> str:
        change = f"{100 * (self.after_micro / self.before_micro - 1):+.0f} %"
        values = f"{in_units(self.before_micro)} -> {in_units(self.after_micro)}"
        return f"{self.name} {values} ({change}, {odds(10 ** (self.p_log10_milli / 1000))}, n={self.landings})"


def in_units(micro: float) -> str:
    """In the unit that the name ends in, with three digits that count."""
    value = micro / MICRO
    digits = max(0, 2 - math.floor(math.log10(value))) if value else 0
    return f"{value:,.{digits}f}"


def odds(p: float) -> str:
    """As "p 2e-6". Smaller than `SMALLEST_P` is only said to be so."""
    return f"p {p:.0e}".replace("e-0", "e-") if p > SMALLEST_P else f"p < {SMALLEST_P:.0e}"


def less_is_better(name: str) -> bool:
    return not name.endswith(RATE)


def benchmark_of(name: str, samples: Sequence[float]) -> Benchmark:
    """Raises ValueError with the way out when the name or a sample is none."""
    if re.fullmatch(NAME, name) is None:
        asked = f"{NAME.partition('_(?')[0]} and end in a unit (_{', _'.join(UNITS)})"
        raise ValueError(f"the name {name[:80]!r} must match {asked}")
    if not 1 <= len(samples) <= MOST_SAMPLES:
        raise ValueError(f"{name} has {len(samples)} samples; record 1 to {MOST_SAMPLES}, or their median")
    wrong = [one for one in samples if not LEAST <= one <= MOST]  # NaN is in no range
    if wrong:
        raise ValueError(f"{name} was {wrong[0]!r}; record {LEAST:g} to {MOST:g}, or choose another unit")
    return Benchmark(name=name, value_micro=round(median(samples) * MICRO), samples=len(samples))
