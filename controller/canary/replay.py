"""A recorded verdict, computed again: from the log's entries and the blobs that they name, and from nothing else.

Segments name their counts, a canary's readiness its boundaries and noise, and a decision the judge's parameters (its
policy is the digest of a blob). Whoever holds these reaches the same verdict, whatever has become of the platform.
"""

from __future__ import annotations

from controller.canary.court import judge_of, ready_of, sealed_state, segments_of
from controller.domain.entry import Entry
from controller.domain.ids import Digest, StreamId
from controller.domain.rollout import fold
from controller.domain.verdict import JudgeConfig, Verdict
from controller.errors import Permanent
from controller.ports import Blobs


async def replayed(stream: StreamId, until: list[Entry], policy: Digest, blobs: Blobs) -> Verdict:
    """The verdict over every segment sealed in `until`, a rollout's entries from its first one on.

    Raises Permanent when no segment is sealed there, or when a blob is gone.
    """
    r = fold(stream, until)
    if not r.segments:
        raise Permanent(f"{stream} had no sealed segment then", "A release that never ran has no verdict to compute")
    last, ready = r.segments[-1], ready_of(r)
    config = JudgeConfig.model_validate_json(await blobs.get(policy))
    state = await sealed_state(config, ready, segments_of(r), blobs)
    return judge_of(config, ready, last.weight_percent, last.step_start_ms).verdict(state)
