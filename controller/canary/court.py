"""The judge's state of a release, folded from its sealed segments.

What was looked at once is never looked at differently again. The fold is cached by everything that it depends on;
throwing the cache away only costs reading the blobs again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace

from controller.canary.judge import Judge
from controller.canary.panel import Given
from controller.canary.weighing import JudgeState
from controller.domain.counts import WindowCounts
from controller.domain.events import CanaryReady
from controller.domain.ids import Digest, canonical
from controller.domain.rollout import Rollout
from controller.domain.verdict import JudgeConfig
from controller.errors import Permanent
from controller.ports import Blobs

CACHED = 64
Key = tuple[JudgeConfig, CanaryReady, tuple[Digest, ...]]
_cache: OrderedDict[Key, JudgeState] = OrderedDict()


def judge_at(r: Rollout, config: JudgeConfig, weight_percent: int, step_start_ms: int) -> Judge:
    if r.ready is None:
        raise Permanent(f"{r.stream} is judged before its canary was ready", "Run `flyball log verify`")
    ready = r.ready
    return Judge(config, ready.phi, ready.boundaries, weight_percent, step_start_ms, ready.latency_phi, given_in(ready))


def given_in(ready: CanaryReady) -> Given:
    return Given(ready.callers, ready.routes, ready.gauges, ready.silence, ready.history)


async def sealed_state(r: Rollout, config: JudgeConfig, blobs: Blobs) -> JudgeState:
    """The state after every sealed segment of the release under way."""
    first = judge_at(r, config, 0, 0)
    if r.ready is None:
        raise Permanent(f"{r.stream} is judged before its canary was ready", "Run `flyball log verify`")
    digests = tuple(segment.counts for segment in r.segments)
    known = next((n for n in range(len(digests), 0, -1) if (config, r.ready, digests[:n]) in _cache), 0)
    state = _cache[(config, r.ready, digests[:known])] if known else first.start()
    for segment in r.segments[known:]:
        judge = replace(first, weight_percent=segment.weight_percent, step_start_ms=segment.step_start_ms)
        for window in unpack(await blobs.get(segment.counts)):
            state = judge.step(state, window)
    _cache[(config, r.ready, digests)] = state
    while len(_cache) > CACHED:
        _cache.popitem(last=False)
    return state


def pack(windows: list[WindowCounts]) -> bytes:
    """The canonical bytes of a segment's counts."""
    return canonical({"windows": [window.model_dump(mode="json") for window in windows]})


def unpack(content: bytes) -> list[WindowCounts]:
    return [WindowCounts.model_validate_json(json.dumps(one)) for one in json.loads(content)["windows"]]
