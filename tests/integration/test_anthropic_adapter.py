"""The real client, over real HTTP, against the scripted server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from controller.adapters.anthropic_ import AnthropicModel
from controller.adapters.scripted_book import ScriptBook, ScriptedTurn, ToolCall, TurnsScript
from controller.adapters.scripted_messages import Fault, ScriptedServer
from controller.domain.events import Label
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ports import ModelReply, ModelRequest, ToolSpec

KEY = "a-key-that-opens-nothing"
LISTING = ToolSpec("list_files", "Lists files.", {"type": "object", "properties": {"pattern": {"type": "string"}}})
LOOK = ScriptedTurn(text="I look → first.", calls=(ToolCall(tool="list_files", arguments={"pattern": "ä*"}),))
BOOK = ScriptBook(scripts=(TurnsScript(match="look around", turns=(LOOK,), summary="There is nothing to do."),))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(BOOK, api_key=KEY)
    yield server
    server.stop()


@pytest.fixture
async def model(server: ScriptedServer) -> AsyncIterator[AnthropicModel]:
    model = AnthropicModel(KEY, base_url=server.start(), stall_s=0.3, label=Label.SCRIPTED)
    yield model
    await model.close()


def asking(
    *messages: dict[str, Any], first: str = "Please look around.", model: str = "claude-sonnet-5-5"
) -> ModelRequest:
    return ModelRequest(
        model=model,
        system="You are careful.",
        messages=[{"role": "user", "content": [{"type": "text", "text": first}]}, *messages],
        tools=[LISTING],
        max_tokens=1_000,
        session="shop-1/1",
        turn=0,
    )


def answering(reply: ModelReply, results: Sequence[str]) -> list[dict[str, Any]]:
    calls = [block for block in reply.content if block["type"] == "tool_use"]
    answers = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": result}
        for call, result in zip(calls, results, strict=True)
    ]
    return [{"role": "assistant", "content": list(reply.content)}, {"role": "user", "content": answers}]


async def test_reply_arrives_whole_and_can_be_sent_back(model: AnthropicModel) -> None:
    reply = await model.reply(asking())
    text, call = reply.content
    assert text == {"type": "text", "text": "I look → first."}
    assert (call["name"], call["input"]) == ("list_files", {"pattern": "ä*"})
    assert reply.stop_reason == "tool_use"
    last = await model.reply(asking(*answering(reply, ["README.md"])))
    assert [block["text"] for block in last.content] == ["There is nothing to do."]
    assert last.stop_reason == "end_turn"


async def test_second_call_reads_what_the_first_one_cached(model: AnthropicModel, server: ScriptedServer) -> None:
    first = await model.reply(asking())
    second = await model.reply(asking(*answering(first, ["README.md"])))
    assert first.usage.cache_read_tokens == 0
    assert second.usage.cache_read_tokens == first.usage.cache_write_tokens > 0
    assert second.usage.output_tokens > 0
    assert server.requests[0]["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert server.requests[0]["cache_control"] == {"type": "ephemeral"}


async def test_scripted_reply_never_passes_for_a_live_one(server: ScriptedServer) -> None:
    model = AnthropicModel(KEY, base_url=server.start())
    reply = await model.reply(asking())
    assert model.label is Label.LIVE
    assert reply.label is Label.SCRIPTED
    await model.close()


async def test_restarted_server_goes_on_in_the_middle(server: ScriptedServer, model: AnthropicModel) -> None:
    first = await model.reply(asking())
    other = ScriptedServer(BOOK)
    resumed = AnthropicModel(KEY, base_url=other.start(), label=Label.SCRIPTED)
    last = await resumed.reply(asking(*answering(first, ["README.md"])))
    await resumed.close()
    other.stop()
    assert last.stop_reason == "end_turn"


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.OVERLOADED])
async def test_rejected_call_is_made_again_by_the_client(
    model: AnthropicModel, server: ScriptedServer, fault: Fault
) -> None:
    reply = await model.reply(asking(first=f"Please look around. [[fault:{fault}]]"))
    assert reply.stop_reason == "tool_use"
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.CUT, Fault.BROKEN_OFF, Fault.INVALID_JSON])
async def test_reply_that_breaks_off_is_unavailable_and_not_asked_for_twice(
    model: AnthropicModel, server: ScriptedServer, fault: Fault
) -> None:
    server.inject(fault)
    with pytest.raises(Unavailable):
        await model.reply(asking())
    assert len(server.requests) == 1
    assert (await model.reply(asking())).stop_reason == "tool_use"


async def test_server_that_is_down_is_unavailable(model: AnthropicModel, server: ScriptedServer) -> None:
    server.inject(Fault.DOWN, times=3)
    with pytest.raises(Unavailable, match="500 api_error"):
        await model.reply(asking())


async def test_nobody_there_is_unavailable() -> None:
    model = AnthropicModel(KEY, base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(Unavailable):
        await model.reply(asking())
    await model.close()


async def test_wrong_key_says_what_to_set(server: ScriptedServer) -> None:
    model = AnthropicModel("another", base_url=server.start())
    with pytest.raises(Permanent, match="ANTHROPIC_API_KEY"):
        await model.reply(asking())
    await model.close()


def test_no_key_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        AnthropicModel("")


async def test_unknown_model_is_refused_for_good(model: AnthropicModel) -> None:
    with pytest.raises(Permanent, match=r"agents\.model"):
        await model.reply(asking(model="gpt-1"))


UNANSWERED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "list_files", "input": {}}]}
STRAY = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t2", "content": "x"}]}
WORDS = {"role": "user", "content": "And now?"}
LATE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "here"},
        {"type": "tool_result", "tool_use_id": "t1", "content": "x"},
    ],
}
BLANK = {"role": "assistant", "content": [{"type": "text", "text": " "}]}


@pytest.mark.parametrize(
    "messages", [(UNANSWERED, WORDS), (UNANSWERED, STRAY), (UNANSWERED, LATE), (WORDS,), (BLANK, WORDS), (UNANSWERED,)]
)
async def test_conversation_that_the_api_would_not_take_is_refused(
    model: AnthropicModel, messages: tuple[dict[str, Any], ...]
) -> None:
    with pytest.raises(Permanent, match="400 invalid_request_error"):
        await model.reply(asking(*messages))


def test_whole_reply_and_streamed_reply_are_the_same(server: ScriptedServer) -> None:
    address = server.start()
    body = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "look around"}]}
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    whole = httpx2.post(f"{address}/v1/messages", json=body, headers=headers).json()
    streamed = httpx2.post(f"{address}/v1/messages", json=body | {"stream": True}, headers=headers).text
    assert whole["id"].startswith("msg_scripted_")
    assert whole["model"] == "claude-haiku-5-5"
    kinds = [line.removeprefix("event: ") for line in streamed.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert "content_block_delta" in kinds
    refused = httpx2.post(f"{address}/v1/messages", json=body, headers={"x-api-key": KEY})
    assert refused.json()["error"]["message"] == "anthropic-version: header is required"


def test_server_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    scripts, port_file = tmp_path / "scripts.yaml", tmp_path / "port"
    scripts.write_text(yaml.safe_dump([{"match": "look around", "turns": [{"text": "Looking.", "calls": []}]}]))
    command = [sys.executable, "-m", "controller.adapters.scripted_messages", "--scripts", str(scripts)]
    with subprocess.Popen([*command, "--port-file", str(port_file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        address = f"http://127.0.0.1:{port_file.read_text()}/v1/messages"
        body = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "look around"}]}
        answer = httpx2.post(address, json=body, headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"})
        process.terminate()
    assert answer.json()["content"] == [{"type": "text", "text": "Looking."}]
