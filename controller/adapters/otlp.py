"""OTLP over HTTP: metrics and traces, protobuf or JSON, plain or gzip, answered as the specification asks.

A sender may retry on 429 and 503 only, so what can never be counted is answered 200 with `partial_success`, and what
cannot be read 400, 413 or 415. Both the bytes sent and the bytes that they unpack to are bounded.
"""

from __future__ import annotations

import base64
import zlib
from typing import TypeVar

from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from controller.adapters.edge_http import BadMessage, Request, Response, SmallServer
from controller.adapters.otlp_points import Ingest

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
LARGEST_BODY_BYTES = 4 << 20  # 1,000 points are 140 to 380 KiB
LARGEST_UNPACKED_BYTES = 16 << 20
MOST_AT_ONCE = 32

M = TypeVar("M", bound=Message)


def otlp_server(ingest: Ingest) -> SmallServer:
    return SmallServer(Receiver(ingest).handle, most_body_bytes=LARGEST_BODY_BYTES, most_at_once=MOST_AT_ONCE)


class Receiver:
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def handle(self, request: Request) -> Response:
        if request.path not in {"/v1/metrics", "/v1/traces"}:
            return _plain(404, "exports go to /v1/metrics and /v1/traces")
        if request.method != "POST":
            return _plain(405, "exports are sent by POST")
        encoding = request.field("content-type").partition(";")[0].strip().lower()
        if encoding not in {PROTOBUF, JSON}:
            return _plain(415, f"content type {encoding!r} is neither {PROTOBUF} nor {JSON}")
        try:
            body = unpacked(request.body, request.field("content-encoding").lower())
            answer = self._metrics(body, encoding) if request.path == "/v1/metrics" else self._traces(body, encoding)
        except BadMessage as error:
            return _plain(error.status, str(error))
        return Response(200, _encoded(answer, encoding), encoding)

    def _metrics(self, body: bytes, encoding: str) -> Message:
        rejected = self._ingest.metrics(_decoded(ExportMetricsServiceRequest(), body, encoding))
        answer = ExportMetricsServiceResponse()
        if rejected.points:
            answer.partial_success.rejected_data_points = rejected.points
            answer.partial_success.error_message = rejected.message
        return answer

    def _traces(self, body: bytes, encoding: str) -> Message:
        export = _decoded(ExportTraceServiceRequest(), body, encoding)
        if encoding == JSON:
            self._ingest.traces(export, _hex_read_as_base64)
        else:
            self._ingest.traces(export)
        return ExportTraceServiceResponse()


def _hex_read_as_base64(value: bytes) -> str:
    """OTLP's JSON spells ids in hex where protobuf's JSON expects base64: encoding again gives the hex back."""
    return base64.b64encode(value).decode()


def unpacked(body: bytes, encoding: str) -> bytes:
    """Raises `BadMessage` for another encoding than gzip, a damaged stream, or one that unpacks to too much."""
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise BadMessage(415, f"content encoding {encoding!r} is neither gzip nor identity")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(body, LARGEST_UNPACKED_BYTES)
    except zlib.error as error:
        raise BadMessage(400, f"the gzip stream is damaged: {error}") from error
    if unpacker.unconsumed_tail:
        raise BadMessage(413, f"the body unpacks to more than {LARGEST_UNPACKED_BYTES} bytes")
    if not unpacker.eof:
        raise BadMessage(400, "the gzip stream is cut off")
    return found


def _decoded(message: M, body: bytes, encoding: str) -> M:
    try:
        if encoding == JSON:
            json_format.Parse(body, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise BadMessage(400, f"the body is no {type(message).__name__}: {error}") from error
    return message


def _encoded(message: Message, encoding: str) -> bytes:
    content: bytes = json_format.MessageToJson(message).encode() if encoding == JSON else message.SerializeToString()
    return content


def _plain(status: int, reason: str) -> Response:
    return Response(status, reason.encode(), "text/plain")
