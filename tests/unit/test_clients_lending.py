"""Authority that is lent: never wider, longer or deeper, and gone with its lender; and what is kept of tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from clients_kit import OWN, RESOURCE, Replica
from facts_kit import AT, HandClock, sample

from controller.client_registry import covers
from controller.client_sessions import Loan, Proven
from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.ids import agent_stream, session_stream
from controller.errors import Refused
from controller.ports import ToolDefinition

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


# --- lending ----------------------------------------------------------------------------------------------------------


async def test_a_lent_session_stands_on_its_lender(house: Replica) -> None:
    await house.register()
    parent = await house.sign_in()
    child = await house.lend(parent.token, scopes=("workspace:read",), allowed_paths=("src/web/**",))
    badge = (await house.known(child.token)).badge
    assert [link.session for link in badge.chain] == ["client.build_bot/2", "client.build_bot/1"]
    assert (badge.scopes, badge.allowed) == (frozenset({"workspace:read"}), ("src/web/**",))
    assert badge.on_behalf_of == house.seals.pseudonym("olga")
    entry = (await house.log.read(agent_stream(child.session)))[0]
    assert entry.principal == "agent:contributor/client.build_bot/1"


@pytest.mark.parametrize(
    ("wider", "why"),
    [
        ({"scopes": ("deploy:write",)}, "not among those given"),
        ({"scopes": ("workspace:read", "forge:write")}, "not among those given"),
        ({"allowed_paths": ("**",)}, "not within"),
        ({"allowed_paths": ("tests/**",)}, "not within"),
        ({"role": "author"}, "no session is lent as"),
    ],
)
async def test_nothing_is_lent_that_the_lender_has_not_got(house: Replica, wider: dict[str, Any], why: str) -> None:
    await house.register()
    parent = await house.sign_in(scopes=("workspace:read", "workspace:write"))
    with pytest.raises(Refused, match=why):
        await house.lend(parent.token, **wider)


async def test_a_lent_session_never_outlives_its_lenders_token(house: Replica) -> None:
    await house.register()
    parent = await house.sign_in(seconds=300)
    child = await house.lend(parent.token, seconds=3_600)
    grandchild = await house.lend(child.token, seconds=3_600)
    assert child.expires_at == grandchild.expires_at == parent.expires_at
    house.later(seconds=300)
    assert await house.visit(grandchild.token) is None


async def test_authority_is_lent_no_deeper_than_the_bound(house: Replica) -> None:
    await house.register()
    token = (await house.sign_in()).token
    for _ in range(house.bounds.spawn_depth):
        token = (await house.lend(token)).token
    with pytest.raises(Refused, match="the bound is 2"):
        await house.lend(token)


async def test_a_session_lends_to_few_at_a_time(another: Another) -> None:
    house = another(bounds=Bounds(fan_out_per_root=2))
    await house.register()
    parent = await house.sign_in(seconds=3_600)
    for _ in range(2):
        await house.lend(parent.token, seconds=60)
    with pytest.raises(Refused, match="lends to 2 others"):
        await house.lend(parent.token, seconds=60)
    house.later(seconds=60)
    assert (await house.lend(parent.token, seconds=60)).session == "client.build_bot/4"


async def test_a_session_that_read_an_outsiders_text_lends_nothing(house: Replica) -> None:
    await house.register()
    parent = await house.sign_in()
    child = await house.lend(parent.token)
    await house.add(agent_stream(parent.session), e.CallsRecorded(calls=(), tainted=True))
    for token in (parent.token, child.token):
        with pytest.raises(Refused, match="somebody outside"):
            await house.lend(token)


@pytest.mark.parametrize("how", ["ended", "retired"])
async def test_a_lent_session_falls_with_its_lender(another: Another, how: str) -> None:
    one, two = another(), another()
    await one.register()
    parent = await one.sign_in()
    child = await one.lend(parent.token)
    badge = (await two.known(child.token)).badge
    assert await two.clients.standing(badge)
    if how == "ended":
        await one.add(agent_stream(parent.session), e.ClientSessionEnded(reason="enough"))
    else:
        await one.retire()
    assert not await two.clients.standing(badge)
    assert await two.visit(child.token) is None


async def test_a_lent_session_is_never_continued_as_the_clients_own(house: Replica) -> None:
    await house.register()
    parent = await house.sign_in()
    child = await house.lend(parent.token)
    assert child.session == "client.build_bot/2"
    assert (await house.sign_in()).session == parent.session


async def test_a_session_of_the_loop_lends_too_and_its_end_ends_the_loan(house: Replica) -> None:
    own = await house.begin_own()
    token = house.desk.sign_in(own)
    until = await house.clients.life_of(own, token)
    assert until == AT + timedelta(seconds=house.bounds.session_seconds)
    child = await house.clients.lend(own, Loan("contributor", 86_400, ("workspace:read",)), until=until)
    assert (child.session, child.expires_at) == ("client.shop-1a2b3c/1", until)
    badge = (await house.known(child.token)).badge
    assert [link.role for link in badge.chain] == ["contributor", "author"]
    assert badge.on_behalf_of == own.on_behalf_of
    assert await house.clients.standing(badge)
    await house.add(session_stream(OWN), sample(e.SessionEnded))
    assert not await house.clients.standing(badge)
    assert await house.visit(child.token) is None
    with pytest.raises(Refused, match="has ended"):
        await house.clients.lend(own, Loan("contributor", 60), until=until)


@pytest.mark.parametrize(
    ("wide", "narrow", "within"),
    [
        ("**", "anything/**", True),
        ("src/**", "src/**", True),
        ("src/**", "src/a/*.py", True),
        ("src/**", "srcs/a", False),
        ("src/**", "src", False),
        ("src/*", "src/a/b", False),
        ("s*/**", "src/a", False),
        ("src/a", "src/**", False),
    ],
)
def test_one_pattern_covers_another_only_where_its_spelling_shows_it(wide: str, narrow: str, *, within: bool) -> None:
    assert covers(wide, narrow) == within


# --- tokens by somebody else ------------------------------------------------------------------------------------------


async def test_an_issuers_token_is_written_down_once_and_narrowed_to_what_is_registered(another: Another) -> None:
    one, two = another(), another()
    await one.register(scopes=("workspace:read", "workspace:write"))
    proven = Proven("build_bot", ("workspace:read", "deploy:write"), AT + timedelta(hours=1))
    visits = [await house.clients.admitted("head.body.sign", proven, AT) for house in (one, two, one)]
    assert all(visit is not None and visit.badge.scopes == frozenset({"workspace:read"}) for visit in visits)
    assert await kinds(one, "client.build_bot/1") == ["ClientSessionStarted", "TokenIssued"]


async def test_an_issuers_token_lets_nobody_in_whom_no_person_let_in(house: Replica) -> None:
    proven = Proven("stranger", ("workspace:read",), AT + timedelta(hours=1))
    assert await house.clients.admitted("head.body.sign", proven, AT) is None
    await house.register()
    await house.retire()
    known = Proven("build_bot", ("workspace:read",), AT + timedelta(hours=1))
    assert await house.clients.admitted("head.body.sign", known, AT) is None


# --- what is kept -----------------------------------------------------------------------------------------------------


async def test_neither_secrets_nor_tokens_are_in_any_file_of_the_state_folder(house: Replica) -> None:
    registered = await house.register()
    issued = await house.sign_in()
    child = await house.lend(issued.token)
    badge = await house.desk.authenticated(issued.token)
    assert badge is not None
    await house.desk.decide(badge, READ, "list_files", {}, turn=0, index=0)
    assert registered.secret is not None
    shown = (registered.secret, issued.token, child.token)
    hidden = [part.encode() for whole in shown for part in (whole, whole.rsplit(".", maxsplit=1)[-1])]
    files = [path for path in house.folder.rglob("*") if path.is_file()]
    assert {"log.db", "log.db-wal"} & {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not any(part in content for part in hidden), path
    async for entry in house.log.scan():
        assert not any(part in entry.leaf for part in hidden), entry.kind
