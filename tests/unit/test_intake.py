"""The one way in: whose word counts, on what exactly, and that the same word twice is one word."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, ZERO, HandClock, sample

from controller.adapters.grants import ListedPeople
from controller.domain import events as e
from controller.domain.control import fold_people
from controller.domain.entry import Draft
from controller.domain.ids import (
    CONTROL,
    Branch,
    Commit,
    DeliveryId,
    Digest,
    Repository,
    SessionId,
    delivery_stream,
    people_stream,
    session_stream,
)
from controller.domain.risk import Colour, RiskVerdict
from controller.errors import Permanent, Refused
from controller.intake import TASK_BYTES, WORDS_BYTES, Act, Asked, Intake
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog

SHOP, MAIN = Repository("shop"), Branch("main")
HEAD, POLICY = Commit("a" * 40), Digest("sha256:" + "b" * 64)


class House:
    """A log, its seals, and a door that knows Ann and Olga."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(":memory:", HandClock(), inline=True)
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False))
        self.intake = Intake(log=self.log, seals=self.seals, standing=ListedPeople(("ann", "olga"), ZERO))

    async def ask(self, task: str = "Sort the cart", *, person: str = "ann", event_id: str = "m1") -> Asked:
        return await self.intake.ask(
            person, task, repository=SHOP, branch=MAIN, source="slack", event_id=event_id, feature="cart"
        )

    async def act(self, act: Act, delivery: DeliveryId, *, person: str = "olga", event_id: str = "m2") -> None:
        await self.intake.act(person, act, delivery, event_id=event_id)

    async def said(self, delivery: DeliveryId) -> list[e.PersonActed]:
        found = [entry.event for entry in await self.log.read(people_stream(delivery))]
        return [event for event in found if isinstance(event, e.PersonActed)]

    async def controls(self) -> list[str]:
        return [entry.kind for entry in await self.log.read(CONTROL)]

    async def go(self, delivery: DeliveryId, *events: e.Event) -> None:
        stream = delivery_stream(delivery)
        size = len(await self.log.read(stream))
        await self.log.append([Draft(stream, event) for event in events], expect={stream: size}, by=BY)

    async def yellow(self, *, tainted: bool = False) -> DeliveryId:
        """A delivery that waits for somebody's consent."""
        delivery = (await self.ask()).delivery
        change: Any = sample(e.ChangeAuthored, head=HEAD, tainted=tainted, cost_micro_usd=0)
        verdict = RiskVerdict(
            colour=Colour.YELLOW, rules=("size",), reason="it is large", approver="olga", policy=POLICY
        )
        steps = (
            sample(e.TaskAccepted),
            change,
            sample(e.PullRequestOpened, head=HEAD),
            sample(e.CiReported, head=HEAD, passed=True),
            sample(e.RiskClassified, verdict=verdict),
        )
        await self.go(delivery, *steps)
        return delivery


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.log.close()


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_a_task_is_taken_down_with_the_pseudonym_of_whoever_asked_and_its_words_are_sealed(house: House) -> None:
    asked = await house.ask("  Sort the cart\n")
    (first,) = await house.log.read(delivery_stream(asked.delivery))
    assert isinstance(first.event, e.TaskRequested)
    assert asked.new
    assert first.principal == first.event.asked_by == house.seals.pseudonym("ann")
    assert await house.seals.open(first.event.task) == "Sort the cart"
    assert b"Sort" not in first.leaf
    assert b"ann" not in first.leaf


async def test_the_same_event_twice_is_one_delivery(house: House) -> None:
    first = await house.ask(event_id="m1")
    again = await house.ask(event_id="m1")
    assert again == Asked(first.delivery, new=False)
    assert len(await house.log.live("delivery/")) == 1


async def test_the_same_event_at_the_same_moment_is_one_delivery(house: House) -> None:
    asked = await asyncio.gather(*(house.ask(event_id="m1") for _ in range(5)))
    assert len({one.delivery for one in asked}) == 1
    assert [one.new for one in asked].count(True) == 1


async def test_another_event_is_another_delivery_though_the_words_are_the_same(house: House) -> None:
    assert (await house.ask(event_id="m1")).delivery != (await house.ask(event_id="m2")).delivery


async def test_two_events_that_share_a_short_name_never_lose_a_request(house: House) -> None:
    """A delivery is named by 24 bits of its event's digest."""
    first = await house.ask(event_id="event-3181")
    assert first.delivery == "shop-4ff955"
    with pytest.raises(Refused, match="another request already") as refused:
        await house.ask(event_id="event-6501")
    assert "another event id" in refused.value.way_out


