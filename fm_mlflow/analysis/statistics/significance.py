"""Tests of a difference, exact where they can be, and what a number of seeds can show at all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
_AT_ONCE, _MOST_AT_ONCE = 8192, 2**22


@dataclass(frozen=True)
class PermutationTest:
    """A permutation test of the difference of two means.

    Attributes:
        p_value: Share of the splits whose difference is at least as large, two-sided.
        exact: Whether every split was looked at, or a random sample.
    """

    p_value: float
    exact: bool


def permutation_tests(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> list[PermutationTest]:
    """Test whether two samples come from one distribution, by |difference of means|, in each pair.

    Every split of all values into parts of these sizes counts, up to 200,000 (10 and 10 values
    have 184,756); else up to 100,000 random ones from a fixed seed, the observed one included.
    Pairs of equal sizes share their splits.

    Args:
        pairs: Values of independent runs, at least one of each sample.
    """
    by_sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (a, b) in enumerate(pairs):
        by_sizes[len(a), len(b)].append(index)
    results: dict[int, PermutationTest] = {}
    for (first, second), members in by_sizes.items():
        values = np.array([[*pairs[index][0], *pairs[index][1]] for index in members]).T
        results |= zip(members, _permutation_tests(values, first, second), strict=True)
    return [results[index] for index in range(len(pairs))]


def _permutation_tests(
    values: NDArray[np.float64], first: int, second: int
) -> list[PermutationTest]:
    """Test each column: `first` values of one sample above `second` of the other."""
    # The sum of the first part says all, because the total is fixed. Centred and in units of the
    # spread, so that splits that are equal on paper differ by no more than the rounding allowed.
    spread = np.ptp(values, axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    threshold = np.abs(scaled[:first].sum(axis=0)) - _ROUNDING
    exact = math.comb(first + second, first) <= _MOST_EXACT
    extreme, count = np.zeros(values.shape[1], dtype=np.int64), 0
    for splits in _splits(first, second, exact=exact):
        sums = splits.astype(np.float64) @ scaled
        extreme += np.count_nonzero(np.abs(sums) >= threshold, axis=0)
        count += len(splits)
    if exact:
        return [PermutationTest(number / count, exact=True) for number in extreme.tolist()]
    # The observed split is one of all: a sample without it could give 0.
    return [PermutationTest((number + 1) / (count + 1), exact=False) for number in extreme.tolist()]


def _splits(first: int, second: int, *, exact: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield which values are in the first part, 0 or 1, shape (some splits, first + second)."""
    total = first + second
    at_once = max(1, min(_AT_ONCE, _MOST_AT_ONCE // total))
    if exact or _random_count(total) * total <= _MOST_DRAWS:
        splits = _all_splits(first, second) if exact else _random_splits(first, second)
        yield from (splits[start : start + at_once] for start in range(0, len(splits), at_once))
    else:  # too many to keep
        yield from _draw_splits(first, second, at_once)


@lru_cache(maxsize=8)
def _all_splits(first: int, second: int) -> NDArray[np.uint8]:
    """Return which values are in the first part, 0 or 1, shape (splits, first + second)."""
    count = math.comb(first + second, first)
    indices = np.fromiter(
        chain.from_iterable(combinations(range(first + second), first)), np.intp, count * first
    )
    splits = np.zeros((count, first + second), dtype=np.uint8)
    np.put_along_axis(splits, indices.reshape(count, first), 1, axis=1)
    return splits


@lru_cache(maxsize=8)
def _random_splits(first: int, second: int) -> NDArray[np.uint8]:
    """Return a sample of what `_all_splits` returns."""
    return np.concatenate(list(_draw_splits(first, second, _RANDOM_SPLITS)))


def _draw_splits(first: int, second: int, at_once: int) -> Iterator[NDArray[np.uint8]]:
    observed = np.repeat(np.array([1, 0], dtype=np.uint8), [first, second])
    generator = np.random.default_rng(_SEED)
    count = _random_count(len(observed))
    for done in range(0, count, at_once):
        size = min(at_once, count - done)
        yield generator.permuted(np.broadcast_to(observed, (size, len(observed))), axis=1)


def _random_count(total: int) -> int:
    return max(_FEWEST_SPLITS, min(_RANDOM_SPLITS, _MOST_DRAWS // total))


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
