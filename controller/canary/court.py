"""The judge's state of a release, folded from its sealed segments, and the look that goes on from it.

What was looked at once is never looked at differently again. The fold is cached by everything that it depends on;
throwing the cache away only costs reading the blobs again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from controller.canary.judge import Judge
from controller.canary.panel import Given
from controller.canary.weighing import JudgeState
from controller.domain.counts import WindowCounts
from controller.domain.events import CanaryReady
from controller.domain.ids import Digest, canonical
from controller.domain.rollout import Rollout
from controller.domain.verdict import JudgeConfig, Verdict
from controller.errors import Permanent
from controller.ports import Contradicted, LookRequest, Reader, SealedCounts, Seen, Telemetry

CACHED = 64
Key = tuple[JudgeConfig, CanaryReady, tuple[Digest, ...]]
_cache: OrderedDict[Key, JudgeState] = OrderedDict()


class InProcessCourt:
    """`Court`, where it is asked: the counts come from `telemetry`, and the sealed ones from `blobs`."""

    def __init__(self, telemetry: Telemetry, blobs: Reader) -> None:
        self._telemetry = telemetry
        self._blobs = blobs

    async def look(self, request: LookRequest) -> Seen:
        windows = await self._telemetry.windows(
            request.service,
            canary=request.canary,
            baseline=request.baseline,
            from_ms=request.from_ms,
            width_ms=request.width_ms,
        )
        source, excluded = self._telemetry.source, await self._telemetry.excluded(request.service)
        used, verdict = await judged(request, windows, self._blobs)
        return Seen(windows=used, verdict=verdict, source=source, label=self._telemetry.label, excluded=dict(excluded))


async def judged(
    request: LookRequest, windows: Sequence[WindowCounts], blobs: Reader
) -> tuple[tuple[WindowCounts, ...], Verdict]:
    """The windows that were folded, and the verdict. The first crossing is final: what comes after it is left out."""
    court = judge_of(request.config, request.ready, request.weight_percent, request.step_start_ms)
    state = await sealed_state(request.config, request.ready, request.segments, blobs)
    used: list[WindowCounts] = []
    for window in windows:
        if state.first_crossing is not None:
            break
        state = court.step(state, window)
        used.append(window)
    return tuple(used), court.verdict(state)


async def checked(request: LookRequest, seen: Seen, blobs: Reader) -> Seen:
    """What another process has seen, if it follows from the windows that it names. Raises Contradicted."""
    for number, window in enumerate(seen.windows):
        start_ms = request.from_ms + number * request.width_ms
        if (window.start_ms, window.end_ms) != (start_ms, start_ms + request.width_ms):
            found, due = f"{window.start_ms} to {window.end_ms} ms", f"{start_ms} ms on"
            raise Contradicted(f"the judge's window {number} is {found}, and was asked for from {due}", WAY_OUT)
    used, verdict = await judged(request, seen.windows, blobs)
    if used != seen.windows:
        raise Contradicted(f"the judge names {len(seen.windows)} windows, and the verdict fell at {len(used)}", WAY_OUT)
    if verdict != seen.verdict:
        said, follows = (f"{one.outcome} by {one.rule} at {one.log_e_micro}" for one in (seen.verdict, verdict))
        raise Contradicted(f"the judge says {said}, and its own windows give {follows}", WAY_OUT)
    return seen


WAY_OUT = "Look at the judge's process; nothing rests on what it says, and the canary's weight is not renewed"


def judge_of(config: JudgeConfig, ready: CanaryReady, weight_percent: int, step_start_ms: int) -> Judge:
    return Judge(config, ready.phi, ready.boundaries, weight_percent, step_start_ms, ready.latency_phi, given_in(ready))


def ready_of(r: Rollout) -> CanaryReady:
    if r.ready is None:
        raise Permanent(f"{r.stream} is judged before its canary was ready", "Run `flyball log verify`")
    return r.ready


def given_in(ready: CanaryReady) -> Given:
    return Given(ready.callers, ready.routes, ready.gauges, ready.silence, ready.history)


def segments_of(r: Rollout) -> tuple[SealedCounts, ...]:
    return tuple(
        SealedCounts(counts=one.counts, weight_percent=one.weight_percent, step_start_ms=one.step_start_ms)
        for one in r.segments
    )


async def sealed_state(
    config: JudgeConfig, ready: CanaryReady, segments: Sequence[SealedCounts], blobs: Reader
) -> JudgeState:
    """The state after every sealed segment of the release under way."""
    first = judge_of(config, ready, 0, 0)
    digests = tuple(segment.counts for segment in segments)
    known = next((n for n in range(len(digests), 0, -1) if (config, ready, digests[:n]) in _cache), 0)
    state = _cache[(config, ready, digests[:known])] if known else first.start()
    for segment in segments[known:]:
        judge = replace(first, weight_percent=segment.weight_percent, step_start_ms=segment.step_start_ms)
        for window in unpack(await blobs.get(segment.counts)):
            state = judge.step(state, window)
    _cache[(config, ready, digests)] = state
    while len(_cache) > CACHED:
        _cache.popitem(last=False)
    return state


def pack(windows: Sequence[WindowCounts]) -> bytes:
    """The canonical bytes of a segment's counts."""
    return canonical({"windows": [window.model_dump(mode="json") for window in windows]})


def unpack(content: bytes) -> list[WindowCounts]:
    return [WindowCounts.model_validate_json(json.dumps(one)) for one in json.loads(content)["windows"]]
