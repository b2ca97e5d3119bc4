"""Programs outside: who lets them in, what their tokens are worth, whom they may lend to, and how all of it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from clients_kit import BASE, CONFIG, MAIN, RESOURCE, SCOPES, SHOP, Replica
from facts_kit import AT, HandClock, sample

from controller.client_sessions import CONTINUED_S, MAX_TOKENS
from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.ids import Commit, agent_stream, client_stream
from controller.errors import ConfigError, Refused
from controller.ports import ToolDefinition
from rbac import tokens

READ = ToolDefinition("list_files", "", {"type": "object", "properties": {}, "additionalProperties": False}, "read")
Another = Callable[..., Replica]


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Another]:
    """One more controller on the same folder, with the same clock."""
    made: list[Replica] = []
    clock = HandClock()

    def one(*, resource: str = RESOURCE, bounds: Bounds | None = None) -> Replica:
        made.append(Replica(tmp_path, clock, resource=resource, bounds=bounds))
        return made[-1]

    yield one
    for replica in made:
        replica.close()


@pytest.fixture
def house(another: Another) -> Replica:
    return another()


async def kinds(house: Replica, stream: str) -> list[str]:
    return [entry.kind for entry in await house.log.read(agent_stream(stream))]


# --- letting in -------------------------------------------------------------------------------------------------------


async def test_a_person_lets_a_program_in_and_is_told_its_secret_once(house: Replica) -> None:
    registered = await house.register()
    again = await house.register()
    assert registered.secret is not None
    assert again.secret is None
    (entry,) = await house.log.read(client_stream("build_bot"))
    assert isinstance(entry.event, e.ClientRegistered)
    assert entry.principal == entry.event.by == house.seals.pseudonym("olga")
    assert entry.event.secret == tokens.digest_of(registered.secret)
    assert (entry.event.scopes, entry.event.allowed_paths) == (SCOPES, CONFIG.allowed)


async def test_a_name_is_given_once_and_never_again(house: Replica) -> None:
    await house.register()
    with pytest.raises(Refused, match="already"):
        await house.register(event_id="another act")
    await house.retire()
    with pytest.raises(Refused, match="already"):
        await house.register(event_id="a third")


async def test_whoever_may_not_say_who_comes_in_lets_nobody_in(house: Replica) -> None:
    with pytest.raises(Refused, match="may not say") as no:
        await house.register(person="mallory")
    assert no.value.rules == ("people/default-deny",)
    assert await house.registry.listed() == []


@pytest.mark.parametrize("role", ["author", "merger", "releaser", "responder", "", "root"])
async def test_no_program_comes_in_as_a_step_of_the_loop(house: Replica, role: str) -> None:
    with pytest.raises(Refused, match="cannot be"):
        await house.register(role=role)


@pytest.mark.parametrize("name", ["", "Bot", "9bot", "a-b", "a/b", "a" * 32, "bot\n", "böt"])
async def test_a_clients_name_has_one_spelling(house: Replica, name: str) -> None:
    with pytest.raises(Refused, match="no name of a client"):
        await house.register(name)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"scopes": ("deploy:write",)}, "give nothing under scope deploy:write"),
        ({"scopes": ("everything",)}, "give nothing under scope everything"),
        ({"repository": "billing"}, "not served here"),
        ({"allowed_paths": ("tests/**",)}, "not within"),
        ({"allowed_paths": ("src/../**",)}, "no segment"),
        ({"allowed_paths": ("**",)}, "not within"),
    ],
)
async def test_a_registration_gives_no_more_than_role_and_repository_do(
    house: Replica, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        await house.register(**given)
    assert await house.registry.listed() == []


async def test_two_people_at_once_register_one_client(another: Another) -> None:
    one, two = another(), another()
    results = await asyncio.gather(one.register(event_id="1"), two.register(event_id="2"), return_exceptions=True)
    assert sum(isinstance(result, Refused) for result in results) == 1
    assert len(await one.log.read(client_stream("build_bot"))) == 1


async def test_the_list_tells_also_of_those_that_were_retired(house: Replica) -> None:
    await house.register("a_bot")
    await house.register("b_bot")
    await house.retire("a_bot")
    await house.retire("a_bot")
    listed = await house.registry.listed()
    assert [(client.name, client.retired is None) for client in listed] == [("a_bot", False), ("b_bot", True)]


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_stands_for_a_session_with_a_branch_and_narrowed_scopes_of_its_own(house: Replica) -> None:
    await house.register(allowed_paths=("src/web/**",))
    issued = await house.sign_in(scopes=("workspace:read",))
    visit = await house.known(issued.token)
    badge = visit.badge
    assert (badge.session, badge.role, badge.delivery) == ("client.build_bot/1", "contributor", "client.build_bot")
    assert (badge.branch, badge.base, badge.repository) == ("agent/client.build_bot/1", BASE, SHOP)
    assert (badge.allowed, badge.protected) == (("src/web/**",), CONFIG.protected)
    assert (badge.scopes, badge.on_behalf_of) == (frozenset({"workspace:read"}), house.seals.pseudonym("olga"))
    assert (visit.audience, visit.expires_at) == (RESOURCE, AT + timedelta(seconds=900))


async def test_every_token_of_a_day_is_for_one_session(house: Replica) -> None:
    await house.register()
    first = await house.sign_in()
    house.later(hours=23)
    second = await house.sign_in(seconds=tokens.MAX_SECONDS)
    assert first.session == second.session == "client.build_bot/1"
    assert first.token != second.token
    assert await house.visit(first.token) is None
    assert await house.visit(second.token) is not None
    assert await kinds(house, first.session) == ["ClientSessionStarted", "TokenIssued", "TokenIssued"]


async def test_the_next_day_begins_from_the_tip_of_that_day(house: Replica) -> None:
    await house.register()
    await house.sign_in()
    house.later(seconds=CONTINUED_S)
    house.tips[SHOP, MAIN] = Commit("b" * 40)
    issued = await house.sign_in()
    badge = (await house.known(issued.token)).badge
    assert (badge.session, badge.base) == ("client.build_bot/2", "b" * 40)


async def test_a_session_whose_time_is_over_is_ended_when_the_next_begins(house: Replica) -> None:
    await house.register()
    first = await house.sign_in()
    house.later(days=3)
    await house.sign_in()
    assert (await kinds(house, first.session))[-1] == "ClientSessionEnded"
    assert len(await house.records.open_sessions("build_bot")) == 1


async def test_sessions_are_counted_without_gaps_however_many_there_were(house: Replica) -> None:
    await house.register()
    for n in range(1, 12):
        assert (await house.sign_in()).session == f"client.build_bot/{n}"
        house.later(days=3)


async def test_a_session_with_very_many_tokens_is_followed_by_another(house: Replica) -> None:
    await house.register()
    first = await house.sign_in()
    await house.add(agent_stream(first.session), *[sample(e.TokenIssued) for _ in range(MAX_TOKENS)])
    assert (await house.sign_in()).session == "client.build_bot/2"


async def test_a_revoked_session_is_not_continued(house: Replica) -> None:
    await house.register()
    first = await house.sign_in()
    await house.revoke(first.session)
    with pytest.raises(Refused, match="has ended"):
        await house.lend(first.token)
    assert (await house.sign_in()).session == "client.build_bot/2"
    assert await house.visit(first.token) is None


@pytest.mark.parametrize("seconds", [0, None, -1, tokens.MAX_SECONDS + 1])
async def test_a_token_for_nothing_or_for_ever_is_not_given(house: Replica, seconds: object) -> None:
    await house.register()
    with pytest.raises(ConfigError, match="a day"):
        await house.sign_in(seconds=seconds)
    assert await house.log.live("client/build_bot/") == []


async def test_a_token_is_worth_nothing_from_the_moment_it_ends(house: Replica) -> None:
    await house.register()
    issued = await house.sign_in(seconds=60)
    house.later(seconds=59)
    assert await house.visit(issued.token) is not None
    house.later(seconds=1)
    assert await house.visit(issued.token) is None


async def test_a_token_of_one_client_is_nothing_for_anothers_session(house: Replica) -> None:
    await house.register("a_bot")
    await house.register("b_bot")
    a, b = await house.sign_in("a_bot"), await house.sign_in("b_bot")
    crossed = ".".join([*b.token.split(".")[:2], a.token.split(".")[2]])
    assert tokens.session_in(crossed) == b.session
    assert await house.visit(crossed) is None


async def test_a_token_made_for_another_gateway_is_refused(another: Another) -> None:
    here, there = another(), another(resource="https://elsewhere.example/mcp")
    await here.register()
    issued = await there.sign_in()
    assert await there.visit(issued.token) is not None
    assert await here.visit(issued.token) is None
    assert await here.desk.authenticated(issued.token) is None


async def test_without_an_address_no_token_is_given(another: Another) -> None:
    nowhere = another(resource="")
    await nowhere.register()
    with pytest.raises(ConfigError, match=r"gateway\.port"):
        await nowhere.sign_in()


@pytest.mark.parametrize("token", ["", "fb1..", "fb1.x.y", "Bearer x", "\x00", "fb1." + "A" * 300 + ".B"])
async def test_garbage_is_nobody(house: Replica, token: str) -> None:
    await house.register()
    assert await house.visit(token) is None


async def test_a_client_gets_no_scope_that_it_was_not_given(house: Replica) -> None:
    await house.register(scopes=("workspace:read",))
    with pytest.raises(Refused, match="not among those given"):
        await house.sign_in(scopes=("workspace:read", "workspace:write"))


async def test_a_repository_without_its_branch_is_said_before_anything_is_written(house: Replica) -> None:
    await house.register()
    house.tips.clear()
    with pytest.raises(Refused, match="has no branch main"):
        await house.sign_in()
    assert await house.log.live("client/build_bot/") == []


async def test_many_at_once_get_a_token_each_for_one_session(another: Another) -> None:
    one, two = another(), another()
    await one.register()
    issued = await asyncio.gather(*(house.sign_in() for house in (one, two, one, two)))
    assert {each.session for each in issued} == {"client.build_bot/1"}
    assert all([await one.visit(each.token) for each in issued])


# --- the end of it ----------------------------------------------------------------------------------------------------


async def test_a_client_retired_by_one_controller_is_refused_by_the_other_on_its_next_call(another: Another) -> None:
    one, two = another(), another()
    await one.register()
    issued = await one.sign_in()
    badge = await two.desk.authenticated(issued.token)
    assert badge is not None
    assert not hasattr(await two.desk.decide(badge, READ, "list_files", {}, turn=0, index=0), "reason")
    await one.retire()
    assert await two.desk.authenticated(issued.token) is None
    assert not await two.clients.standing(badge)
    assert await two.visit(issued.token) is None
    with pytest.raises(Refused, match="retired"):
        await two.sign_in()


async def test_an_ended_session_takes_its_tokens_with_it(another: Another) -> None:
    one, two = another(), another()
    await one.register()
    issued = await one.sign_in()
    visit = await two.known(issued.token)
    await one.add(agent_stream(issued.session), e.ClientSessionEnded(reason="enough"))
    assert not await two.clients.standing(visit.badge)
    assert await two.visit(issued.token) is None


async def test_no_token_is_given_to_a_client_that_is_retired_meanwhile(house: Replica) -> None:
    await house.register()
    asked: list[str] = []

    async def tip(repository: str, branch: str) -> Commit:
        if not asked:
            asked.append(branch)
            await house.retire()
        return BASE

    house.clients._tip = tip  # the moment between the look and the append
    with pytest.raises(Refused, match="retired"):
        await house.sign_in()
    assert asked
    assert await house.log.live("client/build_bot/") == []
