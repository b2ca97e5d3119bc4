"""Processes die at every step, checkpoints are lost, kept or wrong, workers race: the facts are the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from session_world import ADD, EDIT, SESSION, WHOLE_TASK, Died, Says, Tick, World, calling, in_turn, saying

from controller.adapters.scripted_book import Said
from controller.agents.graph import build_graph
from controller.agents.parts import Left
from controller.agents.session import Checkpoints, checkpoints_in
from controller.domain.bounds import Bounds
from controller.domain.events import (
    CallRefused,
    ModelCallReserved,
    ReplyRecorded,
    SessionEnded,
    SessionResumed,
    TurnRecorded,
)
from controller.domain.guards import scopes_of_session
from controller.errors import Unavailable
from controller.ports import ModelReply, ModelRequest, ToolResult


async def facts(world: World) -> list[Any]:
    """What a session says of itself, without how often it was interrupted."""
    found: list[Any] = []
    for event in await world.events():
        match event:
            case ReplyRecorded():
                found.append((event.turn, event.reply, event.cost_micro_usd))
            case TurnRecorded():
                calls = [(call.index, call.tool, call.args, call.allowed, call.result) for call in event.calls]
                found.append((event.turn, event.reply, calls))
            case SessionEnded():
                found.append((event.outcome, event.head, event.files, event.turns, event.cost_micro_usd))
    return found


async def finished(folder: Path, says: Says = WHOLE_TASK) -> World:
    world = World(folder, says)
    await world.start()
    assert await world.runner().run(SESSION) is Left.ENDED
    return world


async def killed_at(tick: int, world: World, checkpoints: Checkpoints | None = None) -> bool:
    """False: it lived to the end."""
    world.tick = Tick(die_at=tick)
    try:
        await world.runner(checkpoints).run(SESSION)
    except Died:
        return True
    finally:
        world.tick = Tick()
    return False


async def test_death_at_any_step_changes_no_fact(tmp_path: Path) -> None:
    expected = await finished(tmp_path / "whole")
    wanted, pushed = await facts(expected), expected.outside.pushed
    tick = 0
    while True:
        world = World(tmp_path / str(tick), WHOLE_TASK)
        await world.start()
        died = await killed_at(tick, world)
        assert await world.runner().run(SESSION) is Left.ENDED
        assert await facts(world) == wanted, f"died at tick {tick}"
        assert world.outside.pushed == pushed
        assert len(world.outside.paid) <= 6  # five turns, and one answer lost
        if not died:
            break
        tick += 1
    assert tick > 60


async def test_repeated_deaths_change_no_fact_either(tmp_path: Path) -> None:
    wanted = await facts(await finished(tmp_path / "whole"))
    world = World(tmp_path / "often", WHOLE_TASK)
    await world.start()
    for tick in range(10, 40, 2):
        if not await killed_at(tick, world):
            break
    assert await world.runner().run(SESSION) is Left.ENDED
    assert await facts(world) == wanted


async def test_kept_checkpoint_never_pays_twice_and_changes_no_fact(tmp_path: Path) -> None:
    wanted = await facts(await finished(tmp_path / "whole"))
    believed = 0
    for tick in range(0, 70, 3):
        world = World(tmp_path / str(tick), WHOLE_TASK)
        await world.start()
        kept = checkpoints_in(tmp_path / str(tick) / "checkpoints.db")
        await killed_at(tick, world, kept)
        assert await world.runner(kept).run(SESSION) is Left.ENDED
        assert await facts(world) == wanted, f"died at tick {tick}"
        believed += sum(event.from_checkpoint for event in await world.events() if isinstance(event, SessionResumed))
    assert believed > 0


async def test_checkpoint_ahead_of_the_log_is_thrown_away(tmp_path: Path) -> None:
    ahead = World(tmp_path / "ahead", WHOLE_TASK)
    await ahead.start()
    saver = tmp_path / "checkpoints.db"
    assert await killed_at(50, ahead, checkpoints_in(saver))
    world = World(tmp_path / "behind", WHOLE_TASK)
    await world.start()
    assert await killed_at(20, world)
    copied = tmp_path / "copied.db"
    shutil.copy(saver, copied)
    assert await world.runner(checkpoints_in(copied)).run(SESSION) is Left.ENDED
    assert [event.from_checkpoint for event in await world.events() if isinstance(event, SessionResumed)] == [False]
    assert await facts(world) == await facts(await finished(tmp_path / "whole"))
    assert world.outside.paid == [0, 1, 2, 3, 4]


async def test_resumed_session_says_the_same_to_its_model(tmp_path: Path) -> None:
    whole = await finished(tmp_path / "whole")
    world = World(tmp_path / "resumed", WHOLE_TASK)
    await world.start()
    assert await killed_at(55, world)
    world.model.requests.clear()
    await world.runner().run(SESSION)
    assert world.model.requests[-1].messages == whole.model.requests[-1].messages


async def test_unanswered_reservation_stays_and_the_call_is_made_again(tmp_path: Path) -> None:
    for tick in range(30):
        world = World(tmp_path / str(tick), in_turn(calling(EDIT), Said("Done.")))
        await world.start()
        if await _died_in_the_call(world, tick):
            break
    await world.runner().run(SESSION)
    reserved = [event for event in await world.events() if isinstance(event, ModelCallReserved)]
    assert [event.turn for event in reserved] == [0, 0, 1]
    held, _ = await world.log.spent(*scopes_of_session(SESSION, "2026-11-22")[0])
    assert held == reserved[0].micro_usd
    (resumed,) = [event for event in await world.events() if isinstance(event, SessionResumed)]
    assert resumed.reason == "a call was reserved and never answered; its reservation stays"


async def _died_in_the_call(world: World, tick: int) -> bool:
    await killed_at(tick, world)
    return isinstance((await world.events())[-1], ModelCallReserved)


async def test_run_of_an_ended_session_does_nothing(tmp_path: Path) -> None:
    world = await finished(tmp_path)
    before = await world.entries()
    assert await world.runner().run(SESSION) is Left.ENDED
    assert await world.entries() == before


async def test_session_that_kills_every_process_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start()
    for _ in range(9):
        world.says = _deadly
        try:
            await world.runner().run(SESSION)
        except Died:
            continue
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.reason) == ("failed", "taken up 4 times at turn 0 without getting further (bound 3)")


def _deadly(_: object) -> Said:
    raise Died


# --- two workers ----------------------------------------------------------------------------------------------------


async def test_worker_that_lost_the_session_during_a_call_leaves_quietly(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start()
    slow, answer = world.runner(), world.model.reply

    async def overtaken(request: ModelRequest) -> ModelReply:
        world.model.reply = answer  # type: ignore[method-assign]
        found = await answer(request)
        assert await world.runner().run(SESSION) is Left.ENDED
        return found

    world.model.reply = overtaken  # type: ignore[method-assign]
    assert await slow.run(SESSION) is Left.LOST
    assert await facts(world) == await facts(await finished(tmp_path / "whole"))


async def test_worker_that_lost_the_session_makes_no_further_tool_call(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT, ADD), Said("Done.")))
    await world.start()
    slow = world.runner()
    gate = world.gate
    call = gate.call

    async def overtaken(name: str, arguments: dict[str, Any], *, turn: int, index: int) -> ToolResult:
        found = await call(name, arguments, turn=turn, index=index)
        assert await world.runner().run(SESSION) is Left.ENDED
        return found

    gate.call = overtaken  # type: ignore[method-assign,assignment]
    assert await slow.run(SESSION) is Left.LOST
    assert gate.called == ["edit_file"]
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert end.files == ("shop/pricing.py", "tests/test_discount.py")


# --- parts that are away for a while --------------------------------------------------------------------------------


async def test_gateway_that_is_away_once_costs_a_rebuilt_working_copy(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT, ADD), Said("Done.")))
    await world.start()
    runner, call = world.runner(), world.gate.call
    away = iter([True])

    async def flaky(name: str, arguments: dict[str, Any], *, turn: int, index: int) -> ToolResult:
        if name == "write_file" and next(away, False):
            raise Unavailable("the gateway is away")
        return await call(name, arguments, turn=turn, index=index)

    world.gate.call = flaky  # type: ignore[method-assign,assignment]
    assert await runner.run(SESSION) is Left.ENDED
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.files) == ("done", ("shop/pricing.py", "tests/test_discount.py"))
    (first, _) = [event for event in await world.events() if isinstance(event, TurnRecorded)]
    assert [(call.tool, call.error) for call in first.calls] == [("edit_file", False), ("write_file", False)]


async def test_gateway_that_stays_away_stalls_the_session_and_no_half_turn_is_committed(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT), calling(ADD, ("run_tests", {}))))
    await world.start()
    runner, call = world.runner(), world.gate.call

    async def away(name: str, arguments: dict[str, Any], *, turn: int, index: int) -> ToolResult:
        if name == "run_tests":
            raise Unavailable("the gateway is away")
        return await call(name, arguments, turn=turn, index=index)

    world.gate.call = away  # type: ignore[method-assign,assignment]
    assert await runner.run(SESSION) is Left.ENDED
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.reason, end.head) == ("stalled", "the gateway is away", None)


async def test_paid_reply_whose_recording_failed_is_recorded_and_not_paid_again(tmp_path: Path) -> None:
    world = World(tmp_path, in_turn(calling(EDIT), Said("Done.")))
    await world.start()
    append, full = world.log.append, iter([True])

    async def full_once(drafts: Any, **rest: Any) -> Any:
        if isinstance(drafts[0].event, ReplyRecorded) and next(full, False):
            raise Unavailable("the disk is full")
        return await append(drafts, **rest)

    world.log.append = full_once  # type: ignore[method-assign]
    assert await world.runner().run(SESSION) is Left.ENDED
    assert world.outside.paid == [0, 1]


async def test_working_copy_that_cannot_be_rebuilt_fails_the_session(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT), calling(ADD), Said("Done.")))
    await world.start()
    assert await killed_at(20, world)
    assert any(isinstance(event, TurnRecorded) for event in await world.events())
    runner, call = world.runner(), world.gate.call

    async def differs(name: str, arguments: dict[str, Any], *, turn: int, index: int) -> ToolResult:
        found = await call(name, arguments, turn=turn, index=index)
        return ToolResult("Not done.", error=True) if name == "edit_file" else found

    world.gate.call = differs  # type: ignore[method-assign,assignment]
    assert await runner.run(SESSION) is Left.ENDED
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.head) == ("failed", None)
    assert "turn 0, call 0 (edit_file) went differently" in end.reason


SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"  # made up, in the shape of a forge's token


def writes_a_secret() -> Says:
    first = calling(("write_file", {"path": "config.py", "content": f"TOKEN = '{SECRET}'\n"}))
    return saying(first, calling(ADD), Said("Done."))


async def test_secret_that_a_model_writes_reaches_its_working_copy_and_no_log(tmp_path: Path) -> None:
    world = await finished(tmp_path, writes_a_secret())
    ended = (await world.events())[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.outcome == "done"
    assert any(SECRET in text for tree in world.outside.commits for text in tree.values())
    for entry in await world.entries():
        assert SECRET.encode() not in entry.leaf
    for reply in (event for event in await world.events() if isinstance(event, ReplyRecorded)):
        assert SECRET not in await world.seals.open(reply.reply_sealed)


async def test_session_that_died_after_a_secret_is_not_gone_through_again_with_other_words(tmp_path: Path) -> None:
    world = World(tmp_path, writes_a_secret())
    await world.start()
    for tick in range(8, 60):
        if not await killed_at(tick, world):
            break
        if sum(isinstance(event, TurnRecorded) for event in await world.events()) == 1:
            break
    await world.runner().run(SESSION)
    ended = (await world.events())[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.outcome == "failed"
    assert "held a secret" in ended.reason
    assert not any("[secret:" in text for tree in world.outside.commits for text in tree.values())


# --- the graph ------------------------------------------------------------------------------------------------------


def test_graph_is_ask_act_finish_and_nothing_else() -> None:
    drawn = build_graph(Bounds(), 0.0).compile().get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    everywhere = {"ask", "act", "finish", "__end__"}
    assert edges == {
        *(("__start__", to) for to in everywhere),
        *(("ask", to) for to in everywhere),
        *(("act", to) for to in everywhere),
        ("finish", "__end__"),
    }


async def test_refusals_are_counted_across_deaths(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start()
    assert await killed_at(45, world)
    await world.runner().run(SESSION)
    counts = [event.count for event in await world.events() if isinstance(event, CallRefused)]
    assert counts == list(range(1, len(counts) + 1))
