"""Every way a session can end, and what it leaves behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from session_world import (
    BASE,
    EDIT,
    SESSION,
    TO_MAIN,
    WHOLE_TASK,
    World,
    calling,
    in_turn,
    saying,
)

from controller.adapters.scripted_book import Conversation, Said
from controller.agents.conversation import cut
from controller.agents.parts import Left
from controller.agents.transcript import read_transcript
from controller.domain.bounds import Bounds
from controller.domain.events import (
    Label,
    ModelCallReserved,
    ReplyRecorded,
    Resumed,
    SessionEnded,
    SessionRevoked,
    Stopped,
    TurnRecorded,
)
from controller.domain.guards import scopes_of_session
from controller.domain.ids import CONTROL, MicroUsd
from controller.domain.money import Usage
from controller.errors import Permanent, Unavailable
from controller.ports import ModelReply


def reply(*content: dict[str, Any], stop: str) -> ModelReply:
    return ModelReply(content, stop, Usage(output_tokens=10), "claude-sonnet-5-5", "req_1", Label.SCRIPTED)


async def ended(world: World, *, left: Left = Left.ENDED) -> SessionEnded:
    await world.start()
    assert await world.runner().run(SESSION) is left
    last = (await world.events())[-1]
    assert isinstance(last, SessionEnded)
    return last


async def test_a_change_with_a_path_that_the_session_may_not_write_is_no_change_and_says_which(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(("write_file", {"path": "ci/slipped-in", "content": "x"})), Said("Done.")))
    end = await ended(world)
    assert (end.outcome, end.head, end.files) == ("failed", None, ())
    assert end.reason == "ci/slipped-in may not be changed (rule no)"


async def test_task_ends_done_with_its_commit_and_its_summary(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    end = await ended(world)
    assert (end.outcome, end.turns) == ("done", 5)
    assert end.head is not None
    assert end.head != BASE
    assert end.files == ("shop/pricing.py", "tests/test_discount.py")
    assert end.summary is not None
    assert await world.seals.open(end.summary) == "Carts get 5 % off.\n\nTests pass."
    assert world.outside.trees == {}


async def test_every_reply_is_reserved_before_and_settled_after(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    end = await ended(world)
    kinds = [event.kind() for event in await world.events()]
    turn = ["ModelCallReserved", "ReplyRecorded", "TurnRecorded"]
    refused = ["ModelCallReserved", "ReplyRecorded", "CallRefused", "TurnRecorded"]
    assert kinds == ["SessionStarted", *turn, *turn, *refused, *turn, *turn, "SessionEnded"]
    for scope, window in scopes_of_session(SESSION, "2026-11-22"):
        assert await world.log.spent(scope, window) == (0, end.cost_micro_usd)
    assert end.cost_micro_usd > 0


async def test_transcript_names_every_text_and_holds_none(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    end = await ended(world)
    assert b"5 % off" not in await world.blobs.get(end.transcript)
    whole = await read_transcript(end.transcript, world.blobs, world.seals)
    assert "Give 5 % off." in whole["prompt_text"]
    assert [len(turn["calls"]) for turn in whole["turns"]] == [2, 2, 2, 2, 0]
    assert whole["turns"][2]["calls"][1]["result_text"] == "edit_file is not allowed. This is final."


async def test_refused_call_is_answered_as_an_error_and_the_session_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await ended(world)
    answers = world.model.requests[3].messages[-1]["content"]
    assert [answer["is_error"] for answer in answers] == [False, True]
    assert answers[1]["content"] == "edit_file is not allowed. This is final."


async def test_finishing_without_a_change_is_no_change(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, saying(calling(("list_files", {})), Said("Nothing to do."))))
    assert (end.outcome, end.head) == ("no_change", None)


async def test_refusing_model_ends_the_session_and_runs_nothing(tmp_path: Path) -> None:
    use = {"type": "tool_use", "id": "t", "name": EDIT[0], "input": EDIT[1]}
    world = World(tmp_path, saying(reply(use, stop="refusal")))
    end = await ended(world)
    assert (end.outcome, end.reason, end.head) == ("refused", "the model refused", None)
    assert world.gate.called == []


async def test_too_many_refused_calls_end_the_session_in_the_middle_of_a_turn(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT, *[TO_MAIN] * 9)), Bounds(session_refusals=3))
    end = await ended(world)
    assert (end.outcome, end.head) == ("refused", None)
    assert end.reason == "3 calls were refused (bound 3)"
    assert world.gate.called == ["edit_file", *["git_push"] * 3]
    assert world.outside.pushed == {}


async def test_endless_session_ends_at_its_turns_and_keeps_its_work(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT), calling(("list_files", {}))), Bounds(session_turns=4))
    end = await ended(world)
    assert (end.outcome, end.turns) == ("turns", 4)
    assert end.files == ("shop/pricing.py",)


async def test_long_session_ends_at_its_time(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT), calling(("list_files", {}))))
    at_once = world.says

    def says_slowly(talk: Conversation) -> Any:
        world.clock.time += timedelta(seconds=400)
        return at_once(talk)

    world.says = says_slowly
    end = await ended(world)
    assert end.outcome == "stalled"
    assert end.reason == "it has run for 1200 s (bound 900)"
    assert end.files == ("shop/pricing.py",)


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        ({"session_micro_usd": 200_000}, "session/shop-1a2b3c/1"),
        ({"delivery_micro_usd": 200_000}, "delivery/shop-1a2b3c"),
        ({"day_micro_usd": 200_000}, "total"),
    ],
)
async def test_spent_budget_ends_the_session_before_the_call_and_keeps_its_work(
    tmp_path: Path, limits: dict[str, int], scope: str
) -> None:
    dear = Usage(output_tokens=15_000)
    use = {"type": "tool_use", "id": "t", "name": EDIT[0], "input": EDIT[1]}
    said = ModelReply((use,), "tool_use", dear, "claude-sonnet-5-5", "req_1", Label.SCRIPTED)
    world = World(tmp_path, saying(said), Bounds().model_copy(update=limits))
    end = await ended(world)
    assert end.outcome == "budget"
    assert end.reason.endswith(f"does not fit under $0.2000 of {scope} ({'2026-11-22' if scope == 'total' else 'all'})")
    assert end.files == ("shop/pricing.py",)
    assert world.outside.paid == [0]


async def test_call_that_may_cost_too_much_is_never_made(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK, Bounds(call_micro_usd=MicroUsd(50_000)))
    end = await ended(world)
    assert end.outcome == "budget"
    assert "bound $0.0500" in end.reason
    assert world.outside.paid == []


async def test_a_model_is_asked_for_as_many_tokens_as_the_bound_says_and_no_more(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK, Bounds(reply_max_tokens=1_234))
    await ended(world)
    assert {request.max_tokens for request in world.model.requests} == {1_234}


async def test_conversation_that_grows_too_long_ends_the_session(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, WHOLE_TASK, Bounds(prompt_bytes=1_000)))
    assert end.outcome == "budget"
    assert "(bound 1000)" in end.reason


async def test_model_without_a_price_is_never_called(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start(model="claude-free-1")
    await world.runner().run(SESSION)
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, world.outside.paid) == ("failed", [])
    assert "claude-free-1" in end.reason


async def test_stalling_model_is_asked_three_times_and_then_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, saying(calling(EDIT), Unavailable("the Messages API broke off")))
    end = await ended(world)
    assert (end.outcome, end.reason) == ("stalled", "the Messages API broke off")
    assert sum(isinstance(event, ModelCallReserved) for event in await world.events()) == 4
    assert end.files == ("shop/pricing.py",)


async def test_one_stall_costs_a_reservation_and_nothing_else(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, in_turn(Unavailable("cut"), calling(EDIT), Said("Done."))))
    assert end.outcome == "done"


async def test_model_that_says_no_for_good_fails_the_session(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, saying(Permanent("the API answered 401", "Set ANTHROPIC_API_KEY"))))
    assert (end.outcome, end.reason) == ("failed", "the API answered 401. Set ANTHROPIC_API_KEY")


CUT_OFF = reply({"type": "tool_use", "id": "t", "name": "write_file", "input": {"path": "a.py"}}, stop="max_tokens")
EMPTY = reply(stop="end_turn")
ODD = reply({"type": "text", "text": "Hm."}, stop="pause_turn")
BOTH = reply(
    {"type": "text", "text": "Done."},
    {"type": "tool_use", "id": "t", "name": EDIT[0], "input": EDIT[1]},
    stop="end_turn",
)
NO_OBJECT = reply({"type": "tool_use", "id": "t", "name": EDIT[0], "input": "path"}, stop="tool_use")


@pytest.mark.parametrize("nonsense", [CUT_OFF, EMPTY, ODD, BOTH, NO_OBJECT])
async def test_nonsense_is_never_carried_out_and_ends_the_session_the_third_time(
    tmp_path: Path, nonsense: ModelReply
) -> None:
    world = World(tmp_path, in_turn(nonsense))
    end = await ended(world)
    assert (end.outcome, end.turns, end.head) == ("nonsense", 3, None)
    assert world.gate.called == []
    assert "Nothing of your last reply was carried out" in str(world.model.requests[-1].messages)


async def test_model_that_calls_only_unknown_tools_talks_nonsense(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, saying(calling(("launch_rocket", {})))))
    assert end.outcome == "nonsense"
    assert "only tools that do not exist" in end.reason


async def test_told_once_the_model_may_come_to_its_senses(tmp_path: Path) -> None:
    end = await ended(World(tmp_path, in_turn(CUT_OFF, EMPTY, calling(EDIT), CUT_OFF, Said("Done."))))
    assert end.outcome == "done"


async def test_link_in_the_tree_fails_the_session(tmp_path: Path) -> None:
    end = await ended(
        World(tmp_path, saying(calling(("write_file", {"path": "link", "content": "/etc"})), Said("Done.")))
    )
    assert (end.outcome, end.head) == ("failed", None)
    assert end.reason == "link is a symbolic link that was added"


# --- from outside ---------------------------------------------------------------------------------------------------


def stopping(scope: str) -> Stopped:
    return Stopped(scope=scope, by="person:1", reason="look first", event_id="e1")


@pytest.mark.parametrize("scope", ["all", "agent:author", "repository:shop"])
async def test_stopped_session_waits_and_goes_on_when_resumed(tmp_path: Path, scope: str) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start()
    await world.say(CONTROL, stopping(scope))
    assert await world.runner().run(SESSION) is Left.PARKED
    assert len(await world.entries()) == 1
    await world.say(CONTROL, Resumed(scope=scope, by="person:1", reason="looked", event_id="e2"))
    assert await world.runner().run(SESSION) is Left.ENDED


async def test_stop_in_the_middle_of_a_turn_breaks_it_off_and_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start()
    runner, seen = world.runner(), world.gate.call

    async def stop_then_call(name: str, arguments: dict[str, Any], *, turn: int, index: int) -> Any:
        if arguments == EDIT[1]:
            await world.say(CONTROL, stopping("all"))
        return await seen(name, arguments, turn=turn, index=index)

    world.gate.call = stop_then_call  # type: ignore[method-assign,assignment]
    assert await runner.run(SESSION) is Left.PARKED
    assert isinstance((await world.events())[-1], ReplyRecorded)
    await world.say(CONTROL, Resumed(scope="all", by="person:1", reason="looked", event_id="e2"))
    assert await world.runner().run(SESSION) is Left.ENDED
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert end.outcome == "done"
    assert world.outside.paid == [0, 1, 2, 3, 4]


async def test_revoked_session_ends_and_keeps_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, in_turn(calling(EDIT), Said("Done.")))
    await world.start()
    runner = world.runner()
    keep = world.gate.turn_records

    async def revoke_then_keep(session: str, turn: int) -> Any:
        kept = await keep(session, turn)
        if kept:
            await world.say(CONTROL, SessionRevoked(session=SESSION, by="person:1", reason="wrong task", event_id="r"))
        return kept

    world.gate.turn_records = revoke_then_keep  # type: ignore[method-assign]
    assert await runner.run(SESSION) is Left.ENDED
    end = (await world.events())[-1]
    assert isinstance(end, SessionEnded)
    assert (end.outcome, end.head, world.outside.paid) == ("revoked", None, [0])


async def test_session_that_nobody_started_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="has no SessionStarted"):
        await World(tmp_path, WHOLE_TASK).runner().run(SESSION)


async def test_taint_is_recorded_and_stays(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await world.start(tainted=True)
    await world.runner().run(SESSION)
    events = await world.events()
    assert all(event.tainted for event in events if isinstance(event, TurnRecorded | SessionEnded))


async def test_progress_is_told_without_anybodys_words(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE_TASK)
    await ended(world)
    assert [step.doing for step in world.progress] == [*["asking", "acting"] * 5, "ended"]
    assert world.progress[1].tools == ("list_files", "read_file")
    assert world.progress[-1].outcome == "done"


def test_long_results_keep_their_beginning_and_their_end() -> None:
    assert cut("a" * 50 + "ü" * 50, 20) == "a" * 10 + "\n[... 130 bytes left out ...]\n" + "ü" * 5
