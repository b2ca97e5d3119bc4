"""Whose consent lets a change land: owners for what they own, nobody for their own request where others could."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, ZERO, HandClock, sample

from controller.adapters.grants import ListedPeople
from controller.domain import events as e
from controller.domain.approvals import ApprovalRules
from controller.domain.change import ChangeFacts, OwnedPath
from controller.domain.entry import Draft
from controller.domain.ids import Branch, Commit, DeliveryId, Digest, Repository, delivery_stream, people_stream
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
from controller.errors import Refused
from controller.intake import Intake
from controller.ledger.blobs import FileBlobs
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.settings import parse

SHOP, HEAD, POLICY = Repository("shop"), Commit("a" * 40), Digest("sha256:" + "b" * 64)
TEAM = ("ann", "olga", "paul", "wendy")
PAY, DOCS = OwnedPath(path="pay.py", owners=("@acme/pay", "@paul")), OwnedPath(path="a.md", owners=("wendy",))


class House:
    def __init__(self, folder: Path, people: tuple[str, ...], code_owners: dict[str, tuple[str, ...]]) -> None:
        self.log = SqliteLog(":memory:", HandClock(), inline=True)
        self.seals = LocalSeals(folder / "keys", FileBlobs(folder / "blobs", durable=False))
        self.rules = ApprovalRules(frozenset(people), frozenset({"olga"} & set(people)), code_owners)
        standing = ListedPeople(people or TEAM, ZERO)
        self.intake = Intake(log=self.log, seals=self.seals, standing=standing, approvals=self.rules)

    async def yellow(self, *owned: OwnedPath, person: str = "ann") -> DeliveryId:
        asked = await self.intake.ask(person, "x", repository=SHOP, branch=Branch("main"), source="cli", event_id="m1")
        verdict = RiskVerdict(
            colour=Colour.YELLOW, rules=("size",), reason="it is large", approver="olga", policy=POLICY
        )
        inputs: Any = sample(RiskInputs, change=ChangeFacts(owned=owned))
        steps = (
            sample(e.TaskAccepted),
            sample(e.ChangeAuthored, head=HEAD, tainted=False, cost_micro_usd=0),
            sample(e.PullRequestOpened, head=HEAD),
            sample(e.CiReported, head=HEAD, passed=True),
            sample(e.RiskClassified, inputs=inputs, verdict=verdict),
        )
        stream = delivery_stream(asked.delivery)
        await self.log.append([Draft(stream, one) for one in steps], expect={stream: 1}, by=BY)
        return asked.delivery

    async def approve(self, delivery: DeliveryId, person: str) -> None:
        await self.intake.act(person, "approve", delivery, event_id=f"by-{person}")

    async def said(self, delivery: DeliveryId) -> int:
        return len(await self.log.read(people_stream(delivery)))


@pytest.fixture
def team(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path, TEAM, {"@acme/pay": ("paul",)})
    yield found
    found.log.close()


async def test_who_asked_does_not_approve_where_somebody_else_could(team: House) -> None:
    delivery = await team.yellow()
    with pytest.raises(Refused, match="may not approve it") as refused:
        await team.approve(delivery, "ann")
    assert refused.value.rules == ("people/own-request",)
    assert await team.said(delivery) == 0
    await team.approve(delivery, "wendy")
    assert await team.said(delivery) == 1


@pytest.mark.parametrize("people", [(), ("ann",)])
async def test_the_only_person_there_is_may_approve_what_they_asked_for_and_what_others_own(
    tmp_path: Path, people: tuple[str, ...]
) -> None:
    house = House(tmp_path, people, {})
    delivery = await house.yellow(PAY)
    await house.approve(delivery, "ann")
    assert await house.said(delivery) == 1
    house.log.close()


async def test_an_owned_path_is_approved_by_nobody_but_an_owner(team: House) -> None:
    delivery = await team.yellow(PAY)
    with pytest.raises(Refused, match="owned by @acme/pay, @paul, and wendy is none of them") as refused:
        await team.approve(delivery, "wendy")
    assert "policy.codeowners" in refused.value.way_out
    assert await team.said(delivery) == 0
    await team.approve(delivery, "paul")
    assert await team.said(delivery) == 1


async def test_an_owner_of_the_policy_approves_for_any_owner(team: House) -> None:
    delivery = await team.yellow(PAY, DOCS)
    await team.approve(delivery, "olga")
    assert await team.said(delivery) == 1


@pytest.mark.parametrize(
    ("consented", "left"),
    [
        ((), ["pay.py", "a.md"]),
        (("paul",), ["a.md"]),
        (("wendy",), ["pay.py"]),
        (("paul", "wendy"), []),
        (("olga",), []),
    ],
)
def test_every_owned_path_needs_one_of_its_owners(consented: tuple[str, ...], left: list[str], tmp_path: Path) -> None:
    seals = LocalSeals(tmp_path, FileBlobs(tmp_path / "blobs", durable=False))
    rules = ApprovalRules(frozenset(TEAM), frozenset({"olga"}), {"@acme/pay": ("paul",)})
    found = rules.unapproved((PAY, DOCS), [seals.pseudonym(one) for one in consented], seals.pseudonym)
    assert [one.path for one in found] == left


def test_any_one_of_several_owners_is_enough(tmp_path: Path) -> None:
    seals = LocalSeals(tmp_path, FileBlobs(tmp_path / "blobs", durable=False))
    rules = ApprovalRules(frozenset(TEAM))
    shared = OwnedPath(path="pay.py", owners=("@wendy", "@paul"))
    assert rules.unapproved((shared,), [seals.pseudonym("paul")], seals.pseudonym) == ()
    assert rules.unapproved((shared,), [seals.pseudonym("olga")], seals.pseudonym) == (shared,)


def test_settings_say_who_an_owner_stands_for() -> None:
    text = {"policy": {"people": ["ann"], "groups": {"owners": ["olga"]}, "codeowners": {"@acme/pay": ["paul"]}}}
    rules = parse(text).policy.approvals
    assert (rules.people, rules.policy_owners) == (frozenset({"ann", "olga"}), frozenset({"olga"}))
    assert rules.code_owners == {"@acme/pay": ("paul",)}
