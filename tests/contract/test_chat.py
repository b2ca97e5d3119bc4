"""What every chat promises the loop."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest
from worlds import MAIN, REPOSITORY, ChatWorld, HandClock

from controller.adapters.chat_local import LocalChat
from controller.domain.ids import Commit, EffectKey
from controller.domain.verbs import PushBranch, Tell, Told
from controller.errors import Permanent


def tell(text: str) -> Tell:
    return Tell(to="#shop", thread="delivery/shop-1", text=text)


async def test_the_same_key_is_told_once_and_found_again(chat_world: ChatWorld) -> None:
    assert await chat_world.hands.find(EffectKey("a"), tell("rolled back")) is None
    first = await chat_world.hands.act(EffectKey("a"), tell("rolled back"))
    assert isinstance(first, Told)
    assert await chat_world.hands.act(EffectKey("a"), tell("rolled back")) == first
    assert await chat_world.hands.find(EffectKey("a"), tell("rolled back")) == first
    assert await chat_world.texts() == ["rolled back"]


async def test_a_key_that_is_quoted_in_a_text_has_not_been_told(chat_world: ChatWorld) -> None:
    await chat_world.hands.act(EffectKey("a"), tell('{"key":"b","number":9}\n"key":"b"'))
    assert await chat_world.hands.find(EffectKey("b"), tell("x")) is None
    assert await chat_world.hands.act(EffectKey("b"), tell("x")) == await chat_world.hands.find(
        EffectKey("b"), tell("x")
    )


async def test_messages_told_at_once_are_all_kept_whole(chat_world: ChatWorld) -> None:
    texts = [f"é message {n}\nwith two lines" for n in range(12)]
    told = await asyncio.gather(*(chat_world.hands.act(EffectKey(text), tell(text)) for text in texts))
    assert len({one.message for one in told}) == 12
    assert sorted(await chat_world.texts()) == sorted(texts)


async def test_a_message_too_long_to_be_told_is_refused_whole(chat_world: ChatWorld) -> None:
    with pytest.raises(Permanent, match="characters"):
        await chat_world.hands.act(EffectKey("a"), tell("x" * 100_000))
    assert await chat_world.texts() == []


async def test_a_verb_of_another_port_is_a_bug(chat_world: ChatWorld) -> None:
    push = PushBranch(repository=REPOSITORY, branch=MAIN, commit=Commit("0" * 40), expect=None)
    with pytest.raises(TypeError, match=r"forge\.push"):
        await chat_world.hands.act(EffectKey("a"), push)


# --- the outbox file -------------------------------------------------------------------------------


async def test_a_line_torn_by_a_crash_is_read_by_nobody_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    outbox = tmp_path / "messages.jsonl"
    chat = LocalChat(outbox, HandClock())
    await chat.act(EffectKey("a"), tell("first"))
    whole = outbox.read_bytes()
    outbox.write_bytes(whole + whole[:-1].replace(b'"a"', b'"b"'))
    assert await chat.find(EffectKey("b"), tell("second")) is None
    assert [message.text for message in await chat.messages()] == ["first"]
    assert await chat.act(EffectKey("b"), tell("second")) == Told(message="2")
    assert outbox.read_bytes().startswith(whole)
    assert [(m.number, m.text) for m in await chat.messages()] == [(1, "first"), (2, "second")]
    assert [m.number for m in await chat.messages(after=1)] == [2]


def tell_all(outbox: Path, teller: int) -> None:
    chat = LocalChat(outbox, HandClock())
    for n in range(20):
        asyncio.run(chat.act(EffectKey(f"shared/{n}"), tell(f"by {teller}")))
        asyncio.run(chat.act(EffectKey(f"own/{teller}/{n}"), tell(f"by {teller}")))


async def test_two_processes_that_tell_the_same_tell_it_once(tmp_path: Path) -> None:
    outbox = tmp_path / "messages.jsonl"
    spawn = multiprocessing.get_context("spawn")
    tellers = [spawn.Process(target=tell_all, args=(outbox, teller)) for teller in range(2)]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        await asyncio.to_thread(teller.join, 60)
    told = await LocalChat(outbox, HandClock()).messages()
    assert [teller.exitcode for teller in tellers] == [0, 0]
    assert len(told) == len({message.key for message in told}) == 60
    assert [message.number for message in told] == list(range(1, 61))
