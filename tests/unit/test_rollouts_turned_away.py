"""What a rollout does when it is stopped, refused, not answered or left alone: no user more, and it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import AT, BY, ZERO, entries, sample
from test_bounds_of_rollouts import FIRST, Stage
from test_steps_deciding import NAME, RELEASES, only

from controller.canary import watching
from controller.canary.choosing import in_landing_order
from controller.canary.common import place
from controller.canary.exposing import expose, judge
from controller.canary.living import watch
from controller.canary.looking import step_start_ms
from controller.canary.opening import open_release, start
from controller.canary.restoring import restore
from controller.canary.watching import Watch, alarm
from controller.domain import events as e
from controller.domain.counts import Totals
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import CONTROL, DeliveryId, StreamId, people_stream
from controller.domain.rollout import fold as fold_rollout
from controller.domain.verbs import ConfirmRelease, RestoreTraffic, SetWeight, StartCanary
from controller.errors import Permanent, Unavailable
from controller.sim.world import SHOP

READY = sample(e.CanaryReady, release=2, history=None)


class Trouble(Stage):
    def refuses(self, verb: type, how: Exception) -> None:
        """The platform, from now on, for this verb."""
        act = self.world.platform.act

        async def no(key: Any, wanted: Any) -> Any:
            if isinstance(wanted, verb):
                raise how
            return await act(key, wanted)

        self.world.platform.act = no  # type: ignore[method-assign, assignment]

    async def stops(self, scope: str) -> None:
        await self.append(CONTROL, sample(e.Stopped, scope=scope, reason="let me look"))


@pytest.fixture
def trouble(tmp_path: Path) -> Iterator[Trouble]:
    found = Trouble(tmp_path)
    yield found
    found.log.close()


async def test_while_it_is_stopped_a_healthy_canary_gets_no_user(trouble: Trouble) -> None:
    await trouble.canary(weight_percent=0)
    await trouble.stops("service:shop")
    paused = only(await expose(trouble.rollout(READY), trouble.ports))
    assert (type(paused), paused.reason) == (e.ReleasePaused, "service:shop is stopped")
    assert await trouble.seals.open(paused.detail) == "let me look"
    assert trouble.acts(SetWeight) == 1, "the first release's own"


@pytest.mark.parametrize("how", ["no answer", "refused"])
async def test_a_weight_that_the_platform_does_not_set_is_no_step(trouble: Trouble, how: str) -> None:
    await trouble.canary(weight_percent=0)
    trouble.refuses(SetWeight, Unavailable(how) if how == "no answer" else Permanent(how))
    drafts = await expose(trouble.rollout(READY), trouble.ports)
    assert [type(draft.event) for draft in drafts] == ([] if how == "no answer" else [e.RolloutStuck])


@pytest.mark.parametrize("how", ["no answer", "refused"])
async def test_a_canary_that_could_not_be_taken_back_is_not_called_paused(trouble: Trouble, how: str) -> None:
    await trouble.canary(weight_percent=100)
    await trouble.stops("all")
    trouble.refuses(RestoreTraffic, Unavailable(how) if how == "no answer" else Permanent(how))
    live = sample(e.Promoted, release=2, until=AT, verdict=None)
    drafts = await watch(trouble.rollout(READY, live), trouble.ports)
    assert [type(draft.event) for draft in drafts] == ([] if how == "no answer" else [e.RolloutStuck])


async def test_a_canary_that_a_person_wants_again_is_begun_again_only_when_its_traffic_is_back(
    trouble: Trouble,
) -> None:
    await trouble.asked()
    await trouble.canary(weight_percent=25)
    state = trouble.at_step(ago_ms=5_000)
    await trouble.says("retry")
    trouble.refuses(RestoreTraffic, Unavailable("no answer"))
    assert [type(draft.event) for draft in await judge(state, trouble.ports)] != [e.ReleaseRetried]
    assert (await trouble.status()).weight_percent == 25


async def test_a_retry_that_was_asked_for_before_the_step_begins_nothing_again(trouble: Trouble) -> None:
    await trouble.asked()
    await trouble.says("retry")
    trouble.world.clock.advance(1)
    await trouble.canary(weight_percent=25)
    drafts = await judge(trouble.at_step(), trouble.ports)
    assert e.ReleaseRetried not in {type(draft.event) for draft in drafts}
    assert trouble.acts(RestoreTraffic) == 0


async def test_a_promoted_release_that_goes_down_is_taken_back_and_never_confirmed(trouble: Trouble) -> None:
    await trouble.asked()
    bad = trouble.world.push_to_main({"start.py": "CRASHES\n"})
    await trouble.canary(weight_percent=100)
    slot = next(iter(trouble.world.platform.slots.values()))
    assert slot.canary is not None
    slot.canary = replace(slot.canary, commit=bad)
    trouble.world.clock.advance(10)
    live = sample(e.Promoted, release=2, until=AT, verdict=None)
    drafts = await watch(trouble.rollout(READY, live, ago_ms=10**6), trouble.ports)
    found = drafts[-1].event
    assert isinstance(found, e.RegressionFound)
    assert found.reason == "canary/down: it went down after its promotion"
    assert trouble.acts(ConfirmRelease) == 1, "the first release's own"


async def test_a_first_release_is_confirmed_without_a_bake_for_nobody_can_go_back(trouble: Trouble) -> None:
    given: Any = {"service": "shop", "environment": "production", "release": 1}
    start_ = StartCanary(**given, commit=trouble.world.first, artefact=ZERO, instances=1)
    await trouble.world.platform.act("start/1", start_)  # type: ignore[arg-type]
    trouble.world.clock.advance(2)
    weight = SetWeight(**given, weight_percent=100, until_ms=trouble.world.clock.now_ms() + 10**6)
    await trouble.world.platform.act("weight/1", weight)  # type: ignore[arg-type]
    ready, live = sample(e.CanaryReady, release=1, history=None), sample(e.Promoted, release=1, verdict=None)
    events = (*FIRST[:2], ready, live)
    await trouble.append(RELEASES, *events)
    state = fold_rollout(RELEASES, entries(RELEASES, *events, at=trouble.now, seconds=0))
    assert isinstance(only(await watch(state, trouble.ports)), e.ReleaseConfirmed)


async def test_a_first_release_that_failed_has_nowhere_to_go_back_to_and_is_a_persons(trouble: Trouble) -> None:
    detail = await trouble.seals.seal("it answers 500")
    failed = sample(e.RegressionFound, release=1, reason="it never became healthy", detail=detail, verdict=None)
    stuck = only(await restore(fold_rollout(RELEASES, entries(RELEASES, *FIRST[:2], failed)), trouble.ports))
    assert isinstance(stuck, e.RolloutStuck)
    assert stuck.reason == "it never became healthy; there is no confirmed release to return to"
    assert stuck.detail == detail
    assert trouble.acts(RestoreTraffic) == 0


def test_before_its_first_step_nothing_of_a_canary_is_left_out(trouble: Trouble) -> None:
    service = trouble.planned(warmup_ms=5_000)
    assert step_start_ms(replace(trouble.at_step(), step_started_at=None), service) == 0


async def test_a_canary_that_the_platform_does_not_start_is_given_up_with_what_it_said(trouble: Trouble) -> None:
    trouble.refuses(StartCanary, Permanent("no memory"))
    given_up = only(await start(trouble.rollout(), trouble.ports))
    assert isinstance(given_up, e.RegressionFound)
    assert given_up.reason == "rollout/not-started: its canary could not start"
    assert "no memory" in await trouble.seals.open(given_up.detail)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"), [("killed by hand", "killed by hand"), ("", "the platform does not know it")]
)
async def test_a_canary_that_is_gone_is_given_up_and_never_gets_a_user(trouble: Trouble, words: str, said: str) -> None:
    status = trouble.world.platform.status

    async def gone(*asked: Any) -> Any:
        return replace(await status(*asked), canary_release=None, canary_reason=words)

    trouble.world.platform.status = gone  # type: ignore[method-assign, assignment]
    given_up = only(await start(trouble.rollout(), trouble.ports))
    assert given_up.reason == "rollout/canary-gone: its canary is gone"
    assert await trouble.seals.open(given_up.detail) == said


async def test_a_branch_that_is_gone_opens_no_release(trouble: Trouble) -> None:
    trouble.world.forge.repository(SHOP).branches.clear()
    nothing = fold_rollout(RELEASES, [])
    with pytest.raises(Permanent, match="shop has no branch main"):
        await open_release(nothing, trouble.ports)


async def test_who_waits_on_a_rollout_and_is_no_delivery_opens_no_release(trouble: Trouble) -> None:
    await trouble.append(RELEASES, *FIRST)
    other = StreamId("queue/shop@main")
    waits = e.Waited(waits_for=e.WaitsFor.ROLLOUT, on=RELEASES, until=AT, reason="it waits")
    await trouble.log.append([Draft(other, waits)], expect={other: 0}, by=BY)
    state = fold_rollout(RELEASES, await trouble.log.read(RELEASES))
    assert await open_release(state, trouble.ports) == []


def test_a_service_that_is_in_no_settings_is_a_persons(trouble: Trouble) -> None:
    trouble.ports = replace(trouble.ports, repositories={})
    with pytest.raises(Permanent, match="has no service configured any more"):
        place(trouble.rollout(), trouble.ports)


async def test_what_has_not_landed_stands_behind_what_has(trouble: Trouble) -> None:
    one, two = Delivery(NAME), Delivery(DeliveryId("shop-ffffff"))
    assert await in_landing_order([one, two], SHOP, trouble.ports) == [one, two]


async def test_of_many_services_watched_the_oldest_is_forgotten(
    trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_WATCHES", 2)
    watches = watching._watches.setdefault(trouble.ports.log, watching.Watches())
    for name in ("a", "b"):
        watches[StreamId(name), trouble.world.first] = Watch(0)
    state = replace(trouble.rollout(), usual=Totals(requests=1_000, errors=1))
    assert state.current is not None
    service = trouble.planned()
    await alarm(state, trouble.ports, service, state.current, trouble.world.clock.now_ms())
    assert [stream for stream, _ in watches] == ["b", RELEASES]
    assert people_stream(NAME) not in {stream for stream, _ in watches}


async def test_a_canary_whose_place_another_release_has_taken_is_neither_judged_nor_raised(trouble: Trouble) -> None:
    await trouble.canary(weight_percent=25)
    slot = next(iter(trouble.world.platform.slots.values()))
    assert slot.canary is not None
    slot.canary = replace(slot.canary, release=3)
    lapsed = only(await judge(trouble.at_step(ago_ms=5_000), trouble.ports))
    assert (type(lapsed), lapsed.seen_weight_percent) == (e.WeightLapsed, 25)


@pytest.mark.parametrize("live", [False, True])
async def test_a_weight_that_the_platform_has_taken_back_is_not_called_exposure(
    trouble: Trouble, *, live: bool
) -> None:
    await trouble.canary(weight_percent=0)
    promoted = sample(e.Promoted, release=2, until=AT, verdict=None)
    step = watch(trouble.rollout(READY, promoted, ago_ms=10**6), trouble.ports) if live else None
    lapsed = only(await (step or judge(trouble.at_step(ago_ms=5_000), trouble.ports)))
    assert (type(lapsed), lapsed.seen_weight_percent) == (e.WeightLapsed, 0)
    assert trouble.acts(ConfirmRelease) == 1, "the first release's own"
