"""Several changes in one release, one of them bad: found by traces at once, or by halves, and no other is reverted."""

from __future__ import annotations

import math
from random import Random

import pytest
from scenarios import QUICK, begun, legal, nothing_twice
from simulated import ROLLOUT, Simulation

from controller.domain import events as e
from controller.domain.blame import Share
from controller.domain.counts import TraceGroup
from controller.domain.delivery import Phase
from controller.domain.ids import DeliveryId, Service
from controller.domain.rollout import ReleaseEnd
from controller.errors import Unavailable
from controller.sim.traffic import SimTelemetry
from controller.sim.world import PRODUCTION, SHOP

NUMBERS = ("one", "two", "three", "four", "five", "six")
RELEASER = "agent:releaser"


async def landed(sim: Simulation, batch: int, *bad: int | None) -> list[DeliveryId]:
    """So many changes wait for a release, in the order they landed in; these of them are bad, or none."""
    await sim.run(lambda: sim.world.served is not None)
    await sim.run_for(5)
    await sim.intake.stop("olga", RELEASER, "wait", event_id="s")
    asked = []
    for number, word in enumerate(NUMBERS[:batch]):
        files = {f"{word}.py": f"{word} = {number}\n", f"tests/test_{word}.py": "1\n"}
        broken = {**files, f"{word}.py": f"{word} = {number}  # FAILS 15%\n"}
        mended = {**files, f"{word}.py": f"{word} = {number}  # mended\n", f"tests/test_{word}_again.py": "1\n"}
        title = sim.world.plays(f"Say {word}", broken if number in bad else files, fixes=(mended,))
        asked.append(await sim.ask(title))
        await _all_merged(sim, asked)
    return asked


async def _all_merged(sim: Simulation, asked: list[DeliveryId]) -> None:
    async def merged() -> bool:
        return all([(await sim.delivery(one)).phase is Phase.MERGED for one in asked])

    assert await sim.run(merged), await sim.state()


async def batch_of(
    batch: int, bad: int | None, *, traced: bool = False, seed: int = 1
) -> tuple[Simulation, list[DeliveryId]]:
    """A controller at work on a release of the whole batch."""
    sim = begun(seed, QUICK.model_copy(update={"changes_per_release": batch}))
    sim.world.telemetry.traced = traced
    sim.start("w1")
    asked = await landed(sim, batch, bad)
    await sim.intake.resume("olga", RELEASER, "go on", event_id="r")
    return sim, asked


async def restored(sim: Simulation) -> list[e.TrafficRestored]:
    return [entry.event for entry in await sim.entries() if isinstance(entry.event, e.TrafficRestored)]


async def tried(sim: Simulation, asked: list[DeliveryId]) -> list[tuple[int, ...]]:
    """The releases that carried some of the batch, as places in it; from the first one on."""
    found = [release.deliveries for release in (await sim.rollout()).ended]
    carried = [tuple(asked.index(one) for one in each if one in asked) for each in found]
    return [one for one in carried if one]


async def only_the_bad_one_was_reverted(sim: Simulation, asked: list[DeliveryId], bad: int | None) -> None:
    phases = [(await sim.delivery(one)).phase for one in asked]
    wanted = [Phase.HANDED_OVER if number == bad else Phase.CONFIRMED for number in range(len(asked))]
    assert phases == wanted, await sim.state()
    assert (await sim.rollout()).suspects == ()
    await nothing_twice(sim)
    await legal(sim)


async def test_the_bad_one_of_three_is_reverted_alone_when_the_traces_tell() -> None:
    sim, asked = await batch_of(3, bad=1, traced=True)
    assert await sim.run(), await sim.state()
    (back,) = await restored(sim)
    assert (back.culprits, back.suspects) == ((asked[1],), ())
    assert back.blame is not None
    assert back.blame.share is Share.CLEAR
    assert back.blame.candidates[0].files == ("two.py",)
    assert {rival.name for rival in back.rivals} == {"shared incident", "starvation"}
    assert not any(rival.held for rival in back.rivals)
    await only_the_bad_one_was_reverted(sim, asked, 1)


