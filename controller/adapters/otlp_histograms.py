"""From the two histograms of OTLP to latency in milliseconds at scale 3, and which of them may be compared.

Exponential ones are merged down exactly; a coarser one than scale 3 is refused, as splitting buckets would be guessing.
Seconds become milliseconds by a shift of 80 buckets, 2^10 for 1000: every edge reads 2.4 % high, the same in both arms.

An explicit bucket (lo, hi] is counted in the scale-3 bucket that holds hi, and what is beyond the last bound in the one
after it. "Slower than" is then exact at the sender's own bounds and rounded up to the next of them in between, for both
arms alike. That holds only while both have the same bounds: a layout names them, and arms of different layouts are not
compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from controller.adapters.otlp_counts import EXPONENTIAL, HIGHEST_BUCKET, LOWEST_BUCKET, UNTIMED, Layout
from controller.adapters.otlp_wanted import PointRefused
from controller.domain.counts import BUCKETS_PER_DOUBLING, SCALE

SHIFT_TO_MS = {"s": 80, "ms": 0}
FINEST_SCALE = 20  # of the OpenTelemetry SDKs
MOST_BUCKETS = 8_192  # in a point; SDKs keep 160

Latency = dict[int, int]  # count by scale-3 bucket of milliseconds


def exponential(point: Any, shift: int) -> tuple[Layout, Latency]:
    """Raises `PointRefused`."""
    scale, positive = point.scale, point.positive
    if not SCALE <= scale <= FINEST_SCALE:
        raise PointRefused(
            f"scale below {SCALE} or above {FINEST_SCALE}",
            f"its scale {scale} is not within {SCALE} to {FINEST_SCALE}: "
            f"let the view keep scale {SCALE} with max_size=160",
        )
    counts = positive.bucket_counts[:]
    _few(counts)
    zero = point.zero_count
    if zero + sum(counts) != point.count:  # negative durations are missing from the sum
        raise PointRefused("its buckets do not add up to its count")
    halvings, offset = scale - SCALE, positive.offset
    first, last = (offset >> halvings) + shift, (offset + len(counts) >> halvings) + shift
    if halvings:
        found: Latency = {}
        for bucket, count in enumerate(counts, offset):
            if count:
                index = (bucket >> halvings) + shift
                found[index] = found.get(index, 0) + count
    else:
        found = {bucket: count for bucket, count in enumerate(counts, first) if count}
    if zero:
        found[LOWEST_BUCKET] = found.get(LOWEST_BUCKET, 0) + zero
    return EXPONENTIAL, found if first >= LOWEST_BUCKET and last <= HIGHEST_BUCKET else _clamped(found)


def explicit(point: Any, shift: int) -> tuple[Layout, Latency]:
    """No layout where the sender keeps no buckets. Raises `PointRefused`."""
    counts = point.bucket_counts[:]
    if not counts:
        return UNTIMED, {}
    _few(counts)
    if sum(counts) != point.count:
        raise PointRefused("its buckets do not add up to its count")
    layout = _edges(tuple(point.explicit_bounds[:]), shift)
    if len(layout) != len(counts):
        raise PointRefused("its bounds and buckets do not match", f"{len(counts)} buckets need one bound less")
    found: Latency = {}
    for bucket, count in zip(layout, counts, strict=True):
        if count:
            found[bucket] = found.get(bucket, 0) + count
    return layout, found


@lru_cache(maxsize=64)
def _edges(bounds: tuple[float, ...], shift: int) -> tuple[int, ...]:
    """Where each explicit bucket is counted, the one beyond the last bound included."""
    if not all(map(math.isfinite, bounds)) or any(a >= b for a, b in pairwise(bounds)):
        raise PointRefused("its bounds do not rise")
    edges = [LOWEST_BUCKET if bound <= 0 else _inside(bucket_of(bound) + shift) for bound in bounds]
    return (*edges, _inside(edges[-1] + 1) if edges else LOWEST_BUCKET)


def bucket_of(value: float) -> int:
    """The scale-3 bucket whose (base^i, base^(i+1)] holds a positive value, in its own unit."""
    found: int = math.ceil(math.log2(value) * BUCKETS_PER_DOUBLING) - 1
    return found


def _few(counts: list[int]) -> None:
    if len(counts) > MOST_BUCKETS:
        raise PointRefused(f"more than {MOST_BUCKETS} buckets")


def _inside(bucket: int) -> int:
    return min(HIGHEST_BUCKET, max(LOWEST_BUCKET, bucket))


def _clamped(latency: Mapping[int, int]) -> Latency:
    found: Latency = {}
    for bucket, count in latency.items():
        found[_inside(bucket)] = found.get(_inside(bucket), 0) + count
    return found
