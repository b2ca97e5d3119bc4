"""Programs outside at the desk: tokens that end, scopes, lent authority, rates, and records without turns."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from belt_kit import AT, SHOP, World
from facts_kit import sample

from controller.desk import RECORDED_AT_ONCE, SessionDesk
from controller.domain.bounds import Bounds
from controller.domain.events import CallRefused, CallsRecorded, ClientSessionStarted
from controller.domain.ids import Branch, DeliveryId, client_session
from controller.errors import ConfigError, Unavailable
from controller.ports import Allowed, Badge, Denied, ToolResult, Visit
from controller.sim.limits import SimLimits

HERE = "http://127.0.0.1:7420/mcp"
ME = client_session("editor", 1)


@dataclass
class Known:
    """The log's word on programs outside, as a test wants it."""

    visits: dict[str, Visit] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    down: bool = False

    async def visitor(self, token: str, now: datetime) -> Visit | None:
        if self.down:
            raise Unavailable("the log cannot be read", "Wait")
        found = self.visits.get(token)
        return found if found is not None and now < found.expires_at else None

    async def standing(self, badge: Badge) -> bool:
        return not any(link.session in self.retired for link in badge.chain)


class House:
    def __init__(self, folder: Path, **bounds: Any) -> None:
        self.world = World(folder)
        self.known = Known()
        self.limits = SimLimits(self.world.clock)
        self.desk = SessionDesk(
            log=self.world.log,
            seals=self.world.seals,
            authority=self.world.authority,
            bounds=Bounds(**bounds),
            clock=self.world.clock,
            limits=self.limits,
            visitors=self.known,
            resource=lambda: HERE,
        )

    def badge(self, role: str = "contributor", **changes: Any) -> Badge:
        mine = Badge(
            session=ME,
            role=role,
            delivery="client.editor",
            repository=SHOP,
            branch=Branch("agent/client.editor/1"),
            base=self.world.base,
            allowed=("src/**", "tests/**"),
            protected=("src/payments/**",),
            on_behalf_of="person:0123456789ab",
            scopes=frozenset({"workspace:read", "workspace:write"}),
        )
        return replace(mine, **changes)

    async def comes_in(self, badge: Badge | None = None, *, shows: str = "t") -> Badge:
        badge = badge or self.badge()
        started = sample(ClientSessionStarted, client="editor", role=badge.role, delivery=DeliveryId("x"))
        if await self.world.log.stream(badge.stream) is None:
            await self.world.add(badge.stream, started)
        self.known.visits[shows] = Visit(badge, HERE, AT + timedelta(minutes=15))
        known = await self.desk.authenticated(shows)
        assert known == badge
        return badge

    async def call(self, badge: Badge, name: str, index: int = 0, **arguments: Any) -> Allowed | Denied:
        tool = self.world.definitions.get(name)
        decided = await self.desk.decide(badge, tool, name, arguments, turn=-7, index=index)
        if isinstance(decided, Allowed) and tool is not None:
            self.desk.completed(badge, tool, arguments, decided, ToolResult("done"), turn=-7, index=index)
        return decided

    async def entries(self, kind: type) -> list[Any]:
        return [one.event for one in await self.world.log.read(self.badge().stream) if isinstance(one.event, kind)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_made_for_another_resource_is_worth_nothing_here(house: House) -> None:
    house.known.visits["t"] = Visit(house.badge(), "http://127.0.0.1:9999/mcp", AT + timedelta(minutes=5))
    assert await house.desk.authenticated("t") is None


async def test_a_token_ends_at_its_time_and_no_clock_that_is_set_back_revives_it(house: House) -> None:
    await house.comes_in()
    house.world.clock.at = AT + timedelta(minutes=15)
    assert await house.desk.authenticated("t") is None
    house.world.clock.at = AT
    assert await house.desk.authenticated("t") is None


async def test_a_retired_program_is_out_with_its_next_call(house: House) -> None:
    badge = await house.comes_in()
    house.known.retired.add(badge.session)
    assert await house.desk.authenticated("t") is None


async def test_a_revoked_session_is_refused_on_its_next_call(house: House) -> None:
    badge = await house.comes_in()
    assert isinstance(await house.call(badge, "list_files"), Allowed)
    await house.world.revoke(badge.session)  # type: ignore[arg-type]
    assert (await house.call(badge, "list_files", 1)).rules == ("control/revoked",)


async def test_when_nobody_can_tell_whose_a_token_is_nobody_comes_in(house: House) -> None:
    house.known.down = True
    with pytest.raises(Unavailable):
        await house.desk.authenticated("t")


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
async def test_no_session_gets_a_token_for_nothing_or_for_ever(house: House, seconds: int) -> None:
    with pytest.raises(ConfigError, match="seconds is none"):
        house.desk.sign_in(house.world.badge(), seconds=seconds)


async def test_the_token_of_a_session_of_our_own_ends_too(house: House) -> None:
    token = house.desk.sign_in(house.world.badge(), seconds=60)
    house.world.clock.at = AT + timedelta(seconds=59)
    assert await house.desk.authenticated(token) is not None
    house.world.clock.at = AT + timedelta(seconds=60)
    assert await house.desk.authenticated(token) is None


# --- scopes and chains ------------------------------------------------------------------------------------------------


async def test_a_token_shows_the_tools_of_its_scopes_only(house: House) -> None:
    badge = await house.comes_in(house.badge(scopes=frozenset({"workspace:read"})))
    tools = list(house.world.definitions.values())
    assert {tool.name for tool in house.desk.visible(badge, tools)} == {"list_files", "read_file", "search"}


async def test_a_token_that_comes_short_is_told_every_scope_that_the_call_needs(house: House) -> None:
    badge = await house.comes_in()
    assert await house.desk.scopes_short(badge, "git_push") == ("forge:write", "workspace:read", "workspace:write")
    assert await house.desk.scopes_short(badge, "list_files") == ()
    assert await house.desk.scopes_short(badge, "roll_back") == (), "no scope would help: its role has no such tool"
    assert [one.rules for one in await house.entries(CallRefused)] == [("insufficient-scope",)]


async def test_a_tainted_program_is_offered_no_wider_scope(house: House) -> None:
    badge = await house.comes_in()
    house.desk.taint(badge.session)
    assert await house.desk.scopes_short(badge, "git_push") == ()


async def test_who_was_lent_authority_may_do_what_both_may_and_no_more(house: House) -> None:
    lender = house.badge(session="client.editor/9", allowed=("src/**",), scopes=frozenset({"workspace:write"}))
    borrower = await house.comes_in(house.badge(allowed=("src/**", "tests/**"), parent=lender))
    fine = await house.call(borrower, "write_file", 0, path="src/new.py", content="x")
    outside = await house.call(borrower, "write_file", 1, path="tests/new.py", content="x")
    unseen = await house.call(borrower, "list_files", 2)
    assert isinstance(fine, Allowed)
    assert isinstance(outside, Denied)
    assert any(rule.startswith("chain/") for rule in outside.rules)
    assert unseen.rules == ("tool-not-granted",), "the lender's token does not cover reading"


async def test_a_stop_of_the_lender_stops_the_borrower(house: House) -> None:
    lender = house.badge(session="client.editor/9")
    borrower = await house.comes_in(house.badge(parent=lender))
    await house.world.revoke(lender.session)  # type: ignore[arg-type]
    assert (await house.call(borrower, "list_files")).rules == ("control/revoked",)


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_over_its_rate_a_session_is_refused_and_one_refusal_stands_for_all_of_the_minute(tmp_path: Path) -> None:
    house = House(tmp_path, session_calls_per_minute=3)
    badge = await house.comes_in()
    answers = [await house.call(badge, "list_files", index) for index in range(20)]
    assert [isinstance(one, Allowed) for one in answers] == [True] * 3 + [False] * 17
    assert [one.rules for one in await house.entries(CallRefused)] == [("rate-limit",)]
    house.world.clock.at += timedelta(seconds=61)
    assert isinstance(await house.call(badge, "list_files", 20), Allowed), "a burst ends no session"


async def test_the_sessions_of_a_role_share_its_rate(tmp_path: Path) -> None:
    house = House(tmp_path, role_calls_per_minute=4)
    one = await house.comes_in()
    two = await house.comes_in(house.badge(session=client_session("editor", 2)), shows="u")
    answers = [await house.call(badge, "list_files", index) for index in range(3) for badge in (one, two)]
    assert sum(isinstance(answer, Allowed) for answer in answers) == 4


async def test_when_the_count_of_calls_cannot_be_reached_no_call_is_allowed(house: House) -> None:
    badge = await house.comes_in()
    house.limits.down = True
    assert (await house.call(badge, "list_files")).rules == ("limits-unavailable",)


# --- records without turns --------------------------------------------------------------------------------------------


async def test_calls_are_written_down_when_there_are_many(house: House) -> None:
    badge = await house.comes_in()
    for index in range(RECORDED_AT_ONCE):
        await house.call(badge, "list_files", index)
    await house.desk.close()
    recorded = await house.entries(CallsRecorded)
    assert [call.index for one in recorded for call in one.calls] == list(range(RECORDED_AT_ONCE))
    assert all(call.allowed and call.rules for one in recorded for call in one.calls)


async def test_however_many_calls_come_in_one_second_their_records_fit_the_log(tmp_path: Path) -> None:
    house = House(tmp_path, session_calls_per_minute=10_000, role_calls_per_minute=10_000)
    badge = await house.comes_in(house.badge(scopes=frozenset({"workspace:write", "workspace:read", "forge:write"})))
    for index in range(600):
        assert isinstance(await house.call(badge, "list_files", index), Allowed)
    assert isinstance(await house.call(badge, "git_push", 600, branch=badge.branch), Allowed)
    recorded = await house.entries(CallsRecorded)
    assert [call.index for one in recorded for call in one.calls] == list(range(600))
    assert max(len(one.calls) for one in recorded) <= RECORDED_AT_ONCE


async def test_an_engine_that_failed_once_hides_no_tool_for_good(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    badge = await house.comes_in()
    monkeypatch.setattr(house.world.authority, "visible_tools", lambda *_, **__: ())
    assert (await house.call(badge, "list_files")).rules == ("tool-not-granted",)
    monkeypatch.undo()
    assert isinstance(await house.call(badge, "list_files", 1), Allowed)


async def test_calls_are_in_the_log_before_an_effect_of_theirs_is_allowed(house: House) -> None:
    badge = await house.comes_in(house.badge(scopes=frozenset({"workspace:write", "forge:write"})))
    await house.call(badge, "write_file", 0, path="src/new.py", content="x")
    assert isinstance(await house.call(badge, "git_push", 1, branch=badge.branch), Allowed)
    assert [call.tool for one in await house.entries(CallsRecorded) for call in one.calls] == ["write_file"]


async def test_nothing_has_an_effect_while_the_log_takes_no_records(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    badge = await house.comes_in(house.badge(scopes=frozenset({"workspace:write", "forge:write"})))
    await house.call(badge, "write_file", 0, path="src/new.py", content="x")

    async def full(*_: Any, **__: Any) -> None:
        raise Unavailable("the disk is full", "Free some space")

    monkeypatch.setattr(house.world.log, "append", full)
    denied = await house.call(badge, "git_push", 1, branch=badge.branch)
    assert isinstance(denied, Denied)
    assert "log-unavailable" in denied.rules
    assert "not-in-the-log" in denied.rules
    monkeypatch.undo()
    assert isinstance(await house.call(badge, "git_push", 2, branch=badge.branch), Allowed)
    assert [call.tool for one in await house.entries(CallsRecorded) for call in one.calls] == ["write_file"]


async def test_another_controller_counts_on_where_this_one_refused(house: House, tmp_path: Path) -> None:
    badge = await house.comes_in()
    other = House(tmp_path / "other")
    other.desk = SessionDesk(
        log=house.world.log,
        seals=house.world.seals,
        authority=house.world.authority,
        bounds=Bounds(session_refusals=2),
        clock=house.world.clock,
        limits=house.limits,
        visitors=house.known,
        resource=lambda: HERE,
    )
    await other.desk.authenticated("t")
    for index in range(2):
        await house.call(badge, "read_file", index, path="config/.env")
    assert (await other.call(badge, "list_files", 9)).rules == ("refused-too-often",)


async def test_many_calls_at_once_are_each_recorded_once(house: House) -> None:
    badge = await house.comes_in()
    await asyncio.gather(*(house.call(badge, "list_files", index) for index in range(200)))
    await house.desk.close()
    indices = [call.index for one in await house.entries(CallsRecorded) for call in one.calls]
    assert sorted(indices) == list(range(200))
