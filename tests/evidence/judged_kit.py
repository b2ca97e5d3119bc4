"""A state folder in which one release was judged by the real judge over counts that a seed makes: bad, or not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from evidence_kit import BY, HandClock
from facts_kit import WHY, sample

from controller.canary.boundaries import choose_boundaries
from controller.canary.court import given_in, pack
from controller.canary.dispersion import prior_phi
from controller.canary.judge import Judge
from controller.domain import events as e
from controller.domain.blame import Blame, Candidate, Rival, Share
from controller.domain.counts import ArmCounts, Histogram, WindowCounts
from controller.domain.entry import Draft
from controller.domain.ids import DeliveryId, Digest, rollout_stream
from controller.domain.verdict import BoundarySource, Exemplars, JudgeConfig, Outcome, Verdict
from controller.ledger.blobs import FileBlobs
from controller.ledger.checkpoint_book import CheckpointBook
from controller.ledger.keyring import Keyring
from controller.ledger.signer import Signer
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import snapshot
from controller.recording import Folder

SETTINGS = '[repository]\nname = "shop"\n'
DELIVERY, RELEASE = DeliveryId("shop-8a1c44"), 2
STREAM = rollout_stream("shop", "production")  # type: ignore[arg-type]
START_MS, WIDTH_MS, PER_SEGMENT = 1_796_000_000_000, 10_000, 6
WEIGHTS = (10, 25, 50)
TRACES = Exemplars(bad=("b" * 31 + "1", "b" * 31 + "2"), good=("a" * 31 + "1",))
RIVALS = (
    Rival(name="shared incident", held=False, reason="the baseline fails as before"),
    Rival(name="<b>other users</b>", held=False, reason="10 % were intended & 10 % came"),
)
BLAME = Blame(
    share=Share.CLEAR,
    culprit=DELIVERY,
    candidates=(
        Candidate(
            delivery=DELIVERY,
            log_e_micro=9_000_000,
            prior_ppm=500_000,
            posterior_ppm=998_000,
            lines=12,
            files=("shop/<cart>.py",),
            exposed=7,
        ),
        Candidate(
            delivery=DeliveryId("shop-000001"),
            log_e_micro=0,
            prior_ppm=500_000,
            posterior_ppm=2_000,
            lines=3,
            veto="only its documents changed",
        ),
    ),
    reason="its own file stands on every failing stack",
)


@dataclass(frozen=True)
class Made:
    state: Path
    decided: int  # log index
    verdict: Verdict
    windows: tuple[WindowCounts, ...]
    policy: Digest


def traffic(count: int, bad_rate: float, *, seed: int = 1) -> Iterator[WindowCounts]:
    chance = Random(seed)
    for n in range(count):
        start = START_MS + n * WIDTH_MS
        yield WindowCounts(
            start_ms=start,
            end_ms=start + WIDTH_MS,
            canary=_arm(chance, 18, bad_rate, 41),
            baseline=_arm(chance, 160, 0.002, 40),
        )


def _arm(chance: Random, requests: int, bad_rate: float, middle: int) -> ArmCounts:
    errors, timed = sum(chance.random() < bad_rate for _ in range(requests)), dict[int, int]()
    for _ in range(requests):
        bucket = round(chance.gauss(middle, 6))
        timed[bucket] = timed.get(bucket, 0) + 1
    return ArmCounts(requests=requests, errors=errors, latency=Histogram.of(timed))


async def judged_log(state: Path, windows: Sequence[WindowCounts]) -> Made:
    """A log of one release: looked at segment by segment, rolled back where the judge says so, else promoted."""
    folder = Folder(state).make()
    (state / "flyball.toml").write_text(SETTINGS)
    blobs, config = FileBlobs(folder.blobs), JudgeConfig()
    policy = await blobs.put(config.model_dump_json().encode())
    history = _arm(Random(7), 2_000, 0.002, 40).latency
    ready = sample(
        e.CanaryReady,
        full=False,
        release=RELEASE,
        boundaries=choose_boundaries(history, config, BoundarySource.HISTORY),
        phi=prior_phi(config),
        callers=False,
    )
    drafts: list[e.Event] = [
        sample(e.ReleaseOpened, release=RELEASE, deliveries=(DELIVERY,), against=1),
        sample(e.ArtefactBuilt, release=RELEASE),
        ready,
    ]
    judge = Judge(config, ready.phi, ready.boundaries, WEIGHTS[0], START_MS, None, given_in(ready))
    state_, looked = judge.start(), list[WindowCounts]()
    each = max(PER_SEGMENT, len(windows) // 100)
    for segment, start in enumerate(range(0, len(windows), each)):
        weight = WEIGHTS[min(segment * len(WEIGHTS) * each // len(windows), len(WEIGHTS) - 1)]
        used = []
        judge = replace(judge, weight_percent=weight)
        for window in windows[start : start + each]:
            if state_.first_crossing is None:
                state_ = judge.step(state_, window)
                used.append(window)
        if not used:
            break
        looked += used
        if not segment or drafts[-1].weight_percent != weight:  # type: ignore[attr-defined]
            drafts.append(sample(e.StepStarted, release=RELEASE, step=segment, weight_percent=weight))
        drafts.append(
            await _seen(
                segment=segment,
                weight=weight,
                used=used,
                verdict=judge.verdict(state_),
                blobs=blobs,
                policy=policy,
            )
        )
    verdict = judge.verdict(state_)
    worse = verdict.outcome is Outcome.ROLL_BACK
    drafts += [_found(verdict, policy), *_after()] if worse else [_promoted(verdict, policy)]
    await _append(folder.log, drafts)
    index = next(n for n, one in enumerate(drafts) if isinstance(one, e.RegressionFound | e.Promoted))
    return Made(state, index, verdict, tuple(looked), policy)


async def _seen(
    *, segment: int, weight: int, used: list[WindowCounts], verdict: Verdict, blobs: FileBlobs, policy: Digest
) -> e.Observed:
    return e.Observed(
        release=RELEASE,
        step=0,
        weight_percent=weight,
        step_start_ms=START_MS,
        segment=segment,
        windows=len(used),
        from_ms=used[0].start_ms,
        to_ms=used[-1].end_ms,
        counts=await blobs.put(pack(used)),
        canary_requests=sum(one.canary.requests for one in used),
        canary_errors=sum(one.canary.errors for one in used),
        baseline_requests=sum(one.baseline.requests for one in used),
        baseline_errors=sum(one.baseline.errors for one in used),
        verdict=verdict,
        source="counts that a seed makes",
        label=e.Label.SIMULATED,
        excluded={"late": 3, "of another version": 41},
        policy=policy,
    )


def _found(verdict: Verdict, policy: Digest) -> e.RegressionFound:
    return sample(  # type: ignore[no-any-return]
        e.RegressionFound,
        full=False,
        release=RELEASE,
        step=0,
        weight_percent=10,
        reason=verdict.sentence,
        verdict=verdict,
        decision=WHY.model_copy(update={"policy": policy}),
        exemplars=TRACES,
    )


def _promoted(verdict: Verdict, policy: Digest) -> e.Promoted:
    decision = WHY.model_copy(update={"policy": policy})
    return sample(e.Promoted, release=RELEASE, verdict=verdict, decision=decision)  # type: ignore[no-any-return]


def _after() -> list[e.Event]:
    recovered = "it is over: 0 of 385 requests were bad since traffic came back"
    return [
        sample(
            e.TrafficRestored,
            release=RELEASE,
            to_release=1,
            health_checks=3,
            bad_commits=(),
            rivals=RIVALS,
            blame=BLAME,
        ),
        sample(
            e.RecoveryVerified,
            release=RELEASE,
            recovered=True,
            requests=385,
            errors=0,
            log_e_micro=7_300_000,
            threshold_micro=4_605_171,
            phi_milli=2_000,
            reason=recovered,
        ),
    ]


async def _append(path: Path, drafts: Sequence[e.Event]) -> None:
    clock = HandClock()
    log = SqliteLog(path, clock, inline=True)
    for version, event in enumerate(drafts):
        await clock.sleep(10)
        await log.append([Draft(STREAM, event)], expect={STREAM: version}, by=BY)
    log.close()


def signed(made: Made) -> str:
    """Sign all of the log; the key to check it with."""
    folder = made.state / "signer"
    folder.mkdir(exist_ok=True)
    book = CheckpointBook(folder / "checkpoints.db")
    Signer(lambda: snapshot(made.state / "log.db"), Keyring(folder), book, HandClock()).round()
    book.close()
    history = Keyring(folder).history()
    assert history is not None
    return str(history.verifiers[0])


def made_in(state: Path, count: int, bad_rate: float) -> Made:
    return asyncio.run(judged_log(state, [*traffic(count, bad_rate)]))
