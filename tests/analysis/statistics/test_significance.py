"""Tests of a difference against scipy's, which take another route, and by hand."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from fm_mlflow.analysis.statistics import significance
from fm_mlflow.analysis.statistics.significance import (
    PermutationTest,
    holm,
    mcnemar,
    permutation_tests,
    seeds_needed,
    smallest_p,
)


def permutation_test(a: Sequence[float], b: Sequence[float]) -> PermutationTest:
    (result,) = permutation_tests([(a, b)])
    return result


def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(np.mean(a, axis=axis) - np.mean(b, axis=axis))


@pytest.mark.parametrize("sizes", [(3, 3), (5, 5), (4, 7), (6, 2)])
def test_permutation_test_is_scipys(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(sizes))
    for shift in (0.0, 0.004, 0.05):
        # Ten-thousandths, so that there are ties, as between real accuracies.
        a = np.round(random.normal(0.9 + shift, 0.003, sizes[0]), 4)
        b = np.round(random.normal(0.9, 0.003, sizes[1]), 4)
        expected = stats.permutation_test((a, b), difference, n_resamples=np.inf, vectorized=True)
        result = permutation_test(a.tolist(), b.tolist())
        assert result.exact
        # scipy doubles the smaller tail; for two-sided |difference| count the splits directly.
        null = np.abs(expected.null_distribution)
        assert result.p_value == pytest.approx(
            np.mean(null >= abs(expected.statistic) - 1e-12), abs=1e-12
        )


def test_permutation_test_by_hand() -> None:
    # 252 splits of ten values; only the observed one and its mirror image are so extreme.
    assert permutation_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]).p_value == pytest.approx(2 / 252)
    # Of the four values, {1}, {2}, {3}, {7} against the rest: 7 alone is extreme.
    assert permutation_test([7], [1, 2, 3]).p_value == pytest.approx(1 / 4)
    assert permutation_test([0.9] * 5, [0.9] * 5).p_value == 1


@pytest.mark.thorough
def test_random_splits_come_near_the_exact_result() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(0.6, 1, 11), random.normal(0, 1, 11)  # 705,432 splits
    result = permutation_test(a.tolist(), b.tolist())
    assert not result.exact
    expected = stats.permutation_test((a, b), difference, n_resamples=20_000, rng=2)
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert permutation_test(a.tolist(), b.tolist()) == result
    assert permutation_test([0.0] * 20 + [0.1], [1.0] * 21).p_value == pytest.approx(1e-5, rel=0.01)


def test_many_tests_are_the_same_tests() -> None:
    random = np.random.default_rng(3)
    pairs = [
        (random.normal(size=n).tolist(), random.normal(size=m).tolist())
        for n, m in [(5, 5), (3, 4), (5, 5), (1, 1), (3, 4)]
    ]
    assert permutation_tests(pairs) == [permutation_test(*pair) for pair in pairs]
    assert permutation_tests([]) == []


@pytest.mark.parametrize(("n", "m", "least"), [(3, 3, 0.1), (4, 4, 2 / 70), (5, 5, 2 / 252)])
def test_smallest_p_is_that_of_separate_groups(n: int, m: int, least: float) -> None:
    assert smallest_p(n, m) == pytest.approx(least)
    assert permutation_test(range(n), range(100, 100 + m)).p_value == pytest.approx(least)


def test_smallest_p_of_unequal_groups() -> None:
    assert smallest_p(1, 1) == 1
    assert smallest_p(1, 5) == pytest.approx(1 / 6)
    assert permutation_test([9], [1, 2, 3, 4, 5]).p_value == pytest.approx(1 / 6)


@pytest.mark.parametrize(("pairs", "seeds"), [(1, 4), (3, 5), (6, 5), (45, 7)])
def test_seeds_needed(pairs: int, seeds: int) -> None:
    assert seeds_needed(pairs) == seeds
    assert pairs * 2 / math.comb(2 * seeds, seeds) < 0.05
    assert pairs * 2 / math.comb(2 * seeds - 2, seeds - 1) >= 0.05


def test_holm_by_hand() -> None:
    # Ordered 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, made monotone.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (12, 3), (512, 313), (40, 40)])
def test_mcnemar_is_a_binomial_test(counts: tuple[int, int]) -> None:
    total = sum(counts)
    expected = stats.binomtest(counts[0], total, 0.5).pvalue if total else 1.0
    assert mcnemar(*counts) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(7, 9), (40, 25), (700, 800)])
def test_splits_in_parts_give_the_same_result(
    sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    pair = [random.normal(0.01, 1, size).tolist() for size in sizes]
    monkeypatch.setattr(significance, "_MOST_DRAWS", 1_000_000)
    monkeypatch.setattr(significance, "_FEWEST_SPLITS", 1000)
    uncached = significance._random_splits.__wrapped__
    monkeypatch.setattr(significance, "_random_splits", uncached)
    whole = permutation_tests([(pair[0], pair[1])])
    monkeypatch.setattr(significance, "_MOST_AT_ONCE", 50_000)
    assert permutation_tests([(pair[0], pair[1])]) == whole


def test_memory_of_a_test_does_not_grow_with_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "_FEWEST_SPLITS", 1000)
    monkeypatch.setattr(significance, "_MOST_DRAWS", 1_000_000)
    monkeypatch.setattr(significance, "_MOST_AT_ONCE", 2**18)
    first, second = np.random.default_rng(3).normal(size=(2, 1_500)).tolist()
    tracemalloc.start()
    try:
        permutation_tests([(first, second)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 1024**2  # 1,000 splits at once take 27 MB
