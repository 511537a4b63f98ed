"""Means and intervals against scipy.stats, which the analysis does not use, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fm_mlflow import keys
from fm_mlflow.analysis.statistics.intervals import describe, describe_groups, t_quantile, wilson
from tests.analysis.simulated import run


def test_three_values_by_hand() -> None:
    statistic = describe([0.90, 0.91, 0.95], keys.TEST_ACCURACY)
    assert statistic.n == 3
    assert statistic.mean == pytest.approx(0.92)
    assert statistic.sd == pytest.approx(math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2))
    assert statistic.ci_low == pytest.approx(0.92 - 4.302653 * 0.0264575 / math.sqrt(3), abs=1e-6)
    assert statistic.values == (0.90, 0.91, 0.95)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 200])
def test_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.003, count)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    statistic = describe(values.tolist(), keys.TEST_ACCURACY)
    assert (statistic.ci_low, statistic.ci_high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    "metric", [keys.LATENCY_P50, keys.THROUGHPUT_TRAINING, keys.FIT_SECONDS, keys.MEMORY_PEAK]
)
def test_the_interval_of_a_positive_cost_is_positive(metric: str) -> None:
    statistic = describe([1.0, 4.0], metric)
    assert statistic.mean == 2.5
    # Of the logarithm, by hand: t(1) = 12.706, SD = 3 / sqrt(2), its share of the mean / sqrt(2).
    factor = math.exp(12.7062 * (3 / math.sqrt(2)) / 2.5 / math.sqrt(2))
    assert statistic.ci_low == pytest.approx(2.5 / factor, rel=1e-4)
    assert statistic.ci_high == pytest.approx(2.5 * factor, rel=1e-4)


def test_what_can_be_negative_has_a_straight_interval() -> None:
    values = [-1.0, 4.0]
    assert describe(values, keys.MEMORY_TRAINING) == describe(values, keys.TEST_LOSS)


@pytest.mark.parametrize("name", ["test_mae", "val_mean_squared_error"])
def test_the_interval_of_an_error_ends_at_0(name: str) -> None:
    error = describe([40.0, 48.0], name)
    assert error.ci_low == 0
    assert error.ci_high == pytest.approx(44 + 4 * 12.7062, abs=1e-3)
    signed = describe([40.0, 48.0], "test_loss")
    assert signed.ci_low == pytest.approx(44 - 4 * 12.7062, abs=1e-3)


def test_the_interval_of_an_accuracy_ends_at_1() -> None:
    accuracy = describe([0.99, 0.98, 1.0], "test_accuracy")
    assert accuracy.ci_high == 1.0
    assert accuracy.ci_low == pytest.approx(0.99 - 4.302653 * 0.01 / 3**0.5)
    percent = describe([99.0, 98.0, 100.0], "their_accuracy")
    assert percent.ci_high is not None
    assert percent.ci_high > 100


def test_one_value_has_no_spread() -> None:
    statistic = describe([0.9], keys.LATENCY_P50)
    assert (statistic.n, statistic.mean) == (1, 0.9)
    assert statistic.sd is statistic.ci_low is statistic.ci_high is None


@pytest.mark.parametrize("metric", [keys.TEST_ACCURACY, keys.LATENCY_P50])
def test_equal_values_have_exactly_no_spread(metric: str) -> None:
    statistic = describe([0.1, 0.1, 0.1], metric)
    assert (statistic.mean, statistic.sd) == (0.1, 0.0)
    assert (statistic.ci_low, statistic.ci_high) == (0.1, 0.1)


@pytest.mark.parametrize(("degrees", "expected"), [(2, 4.30), (4, 2.78), (9, 2.26)])
def test_t_multipliers(degrees: int, expected: float) -> None:
    assert round(t_quantile(degrees), 2) == expected


@pytest.mark.parametrize(("share", "count"), [(0.9, 10_000), (0.5, 7), (0.0, 20), (1.0, 1)])
def test_wilson(share: float, count: int) -> None:
    expected = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    share = round(share * count) / count
    interval = wilson(share, count)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_groups_of_any_size_at_once() -> None:
    random = np.random.default_rng(0)
    groups = [
        [run("m", seed, float(random.normal()), metrics={"x": float(seed)}) for seed in range(size)]
        for size in (1, 5, 2, 7, 1)
    ]
    del groups[1][0].metrics["x"]  # type: ignore[attr-defined]
    groups[2][0].metrics["x"] = math.inf  # type: ignore[index]
    groups[4][0].metrics["x"] = math.nan  # type: ignore[index]
    described = describe_groups(groups)
    for group, statistics in zip(groups, described, strict=True):
        values = [r.metrics["test_accuracy"] for r in group]
        assert statistics["test_accuracy"] == describe(values, "test_accuracy")
    assert [statistics["x"].values for statistics in described[:4]] == [
        (0.0,),
        (1.0, 2.0, 3.0, 4.0),
        (1.0,),
        (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    ]
    assert "x" not in described[4]
    assert describe_groups([]) == []
