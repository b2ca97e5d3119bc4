"""OTLP over HTTP: metrics and traces, protobuf or JSON, plain or gzip, answered as the specification asks.

A sender may retry on 429 and 503 only, so what can never be counted is answered 200 with `partial_success`, and what
cannot be read 400, 413 or 415, with a `Status` that says why. Overload is 503: it is the receiver that is full, not one
sender that sends too much. Who may send and whether there is room is asked before the body is read.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from controller.adapters.edge_http import BadMessage, Head, Request, Response, SmallServer, body_length
from controller.adapters.otlp_intake import LARGEST_BODY_BYTES, LARGEST_UNPACKED_BYTES, Bearer, BusyError, Intake
from controller.adapters.otlp_wanted import Rejected

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
PATHS = frozenset({"/v1/metrics", "/v1/traces"})
ASIDE_BYTES = 64 << 10  # larger bodies are unpacked by another thread
MOST_AT_ONCE = 128  # conversations; how many exports wait is the intake's bound

M = TypeVar("M", bound=Message)


def otlp_server(intake: Intake, bearer: Bearer, *, most_at_once: int = MOST_AT_ONCE) -> SmallServer:
    receiver = Receiver(intake, bearer)
    return SmallServer(
        receiver.handle, most_body_bytes=LARGEST_BODY_BYTES, most_at_once=most_at_once, admit=receiver.admit
    )


class Receiver:
    def __init__(self, intake: Intake, bearer: Bearer) -> None:
        self._intake = intake
        self._bearer = bearer

    @contextmanager
    def admit(self, head: Head) -> Iterator[None]:
        """Around reading the body and `handle`. Raises `BadMessage`."""
        said = (head.get(b"authorization") or b"").decode("latin-1")
        if not self._bearer.lets_in(said):
            raise BadMessage(401, "exports need the edge's OTLP token: authorization: Bearer TOKEN")
        length = body_length(head, when_absent=0)
        size = length if 0 <= length <= LARGEST_BODY_BYTES else LARGEST_BODY_BYTES
        try:
            with self._intake.place(size):
                yield
        except BusyError as busy:
            raise BadMessage(503, str(busy), retry_after_s=busy.retry_after_s) from busy

    async def handle(self, request: Request) -> Response:
        encoding = request.field("content-type").partition(";")[0].strip().lower()
        try:
            _check_form(request, encoding)
            async with self._intake.turn(len(request.body)):
                body = await unpacked_aside(request.body, request.field("content-encoding").lower())
                count = self._metrics if request.path == "/v1/metrics" else self._traces
                answer = await count(body, encoding)
        except BadMessage as error:
            return _refusal(error, encoding)
        return Response(200, _encoded(answer, encoding), encoding)

    async def _metrics(self, body: bytes, encoding: str) -> Message:
        content, trace_id = await _protobuf(ExportMetricsServiceRequest(), body, encoding)
        try:
            return metrics_answer(await self._intake.metrics(content, trace_id))
        except DecodeError as error:
            raise BadMessage(400, f"the body is no ExportMetricsServiceRequest: {error}") from error

    async def _traces(self, body: bytes, encoding: str) -> Message:
        content, trace_id = await _protobuf(ExportTraceServiceRequest(), body, encoding)
        try:
            await self._intake.traces(content, trace_id)
        except DecodeError as error:
            raise BadMessage(400, f"the body is no ExportTraceServiceRequest: {error}") from error
        return ExportTraceServiceResponse()


def metrics_answer(rejected: Rejected) -> ExportMetricsServiceResponse:
    answer = ExportMetricsServiceResponse()
    if rejected.points:
        answer.partial_success.rejected_data_points = rejected.points
        answer.partial_success.error_message = rejected.message
    return answer


def _check_form(request: Request, encoding: str) -> None:
    if request.path not in PATHS:
        raise BadMessage(404, "exports go to /v1/metrics and /v1/traces")
    if request.method != "POST":
        raise BadMessage(405, "exports are sent by POST")
    if encoding not in {PROTOBUF, JSON}:
        raise BadMessage(415, f"content type {encoding!r} is neither {PROTOBUF} nor {JSON}")


async def unpacked_aside(body: bytes, encoding: str) -> bytes:
    """Large ones by another thread: zlib lets the loop run meanwhile."""
    return await asyncio.to_thread(unpacked, body, encoding) if len(body) > ASIDE_BYTES else unpacked(body, encoding)


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


async def _protobuf(message: M, body: bytes, encoding: str) -> tuple[bytes, Callable[[bytes], str]]:
    """As protobuf, and how trace ids are spelled in it."""
    if encoding != JSON:
        return body, bytes.hex
    return await asyncio.to_thread(_from_json, message, body), _hex_read_as_base64


def _from_json(message: M, body: bytes) -> bytes:
    try:
        json_format.Parse(body, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(400, f"the body is no {type(message).__name__}: {error}") from error
    content: bytes = message.SerializeToString()
    return content


def _hex_read_as_base64(value: bytes) -> str:
    """OTLP's JSON spells ids in hex where protobuf's JSON expects base64: encoding again gives the hex back."""
    return base64.b64encode(value).decode()


def _encoded(message: Any, encoding: str) -> bytes:
    content: bytes = json_format.MessageToJson(message).encode() if encoding == JSON else message.SerializeToString()
    return content


def _refusal(error: BadMessage, encoding: str) -> Response:
    if encoding not in {PROTOBUF, JSON}:
        return Response(error.status, str(error).encode(), "text/plain")
    return Response(error.status, _encoded(Status(message=str(error)), encoding), encoding)
