"""OTLP's messages as far as counting needs them, read lazily: the rest stays the bytes that came.

The wire form of a sub-message is that of a byte string, so a schema that calls it one leaves it undecoded. Numbers and
types are those of OpenTelemetry's own descriptors; only what is named RAW here differs. So an export of a service that
nobody judges costs a copy of its bytes, and attributes are looked up by their bytes instead of being built as objects
to be read: that was 95 % of the cost of a point.

What is not decoded is not checked either: only an export whose counted parts are malformed is refused as malformed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import (  # type: ignore[import-untyped]
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

PACKAGE = "flyball.lean"
RAW = "raw"  # left undecoded
AS_IS = ""
POINT = {"attributes": RAW, "start_time_unix_nano": AS_IS, "time_unix_nano": AS_IS, "flags": AS_IS}
SCHEMA: Mapping[Any, Mapping[str, str]] = {
    metrics_service_pb2.ExportMetricsServiceRequest: {"resource_metrics": "ResourceMetrics"},
    metrics_pb2.ResourceMetrics: {"resource": RAW, "scope_metrics": RAW},
    metrics_pb2.ScopeMetrics: {"scope": RAW, "metrics": "Metric"},
    metrics_pb2.Metric: {
        "name": AS_IS,
        "unit": AS_IS,
        **dict.fromkeys(("gauge", "sum", "histogram", "exponential_histogram", "summary"), RAW),
    },
    metrics_pb2.Gauge: {"data_points": "NumberDataPoint"},
    metrics_pb2.Sum: {"data_points": "NumberDataPoint", "aggregation_temporality": AS_IS, "is_monotonic": AS_IS},
    metrics_pb2.Histogram: {"data_points": "HistogramDataPoint", "aggregation_temporality": AS_IS},
    metrics_pb2.ExponentialHistogram: {
        "data_points": "ExponentialHistogramDataPoint",
        "aggregation_temporality": AS_IS,
    },
    metrics_pb2.NumberDataPoint: {**POINT, "as_double": AS_IS, "as_int": AS_IS},
    metrics_pb2.HistogramDataPoint: {
        **POINT,
        **dict.fromkeys(("count", "bucket_counts", "explicit_bounds"), AS_IS),
        "exemplars": RAW,
    },
    metrics_pb2.ExponentialHistogramDataPoint: {
        **POINT,
        **dict.fromkeys(("count", "scale", "zero_count"), AS_IS),
        "positive": "Buckets",
        "negative": "Buckets",
        "exemplars": RAW,
    },
    metrics_pb2.ExponentialHistogramDataPoint.Buckets: {"offset": AS_IS, "bucket_counts": AS_IS},
    metrics_pb2.Exemplar: {"as_double": AS_IS, "as_int": AS_IS, "trace_id": AS_IS},
    trace_service_pb2.ExportTraceServiceRequest: {"resource_spans": "ResourceSpans"},
    trace_pb2.ResourceSpans: {"resource": RAW, "scope_spans": "ScopeSpans"},
    trace_pb2.ScopeSpans: {"scope": RAW, "spans": RAW},
}


def _field(field: Any, read_as: str) -> FieldDescriptorProto:
    made = FieldDescriptorProto(name=field.name, number=field.number, type=field.type)
    made.label = FieldDescriptorProto.LABEL_REPEATED if field.is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
    if read_as == RAW:
        made.type = FieldDescriptorProto.TYPE_BYTES
    elif read_as:
        made.type_name = f".{PACKAGE}.{read_as}"
    elif field.type == FieldDescriptorProto.TYPE_ENUM:
        made.type = FieldDescriptorProto.TYPE_INT32
    return made


def _message(source: Any, reads: Mapping[str, str]) -> DescriptorProto:
    made = DescriptorProto(name=source.DESCRIPTOR.name)
    for name, read_as in reads.items():
        field = _field(source.DESCRIPTOR.fields_by_name[name], read_as)
        if name in {"as_double", "as_int"}:  # which of them was sent
            if not made.oneof_decl:
                made.oneof_decl.add(name="value")
            field.oneof_index = 0
        made.field.append(field)
    return made


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    made = [_message(source, reads) for source, reads in SCHEMA.items()]
    pool.AddSerializedFile(
        FileDescriptorProto(
            name="flyball/lean.proto", package=PACKAGE, syntax="proto3", message_type=made
        ).SerializeToString()
    )
    return {
        one.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{one.name}")) for one in made
    }


_LEAN = _classes()
MetricsExport = _LEAN["ExportMetricsServiceRequest"]
ScopeMetrics = _LEAN["ScopeMetrics"]
Gauge, Sum, Histogram, ExponentialHistogram = (
    _LEAN[name] for name in ("Gauge", "Sum", "Histogram", "ExponentialHistogram")
)
Exemplar = _LEAN["Exemplar"]
_TraceExport, _ResourceSpans, _ScopeSpans = (
    _LEAN[name] for name in ("ExportTraceServiceRequest", "ResourceSpans", "ScopeSpans")
)


def cut_traces(body: bytes, most_spans: int) -> Iterator[bytes]:
    """The same export in pieces of at most so many spans. Raises protobuf's `DecodeError`."""
    for of_resource in _TraceExport.FromString(body).resource_spans:
        for of_scope in of_resource.scope_spans:
            spans = of_scope.spans[:]
            for first in range(0, len(spans), most_spans):
                scope = _ScopeSpans(scope=of_scope.scope, spans=spans[first : first + most_spans])
                piece = _ResourceSpans(resource=of_resource.resource, scope_spans=[scope])
                content: bytes = _TraceExport(resource_spans=[piece]).SerializeToString()
                yield content
