"""Differences of two models' results."""

from __future__ import annotations

import numpy as np
import pytest

from fm_mlflow.analysis.statistics.differences import probability_of_improvement


@pytest.mark.parametrize("smaller_is_better", [False, True])
def test_probability_of_improvement_is_that_of_all_pairs(smaller_is_better: bool) -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 9, size).tolist() for size in (23, 17))  # with ties
    differences = np.subtract.outer(first, second) * (-1 if smaller_is_better else 1)
    expected = float(np.mean((differences > 0) + 0.5 * (differences == 0)))
    found = probability_of_improvement(first, second, smaller_is_better=smaller_is_better)
    assert found == expected
