"""A head's benchmarks against what has landed: slower only where the numbers say so, and faster never matters."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.changepoints import ChangePoint, change_points
from controller.canary.slower import slower, slower_ones
from controller.domain.benchmark import MICRO, Benchmark, SlowerBenchmark
from controller.domain.ids import Commit, DeliveryId
from controller.history.benchmarks import Landing, Point

NAME, RATE = "pricing_ms", "orders_per_s"


def point(value: float, *accepted: str) -> Point:
    landing = Landing(DeliveryId("d"), Commit("c"), datetime(2026, 1, 1, tzinfo=UTC), 0, (), frozenset(accepted))
    return Point(landing, round(value * MICRO))


def landed(values: Sequence[float], accepted: Collection[int] = (), name: str = NAME) -> list[Point]:
    return [point(value, *([name] if at in accepted else [])) for at, value in enumerate(values)]


def noise(rng: random.Random, n: int, level: float = 100.0, share: float = 0.02) -> list[float]:
    return [rng.gauss(level, share * level) for _ in range(n)]


def head(value: float, name: str = NAME) -> Benchmark:
    return Benchmark(name=name, value_micro=round(value * MICRO), samples=1)


def found(value: float, points: list[Point], compared: int = 1, name: str = NAME) -> SlowerBenchmark | None:
    return slower(head(value, name), points, compared)


def test_a_head_two_fifths_slower_is_found_by_a_single_run_and_said_with_its_numbers() -> None:
    said = found(19.8, landed(noise(random.Random(1), 60, 14.2, 0.05)))
    assert said is not None
    assert (said.after_micro, said.landings) == (19_800_000, 60)
    assert said.words.startswith(f"{NAME} 14.")
    assert " -> 19.8 (+" in said.words
    assert said.words.endswith(", n=60)")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_a_faster_head_is_never_slower(seed: int, share: float) -> None:
    values = noise(random.Random(seed), 40)
    assert found(min(values) * share, landed(values)) is None


def test_more_of_a_rate_is_better_and_less_is_worse() -> None:
    points = landed(noise(random.Random(2), 40), name=RATE)
    assert found(140.0, points, name=RATE) is None
    worse = found(70.0, points, name=RATE)
    assert worse is not None
    assert "(-29 %" in worse.words  # of 99.3


def test_no_slower_heads_are_blamed_no_more_often_than_promised() -> None:
    """600 heads in noise of 10 %, so that size excuses few: alpha allows 0.6; 5 or more has probability 0.0004."""
    rng = random.Random(3)
    blamed = sum(found(rng.gauss(100, 10), landed(noise(rng, 30, share=0.1))) is not None for _ in range(600))
    assert blamed < 5


def test_many_benchmarks_share_one_promise() -> None:
    """p counts for each benchmark compared: what is just enough alone is not among sixty-four."""
    points = landed(noise(random.Random(4), 60))
    assert found(107.5, points) is not None
    assert found(107.5, points, compared=64) is None
    assert found(140.0, points, compared=64) is not None


def test_too_few_landings_accuse_nobody() -> None:
    values = noise(random.Random(5), 10)
    assert found(200.0, landed(values[:9])) is None
    assert found(200.0, landed(values)) is not None


def test_a_head_is_held_against_the_level_since_the_last_change_not_against_the_whole_past() -> None:
    rng = random.Random(6)
    faster_now = landed([*noise(rng, 40, 150.0), *noise(rng, 12, 100.0)])
    said = found(125.0, faster_now)  # faster than most of the past
    assert said is not None
    assert 97_000_000 < said.before_micro < 103_000_000
    slower_now = landed([*noise(rng, 40, 100.0), *noise(rng, 12, 150.0)])
    assert found(152.0, slower_now) is None


def test_a_lone_spike_in_the_past_neither_hides_a_slower_head_nor_excuses_it() -> None:
    values = noise(random.Random(7), 40)
    values[20] = 900.0
    assert found(115.0, landed(values)) is not None


def test_an_accepted_slowdown_is_the_level_from_the_next_head_on() -> None:
    values = [*noise(random.Random(8), 40), 140.0]
    assert found(141.0, landed(values)) is not None
    assert found(141.0, landed(values, accepted={40})) is None
    assert found(170.0, landed(values, accepted={40})) is not None


def test_an_accepted_spike_is_forgotten_once_others_have_landed_as_before() -> None:
    rng = random.Random(9)
    values = [*noise(rng, 40), 200.0, *noise(rng, 4)]
    said = found(130.0, landed(values, accepted={40}))
    assert said is not None
    assert 97_000_000 < said.before_micro < 103_000_000


def test_counts_without_any_noise_are_worse_when_they_are_more() -> None:
    counts = landed([40.0] * 12, name="queries_count")
    assert found(40.0, counts, name="queries_count") is None
    assert found(41.0, counts, name="queries_count") is None  # below the smallest magnitude
    said = found(80.0, counts, name="queries_count")
    assert said is not None
    assert "p < 1e-12" in said.words


def test_what_nothing_has_landed_of_is_left_out_and_the_worst_comes_first() -> None:
    rng = random.Random(10)
    series = {"a_ms": landed(noise(rng, 40)), "b_ms": landed(noise(rng, 40)), "gone_ms": landed(noise(rng, 40))}
    heads = [head(120.0, "a_ms"), head(150.0, "b_ms"), head(900.0, "new_ms")]
    assert [one.name for one in slower_ones(heads, series)] == ["b_ms", "a_ms"]


def test_a_quick_look_never_differs_from_a_close_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most heads are cleared without looking for change points; the rest of the judgement would clear them too."""
    rng = random.Random(11)
    cases = [
        (landed([*noise(rng, 20, 100.0), *noise(rng, 10, rng.choice((70.0, 100.0, 130.0)))]), rng.uniform(60, 150))
        for _ in range(40)
    ]
    quick = [found(value, points) for points, value in cases]
    looked = []

    def counted(series: Sequence[float], *rest: object) -> tuple[ChangePoint, ...]:
        looked.append(len(series))
        return change_points(series, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("controller.canary.slower.change_points", counted)
    assert [found(value, points) for points, value in cases] == quick
    assert 0 < len(looked) < len(cases)
    monkeypatch.setattr("controller.canary.slower._could_be", lambda *_: True)
    assert [found(value, points) for points, value in cases] == quick