async def test_traces_that_cannot_be_had_cost_a_split_and_not_the_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object, **__: object) -> list[TraceGroup]:
        raise Unavailable("the traces are elsewhere")

    monkeypatch.setattr(SimTelemetry, "traces", gone)
    sim, asked = await batch_of(2, bad=0, traced=True)
    assert await sim.run(), await sim.state()
    first = (await restored(sim))[0]
    assert first.suspects == tuple(asked)
    assert first.rivals[0].reason == "the traces of release 2 could not be had: Unavailable"
    await only_the_bad_one_was_reverted(sim, asked, 0)


async def test_where_traces_show_an_incident_of_both_arms_nobody_is_blamed_and_a_person_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both_fail_alike(telemetry: SimTelemetry, service: Service, **_: object) -> list[TraceGroup]:
        spans = telemetry.platform.slot(service, PRODUCTION).spans
        nodes = {f"{service}@{one}" for span in spans for one in (span.confirmed, span.canary) if one}
        return [
            TraceGroup(through=(node, "stock@s1"), route="/", origin=origin, traces=500)
            for node in sorted(nodes)
            for origin in ("stock@s1", None)
        ]

    monkeypatch.setattr(SimTelemetry, "traces", both_fail_alike)
    sim, asked = await batch_of(2, bad=0)

    async def gone_again() -> bool:
        again = [entry.event for entry in await sim.entries() if isinstance(entry.event, e.WentAgain)]
        return len(again) >= len(asked)

    assert await sim.run(gone_again), await sim.state()
    back = (await restored(sim))[0]
    assert back.blame is not None
    assert (back.culprits, back.suspects, back.blame.share) == ((), (), Share.SHARED)
    assert {rival.name for rival in back.rivals if rival.held} == {"shared incident", "dependency stock@s1"}
    told = [tell.text for key, tell in sim.world.chat.messages.items() if key.endswith("/shared")]
    assert told[0].startswith(
        "release 2 was rolled back, and no change of it is blamed: shared incident: both arms fail"
    )
    reasons = {entry.event.reason for entry in await sim.entries() if isinstance(entry.event, e.WentAgain)}
    assert reasons == {"no change of the release is blamed for it"}


@pytest.mark.parametrize("bad", range(3))
async def test_without_evidence_a_batch_of_three_is_split_until_the_bad_one_is_alone(bad: int) -> None:
    sim, asked = await batch_of(3, bad)
    assert await sim.run(), await sim.state()
    releases = await tried(sim, asked)
    until = next(number for number, one in enumerate(releases) if one == (bad,))
    assert releases[0] == (0, 1, 2)
    assert until <= math.ceil(math.log2(3)) + 1
    assert (await restored(sim))[0].suspects == tuple(asked)
    await only_the_bad_one_was_reverted(sim, asked, bad)


@pytest.mark.slow
async def test_a_batch_of_six_is_split_in_halves_and_each_canary_has_its_share_of_alpha() -> None:
    sim, asked = await batch_of(6, bad=4)
    assert await sim.run(), await sim.state()
    releases = await tried(sim, asked)
    assert releases[:4] == [(0, 1, 2, 3, 4, 5), (0, 1, 2), (3, 4), (3,)]
    needed = [release.regression.verdict for release in (await sim.rollout()).ended if release.regression]
    lines = [verdict.threshold_micro for verdict in needed if verdict]
    assert lines[0] == 6_907_756
    assert lines[1] == math.ceil(math.log(1_000_000 / 333) * 1_000_000)
    await only_the_bad_one_was_reverted(sim, asked, 4)


async def test_an_opening_says_that_it_is_half_of_the_suspects() -> None:
    sim, asked = await batch_of(3, bad=0)
    assert await sim.run(), await sim.state()
    opened = [entry.event for entry in await sim.log.read(ROLLOUT) if isinstance(entry.event, e.ReleaseOpened)]
    split = [event for event in opened if "rollout/split" in event.decision.rules]
    assert [event.deliveries for event in split] == [tuple(asked[:2]), (asked[0],)]
    assert "2 of 3 suspects go out again" in split[0].decision.claims[1].text


