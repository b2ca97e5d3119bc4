"""The public port of a service: every request goes to one version by weight, and is counted for it.

A connection that is refused has carried nothing: the canary gets the error, and the confirmed version one chance to
answer. A kept connection that dies before the first byte of an answer is replaced once, for idempotent methods only.
Answers that the proxy gives on its own carry `x-flyball-edge` with the cause. Each logical request is counted once, for
the version that the draw gave it; a second chance is counted apart. A caller that asks with `x-flyball-ask-version` is
told in `x-flyball-version` which version answered, so that its own metrics can name it.
"""

from __future__ import annotations

import asyncio
import json
import time
from asyncio import LimitOverrunError, StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from controller.adapters.edge_exchange import (
    ClientGoneError,
    CutOffError,
    Exchange,
    Unanswered,
    ask,
    hand_back,
    read_exchange,
)
from controller.adapters.edge_http import LARGEST_HEAD_BYTES, LOOPBACK, BadMessage, Conversations, Head, linger, phrase
from controller.adapters.edge_routes import Arm, Link, Routes, Upstream
from controller.adapters.otlp_counts import ServiceCounts, latency_bucket

MOST_CLIENTS = 512
IDLE_S = 75  # a client's kept connection
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
BAD_GATEWAY = 502
SERVER_ERROR = 500
PROBE_FIELD = b"x-flyball-probe"
ASK_FIELD, VERSION_FIELD = b"x-flyball-ask-version", b"x-flyball-version"


class Proxy:
    """Listens on one public port. `routes` is swapped whole by whoever decides where traffic goes."""

    def __init__(self, counts: ServiceCounts, health: str, now_ms: Callable[[], int]) -> None:
        self.routes = Routes()
        self.counts = counts
        self.seen = Counter[str]()  # second chances and the proxy's own answers, by cause
        self._health = health.encode()  # asked for by machines: no user request, and not counted
        self._now_ms = now_ms
        self._clients = Conversations()

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._client, LOOPBACK, port, limit=LARGEST_HEAD_BYTES)

    async def close(self) -> None:
        await self._clients.end()

    async def _client(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with self._clients.one(writer):
            if len(self._clients) > MOST_CLIENTS:
                writer.write(self._own(503, "too-many-clients", keep=False))
                return
            with suppress(ClientGoneError, CutOffError):  # the connection ends; what was due has been counted
                while await self._one(reader, writer):
                    pass

    async def _one(self, reader: StreamReader, writer: StreamWriter) -> bool:
        """Whether the client's connection may carry another request."""
        try:
            exchange = await read_exchange(reader, writer, IDLE_S)
        except (BadMessage, LimitOverrunError) as error:
            writer.write(self._own(error.status if isinstance(error, BadMessage) else 400, "malformed", keep=False))
            await linger(reader, writer)
            return False
        return exchange is not None and await self._serve(exchange)

    async def _serve(self, exchange: Exchange) -> bool:
        routes = self.routes
        arm = routes.choose(exchange.head.get(b"traceparent"), self._now_ms())
        if arm is None:
            return await self._own_answer(exchange, 503, "nothing-deployed")
        upstream = arm.pick()
        if upstream is None:
            self._count(arm, "none", exchange, None, 0)
            return await self._own_answer(exchange, 503, "overloaded")
        began = time.perf_counter()
        try:
            status, keep = await _through(arm, upstream, exchange)
        except CutOffError:
            self._count(arm, upstream.target.name, exchange, None, began)
            raise
        except Unanswered as failure:
            self._count(arm, upstream.target.name, exchange, None, began)
            return await self._after(failure, routes.confirmed if arm is routes.canary else None, exchange)
        self._count(arm, upstream.target.name, exchange, status, began)
        return keep

    async def _after(self, failure: Unanswered, other: Arm | None, exchange: Exchange) -> bool:
        """The confirmed version answers for a canary that could not be reached. `other=None`: it was no canary."""
        upstream = None if other is None or failure.sent else other.pick()
        if other is None or upstream is None:
            return await self._own_answer(exchange, failure.status, str(failure))
        self.seen["second-chance"] += 1
        try:
            return (await _through(other, upstream, exchange))[1]
        except Unanswered as again:
            return await self._own_answer(exchange, again.status, str(again))

    def _count(self, arm: Arm, instance: str, exchange: Exchange, status: int | None, began: float) -> None:
        """`status=None`: no whole answer, so no latency either."""
        if exchange.target == self._health:
            return
        failed = status is None or status >= SERVER_ERROR
        latency = {} if status is None else {latency_bucket((time.perf_counter() - began) * 1000): 1}
        self.counts.add(
            arm.version,
            instance,
            self._now_ms(),
            requests=1,
            errors=int(failed),
            latency=latency,
            probes=int(exchange.head.get(PROBE_FIELD) is not None),
        )

    async def _own_answer(self, exchange: Exchange, status: int, cause: str) -> bool:
        """A body that still streams in cannot be skipped in bounded time: the connection ends then."""
        keep = exchange.keep and exchange.held is not None
        await exchange.write(self._own(status, cause, keep=keep))
        return keep

    def _own(self, status: int, cause: str, *, keep: bool) -> bytes:
        self.seen[cause] += 1
        body = json.dumps({"error": cause, "by": "flyball-edge"}).encode()
        kept = "" if keep else "connection: close\r\n"
        head = (
            f"HTTP/1.1 {status} {phrase(status)}\r\nx-flyball-edge: {cause}\r\ncontent-type: application/json\r\n{kept}"
        )
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _through(arm: Arm, upstream: Upstream, exchange: Exchange) -> tuple[int, bool]:
    """Status, and whether the client's connection may be kept."""
    if exchange.head.get(ASK_FIELD) is not None:
        exchange.tell = b"%b: %b" % (VERSION_FIELD, arm.version.encode())
    upstream.in_flight += 1
    try:
        link, head = await _asked(upstream, exchange)
        try:
            status, reusable, keep = await hand_back(link, head, exchange)
        except BaseException:
            link.close()
            raise
        if reusable:
            upstream.keep(link)
        else:
            link.close()
        return status, keep
    finally:
        upstream.in_flight -= 1


async def _asked(upstream: Upstream, exchange: Exchange) -> tuple[Link, Head]:
    link = await _linked(upstream, fresh=False, sent=False)
    try:
        return link, await ask(link, exchange)
    except Unanswered as failure:
        repeatable = exchange.held is not None and exchange.method in IDEMPOTENT
        if link.fresh or failure.status != BAD_GATEWAY or not repeatable:
            raise
    link = await _linked(upstream, fresh=True, sent=True)
    return link, await ask(link, exchange)


async def _linked(upstream: Upstream, *, fresh: bool, sent: bool) -> Link:
    try:
        return await upstream.link(fresh=fresh)
    except OSError as error:
        raise Unanswered(BAD_GATEWAY, "refused", sent=sent) from error
