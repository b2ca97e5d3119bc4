"""The log as figures: counted once however often they are told, and each with its label."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from golden_logs import GOLDEN, read

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.metrics import conventions as c
from controller.metrics.figures import MOST_SERIES, Figures
from controller.metrics.traces import KINDS
from controller.ports.telling import Distribution, Metric, Point, Value

LOGS = sorted(GOLDEN.glob("*.jsonl"))
REASONS = GOLDEN / "reasons.jsonl"


def figures_of(entries: list[Entry]) -> list[Point]:
    figures = Figures()
    for entry in entries:
        figures.take(entry)
    return figures.points(entries[-1].time)


def values(points: list[Point], metric: Metric, **told: Value) -> list[float | Distribution]:
    """Of the points that have all of these attributes, written with _ for a dot."""
    wanted = {name.replace("__", "."): value for name, value in told.items()}.items()
    return [one.value for one in points if one.metric == metric and wanted <= one.attributes.items()]


def counted(points: list[Point], metric: Metric, **told: Value) -> int:
    return sum(sum(v.counts) if isinstance(v, Distribution) else int(v) for v in values(points, metric, **told))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_verdict_token_and_delivery_is_counted_once(path: Path) -> None:
    entries = read(path)
    points, events = figures_of(entries), [entry.event for entry in entries]
    assert counted(points, c.VERDICTS) == len([x for x in events if isinstance(x, e.Observed)])
    replies = [x for x in events if isinstance(x, e.ReplyRecorded)]
    assert counted(points, c.TOKEN_USAGE) == 2 * len(replies)
    assert counted(points, c.MODEL_COST) == sum(x.cost_micro_usd for x in replies)
    assert counted(points, c.RUN_DURATION) == len([x for x in events if isinstance(x, e.TaskRequested)])
    assert counted(points, c.RUN_ACTIVE) == 0
    merged = len([x for x in events if isinstance(x, e.Merged)])
    assert counted(points, c.CHANGE_COUNT, vcs__change__state="merged") == merged
    assert counted(points, c.CHANGE_COUNT, vcs__change__state="open") == 0


def test_time_to_detect_is_from_the_first_bad_request_and_time_to_restore_from_its_being_found() -> None:
    entries = read(REASONS)
    (found,) = [x for x in entries if isinstance(x.event, e.RegressionFound) and x.event.first_bad_request_at]
    assert isinstance(found.event, e.RegressionFound)
    assert found.event.first_bad_request_at is not None
    (detect,) = values(figures_of(entries), c.TIME_TO_DETECT, flyball__label="simulated")
    assert isinstance(detect, Distribution)
    assert detect.total == (found.time - found.event.first_bad_request_at).total_seconds() > 0
    restored = [x for x in entries if isinstance(x.event, e.TrafficRestored)]
    assert counted(figures_of(entries), c.TIME_TO_RESTORE) == len(restored)


def test_evidence_against_a_canary_is_told_while_it_is_under_way_and_no_longer() -> None:
    entries = read(REASONS)
    at = next(i for i, x in enumerate(entries) if isinstance(x.event, e.RegressionFound) and x.event.verdict)
    (log_e,) = values(figures_of(entries[:at]), c.LOG_E_NOW, flyball__rollout__release=5)
    (line,) = values(figures_of(entries[:at]), c.LOG_E_LINE, flyball__rollout__release=5)
    assert isinstance(log_e, float)
    assert isinstance(line, float)
    assert log_e >= line > 0
    assert values(figures_of(entries), c.LOG_E_NOW) == []


def test_a_pull_request_that_is_open_grows_older() -> None:
    entries = read(REASONS)
    at = next(i for i, x in enumerate(entries) if isinstance(x.event, e.PullRequestOpened))
    figures = Figures()
    for entry in entries[: at + 1]:
        figures.take(entry)
    ages = [figures.points(entries[at].time + timedelta(seconds=s)) for s in (0, 60)]
    assert [values(points, c.CHANGE_DURATION) for points in ages] == [[0.0], [60.0]]


def test_figures_start_with_the_log_and_not_with_a_process() -> None:
    entries = read(REASONS)
    assert {point.since for point in figures_of(entries)} == {entries[0].time}
    assert figures_of([entry for entry in entries if entry.kind in KINDS]) == figures_of(entries)


def test_there_is_nothing_to_tell_of_an_empty_log() -> None:
    assert Figures().points(read(REASONS)[0].time) == []


def test_figures_that_rest_on_a_model_or_a_metric_carry_its_label() -> None:
    rests = {c.VERDICTS, c.TOKEN_USAGE, c.MODEL_COST, c.CALL_DURATION, c.LOG_E_NOW, c.LOG_E_LINE}
    entries = read(REASONS)
    for upto in range(0, len(entries), 50):
        points = figures_of(entries[: upto + 1])
        assert all(c.LABEL in point.attributes for point in points if point.metric in rests)


def test_no_more_series_are_kept_than_are_bounded() -> None:
    figures = Figures()
    figures.take(read(REASONS)[0])
    for number in range(MOST_SERIES + 5):
        figures._shelf.add(c.VERDICTS, {"flyball.n": number})
        figures._shelf.add(c.VERDICTS, {"flyball.n": 0})
    assert len(figures._shelf.numbers) == MOST_SERIES
    assert values(figures.points(read(REASONS)[0].time), c.VERDICTS, flyball__n=0)[0] > 1  # type: ignore[operator]