async def test_without_a_bad_one_a_batch_goes_out_together() -> None:
    sim, asked = await batch_of(4, bad=None)
    assert await sim.run(), await sim.state()
    assert await tried(sim, asked) == [(0, 1, 2, 3)]
    await only_the_bad_one_was_reverted(sim, asked, None)


async def test_by_default_a_release_carries_one_change() -> None:
    sim = begun(1)
    sim.start("w1")
    asked = await landed(sim, 3, None)
    await sim.intake.resume("olga", RELEASER, "go on", event_id="r")
    assert await sim.run(), await sim.state()
    assert await tried(sim, asked) == [(0,), (1,), (2,)]


async def test_a_bad_start_is_found_by_halves_too() -> None:
    sim = begun(1, QUICK.model_copy(update={"changes_per_release": 3}))
    sim.start("w1")
    await sim.run(lambda: sim.world.served is not None)
    await sim.run_for(5)
    await sim.intake.stop("olga", RELEASER, "wait", event_id="s")
    asked = []
    for word, text in (("one", "1"), ("two", "DEAD"), ("three", "3")):
        files = {f"{word}.py": f"{word} = {text}\n", f"tests/test_{word}.py": "1\n"}
        asked.append(await sim.ask(sim.world.plays(f"Say {word}", files, fixes=({**files, f"{word}.py": "2\n"},))))
        await _all_merged(sim, asked)
    await sim.intake.resume("olga", RELEASER, "go on", event_id="r")
    assert await sim.run(), await sim.state()
    assert (await tried(sim, asked))[:4] == [(0, 1, 2), (0, 1), (0,), (1,)]
    await only_the_bad_one_was_reverted(sim, asked, 1)


async def test_what_can_neither_be_told_apart_nor_sent_out_apart_is_reverted_together() -> None:
    sim = begun(1)  # one change a release
    sim.start("w1")
    asked = await landed(sim, 3, 0, 1)
    await sim.intake.resume("olga", RELEASER, "go on", event_id="r")
    assert await sim.run(), await sim.state()
    first, second = await restored(sim)
    assert first.culprits == (asked[0],)
    assert second.culprits == (asked[1], asked[2])  # neither may go out without the revert, which landed after both
    assert second.blame is not None
    assert "nor can they go out apart: it contains" in second.blame.reason
    assert await tried(sim, asked) == [(0,), (1, 2)]
    shop, served = sim.world.forge.repository(SHOP), sim.world.served
    assert served is not None
    assert not any("FAILS" in text for text in shop.history.of(served).tree.values())
    await legal(sim)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
async def test_kills_in_the_middle_of_a_split_cost_only_time(seed: int) -> None:
    dice = Random(seed)  # noqa: S311 - a seeded world
    sim = begun(seed, QUICK.model_copy(update={"changes_per_release": 3}))
    sim.start("w0")
    asked = await landed(sim, 3, 1)
    await sim.intake.resume("olga", RELEASER, "go on", event_id="r")

    async def regressed() -> bool:
        return (await sim.rollout()).ended[-1].end is ReleaseEnd.ROLLED_BACK

    assert await sim.run(regressed), await sim.state()
    died = 0
    for number in range(4):
        await sim.controllers[0].bury()
        sim.controllers.clear()
        sim.start(f"killed-{number}", kill_at=dice.randint(5, 60))
        await sim.run(seconds=60, bury=False)
        died += sim.controllers[0].dead
        sim.world.clock.advance(60)
    assert died
    await sim.controllers[0].bury()
    sim.controllers.clear()
    sim.start("last")
    assert await sim.run(seconds=7_200), await sim.state()
    releases = await tried(sim, asked)
    assert releases[:3] == [(0, 1, 2), (0, 1), (0,)]
    await only_the_bad_one_was_reverted(sim, asked, 1)
