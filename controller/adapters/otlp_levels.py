"""Gauges and up-down counters: how full a service is, as levels in thousandths of their unit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from controller.adapters.otlp_wanted import (
    CUMULATIVE,
    NO_VALUE,
    SLICE_S,
    PointRefused,
    Rejected,
    Wanted,
    check_time,
    reject,
)

HIGHEST_LEVEL_MILLI = 10**18


def count_levels(wanted: Wanted, rejected: Rejected, times_ns: tuple[int, int]) -> Iterator[None]:
    """Slice by slice. `times_ns`: the oldest and the latest time that a point may have."""
    sender, data = wanted.sender, wanted.data
    if sender.counts is None:
        return
    summed = wanted.kind == "sum" and not data.is_monotonic and data.aggregation_temporality == CUMULATIVE
    if wanted.kind != "gauge" and not summed:
        if wanted.kind:
            said = f"{wanted.name} must be a gauge or a cumulative up-down counter, not {wanted.kind}"
            reject(rejected, sender.counts, PointRefused("neither a gauge nor an up-down counter", said))
        return
    until = perf_counter() + SLICE_S
    for point in data.data_points:
        if perf_counter() >= until:
            yield
            until = perf_counter() + SLICE_S
        try:
            check_time(point.time_unix_nano, *times_ns)
            milli = milli_of(point)
        except PointRefused as refused:
            reject(rejected, sender.counts, refused)
            continue
        if milli is not None:
            attributes, at_ms = b"".join(sorted(point.attributes[:])), point.time_unix_nano // 1_000_000
            sender.counts.level(
                sender.version, sender.instance, wanted.name, attributes=attributes, at_ms=at_ms, milli=milli
            )


def milli_of(point: Any) -> int | None:
    """In thousandths of the unit. None: nothing was recorded. Raises `PointRefused`."""
    value = point.WhichOneof("value")
    if value is None or point.flags & NO_VALUE:
        return None
    level = getattr(point, value)
    if not math.isfinite(level) or abs(level) * 1000 > HIGHEST_LEVEL_MILLI:
        raise PointRefused("its value is no number that can be kept")
    milli: int = round(level * 1000)
    return milli
