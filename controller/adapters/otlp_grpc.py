"""OTLP over gRPC: the same exports, counted in the same line as those over HTTP.

Requests come as bytes: a generated stub would decode them itself, in one go, and call a malformed one INTERNAL, which
senders retry for ever. gRPC unpacks gzip and bounds a message on its own. A full line is RESOURCE_EXHAUSTED with
RetryInfo, which alone lets a sender come again.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # instances are spawned, never forked on

import grpc  # type: ignore[import-untyped]  # noqa: E402  read at import
import grpc.aio  # type: ignore[import-untyped]  # noqa: E402
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]  # noqa: E402
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: E402
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # noqa: E402
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # noqa: E402

from controller.adapters.edge_http import LOOPBACK  # noqa: E402
from controller.adapters.otlp import metrics_answer  # noqa: E402
from controller.adapters.otlp_intake import LARGEST_BODY_BYTES, Bearer, BusyError, Intake  # noqa: E402

METRICS = "opentelemetry.proto.collector.metrics.v1.MetricsService"
TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
MOST_CALLS = 96  # at once; each may hold one message, and how many wait to be counted is the intake's bound
STOP_WITHIN_S = 1.0
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_BODY_BYTES),
    ("grpc.so_reuseport", 0),  # a port that somebody has is taken, not shared
)
Export = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcReceiver:
    def __init__(self, intake: Intake, bearer: Bearer) -> None:
        self._intake = intake
        self._bearer = bearer
        self._server = grpc.aio.server(maximum_concurrent_rpcs=MOST_CALLS, options=OPTIONS)

    async def start(self, port: int) -> int:
        """The port. Raises `OSError` when it cannot be had."""
        services: dict[str, Export] = {METRICS: self._metrics, TRACES: self._traces}
        for name, export in services.items():
            method = grpc.unary_unary_rpc_method_handler(self._answering(export))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
        try:
            bound: int = self._server.add_insecure_port(f"{LOOPBACK}:{port}")
        except RuntimeError as error:
            raise OSError(None, f"gRPC cannot listen there: {error}") from error
        await self._server.start()
        return bound

    async def stop(self) -> None:
        await self._server.stop(STOP_WITHIN_S)

    def _answering(self, export: Export) -> Export:
        async def answer(body: bytes, context: Any) -> bytes:
            said = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
            if not self._bearer.lets_in(said.get("authorization", "")):
                await context.abort(
                    grpc.StatusCode.UNAUTHENTICATED, "exports need the edge's OTLP token: authorization: Bearer TOKEN"
                )
            try:
                with self._intake.place(len(body)):
                    async with self._intake.turn(len(body)):
                        return await export(body, context)
            except BusyError as busy:
                return await _come_again(context, busy)
            except DecodeError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the message is malformed: {error}")
                raise

        return answer

    async def _metrics(self, body: bytes, _: Any) -> bytes:
        answer: bytes = metrics_answer(await self._intake.metrics(body)).SerializeToString()
        return answer

    async def _traces(self, body: bytes, _: Any) -> bytes:
        await self._intake.traces(body)
        return b""


async def _come_again(context: Any, busy: BusyError) -> NoReturn:
    retry = RetryInfo()
    retry.retry_delay.seconds = busy.retry_after_s
    detail = AnyMessage()
    detail.Pack(retry)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status(code=code.value[0], message=str(busy), details=[detail])
    await context.abort(code, str(busy), (("grpc-status-details-bin", status.SerializeToString()),))
    raise busy
