"""A "no" that comes after a call was allowed and before the world is touched still holds."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, WHY, HandClock, sample

from controller.adapters.grants import RbacGrants
from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.guards import Guard
from controller.domain.ids import CONTROL, Branch, Commit, EffectKey, Repository, SessionId, StreamId, effect_stream
from controller.domain.verbs import CommentOnPullRequest, Ok, Port, PushBranch, Verb
from controller.gate import EffectGate, Grant
from controller.ledger.sqlite import SqliteLog
from controller.ports import Blocked, Done, Failed, Hands, Outcome, Receipt, Rejected
from rbac.decide import Authority
from rbac.model import Served

KEY = EffectKey("agent/client.bot/2/0/0")
SESSION, LENDER = StreamId("client/bot/2"), StreamId("client/bot/1")
PUSH = PushBranch(
    repository=Repository("shop"), branch=Branch("agent/client.bot/2"), commit=Commit("a" * 40), expect=None
)
SAY = CommentOnPullRequest(repository=Repository("shop"), number=1, text="hello")
AUTHORITY = Authority([Served(repository="shop", branch="main")])


class Racing(SqliteLog):
    """Something else is appended right before the next append of an agent: nobody could have read it."""

    first: Callable[[], Awaitable[None]] | None = None  # None: nobody is quicker

    async def append(
        self, drafts: Sequence[Draft], *, expect: Mapping[StreamId, int], by: Caller, guards: Sequence[Guard] = ()
    ) -> Receipt | Rejected:
        if self.first is not None and by.principal.startswith("agent:"):
            first, self.first = self.first, None
            await first()
        return await super().append(drafts, expect=expect, by=by, guards=guards)


class AnyPath:
    """Whatever a commit changes may be changed: these tests are about who asks."""

    async def may_change(self, agent: str, verb: Verb, subject: StreamId) -> Grant | None:
        del agent, verb, subject
        return None


class World:
    """A session that may push its branch, and hands that remember."""

    def __init__(self) -> None:
        self.log = Racing(":memory:", HandClock(), inline=True)
        self.acts: list[EffectKey] = []
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing
        hands: dict[Port, Hands] = {"forge": self}
        self.gate = EffectGate(
            log=self.log,
            clock=HandClock(),
            grants=RbacGrants(AUTHORITY),
            hands=hands,
            paths=AnyPath(),
            worker="w1",
            covered=lambda _: self.meanwhile(),
        )

    async def act(self, key: EffectKey, verb: Verb) -> Any:  # noqa: ARG002 - as hands are called
        self.acts.append(key)
        return Ok()

    async def find(self, key: EffectKey, verb: Verb) -> Any: ...

    async def add(self, stream: StreamId, event: e.Event) -> None:
        row = await self.log.stream(stream)
        kept = await self.log.append([Draft(stream, event)], expect={stream: row.version if row else 0}, by=BY)
        assert isinstance(kept, Receipt)

    async def asked(self, verb: Verb = PUSH, role: str = "contributor") -> Outcome:
        return await self.gate.act(role, verb, key=KEY, decision=WHY, subject=SESSION, sessions=(SESSION, LENDER))

    async def kinds(self) -> list[str]:
        return [entry.kind for entry in await self.log.read(effect_stream(KEY))]


async def _nothing() -> None: ...


def revoked(session: str) -> tuple[StreamId, e.Event]:
    return CONTROL, e.SessionRevoked(
        session=SessionId(session), by="person:0123456789ab", reason="enough", event_id="r"
    )


NOES: dict[str, tuple[StreamId, e.Event]] = {
    "the session": revoked("client.bot/2"),
    "its lender": revoked("client.bot/1"),
    "everything": (CONTROL, e.Stopped(scope="all", by="person:0123456789ab", reason="enough", event_id="s")),
    "the role": (CONTROL, e.Stopped(scope="agent:contributor", by="person:0123456789ab", reason="x", event_id="s")),
}
OVER: dict[str, tuple[StreamId, e.Event]] = {
    "the program": (StreamId("client/bot"), sample(e.ClientRetired)),
    "the session has ended": (SESSION, sample(e.ClientSessionEnded)),
    "its lender has ended": (LENDER, sample(e.ClientSessionEnded)),
}


@pytest.fixture
async def world() -> World:
    found = World()
    await found.add(StreamId("client/bot"), sample(e.ClientRegistered))
    for stream in (SESSION, LENDER):
        await found.add(stream, sample(e.ClientSessionStarted))
    return found


async def test_while_nobody_says_no_the_push_goes_out(world: World) -> None:
    assert isinstance(await world.asked(), Done)
    assert world.acts == [KEY]


@pytest.mark.parametrize("name", NOES)
async def test_a_no_in_the_moment_of_the_intent_leaves_no_intent_and_no_act(world: World, name: str) -> None:
    world.log.first = lambda: world.add(*NOES[name])
    assert isinstance(await world.asked(), Blocked)
    assert (world.acts, await world.kinds()) == ([], [])


@pytest.mark.parametrize("name", [*NOES, *OVER])
async def test_a_no_between_intent_and_act_stops_the_act(world: World, name: str) -> None:
    world.meanwhile = lambda: world.add(*{**NOES, **OVER}[name])
    outcome = await world.asked()
    assert isinstance(outcome, Blocked | Failed)
    assert world.acts == []
    for_good = name in OVER or name in ("the session", "its lender")
    assert await world.kinds() == ["EffectIntended", *(["EffectFailed"] if for_good else [])]


async def test_a_grant_taken_back_between_intent_and_act_stops_the_act(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = world.gate._grants
    granted = grants.may("contributor", PUSH, SESSION)

    async def taken_back() -> None:
        no = type(granted)(allowed=False, rules=("tool-not-granted",), reason="no grant gives it any more")
        monkeypatch.setattr(grants, "may", lambda *_: no)

    world.meanwhile = taken_back
    outcome = await world.asked()
    assert isinstance(outcome, Failed)
    assert "no grant gives it any more" in outcome.reason
    assert (world.acts, await world.kinds()) == ([], ["EffectIntended", "EffectFailed"])


@pytest.mark.parametrize("name", ["the session", "its lender"])
async def test_a_revoked_session_does_nothing_safe_either(world: World, name: str) -> None:
    world.log.first = lambda: world.add(*NOES[name])
    assert isinstance(await world.asked(SAY, "on-call"), Blocked)
    assert world.acts == []


async def test_a_stop_lets_what_is_safe_go_on(world: World) -> None:
    world.log.first = lambda: world.add(*NOES["everything"])
    assert isinstance(await world.asked(SAY, "on-call"), Done)


async def test_another_sessions_revocation_stops_nothing_here(world: World) -> None:
    world.log.first = lambda: world.add(*revoked("client.bot/3"))
    assert isinstance(await world.asked(), Done)
