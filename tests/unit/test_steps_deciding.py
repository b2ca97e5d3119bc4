"""Steps asked alone: what they answer to facts that a whole delivery seldom brings together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, sample

from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import paths_by
from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.domain import delivery as deliveries
from controller.domain import events as e
from controller.domain.approvals import ApprovalRules
from controller.domain.bounds import Bounds
from controller.domain.change import ChangeFacts, OwnedPath
from controller.domain.delivery import Delivery, Phase
from controller.domain.entry import Draft
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    StreamId,
    delivery_stream,
    people_stream,
    rollout_stream,
)
from controller.domain.risk import Colour, RiskInputs, RiskVerdict
from controller.errors import Permanent
from controller.ledger.lease import SqliteLease
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.ports import Ports, Receipt
from controller.sim.assembly import Shared, wire
from controller.sim.blobs import SimBlobs
from controller.sim.process import Process
from controller.sim.world import MAIN, PRODUCTION, SERVICE, SHOP, SimWorld
from controller.steps.author import author
from controller.steps.classify import classify
from controller.steps.clear import clear
from controller.steps.hand_over import hand_over
from controller.steps.unstick import unstick
from rbac.decide import Authority
from rbac.model import Served

NAME = DeliveryId("shop-1a2b3c")
HEAD, MERGED = Commit("a" * 40), Commit("b" * 40)
POLICY = Digest("sha256:" + "c" * 64)
RELEASES = rollout_stream(SERVICE, PRODUCTION)


@cache
def _authority() -> Authority:
    return Authority([Served(repository=SHOP, branch=MAIN, environments=(PRODUCTION,))])


class House:
    """A simulated world with one delivery in it, brought by its own facts to wherever a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.world = SimWorld(1)
        self.log = SqliteLog(":memory:", self.world.clock, inline=True)
        blobs = SimBlobs()
        self.seals = LocalSeals(folder / "keys", blobs)
        table = PolicyTable(TableParameters(owner="olga", protected=("ci/**",)))
        lease = SqliteLease(":memory:", self.world.clock, inline=True)
        shared = Shared(
            self.log,
            lease,
            blobs,
            self.seals,
            table,
            RbacGrants(_authority()),
            _authority(),
            paths_by(_authority()),
            checkpoints=None,
        )
        self.ports: Ports = wire(self.world, shared, Process("w1", self.world.clock)).ports

    def bounded(self, **bounds: int) -> None:
        self.ports = replace(self.ports, bounds=Bounds.model_validate(bounds))

    async def append(self, stream: StreamId, *events: e.Event) -> None:
        size = len(await self.log.read(stream))
        kept = await self.log.append([Draft(stream, event) for event in events], expect={stream: size}, by=BY)
        assert isinstance(kept, Receipt)

    async def keep(self, drafts: list[Draft]) -> None:
        """As the loop would: what a step answers must be let in by the log."""
        expect = {draft.stream: len(await self.log.read(draft.stream)) for draft in drafts}
        assert isinstance(await self.log.append(drafts, expect=expect, by=BY), Receipt)

    async def delivery(self) -> Delivery:
        return deliveries.fold(NAME, await self.log.read(delivery_stream(NAME)))

    async def told(self) -> list[str]:
        found = [entry.event async for entry in self.log.scan()]
        sent = [event.decision.claims[0].text for event in found if isinstance(event, e.EffectIntended)]
        return [text for text in sent if text.startswith(f"{NAME}: ")]

    async def asked(self, **given: Any) -> None:
        task = await self.seals.seal("Sort the cart\n\nby price")
        asked: Any = sample(
            e.TaskRequested, delivery=NAME, root=NAME, repository=SHOP, branch=MAIN, task=task, depth=0, full=False
        )
        await self.append(delivery_stream(NAME), asked.model_copy(update=given))

    async def checked(self, *, files: tuple[str, ...] = ("cart.py",), tainted: bool = False, **given: Any) -> Delivery:
        await self.asked(**given)
        now = self.world.clock.now()
        texts: dict[str, str | None] = dict.fromkeys(files, "one = 1\n")
        tested = self.world.forge.commit(SHOP, Branch("tried"), texts, "Tried", at=now, onto=self.world.first)
        change: Any = sample(e.ChangeAuthored, head=HEAD, files=files, lines_changed=12, tainted=tainted, full=False)
        steps = (
            sample(e.TaskAccepted),
            change,
            sample(e.PullRequestOpened, head=HEAD, number=1),
            sample(e.CiStarted, head=HEAD),
            sample(e.CiReported, head=HEAD, base=self.world.first, tested=tested, passed=True, failures=(), facts=None),
        )
        await self.append(delivery_stream(NAME), *steps)
        return await self.delivery()

    async def classified(self, colour: Colour, **given: Any) -> Delivery:
        await self.checked(**given)
        verdict = RiskVerdict(colour=colour, rules=("size",), reason="it is large", approver="olga", policy=POLICY)
        await self.append(delivery_stream(NAME), sample(e.RiskClassified, verdict=verdict))
        return await self.delivery()

    async def rolled_back(self, *, guilty: bool = True, blamed: dict[str, Any] | None = None, **given: Any) -> Delivery:
        """`blamed`: what the roll-back says of it. None: it is the culprit, or another one is."""
        await self.classified(Colour.GREEN, **given)
        await self.append(
            delivery_stream(NAME),
            sample(e.Cleared, head=HEAD),
            sample(e.Merged, head=HEAD, commit=MERGED),
            sample(e.RolloutJoined, release=1),
            sample(e.DeliveryRegressed, release=1),
            sample(e.RolledBack, release=1),
        )
        said = blamed or {"culprits": (NAME,) if guilty else ("shop-ffffff",), "bad_commits": (MERGED,)}
        await self.append(
            RELEASES,
            sample(e.ReleaseOpened, release=1, deliveries=(NAME, "shop-ffffff"), against=None),
            sample(e.RegressionFound, release=1, reason="it fails"),
            sample(e.TrafficRestored, release=1, to_release=0, **{"suspects": (), "badness": None, **said}),
        )
        return await self.delivery()

    async def says(self, act: str, **given: Any) -> None:
        acted: Any = sample(e.PersonActed, act=act, person="person:0123456789ab", full=False)
        await self.append(people_stream(NAME), acted.model_copy(update=given))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.log.close()


