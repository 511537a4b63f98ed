"""Tests of a difference, exact where they can be, and what a number of seeds can show at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

ALPHA = 0.05
"""A difference counts as shown below this p-value, adjusted for the number of pairs."""

_MOST_EXACT = 200_000
_RANDOM_SPLITS = 100_000
_MOST_DRAWS = 10_000_000
_FEWEST_SPLITS = 10_000
_SEED = 20_170_825
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PermutationTest:
    """A permutation test of the difference of two means.

    Attributes:
        p_value: Share of the splits whose difference is at least as large, two-sided.
        exact: Whether every split was looked at, or a random sample.
    """

    p_value: float
    exact: bool


def permutation_test(a: Sequence[float], b: Sequence[float]) -> PermutationTest:
    """Test whether two samples come from one distribution, by |difference of means|.

    Every split of all values into parts of these sizes counts, up to 200,000 (10 and 10 values
    have 184,756); else up to 100,000 random ones from a fixed seed, the observed one included.

    Args:
        a: Values of independent runs, at least one.
        b: Likewise.
    """
    values = np.array([*a, *b], dtype=np.float64)
    spread = float(np.ptp(values))
    if spread == 0:
        return PermutationTest(1.0, exact=True)
    # The sum of the first part says all: the total is fixed. In units of the spread, centred, so
    # that splits which are equal on paper are equal within the rounding that is allowed for.
    values = (values - values.mean()) / spread
    first, second = len(a), len(b)
    observed = abs(values[:first].sum())
    exact = math.comb(first + second, first) <= _MOST_EXACT
    if not exact and first > second:  # the smaller part is drawn; sums are equal but for the sign
        first = second
    parts = _all_splits(first + second, first) if exact else _random_splits(len(values), first)
    extreme = int(np.count_nonzero(np.abs(values[parts].sum(axis=1)) >= observed - _ROUNDING))
    if exact:
        return PermutationTest(extreme / len(parts), exact=True)
    return PermutationTest((extreme + 1) / (len(parts) + 1), exact=False)


@lru_cache(maxsize=4)
def _all_splits(total: int, first: int) -> NDArray[np.intp]:
    """Return the indices of every first part, shape (splits, first)."""
    indices = chain.from_iterable(combinations(range(total), first))
    return np.fromiter(indices, dtype=np.intp).reshape(-1, first)


@lru_cache(maxsize=4)
def _random_splits(total: int, first: int) -> NDArray[np.intp]:
    """Return the indices of first parts at random, shape (splits, first)."""
    splits = max(_FEWEST_SPLITS, min(_RANDOM_SPLITS, _MOST_DRAWS // total))
    generator = np.random.default_rng(_SEED)
    order = np.broadcast_to(np.arange(total, dtype=np.intp), (splits, total))
    return generator.permuted(order, axis=1)[:, :first].copy()


def smallest_p(a: int, b: int) -> float:
    """Return the smallest p-value that a permutation test of so many values can give."""
    splits = math.comb(a + b, a)
    # With equal sizes, the mirror image of a split is a split that is as extreme.
    return min(1.0, (2 if a == b else 1) / splits)


def seeds_needed(pairs: int) -> int:
    """Return how many seeds of each group can show a difference, with `pairs` tested by Holm."""
    seeds = 2
    while smallest_p(seeds, seeds) * pairs >= ALPHA:
        seeds += 1
    return seeds


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, 1979); the order stays."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value of McNemar's test from the images that one has right."""
    discordant = only_a + only_b
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), discordant, 0.5)))
