"""What a model thought is kept apart: for its own session and for reviewers, and needed by nobody."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from session_world import ADD, EDIT, SESSION, Died, Tick, World, calling, saying

from controller.adapters.scripted_book import Said, ToolCall
from controller.agents.conversation import Reply
from controller.agents.parts import Left
from controller.agents.thinking import joined, parted, words_of
from controller.agents.transcript import read_transcript
from controller.domain.events import Label, ReplyRecorded, SessionEnded, TurnRecorded
from controller.domain.ids import digest_bytes
from controller.domain.money import Usage
from controller.domain.session import fold
from controller.ports import ModelReply

THOUGHT = "The secret reason is XYZZY."
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"},
    {"type": "redacted_thinking", "data": "b3BhcXVl"},
]


def use(number: int, call: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": call[0], "input": call[1]}


def reply(*content: dict[str, Any], stop: str = "tool_use") -> ModelReply:
    return ModelReply(
        list(content), stop, Usage(input_tokens=1, output_tokens=1), "claude-sonnet-5-5", "r", Label.SCRIPTED
    )


THINKING = reply(BLOCKS[0], {"type": "text", "text": "I edit."}, BLOCKS[1], use(1, EDIT))
SAYS = saying(THINKING, calling(ADD), Said("Done."))


async def finished(world: World) -> SessionEnded:
    await world.start()
    assert await world.runner().run(SESSION) is Left.ENDED
    (end,) = [event for event in await world.events() if isinstance(event, SessionEnded)]
    return end


async def recorded(world: World) -> ReplyRecorded:
    return next(event for event in await world.events() if isinstance(event, ReplyRecorded))


def test_a_reply_comes_apart_and_together_again() -> None:
    said, thinking = parted(THINKING)
    assert thinking is not None
    assert [block["type"] for block in said.content] == ["text", "tool_use"]
    assert joined(Reply(tuple(said.content), said.stop_reason), thinking).content == tuple(THINKING.content)
    assert words_of(thinking) == f"{THOUGHT}\n\n(redacted by the vendor)"


def test_a_reply_without_thinking_is_left_as_it_is() -> None:
    plain = reply({"type": "text", "text": "Done."}, stop="end_turn")
    assert parted(plain) == (plain, None)


async def test_thinking_is_sealed_beside_the_reply_with_its_digest_in_the_log(tmp_path: Path) -> None:
    world = World(tmp_path, SAYS)
    end = await finished(world)
    first = await recorded(world)
    assert first.thinking_sealed is not None
    thinking = await world.seals.open(first.thinking_sealed)
    assert first.thinking == digest_bytes(thinking.encode())
    assert json.loads(thinking)["blocks"] == BLOCKS
    assert "XYZZY" not in await world.seals.open(first.reply_sealed)
    assert not [entry for entry in await world.entries() if b"XYZZY" in entry.leaf]
    whole = await read_transcript(end.transcript, world.blobs, world.seals)
    assert THOUGHT in whole["turns"][0]["thinking_text"]
    assert "thinking_text" not in whole["turns"][1]


async def test_thinking_goes_back_to_the_model_that_thought_it_and_to_nobody_else(tmp_path: Path) -> None:
    world = World(tmp_path, SAYS)
    end = await finished(world)
    own = world.model.requests[1].messages[1]["content"]
    assert list(own) == list(THINKING.content)
    assert end.summary is not None
    assert "XYZZY" not in await world.seals.open(end.summary)


def erase(folder: Path, digest: str) -> None:
    name = digest.removeprefix("sha256:")
    (blob,) = [path for path in folder.rglob("*") if path.is_file() and path.name in (name, name[2:])]
    blob.unlink()


async def died_after_its_first_turn(folder: Path) -> World:
    for tick in range(100):
        world = World(folder / str(tick), SAYS)
        await world.start()
        world.tick = Tick(die_at=tick)
        with contextlib.suppress(Died):
            await world.runner().run(SESSION)
        world.tick = Tick()
        if any(isinstance(event, TurnRecorded) for event in await world.events()):
            return world
    raise AssertionError("it never came so far")


async def test_a_session_whose_thinking_was_erased_in_the_middle_goes_on_without_it(tmp_path: Path) -> None:
    world = await died_after_its_first_turn(tmp_path)
    first = await recorded(world)
    assert first.thinking_sealed is not None
    before = fold(SESSION, await world.entries())
    erase(tmp_path, first.thinking_sealed.digest)
    assert fold(SESSION, await world.entries()) == before
    world.model.requests.clear()
    assert await world.runner().run(SESSION) is Left.ENDED
    own = world.model.requests[0].messages[1]["content"]
    assert [block["type"] for block in own] == ["text", "tool_use"]
    assert ToolCall(tool=EDIT[0], arguments=EDIT[1]) == ToolCall(tool=own[1]["name"], arguments=own[1]["input"])
