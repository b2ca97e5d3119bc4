"""A recorded verdict, computed again: from the log's entries and the blobs that they name, and from nothing else.

Segments name their counts, a canary's readiness its boundaries and noise, and every verdict the judge's parameters, a
blob. Whoever holds these reaches the same verdict, whatever has become of the platform. An alarm and a recovery name
the windows that they rest on, and are computed again in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.canary.alarms import log_mean
from controller.canary.court import judge_of, ready_of, sealed_state, segments_of, unpack
from controller.canary.deciding import JUDGE
from controller.canary.eprocess import to_micro
from controller.canary.recovery import recovery
from controller.canary.watching import detector, ran
from controller.canary.weighing import combined_micro
from controller.domain import events as e
from controller.domain.counts import WindowCounts
from controller.domain.entry import Entry
from controller.domain.ids import NO_DIGEST, Digest, StreamId
from controller.domain.rollout import Rollout, fold
from controller.domain.verdict import JudgeConfig, Verdict
from controller.errors import Permanent, Refused
from controller.ports import Blobs

WORDS = ("sentence", "caveats", "outlook")  # of an older judge: its words were others, its numbers were not
LATER = ("judge", "rule", "may_act_alone", "must_page", "sample_ratio", "incident", "gauges", "spent", "outcome")
Verdictlike = e.RegressionFound | e.Observed | e.Promoted


@dataclass(frozen=True, slots=True)
class Point:
    """One window on the way to a verdict."""

    window: int  # 0-based, of the rollout
    weight_percent: int
    counts: WindowCounts
    log_e_micro: int  # combined, after it


@dataclass(frozen=True, slots=True)
class Replay:
    index: int  # of the entry that holds the verdict
    kind: str
    stream: StreamId
    recorded: Mapping[str, Any]
    again: Mapping[str, Any]
    policy: Digest
    path: tuple[Point, ...] = ()  # empty: not a canary's verdict
    threshold_micro: int = 0

    @property
    def differences(self) -> tuple[str, ...]:
        """Fields in which the two differ. Empty: they agree exactly."""
        return tuple(name for name in self.recorded if self.recorded[name] != self.again.get(name))


async def replay(stream: StreamId, entries: list[Entry], index: int, blobs: Blobs) -> Replay:
    """Compute the verdict that entry `index` of this rollout holds once more. `entries` from the stream's first one on.

    Raises Refused when that entry holds no verdict, Permanent when a blob is gone.
    """
    until = [one for one in entries if one.index <= index]
    if not until or until[-1].index != index:
        raise Refused(f"log#{index} is no entry of {stream}", "See its entries: flyball show DELIVERY")
    match until[-1].event:
        case e.RegressionFound() | e.Observed() | e.Promoted() as event if event.verdict is not None:
            return await _of_canary(stream, until, event.verdict, _policy(event), blobs)
        case e.AlarmRaised() as event:
            return await _of_alarm(stream, until, event, blobs)
        case e.RecoveryVerified() | e.RecoveryFailed() as event:
            return await _of_recovery(stream, until, event, blobs)
        case event:
            raise Refused(
                f"log#{index} ({event.kind() if isinstance(event, e.Event) else 'unknown'}) holds no computed verdict",
                "Name an Observed, RegressionFound, Promoted, AlarmRaised, RecoveryVerified or RecoveryFailed",
            )


async def replayed(stream: StreamId, until: list[Entry], policy: Digest, blobs: Blobs) -> Verdict:
    """The verdict over every segment sealed in `until`, a rollout's entries from its first one on.

    Raises Permanent when no segment is sealed there, or when a blob is gone.
    """
    r, config = fold(stream, until), await _config(policy, blobs)
    if not r.segments:
        raise Permanent(f"{stream} had no sealed segment then", "A release that never ran has no verdict to compute")
    last, ready = r.segments[-1], ready_of(r)
    state = await sealed_state(config, ready, segments_of(r), blobs)
    return judge_of(config, ready, last.weight_percent, last.step_start_ms).verdict(state)


async def path_of(r: Rollout, config: JudgeConfig, blobs: Blobs) -> tuple[Point, ...]:
    """The combined evidence after every sealed window of the release under way."""
    if r.ready is None:
        return ()
    first = judge_of(config, r.ready, 0, 0)
    state, found = first.start(), list[Point]()
    for segment in r.segments:
        judge = replace(first, weight_percent=segment.weight_percent, step_start_ms=segment.step_start_ms)
        for window in unpack(await blobs.get(segment.counts)):
            state = judge.step(state, window)
            found.append(Point(len(found), segment.weight_percent, window, combined_micro(judge.evidence(state))))
    return tuple(found)


async def _of_canary(stream: StreamId, until: list[Entry], recorded: Verdict, policy: Digest, blobs: Blobs) -> Replay:
    again = await replayed(stream, until, policy, blobs)
    left_out = () if recorded.judge == JUDGE else (*WORDS, *LATER)
    told, now = (one.model_dump(mode="json", exclude=set(left_out)) for one in (recorded, again))
    if recorded.judge != JUDGE:
        told, now = _as_before(told), _as_before(now)
    path = await path_of(fold(stream, until), await _config(policy, blobs), blobs)
    last = until[-1]
    return Replay(last.index, last.kind, stream, told, now, policy, path, recorded.threshold_micro)


def _as_before(verdict: dict[str, Any]) -> dict[str, Any]:
    """What the first judge recorded of a test and of a promotion."""
    evidence = [{k: v for k, v in one.items() if k not in ("kind", "view", "route")} for one in verdict["evidence"]]
    promotion = {k: v for k, v in verdict["promotion"].items() if k != "wait_ms"}
    return {**verdict, "evidence": evidence, "promotion": promotion}


async def _of_alarm(stream: StreamId, until: list[Entry], event: e.AlarmRaised, blobs: Blobs) -> Replay:
    r, config = fold(stream, until), await _config(event.policy, blobs)
    if r.usual is None:
        raise Permanent(f"{stream} has no history before its alarm", "Run `flyball log verify`")
    by = detector(r.usual, r.usual_phi_milli, config)
    log_e = to_micro(log_mean(ran(unpack(await blobs.get(event.counts)), by)))
    return _numbers(until[-1], event.policy, event, log_e_micro=log_e, threshold_micro=by.threshold_micro)


async def _of_recovery(
    stream: StreamId, until: list[Entry], event: e.RecoveryVerified | e.RecoveryFailed, blobs: Blobs
) -> Replay:
    r, config = fold(stream, until), await _config(event.policy, blobs)
    known = (*r.ended, *((r.current,) if r.current else ()))
    release = next((one for one in known if one.number == event.release), None)
    if release is None or release.restored is None or release.restored.badness is None:
        raise Permanent(f"{stream} recovered from nothing", "Run `flyball log verify`")
    windows = unpack(await blobs.get(event.counts))
    seen = recovery(windows, release.restored.badness, event.phi_milli, config)
    log_e = seen.lasting_micro if isinstance(event, e.RecoveryFailed) else seen.ended_micro
    counted = {"requests": seen.requests, "errors": seen.bad, "threshold_micro": seen.threshold_micro}
    return _numbers(until[-1], event.policy, event, log_e_micro=log_e, **counted)


def _numbers(entry: Entry, policy: Digest, event: e.Event, **again: int) -> Replay:
    recorded = {name: getattr(event, name) for name in again}
    return Replay(entry.index, entry.kind, entry.stream, recorded, again, policy)


def _policy(event: Verdictlike) -> Digest:
    policy = event.policy if isinstance(event, e.Observed) else event.decision.policy
    if policy == NO_DIGEST:
        raise Refused("this entry does not name the judge's parameters", "Name the RegressionFound that followed it")
    return policy


async def _config(policy: Digest, blobs: Blobs) -> JudgeConfig:
    return JudgeConfig.model_validate_json(await blobs.get(policy))
