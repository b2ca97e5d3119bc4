"""How the releases of a change were judged: each last verdict, computed again, with all that stands beside it.

Everything here comes out of the log and the blobs that it names. A blob that is gone is said to be gone: the recorded
numbers are then shown without their path, and nothing is drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controller.canary.eprocess import threshold_micro
from controller.canary.replay import Point, Replay, replay
from controller.compliance.plots import Arm, Boundary, Judging, Window, plots
from controller.domain import events as e
from controller.domain.counts import ArmCounts, Histogram
from controller.domain.entry import Entry
from controller.domain.ids import NO_DIGEST, Digest, kind_of
from controller.domain.rollout import fold
from controller.domain.verdict import JudgeConfig, Verdict
from controller.errors import Permanent
from controller.ports import Blobs, Log

Verdictlike = e.RegressionFound | e.Promoted | e.Observed
COLUMNS = (
    *("window", "start_ms", "end_ms", "weight_percent", "canary_errors", "canary_requests"),
    *("baseline_errors", "baseline_requests", "log_e_micro", "crossed"),
)


@dataclass(frozen=True, slots=True)
class Again:
    """The verdict computed again."""

    fields: int = 0
    differences: tuple[str, ...] = ()
    missing: str = ""  # why it could not be; empty: it could


@dataclass(frozen=True, slots=True)
class Judged:
    """One release. Entries are those that the reader has before him."""

    release: int
    index: int  # of the entry whose verdict stands
    verdict: Verdict
    policy: Digest
    parameters: JudgeConfig | None  # None: their blob is gone, or the entry does not name it
    again: Again
    judging: Judging | None  # None: there is no path to draw
    entries: tuple[Entry, ...]  # of this release
    files: Mapping[str, str] = field(default_factory=dict)  # plots and path, by name

    def of(self, *kinds: type[e.Event]) -> list[Entry]:
        return [entry for entry in self.entries if isinstance(entry.event, kinds)]


async def judged_of(log: Log, blobs: Blobs, entries: Sequence[Entry]) -> tuple[Judged, ...]:
    """Of every release among `entries` that was judged by counts, in the log's order."""
    found = []
    for stream in dict.fromkeys(one.stream for one in entries if kind_of(one.stream) == "rollout"):
        whole = await log.read(stream)
        here = [one for one in entries if one.stream == stream]
        for number in dict.fromkeys(one.event.release for one in here if isinstance(one.event, e.ReleaseOpened)):
            mine = tuple(one for one in here if getattr(one.event, "release", None) == number)
            if (decided := _decided(mine)) is not None:
                found.append(await _judged(number, decided, whole, mine, blobs))
    return tuple(found)


def _decided(entries: Sequence[Entry]) -> Entry | None:
    """What took it back or promoted it by counts, else the last look. None: counts never spoke."""
    acted = [one for one in entries if isinstance(one.event, e.RegressionFound | e.Promoted) and one.event.verdict]
    looked = [one for one in entries if isinstance(one.event, e.Observed)]
    return next(reversed(acted or looked), None)


async def _judged(number: int, decided: Entry, whole: list[Entry], mine: tuple[Entry, ...], blobs: Blobs) -> Judged:
    event = decided.event
    assert isinstance(event, Verdictlike)  # noqa: S101 - `_decided` chose it
    assert event.verdict is not None  # noqa: S101
    policy = event.policy if isinstance(event, e.Observed) else event.decision.policy
    parameters, judging = None, None
    try:
        parameters = await parameters_of(policy, blobs)
        found = await replay(decided.stream, whole, decided.index, blobs)
        again = Again(len(found.again), found.differences)
        judging = drawable(found, whole, parameters)
    except Permanent as error:
        again = Again(missing=error.message)
    files = files_of(decided.index, judging) if judging else {}
    return Judged(number, decided.index, event.verdict, policy, parameters, again, judging, mine, files)


async def parameters_of(policy: Digest, blobs: Blobs) -> JudgeConfig:
    """Raises Permanent when the blob is gone, or was never named."""
    if policy == NO_DIGEST:
        raise Permanent("the entry does not name the judge's parameters")
    return JudgeConfig.model_validate_json(await blobs.get(policy))


# --- what is drawn ----------------------------------------------------------------------------------------------------


def drawable(found: Replay, entries: Sequence[Entry], config: JudgeConfig) -> Judging | None:
    """`entries`: of the rollout's stream, from its first one on. None: it is no canary's verdict."""
    ready = fold(found.stream, _until(entries, found.index)).ready
    if not found.path or ready is None:
        return None
    pairs = zip(ready.boundaries.quantiles_milli, ready.boundaries.indices, strict=True)
    return Judging(
        ident=f"log-{found.index}",
        windows=[_window(point) for point in found.path],
        threshold_micro=found.threshold_micro,
        paging_micro=threshold_micro(config.page_alpha_ppm),
        first_crossing=found.again.get("first_crossing_window"),
        canary_ms=_timed(point.counts.canary for point in found.path),
        baseline_ms=_timed(point.counts.baseline for point in found.path),
        boundaries=[Boundary(quantile, index) for quantile, index in pairs],
        tolerance_buckets=config.tolerance_buckets,
    )


def plots_of(index: int, judging: Judging) -> dict[str, str]:
    return {f"log#{index}-{name}.svg": svg for name, svg in plots(judging).items()}


def files_of(index: int, judging: Judging) -> dict[str, str]:
    """Plots and path of the verdict at log index `index`, by file name."""
    return plots_of(index, judging) | {f"log#{index}-path.csv": "".join(_rows(judging))}


def _rows(judging: Judging) -> Iterator[str]:
    """Every window as a line of CSV."""
    yield ",".join(COLUMNS) + "\r\n"
    for n, one in enumerate(judging.windows):
        into = io.StringIO()
        crossed = int(judging.first_crossing is not None and n >= judging.first_crossing)
        counts = (*one.canary, *one.baseline)
        csv.writer(into).writerow((n, one.start_ms, one.end_ms, one.weight_percent, *counts, one.log_e_micro, crossed))
        yield into.getvalue()


def _window(point: Point) -> Window:
    counts = point.counts
    canary, baseline = (Arm(one.errors, one.requests) for one in (counts.canary, counts.baseline))
    return Window(counts.start_ms, counts.end_ms, point.weight_percent, canary, baseline, point.log_e_micro)


def _timed(arms: Iterator[ArmCounts]) -> tuple[tuple[int, int], ...]:
    sums: dict[int, int] = {}
    for arm in arms:
        for index, count in arm.latency.buckets:
            sums[index] = sums.get(index, 0) + count
    return Histogram.of(sums).buckets


def _until(entries: Sequence[Entry], index: int) -> list[Entry]:
    return [one for one in entries if one.index <= index]