def only(drafts: list[Draft]) -> Any:
    (draft,) = drafts
    return draft.event


# --- classify ---------------------------------------------------------------------------------------------------------


async def test_a_colour_rests_on_facts_that_stand_beside_it(house: House) -> None:
    d = await house.checked(files=("cart.py", "tests/test_cart.py"))
    assert d.ci is not None
    await house.keep(await classify(d, house.ports))
    assert (await house.delivery()).mutants_started is not None
    house.world.clock.advance(60)
    drafts = await classify(await house.delivery(), house.ports)
    found = only(drafts).inputs
    assert found.mutants is not None
    assert found.mutants.measured
    assert (found.cause, found.files, found.lines_changed) == ("task", ("cart.py", "tests/test_cart.py"), 3)
    assert found.change == await house.ports.facts.of(SHOP, d.ci.base, d.ci.tested, "")
    assert (found.tests_passed, found.tests_added, found.tainted, found.rounds) == (True, True, False, 1)
    assert only(drafts).verdict == await house.ports.policy.classify(found)
    await house.keep(drafts)
    assert (await house.delivery()).phase is Phase.CLASSIFIED


@pytest.mark.parametrize(
    ("path", "is_test"),
    [
        ("tests/test_cart.py", True),
        ("shop/tests/cart.json", True),
        ("cart_test.py", True),
        ("cart.py", False),
        ("latest.py", False),
        ("contest_test.txt", False),
    ],
)
async def test_a_test_is_known_by_its_place_or_its_name(house: House, path: str, is_test: bool) -> None:
    assert only(await classify(await house.checked(files=(path,)), house.ports)).inputs.tests_added is is_test


