"""Quantiles with intervals by order statistics, against binomial sums and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fm_mlflow.measure.quantiles import interval_ranks, readings_needed, sample_quantile


def coverage(count: int, share: float, low: int, high: int) -> float:
    """P(reading of rank low <= true quantile < reading of rank high)."""
    return float(binom.cdf(high - 1, count, share) - binom.cdf(low - 1, count, share))


def test_median_of_ten_by_hand() -> None:
    # P(B = 0 … 10) of 1024: 1, 10, 45, 120, 210, 252, … so P(B <= 1) = 11/1024 = 0.0107 and
    # P(B <= 2) = 56/1024 = 0.0547: ranks 2 and 9 enclose with 1 - 22/1024, ranks 3 and 8 do not.
    assert interval_ranks(10, 0.5) == (2, 9)
    value, interval = sample_quantile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], 0.5)
    assert value == 5.5
    assert interval == (2, 9)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [6, 72, 100, 368, 1000, 20_000])
def test_ranks_are_the_narrowest_that_cover_95_percent(count: int, share: float) -> None:
    ranks = interval_ranks(count, share)
    if ranks is None:
        assert count < readings_needed(share)
        return
    low, high = ranks
    assert coverage(count, share, low, high) >= 0.95
    # One rank less on either side fails on that side with more than 2.5%.
    assert binom.cdf(low, count, share) > 0.025
    assert binom.sf(high - 2, count, share) > 0.025
    assert (low, high) == (
        binom.ppf(0.025, count, share),
        binom.ppf(0.975, count, share) + 1,
    )


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_interval_takes_a_sample_large_enough(share: float, needed: int) -> None:
    assert readings_needed(share) == needed
    assert interval_ranks(needed, share) is not None
    assert interval_ranks(needed - 1, share) is None


@pytest.mark.thorough
def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = float(np.log(20))  # the 95th percentile of the standard exponential distribution
    hits = 0
    for _ in range(2000):
        _, interval = sample_quantile(list(generator.exponential(size=150)), 0.95)
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert 0.94 <= hits / 2000 <= 0.99


def test_no_readings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one reading"):
        sample_quantile([], 0.5)
