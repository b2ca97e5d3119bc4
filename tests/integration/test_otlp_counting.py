"""From points to counts: histograms, temporalities, routes, gauges, callers, and what is left out and said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from exports_kit import (
    CALLED,
    CUMULATIVE,
    DELTA,
    START_MS,
    V1,
    V2,
    Counted,
    attributed,
    explicit,
    exponential,
    resource,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from controller.adapters import otlp_series
from controller.adapters.otlp_counts import MOST_INSTANCES, ServiceCounts, latency_bucket
from controller.adapters.otlp_windows import baseline_of, silences
from controller.domain.counts import MOST_ROUTES

OK: dict[str, str | int] = {"http.response.status_code": 200}
BAD: dict[str, str | int] = {"http.response.status_code": 500}


@pytest.fixture
def counted() -> Counted:
    return Counted()


# --- explicit buckets


def test_explicit_buckets_are_exact_at_their_own_bounds(counted: Counted) -> None:
    counted.tell(explicit((1, 2, 4, 0, 0, 0, 0, 8)))
    latency = counted.first().canary.latency
    assert latency.total == 15
    for bound_ms, slower in ((5.12, 14), (10.24, 12), (51.2, 8), (5_120, 8)):  # 1,024 ms to the second
        assert latency.slower_than(latency_bucket(bound_ms) + 1) == slower


def test_cumulative_explicit_buckets_count_their_growth_through_a_reset(counted: Counted) -> None:
    for at, since, counts in ((100, 0, (5, 1)), (300, 0, (7, 1)), (600, 400, (2, 2)), (200, 0, (6, 1))):
        counted.tell(
            explicit(counts, bounds=(0.1,), at_ms=START_MS + at, since_ms=START_MS + since, temporality=CUMULATIVE)
        )
    canary = counted.first().canary
    assert canary.requests == 8 + 4
    assert canary.latency.slower_than(latency_bucket(102.4) + 1) == 1 + 2


@pytest.mark.parametrize(
    ("counts", "bounds", "cause"),
    [
        ((1, 2), (0.1, 0.2), "bounds and buckets do not match"),
        ((1, 2, 3), (0.2, 0.1), "do not rise"),
        ((1, 2), (float("nan"),), "do not rise"),
    ],
)
def test_explicit_buckets_that_make_no_sense_are_refused(
    counted: Counted, counts: tuple[int, ...], bounds: tuple[float, ...], cause: str
) -> None:
    assert counted.tell(explicit(counts, bounds=bounds)).points == 1
    assert any(cause in reason for reason in counted.counts.excluded)


@pytest.mark.parametrize("other", ["exponential", "other bounds"])
def test_latencies_in_different_buckets_are_not_compared_and_it_is_said(counted: Counted, other: str) -> None:
    counted.tell(explicit((3, 1), bounds=(0.1,)))
    counted.tell(
        exponential(5, OK, version=V1) if other == "exponential" else explicit((4, 1), bounds=(0.2,), version=V1)
    )
    window = counted.first()
    assert (window.canary.requests, window.baseline.requests) == (4, 5)
    assert window.canary.latency.total == window.baseline.latency.total == 0
    assert counted.counts.excluded == {"latencies in buckets that differ between the versions": 9}
    assert counted.windows()[0] == window
    assert counted.counts.excluded.total() == 9


def test_same_explicit_bounds_are_compared(counted: Counted) -> None:
    counted.tell(explicit((3, 1), bounds=(0.1,)))
    counted.tell(explicit((2, 0), bounds=(0.1,), version=V1))
    window = counted.first()
    assert (window.canary.latency.total, window.baseline.latency.total) == (4, 2)


# --- series


def test_attributes_in_another_order_are_the_same_series(counted: Counted) -> None:
    first: dict[str, str | int] = {"http.route": "/a", **OK}
    counted.tell(exponential(10, first, temporality=CUMULATIVE, at_ms=START_MS + 100))
    counted.tell(exponential(12, dict(reversed(first.items())), temporality=CUMULATIVE, at_ms=START_MS + 200))
    assert counted.first().canary.requests == 12


def test_totals_of_two_lives_may_arrive_in_any_order(counted: Counted) -> None:
    for at, since, total in ((100, 0, 10), (700, 600, 3), (500, 0, 16), (300, 0, 12), (900, 600, 4), (500, 0, 16)):
        counted.tell(exponential(total, OK, temporality=CUMULATIVE, at_ms=START_MS + at, since_ms=START_MS + since))
    assert counted.first().canary.requests == 16 + 4


def test_forgotten_cumulative_series_does_not_count_its_total_again(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_series, "SERIES_KEPT", 4)
    for number in range(8):
        counted.tell(exponential(100, {"http.route": f"/{number}"}, temporality=CUMULATIVE, at_ms=START_MS + 100))
    counted.now += 900
    counted.tell(exponential(101, {"http.route": "/0"}, temporality=CUMULATIVE, at_ms=START_MS + 800))
    counted.tell(exponential(103, {"http.route": "/0"}, temporality=CUMULATIVE, at_ms=START_MS + 900))
    assert counted.first().canary.requests == 800 + 2
    assert counted.counts.excluded["points of series older than this receiver"] == 1
    assert counted.counts.excluded["series forgotten, too many at once"] == 5


def test_delta_point_that_comes_again_is_counted_once_and_said(counted: Counted) -> None:
    for _ in range(3):
        counted.tell(exponential(4, OK))
    assert counted.first().canary.requests == 4
    assert counted.counts.excluded == {"points delivered again": 2}


def test_metric_that_does_not_say_its_version_is_not_counted_and_said(counted: Counted) -> None:
    counted.tell(exponential(4, OK, version=""))
    assert not counted.counts.versions
    assert counted.counts.excluded == {"metrics without service.version": 1}


def test_point_without_temporality_or_time_is_refused(counted: Counted) -> None:
    assert counted.tell(exponential(1, OK, temporality=0)).reasons == {"neither delta nor cumulative": 1}
    assert counted.tell(exponential(1, OK, at_ms=0)).reasons == {"it has no time": 1}


def test_export_that_is_malformed_half_way_counts_nothing(counted: Counted) -> None:
    good = exponential(4, OK).SerializeToString()
    bad = explicit((1, 1), bounds=(0.1,)).SerializeToString().replace(b"http.response.status_code", b"\xff" * 25)
    with pytest.raises(DecodeError):
        counted.ingest.metrics(good + bad[:-3])
    assert not counted.counts.versions


def test_point_with_malformed_attributes_is_refused_alone(counted: Counted) -> None:
    told = exponential(4, OK)
    points = told.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points
    points.append(points[0])
    points[1].time_unix_nano += 1
    body = told.SerializeToString()
    at = body.index(b"http.response.status_code")
    broken = body[:at] + b"\xff" * 25 + body[at + 25 :]
    assert counted.ingest.metrics(broken).reasons == {"its attributes are malformed": 1}
    assert counted.first().canary.requests == 4


def test_point_of_long_ago_is_refused(counted: Counted) -> None:
    (reason,) = counted.tell(exponential(1, OK, at_ms=START_MS - 3 * 3_600_000)).reasons
    assert "minutes ago" in reason


def test_exemplars_that_cannot_be_read_leave_the_point_counted(counted: Counted) -> None:
    body = with_exemplars({"a" * 32: 1.0}, 500, V2).SerializeToString()
    at = body.index(bytes.fromhex("a" * 32)) - 1
    counted.ingest.metrics(body[:at] + b"\x7f" + body[at + 1 :])  # the id is said to be longer than the exemplar
    assert counted.first().canary.errors == 1
    assert counted.counts.excluded == {"exemplars that cannot be read": 1}


def test_more_instances_than_are_told_apart_lose_no_request(counted: Counted) -> None:
    many = MOST_INSTANCES + 10
    for number in range(many):
        counted.tell(exponential(2, OK, instance=f"i-{number}"))
    assert counted.first().canary.requests == 2 * many
    seen = baseline_of(counted.counts, V2, from_ms=START_MS, to_ms=START_MS + 1000)
    assert (seen.requests, len(seen.instances) <= MOST_INSTANCES) == (2 * many, True)
    assert counted.counts.excluded["instances no longer told apart"] >= 10


# --- routes


def test_window_tells_errors_by_route_and_name(counted: Counted) -> None:
    counted.tell(exponential(5, {"http.route": "/b", **OK}))
    counted.tell(exponential(2, {"http.route": "/b", **BAD}))
    counted.tell(exponential(1, {"http.route": "/a", **OK}, version=V1))
    counted.tell(exponential(9, {"http.route": "/health", **OK}, version=V1))
    counted.tell(exponential(3, OK))
    window = counted.first()
    told = [(r.route, r.canary.requests, r.canary.errors, r.baseline.requests) for r in window.routes]
    assert told == [("/a", 0, 0, 1), ("/b", 7, 2, 0)]
    assert window.canary.requests == 10


def test_routes_beyond_the_bound_leave_room_for_one_that_fails_later_and_change_no_window(counted: Counted) -> None:
    for number in range(MOST_ROUTES + 8):
        counted.tell(exponential(100 - number, {"http.route": f"/{number:02}", **OK}, version=V1))
    before = counted.first()
    assert [route.route for route in before.routes] == [f"/{number:02}" for number in range(24)]
    late = {"http.route": "/39", **BAD}
    counted.tell(exponential(1, late, at_ms=START_MS + 1_500))
    counted.now += 1_000
    first, second = counted.windows()
    assert first == before
    assert [(r.route, r.canary.errors) for r in second.routes] == [("/39", 1)]


def test_requests_of_a_route_without_a_place_are_counted_in_the_whole(counted: Counted) -> None:
    for number in range(70):
        counted.tell(exponential(1, {"http.route": f"/{number}", **OK}))
    assert counted.first().canary.requests == 70
    assert counted.counts.excluded == {"requests of routes beyond those counted apart": 6}


def test_baseline_names_its_busiest_routes_first(counted: Counted) -> None:
    for number in range(20):
        counted.tell(exponential(number + 1, {"http.route": f"/{number}", **OK}, version=V1))
    seen = baseline_of(counted.counts, V1, from_ms=START_MS, to_ms=START_MS + 1000)
    assert seen.routes == tuple(f"/{number}" for number in range(19, 3, -1))
    assert seen.instances[0].latency.total == seen.requests


# --- gauges


def gauge(
    value: float, *, version: str = V2, instance: str = "i-1", at: int = 500, state: str = "", kind: str = "gauge"
) -> ExportMetricsServiceRequest:
    made, metrics = resource(version=version, instance=instance)
    metric = metrics.add(name="process.memory.usage", unit="By")
    data = metric.gauge if kind == "gauge" else metric.sum
    if kind != "gauge":
        metric.sum.aggregation_temporality = DELTA if kind == "delta" else CUMULATIVE
        metric.sum.is_monotonic = kind == "monotonic"
    point = data.data_points.add(time_unix_nano=(START_MS + at) * 10**6, as_double=value)
    if state:
        attributed(point, {"state": state})
    return made


def test_gauge_is_the_mean_over_instances_of_the_last_value_in_the_window(counted: Counted) -> None:
    for at, value in ((100, 50.0), (900, 70.0)):
        counted.tell(gauge(value, at=at))
    counted.tell(gauge(30.0, instance="i-2"))
    counted.tell(gauge(2.5, version=V1, kind="up-down"))
    counted.tell(gauge(1.5, version=V1, kind="up-down", state="used"))
    (means,) = counted.first().gauges
    assert (means.name, means.canary_milli, means.baseline_milli) == ("process.memory.usage", 50_000, 4_000)
    assert baseline_of(counted.counts, V1, from_ms=START_MS, to_ms=START_MS + 1000).gauges == ("process.memory.usage",)


def test_gauge_that_nobody_reports_is_none_and_a_late_one_is_dropped(counted: Counted) -> None:
    counted.tell(gauge(1.0))
    assert counted.first().gauges[0].baseline_milli is None
    counted.tell(gauge(9.0, version=V1))
    assert counted.windows()[0].gauges[0].baseline_milli is None
    assert counted.counts.excluded == {"late points": 1}


@pytest.mark.parametrize("kind", ["delta", "monotonic"])
def test_sum_that_is_no_level_is_refused(counted: Counted, kind: str) -> None:
    assert counted.tell(gauge(1.0, kind=kind)).points == 1
    assert not counted.first().gauges


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e40])
def test_level_that_is_no_number_is_refused(counted: Counted, value: float) -> None:
    assert counted.tell(gauge(value)).points == 1


# --- callers


def test_callers_own_metrics_count_for_the_version_that_they_called(counted: Counted) -> None:
    called: dict[str, str | int] = {"service.peer.name": "shop", "flyball.peer.version": V2}
    counted.tell(exponential(6, called | OK, name=CALLED, service="front", version="f1"))
    counted.tell(exponential(2, called | {"error.type": "timeout"}, name=CALLED, service="front", version="f1"))
    counted.tell(exponential(9, {"server.address": "shop"}, name=CALLED, service="front", version="f1"))
    counted.now += 2_000
    seen = counted.windows(counted.callers)[0].canary
    assert (seen.requests, seen.errors) == (8, 2)
    assert not counted.counts.versions


def test_windows_in_which_callers_asked_and_the_service_said_nothing_are_silent() -> None:
    own, callers = ServiceCounts(), ServiceCounts()
    for second in range(10):
        callers.add(V1, "i", START_MS + second * 1000, requests=1, errors=0, latency={})
    for second in (0, 1, 4):
        own.add(V1, "i", START_MS + second * 1000, requests=1, errors=0, latency={})
    told = silences(own, callers, V1, from_ms=START_MS + 1, to_ms=START_MS + 9_500, width_ms=2_000)
    assert told == (3, 2)  # of the windows that begin at 2, 4 and 6 s


# --- exemplars


def with_exemplars(values: dict[str, float], status: int, version: str) -> ExportMetricsServiceRequest:
    made = exponential(len(values), {"http.response.status_code": status}, version=version)
    point = made.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
    for trace, value in values.items():
        point.exemplars.add(as_double=value, trace_id=bytes.fromhex(trace))
    return made


def test_exemplars_name_failed_slow_and_served_traces(counted: Counted) -> None:
    failed, slow, quick = "a" * 32, "b" * 32, "c" * 32
    counted.tell(with_exemplars({failed: 0.1}, 500, V2))
    counted.tell(with_exemplars({slow: 9.0, quick: 0.1, "0" * 32: 99.0}, 200, V2))
    version = counted.counts.versions[V2]
    assert [*version.failed_traces] == [failed]
    assert [trace for _, trace in version.slow_traces] == [quick, slow]
    assert [*version.served_traces] == [slow, quick]
