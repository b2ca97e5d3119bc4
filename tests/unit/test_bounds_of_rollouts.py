"""Every bound of a rollout's plan, and what a landing and an effect must be: at the bound it may, one beyond never."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import WHY, ZERO, entries, sample, verdict
from test_bounds_of_deliveries import Yard
from test_steps_deciding import NAME, RELEASES, only

from controller.canary.common import page
from controller.canary.exposing import _hold, _passed, _starved, _to_page
from controller.canary.keeping import renew
from controller.canary.living import watch
from controller.canary.looking import Look, _request, step_start_ms
from controller.canary.opening import _measured, start
from controller.canary.recovering import recover
from controller.domain import events as e
from controller.domain.blame import Badness
from controller.domain.bounds import RolloutPlan
from controller.domain.control import People
from controller.domain.counts import ArmCounts, WindowCounts
from controller.domain.ids import EffectKey
from controller.domain.rollout import Rollout
from controller.domain.rollout import fold as fold_rollout
from controller.domain.verbs import ConfirmRelease, SetWeight, StartCanary
from controller.domain.verdict import Outcome
from controller.ports import Baseline, PlatformStatus, Seen, ServiceConfig
from controller.sim.world import PRODUCTION, SERVICE, SHOP

FIRST: tuple[e.Event, ...] = (
    sample(e.ReleaseOpened, release=1, against=None, deliveries=()),
    sample(e.ArtefactBuilt, release=1),
    sample(e.ReleaseConfirmed, release=1),
)


class Stage(Yard):
    """A release has been confirmed, and another is on its way."""

    @property
    def now(self) -> datetime:
        return self.world.clock.now()

    def rollout(self, *events: e.Event, ago_ms: int = 0) -> Rollout:
        """The last of the events came so long ago."""
        opened = sample(e.ReleaseOpened, release=2, commit=self.world.first, deliveries=(NAME,))
        built = sample(e.ArtefactBuilt, release=2)
        first = (FIRST[0].model_copy(update={"commit": self.world.first}), *FIRST[1:])
        at = self.now - timedelta(milliseconds=ago_ms)
        return fold_rollout(RELEASES, entries(RELEASES, *first, opened, built, *events, at=at, seconds=0))

    def at_step(self, step: int = 0, *, ago_ms: int = 0, until: datetime | None = None) -> Rollout:
        ready = sample(e.CanaryReady, release=2, history=None)
        stepped = sample(
            e.StepStarted, release=2, step=step, weight_percent=25, until=until or self.now + timedelta(hours=9)
        )
        return self.rollout(ready, stepped, ago_ms=ago_ms)

    def planned(self, **plan: Any) -> ServiceConfig:
        service = self.ports.service(SERVICE, PRODUCTION)[1]
        changed = replace(service, plan=service.plan.model_copy(update=plan))
        (repository,) = self.ports.repositories.values()
        self.ports = replace(self.ports, repositories={SHOP: replace(repository, service=changed)})
        return changed

    async def canary(self, *, weight_percent: int) -> None:
        """On the platform, healthy, with this share of the users."""
        await self.append(RELEASES, *FIRST)
        platform = self.world.platform
        given: Any = {"service": SERVICE, "environment": PRODUCTION}
        until_ms = self.world.clock.now_ms() + 10**9
        for release in (1, 2):
            start_ = StartCanary(**given, release=release, commit=self.world.first, artefact=ZERO, instances=1)
            await platform.act(EffectKey(f"start/{release}"), start_)
            self.world.clock.advance(2)
            weight = SetWeight(**given, release=release, weight_percent=100, until_ms=until_ms)
            if release == 1:
                await platform.act(EffectKey("weight/1"), weight)
                await platform.act(EffectKey("confirm/1"), ConfirmRelease(**given, release=1))
            elif weight_percent:
                part = weight.model_copy(update={"weight_percent": weight_percent})
                await platform.act(EffectKey("weight/2"), part)

    async def status(self) -> PlatformStatus:
        return await self.world.platform.status(SERVICE, PRODUCTION)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(tmp_path)
    yield found
    found.log.close()


def look(*, requests: int = 10**6, log_e_micro: int = 0, windows_ms: int = 0, **given: Any) -> Look:
    judged = verdict()
    promotion = judged.promotion.model_copy(update={"step_requests": requests})
    changed = judged.model_copy(update={"promotion": promotion, "log_e_micro": log_e_micro, **given})
    none = ArmCounts(requests=0, errors=0)
    window = WindowCounts(start_ms=0, end_ms=max(1, windows_ms), canary=none, baseline=none)
    seen = Seen(windows=(window,) if windows_ms else (), verdict=changed, source="a test", label=e.Label.SIMULATED)
    return Look(seen, ZERO if windows_ms else None, ZERO)


# --- a step of the canary ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dwelt_ms", "requests", "log_e_micro", "passes"),
    [
        (2_000, 40, 1_000_000, True),
        (1_999, 40, 1_000_000, False),
        (2_000, 39, 1_000_000, False),
        (2_000, 40, 1_000_001, False),
    ],
)
def test_a_step_is_over_at_its_dwell_its_requests_and_its_doubt_and_never_one_short(
    stage: Stage, dwelt_ms: int, requests: int, log_e_micro: int, *, passes: bool
) -> None:
    service = stage.planned(steps_percent=(5, 25, 100), step_requests=40, step_dwell_ms=2_000, step_doubt_milli=1_000)
    seen = look(requests=requests, log_e_micro=log_e_micro)
    assert (_passed(stage.at_step(ago_ms=dwelt_ms), stage.ports, service, seen, []) is not None) is passes


def test_a_page_keeps_a_step_from_passing_whatever_else_is_well(stage: Stage) -> None:
    service = stage.planned(steps_percent=(5, 25, 100))
    assert _passed(stage.at_step(ago_ms=10**6), stage.ports, service, look(), []) is not None
    assert _passed(stage.at_step(ago_ms=10**6), stage.ports, service, look(must_page=True), []) is None


@pytest.mark.parametrize("proven", [True, False])
def test_the_step_before_everybody_is_over_only_when_it_is_proven(stage: Stage, *, proven: bool) -> None:
    service = stage.planned(steps_percent=(5, 25, 100))
    seen = look(outcome=Outcome.PROMOTE, may_act_alone=True) if proven else look(outcome=Outcome.HOLD)
    assert (_passed(stage.at_step(1, ago_ms=10**6), stage.ports, service, seen, []) is not None) is proven
    assert _passed(stage.at_step(0, ago_ms=10**6), stage.ports, service, seen, []) is not None


@pytest.mark.parametrize(("dwelt_ms", "passes"), [(1_999, False), (2_000, True)])
def test_a_person_who_promotes_waits_for_the_dwell_and_for_nothing_else(
    stage: Stage, dwelt_ms: int, *, passes: bool
) -> None:
    service, people = stage.planned(step_dwell_ms=2_000), [People(promoted_by="person:1", promoted_at=stage.now)]
    seen = look(requests=0)
    assert (_passed(stage.at_step(ago_ms=dwelt_ms), stage.ports, service, seen, people) is not None) is passes
    assert _passed(stage.at_step(ago_ms=dwelt_ms), stage.ports, service, seen, []) is None


@pytest.mark.parametrize(("passed_ms", "told"), [(3_599_999, False), (3_600_000, True)])
def test_a_person_is_told_when_a_step_reaches_its_limit_and_not_before(
    stage: Stage, passed_ms: int, *, told: bool
) -> None:
    service = stage.planned(step_limit_ms=3_600_000)
    found = _to_page(stage.at_step(ago_ms=passed_ms), stage.ports, service, look().verdict)
    assert (found is not None and found[0] == "step-0-limit") is told


@pytest.mark.parametrize(("step", "judged_after_ms"), [(0, 5_000), (1, 0)])
def test_only_the_first_step_has_a_warm_up_that_is_not_judged(stage: Stage, step: int, judged_after_ms: int) -> None:
    service = stage.planned(warmup_ms=5_000)
    assert step_start_ms(stage.at_step(step), service) == stage.world.clock.now_ms() + judged_after_ms


def test_windows_begin_on_their_width_at_the_first_that_is_judged_and_never_before(stage: Stage) -> None:
    service = stage.planned(window_ms=1_000, warmup_ms=0)
    for late_ms, waits_ms in ((0, 0), (1, 999), (999, 1)):
        stage.world.clock.at += timedelta(milliseconds=late_ms)
        asked = _request(stage.at_step(), service)
        assert (asked.width_ms, asked.from_ms) == (1_000, stage.world.clock.now_ms() + waits_ms)
        stage.world.clock.at -= timedelta(milliseconds=late_ms)


@pytest.mark.parametrize(("seen_ms", "sealed"), [(3_999, 0), (4_000, 1)])
async def test_counts_are_sealed_when_a_segment_is_full_and_not_before(stage: Stage, seen_ms: int, sealed: int) -> None:
    service = stage.planned(segment_ms=4_000)
    await stage.asked()
    await stage.canary(weight_percent=25)
    drafts = await _hold(stage.at_step(), stage.ports, service, look(windows_ms=seen_ms), await stage.status())
    assert [type(draft.event) for draft in drafts] == [e.Observed] * sealed


@pytest.mark.parametrize(("waited_ms", "said"), [(19_999, False), (20_000, True)])
def test_a_step_that_wants_requests_says_so_when_twice_its_dwell_is_over_and_not_before(
    stage: Stage, waited_ms: int, *, said: bool
) -> None:
    service = stage.planned(step_dwell_ms=10_000, step_requests=40)
    assert bool(_starved(stage.at_step(ago_ms=waited_ms), stage.ports, service, look(requests=39))) is said
    assert _starved(stage.at_step(ago_ms=waited_ms), stage.ports, service, look(requests=40)) == []


@pytest.mark.parametrize(("waited_ms", "said"), [(14_999, False), (15_000, True)])
def test_however_short_a_dwell_is_nobody_is_asked_for_requests_in_the_first_seconds(
    stage: Stage, waited_ms: int, *, said: bool
) -> None:
    service = stage.planned(step_dwell_ms=1_000, step_requests=40)
    found = _starved(stage.at_step(ago_ms=waited_ms), stage.ports, service, look(requests=0))
    assert bool(found) is said
    waiting = replace(stage.at_step(ago_ms=10**6), waiting=found[0].event) if said else None  # type: ignore[arg-type]
    assert waiting is None or _starved(waiting, stage.ports, service, look(requests=1)) == [], "it is said once"


@pytest.mark.parametrize(("left_ms", "renewed"), [(6_001, False), (6_000, True)])
async def test_a_held_canary_is_renewed_at_half_its_time_with_what_was_seen(
    stage: Stage, left_ms: int, *, renewed: bool
) -> None:
    service = stage.planned(weight_ttl_ms=12_000)
    await stage.asked()
    await stage.canary(weight_percent=25)
    state = stage.at_step(until=stage.now + timedelta(milliseconds=left_ms))
    drafts = await _hold(state, stage.ports, service, look(windows_ms=1_000), await stage.status())
    assert [type(draft.event) for draft in drafts] == ([e.Observed, e.WeightRenewed] if renewed else [])


async def test_a_page_is_told_once_though_later_looks_have_other_numbers(stage: Stage) -> None:
    await stage.append(RELEASES, *FIRST)
    for words in ("it fails 3 of 100", "it fails 7 of 200"):
        await page(stage.rollout(), stage.ports, "held", words)
    await page(stage.rollout(), stage.ports, "something else", "it leaks")
    assert [tell.text for tell in stage.world.chat.messages.values()] == ["it fails 3 of 100", "it leaks"]


@pytest.mark.parametrize(("left_ms", "renewed"), [(6_001, False), (6_000, True)])
async def test_a_weight_is_renewed_when_half_its_time_is_over_for_its_whole_time(
    stage: Stage, left_ms: int, *, renewed: bool
) -> None:
    service = stage.planned(weight_ttl_ms=12_000)
    await stage.canary(weight_percent=25)
    state = stage.at_step(until=stage.now + timedelta(milliseconds=left_ms))
    drafts = await renew(state, stage.ports, service, 25, [], decision=WHY)
    assert bool(drafts) is renewed
    if renewed:
        assert only(drafts).until == stage.now + timedelta(milliseconds=12_000)
        stage.world.clock.advance(11.999)
        assert (await stage.status()).weight_percent == 25
        stage.world.clock.advance(0.001)
        assert (await stage.status()).weight_percent == 0, "nobody renewed it"


@pytest.mark.parametrize(("baked_ms", "confirmed"), [(3_999, False), (4_000, True)])
async def test_a_promoted_release_is_confirmed_when_it_has_baked_and_not_before(
    stage: Stage, baked_ms: int, *, confirmed: bool
) -> None:
    stage.planned(bake_ms=4_000)
    await stage.canary(weight_percent=100)
    ready = sample(e.CanaryReady, release=2, history=None)
    live = sample(e.Promoted, release=2, until=stage.now + timedelta(hours=9), verdict=None)
    drafts = await watch(stage.rollout(ready, live, ago_ms=baked_ms), stage.ports)
    assert [type(draft.event) for draft in drafts] == ([e.ReleaseConfirmed] if confirmed else [])
    assert (stage.acts(ConfirmRelease) == 2) is confirmed, "the first release is one of them"


@pytest.mark.parametrize(("watched_ms", "over"), [(59_999, False), (60_000, True)])
async def test_a_recovery_that_nobody_can_see_has_its_time_and_is_never_called_one(
    stage: Stage, watched_ms: int, *, over: bool
) -> None:
    class Nobody:
        async def windows(self, *_: object, **__: object) -> list[WindowCounts]:
            return []

    stage.planned(recovery_ms=60_000)
    await stage.append(RELEASES, *FIRST)
    stage.ports = replace(stage.ports, telemetry=cast("Any", Nobody()))
    back = stage.now - timedelta(milliseconds=watched_ms)
    bad = Badness(bad_ppm=100_000, usual_ppm=0, boundary=None)
    restored = sample(e.TrafficRestored, release=2, traffic_back_at=back, badness=bad, suspects=(), blame=None)
    state = stage.rollout(sample(e.RegressionFound, release=2), restored)
    said = only(await recover(state, stage.ports))
    assert isinstance(said, e.RecoveryVerified if over else e.Waited)
    assert over is (isinstance(said, e.RecoveryVerified) and said.recovered is False)


@pytest.mark.parametrize(("waited_ms", "given_up"), [(999, False), (1_000, True)])
async def test_a_canary_has_its_time_to_become_healthy_and_never_gets_users_after_it(
    stage: Stage, waited_ms: int, *, given_up: bool
) -> None:
    stage.planned(ready_seconds=1, canary_instances=3)
    waits = only(await start(stage.rollout(), stage.ports))
    assert waits.until == stage.now + timedelta(seconds=1)
    started = [one.verb for one in stage.world.acts if isinstance(one.verb, StartCanary)]
    assert [one.instances for one in started] == [3]
    state = replace(stage.rollout(), waiting=waits)
    stage.world.clock.advance(waited_ms / 1000)
    drafts = await start(state, stage.ports)
    assert [type(draft.event) for draft in drafts] == ([e.RegressionFound] if given_up else [])


async def test_a_baseline_is_as_long_as_the_plan_says(stage: Stage) -> None:
    asked: dict[str, int] = {}

    class Past:
        source = "a test"

        async def baseline(self, *_: object, **given: int) -> Baseline:
            asked.update(given)
            return await stage.world.telemetry.baseline(SERVICE, stage.world.first, **given)

    service = stage.planned(baseline_ms=600_000)
    stage.ports = replace(stage.ports, telemetry=cast("Any", Past()))
    state = stage.rollout()
    assert state.confirmed is not None
    assert state.current is not None
    await _measured(state.confirmed, state.current, service, stage.ports)
    assert asked == {"to_ms": stage.world.clock.now_ms(), "from_ms": asked["to_ms"] - 600_000, "width_ms": 1_000}


@pytest.mark.parametrize("steps", [(), (5, 25), (5, 5, 100), (25, 5, 100), (0, 100), (5, 101)])
def test_a_plan_rises_to_everybody_or_is_none(steps: tuple[int, ...]) -> None:
    assert RolloutPlan(steps_percent=(1, 100)).steps_percent == (1, 100)
    with pytest.raises(ValueError, match="steps_percent"):
        RolloutPlan(steps_percent=steps)
