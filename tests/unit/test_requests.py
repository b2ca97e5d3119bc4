"""What agents say is written down once, under their own name, and takes back nobody else's word."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, WHY, ZERO, HandClock, entries, sample

from controller.domain import events as e
from controller.domain.bounds import Bounds
from controller.domain.control import People, family_of, fold_people, undo_of
from controller.domain.entry import Caller, Draft
from controller.domain.guards import Guard
from controller.domain.ids import (
    CONTROL,
    Branch,
    Commit,
    DeliveryId,
    EffectKey,
    Repository,
    Service,
    StreamId,
    client_session,
    delivery_stream,
    people_stream,
)
from controller.errors import Refused, Unavailable
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Badge, Receipt, Rejected
from controller.requests import ATTEMPTS, AgentRequests, Place, standing

FIRST, SECOND = DeliveryId("shop-1a2b3c"), DeliveryId("shop-4d5e6f")
SHOP, SERVICE = Repository("shop"), Service("shop")
SCOPE = "service:shop"


class BusyLog(SqliteLog):
    """Somebody else is always quicker, as often as `rivals` says: the same entry is appended just before."""

    rivals = 0

    async def append(
        self, drafts: Sequence[Draft], *, expect: Mapping[StreamId, int], by: Caller, guards: Sequence[Guard] = ()
    ) -> Receipt | Rejected:
        if self.rivals and by.principal.startswith("agent:"):
            self.rivals -= 1
            stream = drafts[0].stream
            frozen = Draft(stream, sample(e.Frozen, scope="service:other"))
            await super().append([frozen], expect={stream: expect[stream]}, by=BY)
        return await super().append(drafts, expect=expect, by=by, guards=guards)


class Desk:
    """Two delivered changes, and sessions of agents."""

    def __init__(self, folder: Path) -> None:
        self.log = BusyLog(":memory:", HandClock(), inline=True)
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False))
        self.requests = self.requests_within(Bounds())

    def requests_within(self, bounds: Bounds) -> AgentRequests:
        return AgentRequests(log=self.log, seals=self.seals, policy=lambda: ZERO, bounds=bounds)

    async def session(self, name: str = "helper", role: str = "on-call") -> Badge:
        session = client_session(name, 1)
        badge = Badge(
            session=session,
            role=role,
            delivery=f"client.{name}",
            repository=SHOP,
            branch=Branch(f"agent/client.{name}/1"),
            base=Commit("1" * 40),
            allowed=(),
            protected=(),
            on_behalf_of="person:0123456789ab",
        )
        await self.add(badge.stream, sample(e.ClientSessionStarted, role=role))
        return badge

    async def add(self, stream: StreamId, *events: e.Event) -> None:
        row = await self.log.stream(stream)
        drafts = [Draft(stream, event) for event in events]
        assert isinstance(await self.log.append(drafts, expect={stream: row.version if row else 0}, by=BY), Receipt)

    async def people(self, delivery: DeliveryId = FIRST) -> People:
        return fold_people(await self.log.read(people_stream(delivery)))

    async def says(self, act: str, *, of: DeliveryId = FIRST) -> None:
        await self.add(people_stream(of), sample(e.PersonActed, act=act, person="person:olga", event_id=act))

    async def merged(self, delivery: DeliveryId, depth: int = 0, root: DeliveryId | None = None) -> None:
        """Landed on main."""
        head, title = Commit("2" * 40), await self.seals.seal("Add a total")
        request = sample(
            e.TaskRequested,
            delivery=delivery,
            repository=SHOP,
            task=title,
            cause=e.Cause.TASK,
            after=None,
            root=root or delivery,
            depth=depth,
            asked_by="person:ann",
        )
        await self.add(
            delivery_stream(delivery),
            request,
            sample(e.TaskAccepted),
            sample(e.ChangeAuthored, head=head),
            sample(e.PullRequestOpened, head=head),
            sample(e.CiStarted, head=head),
            sample(e.CiReported, head=head, passed=True),
            sample(e.RiskClassified),
            sample(e.Cleared, head=head),
            sample(e.Merged, commit=head),
        )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.log.close()


def at(badge: Badge, index: int) -> Place:
    return Place(badge, EffectKey(f"agent/{badge.session}/0/{index}"), 0, index)


# --- holds ------------------------------------------------------------------------------------------------------------


async def test_a_hold_stands_in_every_delivery_of_the_release_with_sealed_words_under_the_agents_name(
    desk: Desk,
) -> None:
    badge = await desk.session()
    await desk.requests.hold(at(badge, 1), (FIRST, SECOND), "the dashboards look odd", WHY)
    for delivery in (FIRST, SECOND):
        assert (await desk.people(delivery)).held_by == badge.principal
    [entry] = await desk.log.read(people_stream(FIRST))
    assert isinstance(entry.event, e.AgentActed)
    assert (entry.principal, entry.on_behalf_of) == ("agent:on-call/client.helper/1", "person:0123456789ab")
    assert b"dashboards" not in entry.leaf
    assert await desk.seals.open(entry.event.words) == "the dashboards look odd"


async def test_the_same_hold_said_again_after_a_crash_is_one_hold(desk: Desk) -> None:
    badge = await desk.session()
    for _ in range(3):
        await desk.requests.hold(at(badge, 1), (FIRST,), "odd", WHY)
    assert len(await desk.log.read(people_stream(FIRST))) == 1


async def test_a_role_takes_back_its_own_hold_from_another_session_and_no_other_roles(desk: Desk) -> None:
    helper, second = await desk.session(), await desk.session("second")
    reviewer = await desk.session("third", role="compliance")
    await desk.requests.hold(at(helper, 1), (FIRST,), "odd", WHY)
    await desk.requests.hold(at(reviewer, 1), (FIRST, SECOND), "odd too", WHY)
    assert await desk.requests.release(at(second, 1), (FIRST, SECOND), WHY) == [FIRST]
    assert (await desk.people(FIRST)).held_by == reviewer.principal
    assert (await desk.people(SECOND)).held_by == reviewer.principal
    assert len(await desk.log.read(people_stream(SECOND))) == 1, "what it does not hold, it says nothing of"


async def test_a_persons_hold_outlasts_an_agents_release_and_a_persons_release_ends_every_hold(desk: Desk) -> None:
    badge = await desk.session()
    await desk.says("hold")
    await desk.requests.hold(at(badge, 1), (FIRST,), "odd", WHY)
    await desk.requests.release(at(badge, 2), (FIRST,), WHY)
    assert (await desk.people()).held_by == "person:olga"
    await desk.requests.hold(at(badge, 3), (FIRST,), "odd", WHY)
    await desk.says("release")
    assert (await desk.people()).held_by is None


def test_a_fold_of_people_counts_what_agents_said_as_versions_too() -> None:
    hold = sample(e.AgentActed, act="hold", agent="on-call", session="client.helper/1")
    folded = fold_people(entries("people/shop-1a2b3c", hold, sample(e.PersonActed, act="hold", person="olga"), hold))
    assert (folded.version, folded.held_by, len(folded.agents_holding)) == (3, "olga", 1)


# --- stops ------------------------------------------------------------------------------------------------------------


async def test_a_stop_says_which_session_asked_and_keeps_its_words_sealed_in_that_sessions_stream(desk: Desk) -> None:
    badge = await desk.session()
    assert await desk.requests.stop(at(badge, 1), SERVICE, WHY)
    [entry] = await desk.log.read(CONTROL)
    stopped = entry.event
    assert isinstance(stopped, e.Stopped)
    assert (stopped.scope, stopped.by, stopped.reason) == (
        SCOPE,
        badge.principal,
        "asked for by session client.helper/1",
    )
    assert [one.kind for one in await desk.log.read(badge.stream)] == ["ClientSessionStarted", "ReasoningRecorded"]
    assert await desk.requests.stop(at(badge, 1), SERVICE, WHY), "the same call after a crash"
    assert len(await desk.log.read(CONTROL)) == 1


async def test_who_comes_second_stops_nothing_and_two_at_once_stop_it_once(desk: Desk) -> None:
    badges = [await desk.session(f"agent{number}") for number in range(6)]
    stopped = await asyncio.gather(*(desk.requests.stop(at(one, 1), SERVICE, WHY) for one in badges))
    assert sorted(stopped) == [False] * 5 + [True]
    assert len(await desk.log.read(CONTROL)) == 1


async def test_a_stop_is_lifted_by_its_role_only_while_nobody_else_has_stopped_the_service(desk: Desk) -> None:
    helper, other = await desk.session(), await desk.session("third", role="compliance")
    await desk.requests.stop(at(helper, 1), SERVICE, WHY)
    assert await desk.requests.resume(at(other, 1), SERVICE) == [helper.principal]
    await desk.add(CONTROL, sample(e.Frozen, scope=SCOPE))
    assert await desk.requests.resume(at(helper, 2), SERVICE) == ["a breaker"]
    await desk.add(CONTROL, sample(e.Resumed, scope=SCOPE, by="person:olga"))
    assert await desk.requests.stop(at(helper, 3), SERVICE, WHY)
    assert await desk.requests.resume(at(helper, 4), SERVICE) == []
    assert standing(await desk.log.read(CONTROL), SCOPE) == []


async def test_a_stop_of_everything_is_not_an_agents_to_lift(desk: Desk) -> None:
    badge = await desk.session()
    await desk.add(CONTROL, sample(e.Stopped, scope="all", by=badge.principal))
    await desk.requests.resume(at(badge, 1), SERVICE)
    assert [(row.scope, row.state) for row in await desk.log.control()] == [("all", "stopped")]


async def test_an_agent_is_written_down_though_others_write_at_the_same_time_and_gives_up_at_a_bound(
    desk: Desk,
) -> None:
    badge = await desk.session()
    desk.log.rivals = ATTEMPTS - 1
    assert await desk.requests.stop(at(badge, 1), SERVICE, WHY)
    desk.log.rivals = ATTEMPTS
    with pytest.raises(Unavailable, match="too busy"):
        await desk.requests.stop(at(badge, 2), Service("billing"), WHY)


async def test_a_session_that_has_not_begun_stops_nothing(desk: Desk) -> None:
    badge = replace(await desk.session(), session=client_session("nobody", 1))
    with pytest.raises(Refused, match="has not begun"):
        await desk.requests.stop(at(badge, 1), SERVICE, WHY)
    assert await desk.log.control() == []


# --- reverts ----------------------------------------------------------------------------------------------------------


async def test_a_revert_is_asked_for_once_whoever_asks(desk: Desk) -> None:
    badges = [await desk.session(f"agent{number}") for number in range(4)]
    await desk.merged(FIRST)
    found = await asyncio.gather(
        *(desk.requests.revert(at(one, 1), FIRST, "users complain") for one in badges), return_exceptions=True
    )
    assert [one for one in found if not isinstance(one, BaseException)] == [undo_of(FIRST)]
    assert all(isinstance(one, Refused | str) for one in found), found
    assert len(await desk.log.read(delivery_stream(undo_of(FIRST)))) == 1


@pytest.mark.parametrize(
    ("bounds", "depth", "words"),
    [
        (Bounds(spawn_depth=2), 2, "stands 2 deep below its request; 2 is the bound"),
        (Bounds(fan_out_per_root=1), 0, "has brought about 1 deliveries; 1 is the bound"),
    ],
)
async def test_reverts_are_bounded_in_depth_and_number(desk: Desk, bounds: Bounds, depth: int, words: str) -> None:
    badge = await desk.session()
    await desk.merged(FIRST, depth=depth)
    await desk.merged(family_of(FIRST)[2], depth=1, root=FIRST)
    with pytest.raises(Refused, match=words):
        await desk.requests_within(bounds).revert(at(badge, 1), FIRST, "users complain")
    assert await desk.log.stream(delivery_stream(undo_of(FIRST))) is None


# --- revoked meanwhile ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["hold", "stop", "revert", "reason"])
async def test_nothing_that_a_session_says_is_taken_down_once_it_is_revoked(desk: Desk, act: str) -> None:
    await desk.merged(FIRST)
    badge = await desk.session()
    place = at(badge, 0)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "hold": lambda: desk.requests.hold(place, [FIRST], "wait", WHY),
        "stop": lambda: desk.requests.stop(place, SERVICE, WHY),
        "revert": lambda: desk.requests.revert(place, FIRST, "it is bad"),
        "reason": lambda: desk.requests.reason(place, WHY),
    }
    await desk.add(CONTROL, sample(e.SessionRevoked, session=badge.session))
    before = (await desk.log.head()).size
    with pytest.raises(Refused, match="has been revoked"):
        await acts[act]()
    assert (await desk.log.head()).size == before
    other = await desk.session("other")
    assert await desk.requests.stop(at(other, 0), SERVICE, WHY)
