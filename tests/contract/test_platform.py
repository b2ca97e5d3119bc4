"""What every platform keeps: one canary slot named by release, weights that expire, a way back that always works."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from platform_worlds import PLATFORMS, Behaviour, PlatformWorld

from controller.domain.ids import Commit, Digest, EffectKey
from controller.domain.verbs import (
    Build,
    Built,
    CanaryStarted,
    ConfirmRelease,
    Ok,
    Restored,
    RestoreTraffic,
    SetWeight,
    StartCanary,
    WeightSet,
)
from controller.errors import Permanent
from controller.ports import PlatformStatus

KEYS = itertools.count()


class Acts:
    """The verbs of one service, each under a key of its own."""

    def __init__(self, world: PlatformWorld) -> None:
        self.world = world
        self.place = {"service": world.service, "environment": world.environment}

    def key(self) -> EffectKey:
        return EffectKey(f"effect/{next(KEYS)}")

    async def status(self) -> PlatformStatus:
        return await self.world.platform.status(self.world.service, self.world.environment)

    async def build(self, commit: Commit) -> Built:
        verb = Build.model_validate({**self.place, "repository": self.world.repository, "commit": commit})
        built: Built = await self.world.platform.act(self.key(), verb)
        return built

    def canary(self, release: int, commit: Commit, artefact: Digest) -> StartCanary:
        told = {**self.place, "release": release, "commit": commit, "artefact": artefact, "instances": 1}
        return StartCanary.model_validate(told)

    async def start(self, release: int, commit: Commit) -> CanaryStarted:
        verb = self.canary(release, commit, (await self.build(commit)).artefact)
        started: CanaryStarted = await self.world.platform.act(self.key(), verb)
        return started

    async def healthy(self, release: int) -> None:
        async def look() -> bool:
            status = await self.status()
            return status.canary_release == release and status.canary_healthy

        await self.world.until(look, f"release {release} is healthy")

    def weight(self, release: int, percent: int, for_ms: int = 60_000) -> SetWeight:
        told = {**self.place, "release": release, "weight_percent": percent, "until_ms": self.world.now_ms() + for_ms}
        return SetWeight.model_validate(told)

    async def expose(self, release: int, percent: int, for_ms: int = 60_000) -> WeightSet:
        verb = self.weight(release, percent, for_ms)
        result: WeightSet = await self.world.platform.act(self.key(), verb)
        assert result == WeightSet(weight_percent=percent, until_ms=verb.until_ms)
        return result

    async def confirm(self, release: int) -> Ok:
        verb = ConfirmRelease.model_validate({**self.place, "release": release})
        confirmed: Ok = await self.world.platform.act(self.key(), verb)
        return confirmed

    async def restore(self, release: int) -> Restored:
        verb = RestoreTraffic.model_validate({**self.place, "release": release})
        restored: Restored = await self.world.platform.act(self.key(), verb)
        return restored

    async def release(self, number: int) -> Commit:
        commit = await self.world.commit(Behaviour.WELL)
        await self.start(number, commit)
        await self.healthy(number)
        await self.expose(number, 100)
        await self.confirm(number)
        return commit

    async def candidate(self, number: int) -> Commit:
        commit = await self.world.commit(Behaviour.WELL)
        await self.start(number, commit)
        await self.healthy(number)
        return commit


@pytest.fixture(params=sorted(PLATFORMS))
async def acts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Acts]:
    world = await PLATFORMS[request.param](tmp_path)
    yield Acts(world)
    await world.close()


async def test_nothing_is_deployed_at_first(acts: Acts) -> None:
    status = await acts.status()
    assert (status.confirmed_release, status.confirmed_commit) == (None, None)
    assert (status.canary_release, status.weight_percent) == (None, 0)
    assert set(await acts.world.traffic(3)) == {""}


async def test_commit_is_built_once_and_its_digest_stays(acts: Acts) -> None:
    commit, other = await acts.world.commit(Behaviour.WELL), await acts.world.commit(Behaviour.WELL)
    first = await acts.build(commit)
    assert await acts.build(commit) == first
    assert (await acts.build(other)).artefact != first.artefact


async def test_commit_that_does_not_build_is_a_definite_no(acts: Acts) -> None:
    with pytest.raises(Permanent):
        await acts.build(await acts.world.commit(Behaviour.UNBUILDABLE))


async def test_first_release_needs_nothing_to_return_to(acts: Acts) -> None:
    commit = await acts.release(1)
    status = await acts.status()
    assert (status.confirmed_release, status.confirmed_commit, status.canary_release) == (1, commit, None)
    assert await acts.world.traffic(10) == {commit: 10}


async def test_canary_starts_without_users_and_gets_its_share(acts: Acts) -> None:
    old, new = await acts.release(1), await acts.candidate(2)
    assert await acts.world.traffic(20) == {old: 20}
    await acts.expose(2, 50)
    status = await acts.status()
    assert (status.weight_percent, status.canary_commit, status.weight_until is None) == (50, new, False)
    seen = await acts.world.traffic(200)
    assert seen.total() == seen[old] + seen[new]
    assert 60 < seen[new] < 140


async def test_expired_weight_returns_to_the_confirmed_version(acts: Acts) -> None:
    old = await acts.release(1)
    await acts.candidate(2)
    await acts.expose(2, 50, for_ms=700)

    async def lapsed() -> bool:
        return (await acts.status()).lapsed_release == 2

    await acts.world.until(lapsed, "the weight lapses")
    status = await acts.status()
    assert (status.weight_percent, status.weight_until, status.canary_release) == (0, None, 2)
    assert await acts.world.traffic(20) == {old: 20}


async def test_renewed_weight_does_not_expire(acts: Acts) -> None:
    await acts.release(1)
    await acts.candidate(2)
    await acts.expose(2, 50, for_ms=2_000)
    first = acts.world.now_ms() + 2_000
    await acts.expose(2, 50, for_ms=60_000)

    async def past() -> bool:
        await acts.status()
        return acts.world.now_ms() > first

    await acts.world.until(past, "the first deadline passes")
    status = await acts.status()
    assert (status.weight_percent, status.lapsed_release) == (50, None)


async def test_canary_that_never_becomes_healthy_gets_no_traffic_and_a_reason(acts: Acts) -> None:
    old = await acts.release(1)
    await acts.start(2, await acts.world.commit(Behaviour.NEVER_HEALTHY))

    async def given_up() -> bool:
        return bool((await acts.status()).canary_reason)

    await acts.world.until(given_up, "the platform says why")
    assert not (await acts.status()).canary_healthy
    with pytest.raises(Permanent):
        await acts.expose(2, 5)
    with pytest.raises(Permanent):
        await acts.confirm(2)
    assert await acts.world.traffic(10) == {old: 10}


async def test_stale_release_cannot_touch_the_slot_of_another(acts: Acts) -> None:
    old = await acts.release(1)
    new = await acts.candidate(3)
    with pytest.raises(Permanent, match=r"2.*3"):
        await acts.expose(2, 50)
    with pytest.raises(Permanent, match=r"2.*3"):
        await acts.confirm(2)
    with pytest.raises(Permanent, match=r"2.*3"):
        await acts.restore(2)
    with pytest.raises(Permanent, match=r"2.*3"):
        await acts.start(2, await acts.world.commit(Behaviour.WELL))
    status = await acts.status()
    assert (status.canary_commit, status.canary_healthy, status.confirmed_commit) == (new, True, old)


async def test_confirmed_release_takes_all_traffic_and_no_longer_expires(acts: Acts) -> None:
    await acts.release(1)
    new = await acts.candidate(2)
    await acts.expose(2, 100)
    await acts.confirm(2)
    assert await acts.world.traffic(20) == {new: 20}
    status = await acts.status()
    assert (status.confirmed_release, status.canary_release, status.weight_until) == (2, None, None)
    await acts.confirm(2)
    assert (await acts.status()).confirmed_release == 2


async def test_restored_traffic_is_on_the_confirmed_release_which_is_well(acts: Acts) -> None:
    old = await acts.release(1)
    await acts.candidate(2)
    await acts.expose(2, 100)
    before = acts.world.now_ms()
    restored = await acts.restore(2)
    assert before <= restored.at_ms <= acts.world.now_ms()
    assert restored.health_checks > 0
    assert await acts.world.traffic(20) == {old: 20}
    status = await acts.status()
    assert (status.canary_release, status.weight_percent, status.confirmed_release) == (None, 0, 1)
    assert (await acts.restore(2)).health_checks > 0
    with pytest.raises(Permanent):
        await acts.restore(1)


async def test_restored_release_may_try_again(acts: Acts) -> None:
    await acts.release(1)
    new = await acts.candidate(2)
    await acts.expose(2, 50)
    await acts.restore(2)
    await acts.start(2, new)
    await acts.healthy(2)
    await acts.expose(2, 50)
    assert (await acts.status()).weight_percent == 50


async def test_repeated_act_with_the_same_key_acts_once(acts: Acts) -> None:
    await acts.release(1)
    await acts.candidate(2)
    key, verb = acts.key(), acts.weight(2, 50)
    assert await acts.world.platform.find(key, verb) is None
    first = await acts.world.platform.act(key, verb)
    await acts.expose(2, 5)
    assert await acts.world.platform.act(key, verb) == first
    assert await acts.world.platform.find(key, verb) == first
    assert (await acts.status()).weight_percent == 5


async def test_refused_act_leaves_its_key_free(acts: Acts) -> None:
    await acts.release(1)
    key, verb = acts.key(), acts.weight(2, 50)
    with pytest.raises(Permanent):
        await acts.world.platform.act(key, verb)
    assert await acts.world.platform.find(key, verb) is None
