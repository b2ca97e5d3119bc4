"""Connections that wait keep nobody out, smuggled bodies are never executed, and what is turned away leaves a trace."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import World
from facts_kit import BY

from controller.domain.events import DoorKind, DoorRefusals
from controller.domain.ids import DOOR, EffectKey, SessionId
from controller.domain.verbs import Tell, Told, Verb
from controller.errors import Unavailable
from controller.metrics.conventions import DOOR_KIND
from controller.metrics.doors import turned_away_since
from controller.metrics.figures import Figures
from tools import gateway as gateway_module
from tools import wire
from tools.door import MAX_AT_ONCE
from tools.gateway import Gateway
from tools.refusals import CAMPAIGN, Refusals, telling

AMPLE_S = 60.0
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
LIST = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "list_files", "arguments": {}, "_meta": META},
    }
)


@dataclass
class Door:
    """A gateway, and somebody who speaks bytes to it."""

    world: World
    gateway: Gateway
    refusals: Refusals
    token: str
    told: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.gateway.address.local.rpartition(":")[2])

    def head(self, *more: str, token: str | None = None, path: str = "/mcp") -> bytes:
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {token or self.token}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            "Mcp-Name: list_files",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def said(self, content: bytes) -> bytes:
        """Everything that is answered until the other side closes."""
        reader, writer = await self.connected()
        writer.write(content)
        async with asyncio.timeout(AMPLE_S):
            answer = await reader.read()
        writer.close()
        return answer

    async def call(self) -> int:
        async with httpx2.AsyncClient(trust_env=False, timeout=AMPLE_S) as http:
            headers = dict(line.split(": ", 1) for line in self.head().decode().split("\r\n")[1:] if line)
            url = f"{self.gateway.address.local}/mcp"
            return (await http.post(url, content=LIST, headers=headers)).status_code

    async def counted(self) -> dict[DoorKind, int]:
        await self.refusals.write_down()
        found = [entry.event for entry in await self.world.log.read(DOOR)]
        return {one.kind: one.count for one in found[-1].counts} if isinstance(found[-1], DoorRefusals) else {}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    world, told = World(tmp_path), list[str]()

    async def tell(_: int, words: str) -> None:
        told.append(words)

    refusals = Refusals(world.log, world.clock, BY, tell)
    running = Gateway(world.desk, world.toolbox, refusals=refusals)
    await running.start()
    yield Door(world, running, refusals, world.desk.sign_in(await world.begin()), told)
    await running.stop()


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_a_thousand_half_open_connections_keep_nobody_out(door: Door) -> None:
    opened = []
    for _ in range(gateway_module.MAX_CONNECTIONS + 50):
        reader, writer = await door.connected()
        writer.write(b"POST /mcp HTTP/1.1\r\nHost: x\r\n")
        opened.append((reader, writer))
    assert [await door.call() for _ in range(3)] == [200, 200, 200]
    for _, writer in opened:
        writer.close()
    assert (await door.counted())[DoorKind.CROWDED] >= 50


async def test_who_is_being_served_is_not_sent_away_for_newcomers(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.gateway._server.config.http_protocol_class, "house", House_with(door, 3))  # type: ignore[union-attr]
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(*_: object, **__: object) -> object:
        entered.set()
        await leave.wait()
        return []

    monkeypatch.setattr(door.world.desk, "listed", slow)
    listing = LIST.replace("tools/call", "tools/list").replace('"name": "list_files", "arguments": {}, ', "")
    reader, writer = await door.connected()
    head = door.head(f"Content-Length: {len(listing)}", "Connection: close").replace(b"tools/call", b"tools/list")
    writer.write(head.replace(b"Mcp-Name: list_files\r\n", b"") + listing.encode())
    await asyncio.wait_for(entered.wait(), AMPLE_S)
    half = [await door.connected() for _ in range(10)]
    leave.set()
    answer = await asyncio.wait_for(reader.read(), AMPLE_S)
    assert answer.startswith(b"HTTP/1.1 200")
    for _, one in [*half, (reader, writer)]:
        one.close()


def House_with(door: Door, most: int) -> wire.House:  # noqa: N802 - reads as the class
    return wire.House(door.refusals.note, most, ("/git/",))


@pytest.mark.parametrize("sent", [b"", b"POST /mcp HTTP/1.1\r\nHost: x\r\n"])
async def test_headers_that_do_not_come_end_the_connection(
    door: Door, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.2)
    assert await door.said(sent) == b""
    assert await door.call() == 200
    assert (await door.counted())[DoorKind.SLOW] == 1


async def test_headers_that_trickle_gain_no_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.5)
    reader, writer = await door.connected()
    ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(AMPLE_S):
        while not ended.done():
            writer.write(b"G")
            await asyncio.wait({ended}, timeout=0.02)
    assert ended.result() == b""
    writer.close()


async def test_a_body_that_does_not_come_ends_the_connection(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_S", 0.2)
    assert b"200" not in await door.said(door.head("Content-Length: 100") + b"{")
    assert (await door.counted())[DoorKind.SLOW] == 1


async def test_the_rest_of_a_refused_body_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER_S", 0.2)
    answer = await door.said(door.head("Content-Length: 100", token="nobody") + b"{")  # noqa: S106 - nobody has it
    assert answer.startswith(b"HTTP/1.1 401")


async def test_a_connection_between_two_requests_is_kept(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.2)
    reader, writer = await door.connected()
    for _ in range(2):
        writer.write(door.head(f"Content-Length: {len(LIST)}") + LIST.encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), AMPLE_S)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b"src/cart.py" in await reader.readexactly(length)
        await asyncio.sleep(0.4)  # twice the bound on headers, which an idle connection is not held to
    writer.close()


async def test_one_session_never_fills_the_server(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    other = door.world.desk.sign_in(await door.world.begin(SessionId("shop-4d5e6f/1")))
    half = []
    for _ in range(MAX_AT_ONCE):
        reader, writer = await door.connected()
        writer.write(door.head("Content-Length: 100") + b"{")
        half.append((reader, writer))
    under_way = until_at(door)
    await until(lambda: under_way() >= MAX_AT_ONCE)
    assert await door.call() == 429
    door.token = other
    assert await door.call() == 200
    for _, writer in half:
        writer.close()


def until_at(door: Door) -> Callable[[], int]:
    strict = door.gateway._server.config.loaded_app  # type: ignore[union-attr]
    while not hasattr(strict, "_under_way"):
        strict = strict._app if hasattr(strict, "_app") else strict.app
    return lambda: max(strict._under_way.values(), default=0)


# --- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp", "/token", "/git/shop.git/git-upload-pack", "/nothing"])
async def test_a_length_beside_chunks_is_refused_and_the_connection_closed(door: Door, path: str) -> None:
    chunk = f"{len(LIST):x}\r\n{LIST}\r\n0\r\n\r\n".encode()
    both = door.head(f"Content-Length: {len(chunk)}", "Transfer-Encoding: chunked", path=path) + chunk
    second = door.head(f"Content-Length: {len(LIST)}", "Connection: close") + LIST.encode()
    answer = await door.said(both + second)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()
    assert await door.counted() == {DoorKind.FRAMING: 1}
    assert await door.world.refusals() == []


async def test_chunks_without_a_length_are_one_request(door: Door) -> None:
    chunk = f"{len(LIST):x}\r\n{LIST}\r\n0\r\n\r\n".encode()
    answer = await door.said(door.head("Transfer-Encoding: chunked", "Connection: close") + chunk)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"src/cart.py" in answer


# --- counted ----------------------------------------------------------------------------------------------------------


async def test_a_campaign_of_guessing_is_one_entry_a_window_and_one_message(door: Door) -> None:
    guess = door.head("Content-Length: 0", "Connection: close", token="guess-no-secret-words")  # noqa: S106 - nobody has it
    for _ in range(CAMPAIGN):
        assert (await door.said(guess)).startswith(b"HTTP/1.1 401")
    assert await door.counted() == {DoorKind.WRONG_TOKEN: CAMPAIGN}
    for _ in range(CAMPAIGN):
        await door.said(guess)
    assert await door.counted() == {DoorKind.WRONG_TOKEN: CAMPAIGN}
    entries = await door.world.log.read(DOOR)
    assert len(entries) == 2
    assert len(door.told) == 1
    assert f"{CAMPAIGN} requests (wrong-token)" in door.told[0]
    assert all(b"no-secret-words" not in entry.leaf for entry in entries)


async def test_each_kind_is_counted_as_what_it_is_and_a_call_that_is_served_as_nothing(door: Door) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        url = door.gateway.address.local
        await http.post(f"{url}/mcp")
        await http.post(f"{url}/mcp", headers={"Authorization": "Bearer nobody"})
        await http.post(f"{url}/mcp", headers={"Host": "evil.example"})
        await http.post(f"{url}/mcp", headers={"Origin": "https://evil.example"})
        await http.get(f"{url}/admin")
        await http.post(f"{url}/mcp", headers={"Authorization": f"Bearer {door.token}"}, content=b"[")
    assert await door.call() == 200
    assert (await door.said(b"SSH-2.0-x\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert await door.counted() == {
        DoorKind.NO_TOKEN: 1,
        DoorKind.WRONG_TOKEN: 1,
        DoorKind.WRONG_HOST: 2,
        DoorKind.NO_ROUTE: 1,
        DoorKind.MALFORMED: 1,
        DoorKind.FRAMING: 1,
    }
    assert door.told == []


async def test_where_nothing_is_refused_nothing_is_written(door: Door) -> None:
    assert await door.call() == 200
    await door.refusals.write_down()
    assert await door.world.log.read(DOOR) == []


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(AMPLE_S):
        while not holds():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


async def test_counts_that_the_log_does_not_take_are_told_the_next_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> object:
        raise Unavailable("the disk is full")

    for _ in range(CAMPAIGN):
        door.refusals.note(DoorKind.FRAMING)
    with monkeypatch.context() as broken:
        broken.setattr(door.world.log, "append", full)
        await door.refusals.write_down()
    assert await door.world.log.read(DOOR) == []
    assert door.told == []
    assert await door.counted() == {DoorKind.FRAMING: CAMPAIGN}
    assert len(door.told) == 1


async def test_a_campaign_after_a_quiet_time_is_another_one(door: Door) -> None:
    for pause_s, told in ((0, 1), (599, 1), (600, 2)):
        door.world.clock.at += timedelta(seconds=pause_s)
        for _ in range(CAMPAIGN):
            door.refusals.note(DoorKind.WRONG_TOKEN)
        await door.refusals.write_down()
        assert len(door.told) == told, pause_s


@pytest.mark.parametrize(("kind", "count"), [(DoorKind.WRONG_TOKEN, CAMPAIGN - 1), (DoorKind.NO_TOKEN, 10 * CAMPAIGN)])
async def test_a_few_and_those_who_only_ask_where_tokens_come_from_are_no_campaign(
    door: Door, kind: DoorKind, count: int
) -> None:
    for _ in range(count):
        door.refusals.note(kind)
    assert await door.counted() == {kind: count}
    assert door.told == []


async def test_whoever_is_on_call_is_told_by_an_effect_like_every_other(door: Door) -> None:
    told: list[Tell] = []

    class Chat:
        async def act(self, _: EffectKey, verb: Verb) -> Told:
            assert isinstance(verb, Tell)
            told.append(verb)
            return Told(message="1")

        async def find(self, _: EffectKey, __: Verb) -> None: ...

    door.world.gate._hands = {"chat": Chat()}
    door.refusals._tell = telling(door.world.gate)
    for _ in range(2):
        for _ in range(CAMPAIGN):
            door.refusals.note(DoorKind.FRAMING)
        await door.refusals.write_down()
    assert [(one.to, f"{CAMPAIGN} requests (framing)" in one.text) for one in told] == [("on-call", True)]
    assert (await door.world.kinds()).count("EffectDone") == 1


async def test_people_see_the_last_days_counts(door: Door) -> None:
    clock = door.world.clock
    door.refusals.note(DoorKind.NO_ROUTE)
    await door.refusals.write_down()
    clock.at += timedelta(hours=25)
    door.refusals.note(DoorKind.SLOW)
    await door.refusals.write_down()
    assert await turned_away_since(door.world.log, clock.now() - timedelta(days=1)) == {"slow": 1}
    figures = Figures()
    async for entry in door.world.log.scan():
        figures.take(entry)
    counted = {point.attributes[DOOR_KIND]: point.value for point in figures.points(clock.now())}
    assert counted == {"no-route": 1, "slow": 1}
