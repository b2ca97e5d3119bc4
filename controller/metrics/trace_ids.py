"""Ids that follow from where something stands in the log: a restart or a second controller tells the same spans.

The log's own name goes into them, so that two logs that know a delivery of the same name share no trace.
"""

from __future__ import annotations

import hashlib
import re

from controller.domain.ids import DeliveryId

TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_ROOT = "root"


def trace_of(origin: str, delivery: DeliveryId) -> str:
    """The trace of a delivery, 32 hex. `origin`: the log's name."""
    return _hash(f"{origin}\n{delivery}", 32)


def span_in(trace_id: str, key: str) -> str:
    """16 hex. `key` is unique within the trace."""
    return _hash(f"{trace_id}\n{key}", 16)


def root_of(trace_id: str) -> str:
    return span_in(trace_id, _ROOT)


def _hash(text: str, digits: int) -> str:
    """Never all zeros, which would be no id."""
    found = hashlib.sha256(b"flyball telemetry\n" + text.encode()).hexdigest()[:digits]
    return found if found.strip("0") else "1".rjust(digits, "0")
