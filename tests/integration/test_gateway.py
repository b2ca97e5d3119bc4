"""The gateway over real HTTP: who is let in, what is read of a request, and both revisions of the wire."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cedarpy
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import OWN, SESSION, World

from controller.adapters.mcp_client import McpTools
from controller.domain.events import Stopped
from controller.domain.ids import CONTROL, SessionId
from controller.errors import Unavailable
from controller.off_loop import OffLoop
from controller.ports import ToolResult
from tools.belt import Call, Tool
from tools.door import MAX_BODY_BYTES
from tools.gateway import Gateway, listen
from tools.toolbox import Toolbox

NEW, OLD = "2026-07-28", "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass
class Wire:
    """A plain HTTP client of one session: it can also say what no library would."""

    url: str
    token: str
    http: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(trust_env=False))

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": NEW,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "list_files",
        }

    async def post(
        self,
        body: str | bytes | None = None,
        *,
        change: dict[str, str | None] | None = None,
        extra: Sequence[tuple[str, str]] = (),
    ) -> httpx2.Response:
        """One request; `change` replaces headers or (None) leaves them out, `extra` adds to them."""
        wanted = {**self.headers, **(change or {})}
        headers = [(name, value) for name, value in wanted.items() if value is not None]
        return await self.http.post(self.url, content=body or call("list_files"), headers=[*headers, *extra])


def call(name: str, arguments: dict[str, Any] | None = None, **meta: Any) -> str:
    params = {"name": name, "arguments": arguments or {}, "_meta": {**META, **meta}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
async def gateway(world: World) -> AsyncIterator[tuple[Gateway, str]]:
    running = Gateway(world.desk, world.toolbox)
    yield running, await running.start()
    await running.stop()


@pytest.fixture
async def wire(world: World, gateway: tuple[Gateway, str]) -> AsyncIterator[Wire]:
    opened = Wire(gateway[1], world.desk.sign_in(await world.begin()))
    yield opened
    await opened.http.aclose()


async def test_a_plain_request_with_a_sessions_token_is_answered(wire: Wire) -> None:
    answer = await wire.post()
    assert answer.status_code == 200
    assert "src/cart.py" in answer.json()["result"]["content"][0]["text"]


@pytest.mark.parametrize("value", [None, "Bearer", "Bearer nobody", "Basic dTpw", "nobody"])
async def test_without_a_live_token_nothing_is_answered(wire: Wire, value: str | None) -> None:
    answer = await wire.post(change={"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="flyball"')
    assert ("invalid_token" in answer.headers["WWW-Authenticate"]) == (value in {"Bearer nobody", "Basic dTpw"})


async def test_a_token_is_worth_nothing_once_its_session_has_signed_out(world: World, wire: Wire) -> None:
    world.desk.sign_out(SESSION)
    assert (await wire.post()).status_code == 401


async def test_two_authorization_headers_are_refused(wire: Wire) -> None:
    for second in ("Bearer nobody", f"Bearer {wire.token}"):
        answer = await wire.post(extra=[("Authorization", second)])
        assert (answer.status_code, answer.json()) == (400, {"error": "header authorization stands twice"})


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Content-Type"])
async def test_a_header_that_decides_something_stands_once(wire: Wire, name: str) -> None:
    assert (await wire.post(extra=[(name, wire.headers[name])])).status_code == 400


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "text/plain"}, 400),
        ({"MCP-Protocol-Version": "2025-06-18"}, 400),
        ({"MCP-Protocol-Version": "2099-01-01"}, 400),
        ({"MCP-Protocol-Version": None}, 400),
        ({"Mcp-Name": "read_file"}, 400),
        ({"Mcp-Method": "tools/list"}, 400),
    ],
)
async def test_a_request_for_somebody_else_or_in_another_tongue_is_refused(
    wire: Wire, change: dict[str, str | None], status: int
) -> None:
    assert (await wire.post(change=change)).status_code == status


async def test_there_is_one_path_and_one_method(wire: Wire) -> None:
    for method in ("GET", "DELETE", "PUT"):
        answer = await wire.http.request(method, wire.url, headers=wire.headers)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert (await wire.http.post(wire.url + "/", headers=wire.headers)).status_code == 404


# --- what is read of a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        call("read_file", {"path": "src/cart.py"}).replace('"path"', '"path": "config/.env", "path"'),
        call("list_files").replace('"name"', '"name": "git_push", "name"'),
        call("list_files").replace('"jsonrpc"', '"id": 7, "jsonrpc"'),
    ],
)
async def test_duplicate_json_keys_are_refused(
    world: World, wire: Wire, gateway: tuple[Gateway, str], body: str
) -> None:
    answer = await wire.post(body)
    assert (answer.status_code, answer.json()) == (400, {"error": "a JSON object in the body has the same key twice"})
    assert await world.desk.turn_records(SESSION, gateway[0].turn) == ()


@pytest.mark.parametrize(
    "body",
    [
        call("read_file", {"path": "src/cart.py", "offset": float("nan")}),
        call("read_file", {"path": "src/cart.py", "offset": float("inf")}),
        "[" + call("list_files") + "]",
        '"tools/call"',
        "{",
        call("list_files").encode("utf-16"),
        b"\xff" + call("list_files").encode(),
        "[" * 100_000,
    ],
)
async def test_what_is_not_one_plain_json_object_is_refused(wire: Wire, body: str | bytes) -> None:
    assert (await wire.post(body)).status_code == 400


async def test_a_number_beyond_json_is_refused_by_the_desk(wire: Wire) -> None:
    body = call("read_file", {"path": "src/cart.py", "offset": 1}).replace('"offset": 1', '"offset": 1e999')
    answer = (await wire.post(body, change={"Mcp-Name": "read_file"})).json()["result"]
    assert answer["_meta"]["flyball/refused"] is True
    assert "numbers are whole" in answer["content"][0]["text"]


async def test_a_body_beyond_the_bound_is_not_read_to_its_end(wire: Wire) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY_BYTES // 65_536):
            yield b" " * 65_536

    answer = await wire.http.post(wire.url, content=endless(), headers=wire.headers)
    assert answer.status_code == 413


async def test_a_call_says_its_place_with_both_numbers_or_none(
    world: World, wire: Wire, gateway: tuple[Gateway, str]
) -> None:
    turn, index = "flyball/turn", "flyball/index"
    places: list[dict[str, Any]] = [
        {turn: 1},
        {index: 1},
        {turn: -1, index: 0},
        {turn: True, index: 0},
        {turn: 1.0, index: 0},
    ]
    for place in places:
        assert "whole numbers" in (await wire.post(call("list_files", **place))).json()["error"]["message"]
    here: dict[str, Any] = {turn: 4, index: 2}
    await wire.post(call("list_files", **here))
    await wire.post()
    await wire.post()
    assert [record.index for record in await world.desk.turn_records(SESSION, 4)] == [2]
    assert [record.index for record in await world.desk.turn_records(SESSION, gateway[0].turn)] == [0, 1]


# --- both revisions of the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [NEW, "auto", "legacy"])
async def test_the_official_client_lists_and_calls_on_either_revision(world: World, wire: Wire, mode: str) -> None:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {wire.token}"}, trust_env=False) as http,
        Client(streamable_http_client(wire.url, http_client=http), mode=mode) as client,
    ):
        assert client.protocol_version == (OLD if mode == "legacy" else NEW)
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == [tool.name for tool in world.toolbox.visible(world.badge())]
        assert {"read_file", "git_push"} <= {*names}
        assert not {"comment", "roll_back"} & {*names}
        told = await client.call_tool("read_file", {"path": "README.md"})
        assert told.content[0].text == "     1\tThe shop."  # type: ignore[union-attr]
        no = await client.call_tool("git_push", {"branch": "main"})
        assert (no.is_error, (no.meta or {})["flyball/refused"]) == (True, True)
    assert [event.tool for event in await world.refusals()] == ["git_push"]


async def test_a_list_is_for_its_session_only(wire: Wire) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}})
    answer = await wire.post(body, change={"Mcp-Method": "tools/list", "Mcp-Name": None})
    assert (answer.json()["result"]["cacheScope"], answer.json()["result"]["ttlMs"]) == ("private", 0)


async def test_an_older_handshake_is_answered_with_the_oldest_revision_that_is_spoken(wire: Wire) -> None:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    answer = await wire.post(body, change={"MCP-Protocol-Version": None, "Mcp-Method": None, "Mcp-Name": None})
    assert answer.status_code == 200
    assert answer.json()["result"]["protocolVersion"] == OLD


async def test_a_revision_that_nobody_here_speaks_is_refused_in_the_protocols_own_words(wire: Wire) -> None:
    answer = await wire.post(change={"MCP-Protocol-Version": "v999.0.0"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["data"] == {"supported": [NEW], "requested": "v999.0.0"}
    assert error["code"] == -32022


# --- sessions side by side, and ends ---------------------------------------------------------------------------------


async def test_sessions_that_call_at_once_stay_in_their_own_trees(world: World, gateway: tuple[Gateway, str]) -> None:
    names = [SessionId(f"shop-1a2b3c/{number}") for number in range(1, 5)]
    for name in names:
        await world.begin(name)
    tools = McpTools(gateway[1], world.desk, world.badge_for)
    belts = [await tools.belt(name, "author") for name in names]

    async def work(at: int) -> str:
        for index in range(5):
            arguments = {"path": f"src/{index}.py", "content": f"of = {at}\n"}
            await belts[at].call("write_file", arguments, turn=1, index=index)
        return (await belts[at].call("search", {"pattern": "of = "}, turn=2, index=0)).text

    found = await asyncio.gather(*(work(at) for at in range(len(belts))))
    assert found == ["\n".join(f"src/{index}.py:1: of = {at}" for index in range(5)) for at in range(len(belts))]
    for belt, name in zip(belts, names, strict=True):
        assert len(await world.desk.turn_records(name, 1)) == 5
        await belt.close()


async def test_a_gateway_that_stopped_is_unavailable_to_an_open_belt(world: World) -> None:
    gateway = Gateway(world.desk, world.toolbox)
    tools = McpTools(await gateway.start(), world.desk, world.badge_for)
    await world.begin()
    belt = await tools.belt(SESSION, "author")
    await belt.call("list_files", {}, turn=1, index=0)
    await gateway.stop()
    await gateway.stop()
    with pytest.raises(Unavailable, match="did not answer"):
        await belt.call("list_files", {}, turn=1, index=1)
    await belt.close()


async def test_a_call_that_is_never_answered_is_unavailable_after_its_time(world: World) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def never(_: Call) -> ToolResult:
        asked.set()
        await go_on.wait()
        return ToolResult("late")

    slow = Tool(world.definitions["list_files"], never)
    gateway = Gateway(world.desk, Toolbox(world.desk, [slow], result_bytes=1_000))
    await world.begin()
    tools = McpTools(await gateway.start(), world.desk, world.badge_for, call_s=0.3)
    belt = await tools.belt(SESSION, "author")
    with pytest.raises(Unavailable):
        await belt.call("list_files", {}, turn=1, index=0)
    assert asked.is_set()
    go_on.set()
    await belt.close()
    await gateway.stop()


async def test_a_port_that_is_taken_is_named(world: World, gateway: tuple[Gateway, str]) -> None:
    port = int(gateway[1].split(":")[2].split("/")[0])
    with pytest.raises(Unavailable, match=f"port {port}"):
        listen(port)


async def test_a_push_through_the_wire_stands_in_the_log_as_intent_and_outcome(world: World, wire: Wire) -> None:
    write = call("write_file", {"path": "src/new.py", "content": "x = 1\n"}, **{"flyball/turn": 1, "flyball/index": 0})
    await wire.post(write, change={"Mcp-Name": "write_file"})
    push = call("git_push", {"branch": OWN}, **{"flyball/turn": 1, "flyball/index": 1})
    answer = (await wire.post(push, change={"Mcp-Name": "git_push"})).json()["result"]
    assert answer["content"][0]["text"].startswith("Pushed ")
    assert (await world.kinds())[-2:] == ["EffectIntended", "EffectDone"]


# --- revoked, and slow ------------------------------------------------------------------------------------------------


async def listed(wire: Wire) -> list[str]:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}})
    answer = await wire.post(body, change={"Mcp-Method": "tools/list", "Mcp-Name": None})
    return [tool["name"] for tool in answer.json()["result"]["tools"]]


async def test_after_a_revocation_the_list_of_tools_is_empty_and_no_call_is_allowed(world: World, wire: Wire) -> None:
    assert "read_file" in await listed(wire)
    await world.revoke()
    assert await listed(wire) == []
    assert (await wire.post()).json()["result"]["_meta"]["flyball/refused"] is True


async def test_another_sessions_revocation_hides_nothing(world: World, wire: Wire) -> None:
    await world.revoke(SessionId("shop-9z9z9z/1"))
    assert "read_file" in await listed(wire)


async def test_a_stop_which_may_be_lifted_hides_nothing(world: World, wire: Wire) -> None:
    await world.add(CONTROL, Stopped(scope="agent:author", by="person:0123456789ab", reason="x", event_id="s"))
    assert "read_file" in await listed(wire)
    assert (await wire.post()).json()["result"]["_meta"]["flyball/refused"] is True


async def test_an_engine_that_takes_two_seconds_holds_nobody_else_up(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.post()
    world.authority.reload()  # nothing that was decided before may answer for the slow engine
    real, entered = cedarpy.is_authorized, threading.Event()

    def slow(*given: Any) -> Any:
        entered.set()
        time.sleep(2)
        return real(*given)

    monkeypatch.setattr(cedarpy, "is_authorized", slow)
    calling = asyncio.create_task(wire.post())
    longest, last = 0.0, time.monotonic()
    while not calling.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert entered.is_set()
    assert longest < 1.0
    assert (await calling).json()["result"]["isError"] is False


async def test_an_engine_that_does_not_answer_in_time_has_said_no(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.post()
    world.authority.reload()
    door = threading.Event()
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: door.wait(60))
    monkeypatch.setattr(world.desk._engine, "_runner", OffLoop(within_s=0.3))
    answer = (await wire.post()).json()["result"]
    door.set()
    assert answer["_meta"]["flyball/refused"] is True
    assert (await world.refusals())[-1].rules == ("engine-error",)
