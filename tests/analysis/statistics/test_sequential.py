"""Boundaries of group-sequential tests, against published ones and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from fm_mlflow.analysis.seed_design import looks
from fm_mlflow.analysis.statistics.sequential import adjusted_p, boundaries, nominal_level


def test_the_bounds_of_lan_and_demets() -> None:
    # Their O'Brien-Fleming spending at 5%, five equal looks: as every textbook's table has them.
    times = np.arange(1, 6) / 5
    spent = 4 * special.ndtr(special.ndtri(0.05 / 4) / np.sqrt(times))
    (levels,) = boundaries(times, np.diff(spent, prepend=0.0)[None])
    bounds = -special.ndtri(levels / 2)
    assert bounds == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=0.002)


@pytest.mark.thorough
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_all_looks_together_keep_the_level(alpha: float) -> None:
    numbers = looks(20)
    random = np.random.default_rng(3)
    sums = random.standard_normal((200_000, 20)).cumsum(axis=1)
    scores = sums[:, np.array(numbers) - 1] / np.sqrt(numbers)
    levels = np.array([nominal_level(alpha, numbers, look) for look in range(len(numbers))])
    rejected = np.any(np.abs(scores) > -special.ndtri(levels / 2), axis=1).mean()
    assert rejected == pytest.approx(alpha, abs=4 * math.sqrt(alpha / 200_000))


def test_the_p_value_of_all_looks_is_the_level_at_which_one_rejects() -> None:
    numbers = looks(10)
    at = nominal_level(0.05, numbers, 2)
    assert adjusted_p([1.0, 1.0, at], numbers) == pytest.approx(0.05, rel=1e-6)
    assert adjusted_p([1.0, 1.0, at, 0.9], numbers) == pytest.approx(0.05, rel=1e-6)
    assert adjusted_p([math.nan, 1.0], numbers) == 1.0
    assert adjusted_p([], numbers) == 1.0
    assert 0 < adjusted_p([0.0], numbers) < 1e-6
    assert adjusted_p([0.01], (3,)) == pytest.approx(0.01, rel=0.01)  # one look: no correction


def test_looks_come_less_often_and_end_at_the_limit() -> None:
    assert looks(3) == (3,)
    assert looks(20) == (3, 4, 5, 6, 8, 10, 13, 17, 20)
    assert looks(1000)[-1] == 1000
    assert len(looks(1000)) < 30
