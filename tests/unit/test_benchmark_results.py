"""What tests measured, on its way out of the sandbox: names, values and their number in bounds, refusals in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.adapters.ci_results import Results
from controller.domain.benchmark import MOST_BENCHMARKS, Benchmark, SlowerBenchmark, benchmark_of, in_units


def heard(*said: tuple[str, Any]) -> Results:
    results = Results(lambda _session, _line: None)
    for name, samples in said:
        line = {"kind": "benchmark", "test": "test_a.py::test_a", "name": name, "samples": samples}
        results.add(json.dumps(line).encode())
    return results


def test_a_run_counts_with_the_median_of_its_samples_in_whole_micro_units() -> None:
    results = heard(("pricing_ms", [14.1, 99.0, 14.2]), ("orders_per_s", [120]))
    assert results.benchmarks == {
        "pricing_ms": Benchmark(name="pricing_ms", value_micro=14_200_000, samples=3),
        "orders_per_s": Benchmark(name="orders_per_s", value_micro=120_000_000, samples=1),
    }
    assert results.notes == []
    assert results.unread == 0


@pytest.mark.parametrize(
    ("name", "samples", "said"),
    [
        ("pricing", [1.0], "the name 'pricing' must match [a-z][a-z0-9_]{0,60} and end in a unit (_ns, _us, _ms"),
        ("Pricing_ms", [1.0], "the name 'Pricing_ms' must match"),
        ("pri cing_ms", [1.0], "the name 'pri cing_ms' must match"),
        ("a\x1b[31m_ms", [1.0], "must match"),
        ("a" * 500 + "_ms", [1.0], f"the name '{'a' * 80}' must match"),
        ("pricing_ms", [], "pricing_ms has 0 samples; record 1 to 100, or their median"),
        ("pricing_ms", [1.0] * 101, "pricing_ms has 101 samples; record 1 to 100, or their median"),
        ("pricing_ms", [float("nan")], "pricing_ms was nan; record 0.001 to 1e+12, or choose another unit"),
        ("pricing_ms", [1.0, float("inf")], "pricing_ms was inf"),
        ("pricing_ms", [0], "pricing_ms was 0"),
        ("pricing_ms", [-3.0], "pricing_ms was -3.0"),
        ("pricing_ms", [10**400], "pricing_ms was 1000"),
        ("pricing_ms", ["Decimal"], "pricing_ms was nan"),
        ("pricing_ms", [None], "pricing_ms was nan"),
        ("pricing_ms", 3, "pricing_ms has 0 samples"),
    ],
)
def test_what_is_no_benchmark_is_refused_with_the_field_its_value_and_the_way_out(
    name: str, samples: Any, said: str
) -> None:
    results = heard((name, samples))
    assert results.benchmarks == {}
    assert len(results.notes) == 1
    assert results.notes[0].startswith("benchmark not taken: ")
    assert said in results.notes[0]


def test_two_tests_with_one_name_and_the_sixty_fifth_benchmark_are_refused() -> None:
    results = heard(("a_ms", [1.0]), ("a_ms", [2.0]), *((f"b{n}_ms", [1.0]) for n in range(80)))
    assert len(results.benchmarks) == MOST_BENCHMARKS
    assert results.benchmarks["a_ms"].value_micro == 1_000_000
    assert results.notes[0].endswith("a_ms was recorded by two tests; give each its own name")
    assert results.notes[1].endswith("b63_ms is one too many; record at most 64 in a run")
    assert len(results.notes) == 18


def test_refusals_are_told_of_up_to_a_bound() -> None:
    assert len(heard(*((f"nothing {n}", [1.0]) for n in range(1_000))).notes) == 20


@given(st.text(), st.lists(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), max_size=5))
def test_whatever_comes_out_of_the_sandbox_is_taken_whole_or_refused(name: str, samples: list[Any]) -> None:
    results = heard((name, samples))
    assert len(results.benchmarks) + len(results.notes) == 1


@given(st.floats(1e-3, 1e12))
def test_a_value_keeps_its_digits_in_micro_units(value: float) -> None:
    assert benchmark_of("a_ms", [value]).value_micro == pytest.approx(value * 1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("micro", "said"),
    [(14_200_000, "14.2"), (1_000, "0.00100"), (999_600_000, "1,000"), (123_456_000_000, "123,456"), (3, "0.00000300")],
)
def test_values_are_shown_with_the_digits_that_count(micro: int, said: str) -> None:
    assert in_units(micro) == said


def test_a_stored_benchmark_is_in_bounds() -> None:
    for wrong in ({"name": "x"}, {"value_micro": 0}, {"samples": 101}):
        with pytest.raises(ValidationError):
            Benchmark.model_validate({"name": "a_ms", "value_micro": 1, "samples": 1, **wrong})


def test_odds_too_small_to_be_believed_are_only_said_to_be_small() -> None:
    one = SlowerBenchmark(name="a_ms", before_micro=10**6, after_micro=2 * 10**6, p_log10_milli=-12_000, landings=30)
    assert one.words == "a_ms 1.00 -> 2.00 (+100 %, p < 1e-12, n=30)"
