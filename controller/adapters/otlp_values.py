"""OTLP attributes as text."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import KeyValue


def texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Text and whole-number attributes, as text."""
    found = {}
    for pair in attributes:
        kind = pair.value.WhichOneof("value")
        if kind in {"string_value", "int_value"}:
            found[pair.key] = str(getattr(pair.value, kind))
    return found