async def test_events_that_differ_only_far_beyond_the_bound_are_two(house: House) -> None:
    assert (await house.ask(event_id="m" * 300 + "1")).delivery != (await house.ask(event_id="m" * 300 + "2")).delivery
    assert not (await house.ask(event_id="m" * 300 + "1")).new


@pytest.mark.parametrize("task", ["", "   \n\t "])
async def test_an_empty_task_is_refused_and_leaves_no_trace(house: House, task: str) -> None:
    with pytest.raises(Refused, match="empty") as refused:
        await house.ask(task)
    assert "flyball run" in refused.value.way_out
    assert (await house.log.head()).size == 0


async def test_a_task_beyond_the_bound_is_refused_with_both_numbers(house: House) -> None:
    await house.ask("x" * TASK_BYTES)
    with pytest.raises(Refused, match=f"{TASK_BYTES + 2} bytes, the bound is {TASK_BYTES}"):
        await house.ask("x" * TASK_BYTES + "é", event_id="m2")
    assert (await house.log.head()).size == 1


async def test_somebody_who_is_not_listed_is_refused_whatever_they_want(house: House) -> None:
    delivery = (await house.ask()).delivery
    for attempt in (
        house.ask(person="mallory", event_id="m9"),
        house.act("hold", delivery, person="mallory"),
        house.intake.stop("mallory", "all", "why not", event_id="m9"),
        house.intake.resume("mallory", "all", "why not", event_id="m9"),
        house.intake.unstick_service("mallory", "shop", "production", event_id="m9"),
    ):
        with pytest.raises(Refused, match="mallory may not") as refused:
            await attempt
        assert refused.value.rules == ("people/default-deny",)
    assert (await house.log.head()).size == 1


async def test_nobody_and_an_event_without_a_name_do_not_get_in(house: House) -> None:
    with pytest.raises(Permanent, match="nobody is signed in"):
        await house.ask(person="")
    with pytest.raises(Permanent, match="without an id"):
        await house.ask(event_id="")


# --- acting on a delivery ---------------------------------------------------------------------------------------------


async def test_an_approval_binds_to_the_head_and_the_policy_that_stand(house: House) -> None:
    delivery = await house.yellow()
    await house.act("approve", delivery)
    (acted,) = await house.said(delivery)
    assert (acted.head, acted.policy, acted.person) == (HEAD, POLICY, house.seals.pseudonym("olga"))
    people = fold_people(await house.log.read(people_stream(delivery)))
    assert people.consent_to(HEAD, POLICY) == acted.person
    assert people.consent_to(Commit("c" * 40), POLICY) is None
    assert people.consent_to(HEAD, Digest("sha256:" + "0" * 64)) is None


async def test_the_same_act_twice_is_one_act(house: House) -> None:
    delivery = await house.yellow()
    for _ in range(3):
        await house.act("approve", delivery, event_id="click-1")
    assert len(await house.said(delivery)) == 1
    await house.act("approve", delivery, event_id="click-2")
    assert len(await house.said(delivery)) == 2


async def test_an_act_that_arrives_again_when_its_moment_has_passed_is_taken_as_it_was(house: House) -> None:
    delivery = (await house.ask()).delivery
    await house.go(delivery, e.Stuck(reason="an effect is unknown"))
    await house.act("unstick", delivery, event_id="click-1")
    await house.go(delivery, e.Unstuck(by="person:0123456789ab", to="NEW"))
    await house.act("unstick", delivery, event_id="click-1")
    assert len(await house.said(delivery)) == 1
    with pytest.raises(Refused, match="is NEW, not stuck"):
        await house.act("unstick", delivery, event_id="click-2")


async def test_acts_that_race_all_stand_once(house: House) -> None:
    delivery = (await house.ask()).delivery
    ids = ["a", "b", "a", "c", "b"]
    await asyncio.gather(*(house.act("hold", delivery, event_id=one) for one in ids))
    assert [acted.event_id for acted in await house.said(delivery)] == ["a", "b", "c"]


async def test_nobody_consents_to_what_does_not_ask_for_it(house: House) -> None:
    delivery = (await house.ask()).delivery
    for act in ("approve", "reject"):
        with pytest.raises(Refused, match="is NEW and waits for nobody's consent") as refused:
            await house.act(act, delivery)
        assert f"flyball show {delivery}" in refused.value.way_out


async def test_whoever_asked_for_a_tainted_change_may_not_let_it_through(house: House) -> None:
    delivery = await house.yellow(tainted=True)
    with pytest.raises(Refused, match="read text from outside"):
        await house.act("approve", delivery, person="ann")
    await house.act("approve", delivery, person="olga")
    assert len(await house.said(delivery)) == 1


