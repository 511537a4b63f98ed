"""Intervals of differences: against scipy, against the analysis of variance, and by coverage."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from fm_mlflow.analysis.examples import match_examples
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.statistics import resampling
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.intervals import Interval
from fm_mlflow.analysis.statistics.resampling import (
    SeedsAndExamples,
    paired_interval,
    welch_interval,
)
from tests.analysis.simulated import Table, by_model, correctness, hardness, with_predictions


def crossed(*pairs: tuple[Table, Table]) -> Iterator[DifferenceInterval]:
    """The intervals of mean of the first - mean of the second."""
    tables = {f"{at}, {side}": pair[side] for at, pair in enumerate(pairs) for side in (0, 1)}
    each, details = with_predictions(tables)
    groups = by_model([each])
    for at in range(len(pairs)):
        both = [groups[f"{at}, {side}"] for side in (0, 1)]
        examples = match_examples(both, details, DEFAULT)
        found = SeedsAndExamples(both, examples, DEFAULT).interval(*both)
        assert found is not None
        yield found


@pytest.mark.parametrize("sizes", [(5, 5), (3, 8)])
def test_welch_is_scipys(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(0.9, 0.003, sizes[0]), random.normal(0.88, 0.006, sizes[1])
    expected = stats.ttest_ind(a, b, equal_var=False)
    found = welch_interval(a.tolist(), b.tolist(), "seeds")
    assert found is not None
    interval = expected.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_one_value_against_several_takes_their_spread() -> None:
    found = welch_interval([0.95], [0.90, 0.91, 0.92], "seeds")
    assert found is not None
    half = 4.302653 * 0.01 * math.sqrt(1 + 1 / 3)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (0.04 - half, 0.04 + half), abs=1e-6
    )
    assert "taken to vary" in found.method
    assert welch_interval([0.95], [0.9], "seeds") is None


def test_an_interval_of_two_shares_ends_at_what_is_possible_and_the_test_stays() -> None:
    shares, percent = ([0.2, 0.9], [0.95, 0.94]), ([20.0, 90.0], [95.0, 94.0])
    cut, whole = (welch_interval(*values, "seeds", "test_accuracy") for values in (shares, percent))
    assert cut is not None
    assert whole is not None
    assert (cut.interval, cut.at(0.01)) == (Interval(-1.0, 1.0), Interval(-1.0, 1.0))
    assert whole.interval.low < -300
    assert cut.p_value == pytest.approx(whole.p_value)
    assert cut.p_not_within(0.01) == pytest.approx(whole.p_not_within(1.0))
    errors = welch_interval(*shares, "seeds", "test_mae")
    assert errors is not None
    assert errors.interval.low < -3
    (seeds,) = crossed((np.array([[True] * 4, [False] * 4]), np.array([[True] * 4, [True] * 4])))
    assert seeds.interval == Interval(-1.0, 1.0)


def test_paired_interval_by_hand() -> None:
    # (50 - 30) / 1002 +- 1.96 sqrt((51 + 31) / 1002 - ((51 - 31) / 1002)^2) / sqrt(1002)
    interval = paired_interval(50, 30, 1000)
    error = math.sqrt((82 / 1002 - (20 / 1002) ** 2) / 1002)
    assert interval.low == pytest.approx(20 / 1002 - 1.959964 * error)
    assert interval.high == pytest.approx(20 / 1002 + 1.959964 * error)
    alike = paired_interval(0, 0, 1000)
    assert alike.low < 0 < alike.high


@pytest.mark.parametrize("seed_effect", [0.06, 0.3])
def test_resampling_gives_the_variances_of_seeds_and_of_images(seed_effect: float) -> None:
    random = np.random.default_rng(5)
    level = 3 + hardness(random, 2000)
    a, b = (correctness(random, level, 5, 2000, seed_effect) for _ in "ab")
    (found,) = crossed((a, b))
    seeds = [table.mean(axis=1).var(ddof=1) / 5 for table in (a, b)]
    images = np.var(a.mean(axis=0) - b.mean(axis=0)) / 2000
    variance = sum(seeds) + images
    degrees = variance**2 / (sum(part**2 / 4 for part in seeds) + images**2 / 1999)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
    assert found.interval.high - found.interval.low == pytest.approx(2 * half, rel=0.05)
    middle = a.mean() - b.mean()
    assert (found.interval.low + found.interval.high) / 2 == pytest.approx(middle)
    assert found.counts_examples


@pytest.mark.thorough
@pytest.mark.parametrize(("seeds", "seed_effect"), [(3, 0.06), (5, 0.06), (5, 0.3), (10, 0.06)])
def test_coverage(seeds: int, seed_effect: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_RESAMPLES", 125)
    random = np.random.default_rng(seeds)
    stores = []
    for _ in range(300):
        level = 3 + hardness(random, 400)
        a, b = (correctness(random, level, seeds, 400, seed_effect) for _ in "ab")
        stores.append((a, b))
    intervals = [found.interval for found in crossed(*stores)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    # 0.95 less three standard errors of so many stores.
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(stores))


def test_intervals_that_count_images_are_wider_than_those_that_do_not() -> None:
    random = np.random.default_rng(8)
    level = 3 + hardness(random, 300)
    a, b = (correctness(random, level, 10, 300, 0.0) for _ in "ab")
    seeds = welch_interval(a.mean(axis=1).tolist(), b.mean(axis=1).tolist(), "seeds")
    (both,) = crossed((a, b))
    assert seeds is not None
    assert both.interval.high - both.interval.low > seeds.interval.high - seeds.interval.low