async def test_a_tainted_change_is_never_green_and_the_other_colours_have_their_reasons(house: House) -> None:
    classified = only(await classify(await house.checked(tainted=True), house.ports))
    assert classified.inputs.tainted
    assert classified.verdict.colour is not Colour.GREEN
    rejected = {option.name: option.why_not for option in classified.decision.options if option.why_not}
    assert set(rejected) == {"green", "yellow", "red"} - {classified.verdict.colour.value}


async def test_without_a_ci_report_there_is_no_colour(house: House) -> None:
    await house.asked()
    with pytest.raises(Permanent, match="without a change or a CI report"):
        await classify(await house.delivery(), house.ports)


# --- clear ------------------------------------------------------------------------------------------------------------


async def test_green_is_cleared_in_the_name_of_the_policys_owner(house: House) -> None:
    drafts = await clear(await house.classified(Colour.GREEN), house.ports)
    assert only(drafts) == e.Cleared(head=HEAD, policy=POLICY, approver="olga", by_person=False)
    await house.keep(drafts)


async def test_yellow_asks_once_and_then_waits_for_a_persons_word(house: House) -> None:
    await house.classified(Colour.YELLOW)
    asking = await clear(await house.delivery(), house.ports)
    assert isinstance(only(asking), e.ApprovalRequested)
    await house.keep(asking)
    waiting = await clear(await house.delivery(), house.ports)
    assert (only(waiting).waits_for, only(waiting).on) == (e.WaitsFor.CONSENT, people_stream(NAME))
    await house.keep(waiting)
    assert await clear(await house.delivery(), house.ports) == []
    assert await house.told() == [f"{NAME}: approval-{HEAD[:12]}", f"{NAME}: owner-0-{HEAD[:12]}"]


async def test_consent_counts_for_exactly_this_head_under_exactly_this_policy(house: House) -> None:
    d = await house.classified(Colour.YELLOW)
    await house.says("approve", head=Commit("d" * 40), policy=POLICY)
    await house.says("approve", head=HEAD, policy=Digest("sha256:" + "0" * 64))
    assert isinstance(only(await clear(d, house.ports)), e.ApprovalRequested)
    await house.says("approve", head=HEAD, policy=POLICY)
    cleared = only(await clear(d, house.ports))
    assert cleared == e.Cleared(head=HEAD, policy=POLICY, approver="person:0123456789ab", by_person=True)


async def test_a_rejected_change_is_given_up_and_whoever_asked_is_told(house: House) -> None:
    d = await house.classified(Colour.YELLOW)
    await house.says("reject", head=HEAD, policy=POLICY)
    drafts = await clear(d, house.ports)
    assert only(drafts).reason == "rejected by person:0123456789ab"
    assert f"{NAME}: abandoned" in await house.told()
    await house.keep(drafts)
    assert (await house.delivery()).phase is Phase.ABANDONED


async def test_consent_that_nobody_gives_in_time_ends_the_delivery(house: House) -> None:
    await house.classified(Colour.YELLOW)
    for _ in range(2):
        await house.keep(await clear(await house.delivery(), house.ports))
    house.world.clock.advance_to(house.world.clock.now() + timedelta(seconds=house.ports.bounds.consent_seconds))
    assert only(await clear(await house.delivery(), house.ports)).reason == "nobody consented in time"


async def test_red_goes_back_to_its_author_while_there_are_rounds(house: House) -> None:
    back = only(await clear(await house.classified(Colour.RED), house.ports))
    assert (back.to, back.reason) == ("ACCEPTED", "red: it is large")


@pytest.mark.parametrize("why", ["no round is left", "it is a revert"])
async def test_red_is_given_up_when(house: House, why: str) -> None:
    revert = why == "it is a revert"
    d = await house.classified(Colour.RED, cause=e.Cause.REVERT if revert else e.Cause.TASK)
    if not revert:
        house.bounded(ci_rounds=1)
    assert only(await clear(d, house.ports)).reason == "red: it is large"
    assert isinstance(only(await clear(d, house.ports)), e.Abandoned)


