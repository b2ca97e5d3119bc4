"""What the desk lets happen, what it tells, and what it leaves in the log."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import OWN, SESSION, STREAM, World

from controller.desk import MAX_UNRECORDED
from controller.domain.bounds import Bounds
from controller.domain.events import ModelCallReserved, Stopped
from controller.domain.ids import CONTROL, MicroUsd, SessionId, digest_bytes, digest_of
from controller.errors import ConfigError, Unavailable
from controller.ports import Allowed, Badge, Denied, ToolResult

AUTHORS_TOOLS = {
    "delete_file",
    "edit_file",
    "git_push",
    "list_files",
    "read_ci_failures",
    "read_ci_log",
    "read_ci_results",
    "read_file",
    "read_own_record",
    "read_policy",
    "record_reasoning",
    "run_tests",
    "search",
    "write_file",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def signed_in(world: World, badge: Badge | None = None) -> Badge:
    begun = await world.begin()
    world.desk.sign_in(badge or begun)
    return badge or begun


async def decided(
    world: World, badge: Badge, name: str, arguments: Mapping[str, Any], *, turn: int = 1, index: int = 0
) -> Allowed | Denied:
    tool = world.definitions.get(name)
    return await world.desk.decide(badge, tool, name, arguments, turn=turn, index=index)


async def denied(world: World, badge: Badge, name: str, arguments: Mapping[str, Any]) -> Denied:
    found = await decided(world, badge, name, arguments)
    assert isinstance(found, Denied)
    return found


def forgiven(world: World) -> None:
    session = world.desk._sessions.get(SESSION)
    assert session is not None
    session.record.refusals = 0


# --- who -------------------------------------------------------------------------------------------------------------


async def test_a_token_is_known_until_its_session_signs_out_and_is_stored_only_as_a_hash(world: World) -> None:
    badge = await world.begin()
    token = world.desk.sign_in(badge)
    assert world.desk.badge(token) == badge
    assert token not in repr(vars(world.desk))
    world.desk.sign_out(SESSION)
    assert world.desk.badge(token) is None
    world.desk.sign_out(SESSION)


async def test_signing_in_again_ends_the_former_token(world: World) -> None:
    badge = await world.begin()
    former = world.desk.sign_in(badge)
    assert world.desk.badge(world.desk.sign_in(badge)) == badge
    assert world.desk.badge(former) is None


async def test_a_badge_with_a_broken_pattern_never_gets_a_token(world: World) -> None:
    with pytest.raises(ConfigError, match="protected_paths"):
        world.desk.sign_in(replace(world.badge(), protected=("../**",)))


async def test_signing_in_is_bounded(world: World) -> None:
    for number in range(1_000):
        world.desk.sign_in(replace(world.badge(), session=f"shop-1a2b3c/{number}"))
    with pytest.raises(Unavailable, match="1000 sessions"):
        world.desk.sign_in(replace(world.badge(), session="one-too-many/1"))
    world.desk.sign_in(replace(world.badge(), session="shop-1a2b3c/7"))


# --- what may happen -------------------------------------------------------------------------------------------------


async def test_an_agent_sees_the_tools_of_its_role_and_no_others(world: World) -> None:
    badge = await signed_in(world)
    tools = list(world.definitions.values())
    assert {tool.name for tool in world.desk.visible(badge, tools)} == AUTHORS_TOOLS
    assert world.desk.visible(replace(badge, role="reviewer"), tools) == []


async def test_an_agent_cannot_tell_a_forbidden_tool_from_an_unknown_one(world: World) -> None:
    badge = replace(await world.begin(), role="reviewer")
    world.desk.sign_in(badge)
    forbidden = await world.desk.decide(badge, world.definitions["git_push"], "git_push", {}, turn=1, index=0)
    unknown = await world.desk.decide(badge, None, "git_pull", {"a": 1}, turn=1, index=1)
    assert isinstance(forbidden, Denied)
    assert isinstance(unknown, Denied)
    assert forbidden.reason.replace("git_push", "X") == unknown.reason.replace("git_pull", "X")
    assert [event.rules for event in await world.refusals()] == [("tool-not-granted",), ("unknown-tool",)]


async def test_a_name_that_a_model_made_up_does_not_reach_the_log(world: World) -> None:
    badge = await signed_in(world)
    await denied(world, badge, "drop <b>everything</b>", {"note": "secret words"})
    leaves = b"".join([entry.leaf async for entry in world.log.scan()])
    assert b"drop" not in leaves
    assert b"secret" not in leaves


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'path' is a required property"),
        ({"path": "src/cart.py", "colour": "red"}, "Additional properties are not allowed"),
        ({"path": "src/cart.py", "offset": "1"}, "is not of type 'integer'"),
        ({"path": "src/cart.py", "offset": True}, "is not of type 'integer'"),
        ({"path": "src/cart.py", "offset": 1.0}, "numbers are whole"),
        ({"path": "src/cart.py", "offset": float("nan")}, "numbers are whole"),
        ({"path": "src/cart.py", "offset": 2**60}, "small enough to be exact"),
        ({"path": ["src/cart.py"]}, "is not of type 'string'"),
        ({"path": "src/\ud800"}, "not valid Unicode"),
        ({"path": b"src/cart.py"}, "no JSON"),
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_refused(
    world: World, arguments: dict[str, Any], told: str
) -> None:
    badge = await signed_in(world)
    assert told in (await denied(world, badge, "read_file", arguments)).reason
    assert (await world.refusals())[0].rules[0].startswith("arguments/")


async def test_arguments_nested_without_end_are_refused(world: World) -> None:
    badge = await signed_in(world)
    nested: Any = "x"
    for _ in range(50_000):
        nested = [nested]
    assert "nested" in (await denied(world, badge, "read_file", {"path": nested})).reason


@pytest.mark.parametrize(
    "path",
    [
        "src/payments/card.py",
        "src/Payments/card.py",
        "SRC/PAYMENTS/CARD.PY",
        "src//payments/card.py",
        "src/./payments/card.py",
        "src/x/../payments/card.py",
        "./src/payments/card.py",
        "/src/payments/card.py",
        "src/payments/card.py/",
        "src\\payments\\card.py",
        "src/payments./card.py",
        "src/payments /card.py",
        "src/%70ayments/card.py",
        "src/p\u0430yments/card.py",
        "src/payments\u200b/card.py",
        "src/payments/card.py\0",
        ".github/workflows/ci.yml",
        ".GitHub/workflows/ci.yml",
        "src/.git/hooks/post-checkout",
        "src/.gitattributes",
        "config/.env",
    ],
)
async def test_a_protected_path_cannot_be_written_whatever_its_spelling(world: World, path: str) -> None:
    badge = await signed_in(world)
    for name, rest in (("write_file", {"content": "x"}), ("delete_file", {}), ("edit_file", {"old": "a", "new": "b"})):
        found = await denied(world, badge, name, {"path": path, **rest})
        assert "Refusals are final" in found.reason
        forgiven(world)  # this test makes more of them than a session may


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("src/payments/card.py", "is protected in this repository"),
        ("setup/install.py", "is outside this task, which may change src/**, tests/**, docs/** only"),
        ("src/.gitattributes", "is kept from agents"),
        ("src/../x", "a path has no dot segments"),
    ],
)
async def test_a_refusal_names_the_path_and_what_is_wrong_with_it(world: World, path: str, why: str) -> None:
    badge = await signed_in(world)
    reason = (await denied(world, badge, "write_file", {"path": path, "content": "x"})).reason
    assert path in reason
    assert why in reason


async def test_another_repository_reads_the_same_whether_it_exists_or_not(world: World) -> None:
    badge = await signed_in(world)
    told = set()
    for name in ("billing", "nowhere", "no such name", "../billing"):
        for path in ("src/cart.py", "src/payments/x.py"):
            found = await denied(world, badge, "read_file", {"path": path, "repository": name})
            told.add(found.reason.replace(name, "X"))
    assert told == {
        'Repository "X" is not open to this session; it works in shop only. Refusals are final: go on without it.'
    }


async def test_a_session_pushes_its_own_branch_and_no_other(world: World) -> None:
    badge = await signed_in(world)
    assert isinstance(await decided(world, badge, "git_push", {"branch": OWN}), Allowed)
    for branch in ("main", "Main", "refs/heads/main", "agent/shop-1a2b3c/2", "agent/shop-1a2b3c/1/.."):
        assert branch in (await denied(world, badge, "git_push", {"branch": branch})).reason


async def test_a_push_to_main_is_in_the_log_before_the_agent_hears_of_it(world: World) -> None:
    badge = await signed_in(world)
    await denied(world, badge, "git_push", {"branch": "main"})
    (refused,) = await world.refusals()
    assert (refused.tool, refused.count, refused.turn) == ("git_push", 1, 1)
    assert refused.rules == ("main-moves-by-landing-only", "only-the-merger-moves-main")
    assert refused.args == digest_of({"branch": "main"})
    last = (await world.log.read(STREAM))[-1]
    assert (last.principal, last.on_behalf_of) == (f"agent:author/{SESSION}", "person:0123456789ab")


async def test_a_tainted_run_keeps_away_from_what_others_build_with(world: World) -> None:
    badge = await signed_in(world)
    arguments = {"path": "src/pyproject.toml", "content": "x"}
    assert isinstance(await decided(world, badge, "write_file", arguments), Allowed)
    world.desk.taint(SESSION)
    assert world.desk.tainted(SESSION)
    assert "text from outside" in (await denied(world, badge, "write_file", arguments)).reason


@pytest.mark.parametrize("scope", ["all", "agent:author", "repository:shop"])
async def test_a_stop_is_felt_on_the_next_call(world: World, scope: str) -> None:
    badge = await signed_in(world)
    assert isinstance(await decided(world, badge, "list_files", {}), Allowed)
    await world.add(CONTROL, Stopped(scope=scope, by="person:0123456789ab", reason="look at this", event_id="1"))
    assert "stopped from outside" in (await denied(world, badge, "list_files", {})).reason


async def test_a_revoked_session_is_refused_on_its_next_call_and_others_go_on(world: World) -> None:
    badge = await signed_in(world)
    other = await world.begin(SessionId("shop-1a2b3c/2"))
    world.desk.sign_in(other)
    await world.revoke()
    assert (await denied(world, badge, "list_files", {})).rules == ("control/revoked",)
    assert isinstance(await decided(world, other, "list_files", {}), Allowed)


async def test_a_session_that_is_signed_out_is_refused_whatever_badge_it_shows(world: World) -> None:
    badge = await signed_in(world)
    world.desk.sign_out(SESSION)
    assert (await denied(world, badge, "list_files", {})).rules == ("signed-out", "not-in-the-log")


# --- what stays ------------------------------------------------------------------------------------------------------


async def test_refusals_are_counted_across_processes_and_end_all_calls_at_the_bound(tmp_path: Path) -> None:
    world = World(tmp_path, bounds=Bounds(session_refusals=3))
    badge = await signed_in(world)
    for _ in range(2):
        await denied(world, badge, "git_push", {"branch": "main"})
    world.desk.sign_in(badge)  # taken up again: nothing is remembered but what the log says
    await denied(world, badge, "git_push", {"branch": "main"})
    assert [event.count for event in await world.refusals()] == [1, 2, 3]
    assert (await denied(world, badge, "list_files", {})).rules == ("refused-too-often",)
    assert len(await world.refusals()) == 3


async def test_a_refusal_finds_its_place_among_others_entries(world: World) -> None:
    badge = await signed_in(world)

    async def reserve() -> None:
        await world.add(STREAM, ModelCallReserved(turn=1, micro_usd=MicroUsd(1), request_digest=digest_of({})))

    refusals = [denied(world, badge, "git_push", {"branch": "main"}) for _ in range(5)]
    await asyncio.gather(*refusals, reserve(), reserve())
    assert sorted(event.count for event in await world.refusals()) == [1, 2, 3, 4, 5]


async def test_a_call_is_refused_even_when_the_log_cannot_take_the_refusal(world: World) -> None:
    badge = await signed_in(world)
    await decided(world, badge, "list_files", {})
    world.log.close()
    found = await denied(world, badge, "git_push", {"branch": "main"})
    assert found.rules == ("log-unavailable", "not-in-the-log")


async def test_a_refusal_is_never_what_begins_a_session(world: World) -> None:
    badge = world.badge()
    world.desk.sign_in(badge)
    assert (await denied(world, badge, "git_push", {"branch": "main"})).rules[-1] == "not-in-the-log"
    assert await world.log.stream(STREAM) is None


async def test_a_turns_record_holds_every_call_in_order_with_what_the_model_was_told(world: World) -> None:
    badge = await signed_in(world)
    refused = await world.desk.decide(
        badge, world.definitions["git_push"], "git_push", {"branch": "main"}, turn=3, index=1
    )
    assert isinstance(refused, Denied)
    for index, name, arguments in ((2, "git_push", {"branch": OWN}), (0, "read_file", {"path": "src/cart.py"})):
        tool = world.definitions[name]
        allowed = await world.desk.decide(badge, tool, name, arguments, turn=3, index=index)
        assert isinstance(allowed, Allowed)
        world.desk.completed(badge, tool, arguments, allowed, ToolResult(f"text {index}"), turn=3, index=index)
    read, no, push = await world.desk.turn_records(SESSION, 3)
    assert (read.index, read.tool_class, read.allowed, read.effect) == (0, "read", True, None)
    assert read.args == digest_of({"path": "src/cart.py"})
    assert read.result == digest_bytes(b"text 0")
    assert (no.index, no.allowed, no.error, no.result) == (1, False, True, None)
    assert (push.tool_class, push.effect) == ("effect", f"agent/{SESSION}/3/2")
    assert push.rules == ("granted-in-repository",)
    told = [await world.seals.open(one.result_sealed) for one in (read, no, push) if one.result_sealed]
    assert told == ["text 0", refused.reason, "text 2"]
    assert await world.desk.turn_records(SESSION, 3) == ()


async def test_calls_that_nobody_records_are_bounded(tmp_path: Path) -> None:
    world = World(tmp_path, bounds=Bounds(session_calls_per_minute=10_000, role_calls_per_minute=10_000))
    badge = await signed_in(world)
    tool = world.definitions["list_files"]
    for index in range(MAX_UNRECORDED):
        allowed = await decided(world, badge, "list_files", {}, index=index)
        assert isinstance(allowed, Allowed)
        world.desk.completed(badge, tool, {}, allowed, ToolResult(""), turn=1, index=index)
    assert (await denied(world, badge, "list_files", {})).rules == ("unrecorded-calls",)
