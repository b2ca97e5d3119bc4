"""The peers' rules do what their users report and their sources say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.detect import argo, flagger, kayenta
from bench.detect.argo import Phase
from bench.detect.kayenta import Label
from bench.detect.traffic import Arms, Numbers

NAN = math.nan


def series(*points: float) -> Numbers:
    return np.array([points], dtype=float)


SPARSE_ERRORS = (series(0, 1, 2, 1, 0, 0), series(*[0] * 6))
SEVEN_OF_TEN = (series(*[100] * 7, *[1] * 3), series(*[1] * 10))
EIGHT_OF_TEN = (series(*[100] * 8, *[1] * 2), series(*[1] * 10))
STEADY = series(10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 17, 17.1, 17.2, 17.3, 17.4, 17.5, 17.6, 17.7)
RESTLESS = series(1, 100, 4, 101, 5, 102, 6, 103, 7, 104, 8, 105, 9, 106, 17)


@pytest.mark.parametrize(
    ("pair", "label"),
    [
        pytest.param(SPARSE_ERRORS, Label.GOOD, id="#426: rare errors where the baseline has none pass"),
        pytest.param(SEVEN_OF_TEN, Label.GOOD, id="#6278: seven of ten points at a hundred times pass"),
        pytest.param(EIGHT_OF_TEN, Label.HIGH, id="#6278: the eighth makes it high"),
        pytest.param((STEADY, RESTLESS), Label.GOOD, id="#780: another spread passes"),
        pytest.param((RESTLESS, STEADY), Label.GOOD, id="#780: the other way round too"),
        pytest.param((series(1, 1, 1), series(1, 1)), Label.GOOD, id="constants that are equal"),
        pytest.param((series(2, 2, 2, 2, 2), series(1, 1, 1, 1, 1)), Label.HIGH, id="constants that differ"),
        pytest.param((series(1, 2, 3, 4, 5), series(5, 4, 3, 2, 1)), Label.GOOD, id="the same points"),
        pytest.param((series(NAN, NAN), series(1, 2)), Label.NODATA, id="a silent canary"),
        pytest.param((series(1, 2), series(NAN, NAN)), Label.NODATA, id="a silent baseline"),
    ],
)
def test_kayenta_labels_as_its_users_report(pair: tuple[Numbers, Numbers], label: Label) -> None:
    assert kayenta.labels(*pair) == [label]


def test_kayentas_interval_is_the_one_that_its_users_saw_printed() -> None:
    """spinnaker/spinnaker#6278 prints both numbers; they show where its root finder stops."""
    shift = kayenta.shift_of(*SEVEN_OF_TEN)
    assert shift.lower[0] == pytest.approx(6.825022991538781e-05, rel=1e-9)
    assert shift.estimate[0] == pytest.approx(98.99992904170193, rel=1e-12)


def test_kayenta_judges_many_pairs_as_it_judges_each() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.poisson(2.0, (40, 12)).astype(float), rng.poisson(1.0, (40, 12)).astype(float)
    x[rng.random(x.shape) < 0.1] = NAN
    together = kayenta.labels(x, y)
    assert together == [kayenta.labels(x[i : i + 1], y[i : i + 1])[0] for i in range(len(x))]
    assert {Label.GOOD, Label.HIGH} <= set(together)


def test_kayenta_scores_a_canary_by_the_part_of_metrics_that_pass() -> None:
    assert kayenta.score([Label.GOOD, Label.HIGH]) == 50.0
    assert kayenta.score([Label.NODATA]) == 0.0
    assert kayenta.score([Label.GOOD, Label.GOOD, Label.NODATA]) == 100.0
    assert kayenta.score([Label.GOOD, Label.GOOD, Label.HIGH], critical=True) == 0.0


def test_kayenta_looks_every_five_minutes_and_stops_at_the_first_failure() -> None:
    worse_from_8 = np.array([[1.0, 1.1, 1.2, 1.0, 1.1, 1.3, 1.0, *[9.0, 9.5, 8.7] * 5, 9.1]])
    baseline = np.array([[1.0, 1.2, 1.1] * 7 + [1.0, 1.1]])
    assert kayenta.first_fail(worse_from_8, baseline)[0] % 5 == 4
    assert kayenta.first_fail(baseline, baseline)[0] == -1


AT_MOST_1 = argo.at_most(0.01, guarded=False)
GUARDED = argo.at_most(0.01, guarded=True)


def test_argo_without_data_fails_inconclusively_or_not_at_all_as_its_conditions_are_written() -> None:
    assert argo.measured(NAN, success=AT_MOST_1) is Phase.FAILED
    assert argo.measured(NAN, success=GUARDED) is Phase.SUCCESSFUL
    assert argo.measured(NAN, success=AT_MOST_1, failure=lambda value: value > 0.01) is Phase.INCONCLUSIVE
    assert argo.measured(NAN, failure=lambda value: value > 0.01) is Phase.SUCCESSFUL
    assert argo.measured(None, success=AT_MOST_1) is Phase.ERROR
    assert argo.measured(0.5) is Phase.SUCCESSFUL


def test_argo_aborts_at_one_failure_more_than_its_limit_and_after_five_errors_in_a_row() -> None:
    bad, good, error = Phase.FAILED, Phase.SUCCESSFUL, Phase.ERROR
    assert argo.assessed([good, bad, good]) == (Phase.FAILED, 1)
    assert argo.assessed([bad, good, bad, bad, good, bad], failure_limit=3) == (Phase.FAILED, 5)
    assert argo.assessed([error] * 4 + [good] + [error] * 4) == (good, None)
    assert argo.assessed([error] * 5) == (Phase.ERROR, 4)
    assert argo.assessed([Phase.INCONCLUSIVE]) == (Phase.INCONCLUSIVE, 0)


@pytest.mark.parametrize("limit", [0, 3])
def test_argo_in_arrays_is_argo_measurement_by_measurement(limit: int) -> None:
    rng = np.random.default_rng(6)
    total = rng.poisson(3.0, (30, 20))
    bad = rng.binomial(total, 0.02)
    failed = argo.too_many_bad(Arms(bad, total, bad, total), 0.01)
    found = argo.first_abort(failed, limit)
    for row in range(len(total)):
        values = [x / n if n else NAN for x, n in zip(bad[row], total[row], strict=True)]
        phases = [argo.measured(value, success=GUARDED) for value in values]
        _, settled = argo.assessed(phases, failure_limit=limit)
        assert found[row] == (-1 if settled is None else settled)


def test_flagger_counts_silence_as_failure_and_never_forgets_one() -> None:
    idle = np.zeros((1, 8), dtype=np.int64)
    assert flagger.first_rollback(flagger.failed_checks(Arms(idle, idle, idle, idle)))[0] == 4
    total = np.full((1, 10), 100)
    bad = np.array([[2, 0, 0, 2, 2, 0, 1, 2, 0, 2]])  # one of a hundred is allowed
    assert flagger.first_rollback(flagger.failed_checks(Arms(bad, total, bad, total)))[0] == 9