# --- hand_over --------------------------------------------------------------------------------------------------------


async def test_the_culprit_is_reverted_and_its_fix_comes_after_the_revert(house: House) -> None:
    drafts = await hand_over(await house.rolled_back(), house.ports)
    over, revert, fix = (draft.event for draft in drafts)
    assert isinstance(over, e.HandedOver)
    assert isinstance(revert, e.TaskRequested)
    assert isinstance(fix, e.TaskRequested)
    assert (over.revert, over.fix) == (f"{NAME}-revert", f"{NAME}-fix")
    assert (revert.cause, revert.bad_commit, revert.after, revert.depth) == (e.Cause.REVERT, MERGED, None, 1)
    assert (fix.cause, fix.caused_by, fix.after, fix.root) == (e.Cause.FIX, NAME, over.revert, NAME)
    assert await house.seals.open(revert.task) == "Revert: Sort the cart"
    assert await house.seals.open(fix.task) == "Sort the cart\n\nby price"
    await house.keep(drafts)
    assert (await house.delivery()).phase is Phase.HANDED_OVER
    assert [row.stream for row in await house.log.live("delivery/")] == [
        f"delivery/{NAME}-fix",
        f"delivery/{NAME}-revert",
    ]


@pytest.mark.parametrize("bound", ["it is a fix itself", "fix depth 0", "spawn depth 0"])
async def test_at_the_bound_a_fix_that_regresses_asks_a_person(house: House, bound: str) -> None:
    is_fix = bound == "it is a fix itself"
    d = await house.rolled_back(cause=e.Cause.FIX if is_fix else e.Cause.TASK, depth=1 if is_fix else 0)
    if not is_fix:
        house.bounded(**{bound.removesuffix(" 0").replace(" ", "_"): 0})
    drafts = await hand_over(d, house.ports)
    over, revert = (draft.event for draft in drafts)
    assert isinstance(over, e.HandedOver)
    assert (over.fix, over.decision.choice) == (None, "revert and tell a person")
    assert isinstance(revert, e.TaskRequested)
    assert revert.cause is e.Cause.REVERT
    assert f"{NAME}: rolled-back" in await house.told()
    await house.keep(drafts)


async def test_an_innocent_passenger_goes_again_with_the_next_release(house: House) -> None:
    d = await house.rolled_back(guilty=False)
    drafts = await hand_over(d, house.ports)
    assert isinstance(only(drafts), e.WentAgain)
    await house.keep(drafts)
    again = await house.delivery()
    assert (again.phase, again.release, again.left_release, again.regressed) == (Phase.MERGED, None, 1, None)


@pytest.mark.parametrize(
    ("blamed", "words"),
    [
        (
            {"culprits": ("shop-ffffff",), "bad_commits": (MERGED,)},
            "another change of the same release was the culprit",
        ),
        (
            {"culprits": (), "bad_commits": (), "suspects": (NAME, "shop-ffffff")},
            "no change of the release stood out: it goes out again with half of them",
        ),
        ({"culprits": (), "bad_commits": ()}, "no change of the release is blamed for it"),
    ],
)
async def test_who_goes_again_is_told_why(house: House, blamed: dict[str, Any], words: str) -> None:
    d = await house.rolled_back(blamed=blamed)
    assert only(await hand_over(d, house.ports)).reason == words


async def test_a_revert_that_regresses_is_a_persons(house: House) -> None:
    d = await house.rolled_back(cause=e.Cause.REVERT)
    assert only(await hand_over(d, house.ports)).reason == "the revert itself regressed: a person must look"


# --- unstick ----------------------------------------------------------------------------------------------------------


