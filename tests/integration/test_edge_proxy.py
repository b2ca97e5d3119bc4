"""The weighted proxy between real sockets: what it hands on, what it counts, and what it refuses to guess."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.adapters.edge_http import LOOPBACK, Conversations, Head, copy_body, read_head
from controller.adapters.edge_proxy import Proxy
from controller.adapters.edge_routes import Routes, arm_of, draw
from controller.adapters.otlp_counts import ServiceCounts, Tally

OLD, NEW = "1" * 40, "2" * 40
Answers = Callable[[Head, StreamReader, StreamWriter], Awaitable[bool]]


@dataclass
class Instance:
    """A server whose every answer a test writes."""

    name: str
    answers: Answers
    port: int = 0
    serving: bool = True
    heads: list[Head] = field(default_factory=list)
    conversations: Conversations = field(default_factory=Conversations)

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.port)

    async def talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with self.conversations.one(writer):
            while (head := await read_head(reader)) is not None:
                self.heads.append(head)
                if not await self.answers(head, reader, writer):
                    break


def says(text: str, status: int = 200) -> Answers:
    async def answer(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        length = int(head.get(b"content-length") or 0)
        await reader.readexactly(length)
        body = "" if head.first.startswith(b"HEAD") else text
        writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: {len(text)}\r\nx-own: yes\r\n\r\n{body}".encode())
        return True

    return answer


@dataclass
class World:
    proxy: Proxy
    port: int
    now: int = 1_790_000_000_000

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status, and everything after the status line."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        writer.write(request)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(answer[9:12]), answer.partition(b"\r\n")[2]

    async def get(self, path: str = "/", **fields: str) -> tuple[int, bytes]:
        told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return await self.ask(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{told}\r\n".encode())

    def counted(self, version: str) -> tuple[int, int]:
        found = self.proxy.counts.versions.get(version)
        tally = found.total if found else Tally()
        return tally.requests, tally.errors


@asynccontextmanager
async def running(
    old: Answers, new: Answers | None = None, weight: int = 0, until_ms: int | None = None
) -> AsyncIterator[World]:
    world = World(Proxy(ServiceCounts(), "/health", lambda: world.now), 0)
    public = await world.proxy.listen(0)
    world.port = public.sockets[0].getsockname()[1]
    servers, arms, instances = [public], [], []
    for version, answers in ((OLD, old), (NEW, new)):
        if answers is None:
            continue
        instance = Instance(version[:3], answers)
        server = await asyncio.start_server(instance.talk, LOOPBACK, 0)
        instance.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        instances.append(instance)
        arms.append(arm_of(version, 1 if version == OLD else 2, [instance]))
    world.proxy.routes = Routes(arms[0], arms[1] if len(arms) > 1 else None, weight, until_ms)
    try:
        yield world
    finally:
        for server in servers:
            server.close()
        for arm in arms:
            for upstream in arm.upstreams:
                upstream.close()
        await world.proxy.close()
        for instance in instances:
            await instance.conversations.end()


async def test_weight_is_the_share_of_traces() -> None:
    async with running(says("old"), says("new"), 30) as world:
        for number in range(400):
            await world.get(traceparent=f"00-{number:032x}-{1:016x}-01")
        (old, _), (new, _) = world.counted(OLD), world.counted(NEW)
    assert old + new == 400
    assert 85 < new < 155  # 30 % of 400 within four standard deviations


async def test_one_trace_sees_one_version_and_the_next_release_draws_anew() -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert draw(trace, 2) == draw(trace.replace(b"b7ad", b"ffff"), 2)
    assert draw(trace, 2) != draw(trace, 3)
    async with running(says("old"), says("new"), 50) as world:
        answers = {await world.get(traceparent=trace.decode()) for _ in range(10)}
    assert len(answers) == 1


async def test_expired_weight_is_worth_nothing_before_anybody_notices() -> None:
    async with running(says("old"), says("new"), 100, until_ms=1_790_000_001_000) as world:
        assert (await world.get())[1].endswith(b"new")
        world.now = 1_790_000_001_000
        assert (await world.get())[1].endswith(b"old")


async def test_traceparent_goes_on_and_fields_of_one_connection_do_not() -> None:
    async with running(says("old")) as world:
        await world.get(traceparent="00-1-2-01", **{"x-mine": "kept", "te": "trailers"})
        arm = world.proxy.routes.confirmed
        assert arm is not None
        (head,) = arm.upstreams[0].target.heads  # type: ignore[attr-defined]
        assert (head.get(b"traceparent"), head.get(b"x-mine")) == (b"00-1-2-01", b"kept")
        assert (head.get(b"te"), head.get(b"connection")) == (None, None)


async def test_health_checks_are_no_user_requests() -> None:
    async with running(says("old")) as world:
        await world.get("/health")
        await world.get("/")
        assert world.counted(OLD) == (1, 0)


async def test_failed_answers_pass_through_and_are_counted() -> None:
    async with running(says("broken", 500)) as world:
        status, rest = await world.get()
        assert (status, b"x-own: yes" in rest, b"x-flyball-edge" in rest) == (500, True, False)
        assert world.counted(OLD) == (1, 1)


async def test_small_and_large_bodies_arrive_whole() -> None:
    async def counts(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        size = 0

        async def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)

        length = head.get(b"content-length")
        await copy_body(reader, int(length) if length else -1, take, frame=False)
        text = str(size).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
        return True

    async with running(counts) as world:
        for size in (10, 300_000):
            head = f"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
            assert (await world.ask(head + b"a" * size))[1].endswith(str(size).encode())
        head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        chunked = head + b"5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\nt: t\r\n\r\n"
        assert (await world.ask(chunked))[1].endswith(b"8")


async def test_answers_without_length_are_framed_for_each_client() -> None:
    async def until_close(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()
        return False

    async with running(until_close) as world:
        assert b"transfer-encoding: chunked" in (await world.get())[1]
        status, rest = await world.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (status, rest.endswith(b"\r\n\r\nall of it"), b"chunked" in rest) == (200, True, False)


async def test_answer_to_head_has_a_length_and_no_body() -> None:
    async with running(says("twelve bytes")) as world:
        _, rest = await world.ask(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"content-length: 12" in rest
        assert rest.endswith(b"\r\n\r\n")


async def test_connection_is_kept_on_both_sides() -> None:
    connections = 0

    async def answers(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        return await says("x")(head, reader, writer)

    async with running(answers) as world:
        reader, writer = await asyncio.open_connection(LOOPBACK, world.port)
        for _ in range(5):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await read_head(reader)
            assert head is not None
            await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()
        arm = world.proxy.routes.confirmed
        assert arm is not None
        connections = len(arm.upstreams[0].idle)
    assert connections == 1


async def test_instance_that_dies_in_the_middle_of_an_answer_has_failed() -> None:
    async def cut(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        return False

    async with running(cut) as world:
        assert (await world.get())[1].endswith(b"half")
        assert world.counted(OLD) == (1, 1)


async def test_kept_connection_that_has_died_is_replaced_for_reads_and_not_for_writes() -> None:
    async def once(head: Head, reader: StreamReader, writer: StreamWriter) -> bool:
        """Answers the first request of a connection, and dies under the second."""
        if getattr(writer, "used", False):
            writer.transport.abort()
            return False
        writer.used = True  # type: ignore[attr-defined]
        return await says("x")(head, reader, writer)

    async with running(once) as world:
        assert [(await world.get())[0] for _ in range(2)] == [200, 200]
        status, rest = await world.ask(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        assert (status, b"x-flyball-edge: closed" in rest) == (502, True)


async def test_unreachable_canary_costs_its_users_nothing() -> None:
    async with running(says("old"), says("new"), 100) as world:
        canary = world.proxy.routes.canary
        assert canary is not None
        canary.upstreams[0].target.port = 1  # type: ignore[misc]
        status, rest = await world.ask(
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        )
        assert (status, rest.endswith(b"old")) == (200, True)
        assert (world.counted(NEW), world.counted(OLD), world.proxy.seen["second-chance"]) == ((1, 1), (0, 0), 1)


async def test_nothing_deployed_is_said_so() -> None:
    async with running(says("old")) as world:
        world.proxy.routes = Routes()
        status, rest = await world.get()
        assert (status, b"x-flyball-edge: nothing-deployed" in rest) == (503, True)


SMUGGLED = {
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and chunks": b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nx: a\r\n b: c\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\ncontent-length : 1\r\n\r\na",
    "bare newline": b"GET / HTTP/1.1\r\nx: a\ncontent-length: 5\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
}


@pytest.mark.parametrize("name", sorted(SMUGGLED))
async def test_request_without_one_certain_end_is_refused(name: str) -> None:
    async with running(says("old")) as world:
        status, rest = await world.ask(SMUGGLED[name])
        assert (status, b"x-flyball-edge: malformed" in rest) == (400, True)
        assert world.counted(OLD)[0] == 0


async def test_chunk_of_uncertain_size_ends_the_connection() -> None:
    async with running(says("old")) as world:
        reader, writer = await asyncio.open_connection(LOOPBACK, world.port)
        writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert world.counted(OLD) == (0, 0)


async def test_head_beyond_the_limit_is_refused() -> None:
    async with running(says("old")) as world:
        assert (await world.get(x="y" * 40_000))[0] == 431