async def test_whoever_asked_may_consent_when_nothing_from_outside_was_read(house: House) -> None:
    delivery = await house.yellow()
    await house.act("approve", delivery, person="ann")
    assert len(await house.said(delivery)) == 1


async def test_only_what_is_stuck_is_let_go_on(house: House) -> None:
    delivery = (await house.ask()).delivery
    with pytest.raises(Refused, match="is NEW, not stuck"):
        await house.act("unstick", delivery)
    await house.go(delivery, e.Stuck(reason="an effect is unknown"))
    await house.act("unstick", delivery)
    assert fold_people(await house.log.read(people_stream(delivery))).unstuck_times == 1


async def test_an_act_on_a_delivery_that_nobody_knows_names_the_way_out(house: House) -> None:
    for act in ("approve", "reject", "hold", "release", "promote", "unstick"):
        with pytest.raises(Refused, match="there is no delivery 'shop-ffffff'") as refused:
            await house.act(act, DeliveryId("shop-ffffff"))
        assert refused.value.way_out == "See them: flyball status"


async def test_words_beside_an_act_are_sealed_and_bounded(house: House) -> None:
    delivery = (await house.ask()).delivery
    await house.intake.act("olga", "hold", delivery, event_id="m2", words="wait " * 2_000)
    (acted,) = await house.said(delivery)
    assert acted.words is not None
    assert acted.words.size == WORDS_BYTES
    assert (await house.seals.open(acted.words)).startswith("wait wait")


# --- stops ------------------------------------------------------------------------------------------------------------


async def test_a_stop_stands_until_it_is_lifted(house: House) -> None:
    await house.intake.stop("ann", "repository:shop", "it smells", event_id="m1")
    (row,) = await house.log.control()
    assert (row.scope, row.state, row.reason) == ("repository:shop", "stopped", "it smells")
    await house.intake.resume("olga", "repository:shop", "aired", event_id="m2")
    assert await house.log.control() == []
    assert await house.controls() == ["Stopped", "Resumed"]


async def test_lifting_what_is_not_stopped_is_refused(house: House) -> None:
    await house.intake.stop("ann", "repository:shop", "it smells", event_id="m1")
    with pytest.raises(Refused, match="'all' is not stopped") as refused:
        await house.intake.resume("ann", "all", "why not", event_id="m2")
    assert "flyball status" in refused.value.way_out


async def test_a_stop_that_arrives_again_after_it_was_lifted_does_not_stop_again(house: House) -> None:
    await house.intake.stop("ann", "all", "it smells", event_id="m1")
    await house.intake.stop("ann", "all", "it smells", event_id="m1")
    await house.intake.resume("ann", "all", "aired", event_id="m2")
    await house.intake.stop("ann", "all", "it smells", event_id="m1")
    await house.intake.resume("ann", "all", "aired", event_id="m2")
    assert await house.log.control() == []
    assert await house.controls() == ["Stopped", "Resumed"]


async def test_a_session_is_revoked_once_and_only_while_it_runs(house: House) -> None:
    session = SessionId("shop-1a2b3c/1")
    with pytest.raises(Refused, match="there is no session"):
        await house.intake.revoke("ann", session, "it wanders", event_id="m1")
    stream = session_stream(session)
    await house.log.append([Draft(stream, sample(e.SessionStarted))], expect={stream: 0}, by=BY)
    await house.intake.revoke("ann", session, "it wanders", event_id="m1")
    await house.log.append([Draft(stream, sample(e.SessionEnded))], expect={stream: 1}, by=BY)
    await house.intake.revoke("ann", session, "it wanders", event_id="m1")
    assert await house.controls() == ["SessionRevoked"]
    with pytest.raises(Refused, match="has ended"):
        await house.intake.revoke("ann", session, "it wanders", event_id="m2")


async def test_a_breakers_freeze_is_lifted_like_a_stop(house: House) -> None:
    await house.log.append(
        [Draft(CONTROL, e.Frozen(scope="service:shop", reason="5 roll-backs"))], expect={CONTROL: 0}, by=BY
    )
    await house.intake.resume("olga", "service:shop", "the cause is found", event_id="m1")
    assert await house.log.control() == []


async def test_a_stuck_rollout_is_let_go_on_once_for_each_event(house: House) -> None:
    for event_id in ("m1", "m1", "m2"):
        await house.intake.unstick_service("olga", "shop", "production", event_id=event_id)
    assert [one.act for one in await house.said(DeliveryId("shop@production"))] == ["unstick", "unstick"]