async def test_a_stuck_delivery_asks_for_a_person_once_and_goes_on_by_their_word_where_it_stood(house: House) -> None:
    await house.checked()
    await house.append(delivery_stream(NAME), e.Stuck(reason="an effect is unknown"))
    waiting = await unstick(await house.delivery(), house.ports)
    assert only(waiting).waits_for is e.WaitsFor.PERSON
    await house.keep(waiting)
    assert await unstick(await house.delivery(), house.ports) == []
    await house.says("unstick")
    drafts = await unstick(await house.delivery(), house.ports)
    assert only(drafts) == e.Unstuck(by="person:0123456789ab", to="CHECKED")
    await house.keep(drafts)
    await house.append(delivery_stream(NAME), e.Stuck(reason="again"))
    assert only(await unstick(await house.delivery(), house.ports)).waits_for is e.WaitsFor.PERSON
    assert await house.told() == [f"{NAME}: stuck-0", f"{NAME}: stuck-1"]


# --- owners and reverts -----------------------------------------------------------------------------------------------

RULES = ApprovalRules(frozenset({"ann", "paul"}), frozenset(), {"@pay": ("paul",)})
OWNED = OwnedPath(path="pay.py", owners=("@pay",))


async def test_a_change_to_an_owned_path_waits_for_its_owner_whoever_else_consents(house: House) -> None:
    config = house.ports.repositories[SHOP]
    house.ports = replace(house.ports, repositories={SHOP: replace(config, approvals=RULES)})
    await house.checked()
    verdict = RiskVerdict(colour=Colour.YELLOW, rules=("owned",), reason="owned", approver="olga", policy=POLICY)
    inputs: Any = sample(RiskInputs, change=ChangeFacts(owned=(OWNED,)))
    await house.append(delivery_stream(NAME), sample(e.RiskClassified, inputs=inputs, verdict=verdict))
    await house.keep(await clear(await house.delivery(), house.ports))
    await house.says("approve", head=HEAD, policy=POLICY, person=house.seals.pseudonym("ann"))
    waiting = only(await clear(await house.delivery(), house.ports))
    assert isinstance(waiting, e.Waited)
    assert waiting.reason.endswith("; still of @pay")
    await house.says("approve", head=HEAD, policy=POLICY, person=house.seals.pseudonym("paul"))
    assert isinstance(only(await clear(await house.delivery(), house.ports)), e.Cleared)


async def test_consent_of_whoever_asked_is_labelled_as_such(house: House) -> None:
    d = await house.classified(Colour.YELLOW, asked_by="person:0123456789ab")
    await house.says("approve", head=HEAD, policy=POLICY)
    assert only(await clear(d, house.ports)).self_approved


async def test_the_revert_of_a_change_with_a_step_that_cannot_be_taken_back_is_refused_and_told(house: House) -> None:
    world, bad = house.world, DeliveryId("shop-ffffff")
    dropping: dict[str, str | None] = {"db/migrate/0001_totals.sql": "DROP TABLE totals;\n"}
    merged = world.forge.commit(SHOP, MAIN, dropping, "Drop it", at=world.clock.now())
    await house.append(
        delivery_stream(bad),
        sample(e.TaskRequested, delivery=bad, root=bad, repository=SHOP, branch=MAIN, depth=0, full=False),
        sample(e.TaskAccepted),
        sample(e.ChangeAuthored, head=HEAD, full=False),
        sample(e.PullRequestOpened, head=HEAD),
        sample(e.CiReported, head=HEAD, passed=True),
        sample(e.RiskClassified),
        sample(e.Cleared, head=HEAD),
        sample(e.Merged, head=HEAD, commit=merged, base=world.first),
    )
    await house.asked(cause=e.Cause.REVERT, caused_by=bad, bad_commit=merged)
    await house.append(delivery_stream(NAME), sample(e.TaskAccepted))
    ended = only(await author(await house.delivery(), house.ports))
    assert isinstance(ended, e.Abandoned)
    assert ended.reason.startswith("revert/irreversible: 1 steps of the change cannot be taken back")
    assert ended.detail is not None
    assert await house.seals.open(ended.detail) == "irreversible/drop in db/migrate/0001_totals.sql:1"
    assert f"{NAME}: abandoned" in await house.told()
    assert await world.forge.tip(SHOP, MAIN) == merged
