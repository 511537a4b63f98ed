"""A difference of two models' results: its interval, and the tests of what it is or is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special
from typing_extensions import Self

from fm_mlflow.analysis.statistics.intervals import Interval
from fm_mlflow.analysis.statistics.significance import smallest_p


@dataclass(frozen=True)
class DifferenceInterval:
    """The 95% interval of a difference of two means.

    Attributes:
        interval: The interval.
        method: How it was computed, in words.
        p_value: Of the t-test that belongs to it.
        counts_examples: Whether it counts the choice of test examples as chance, beside that of
            seeds.
        difference: Its centre; NaN, as the next two, of an interval that is not Student's.
        error: Standard error of the difference.
        degrees: Of freedom, of Student's t.
        examples_error: Of the error, what more seeds do not lessen: the choice of test examples.
        least_p: What no one-sided test goes below, where all runs of either side have one value.
        limit: What no difference exceeds: 1 of shares. The interval ends there; no test heeds it.
    """

    interval: Interval
    method: str
    p_value: float
    counts_examples: bool = False
    difference: float = math.nan
    error: float = math.nan
    degrees: float = math.nan
    examples_error: float = 0.0
    least_p: float = 0.0
    limit: float = math.inf

    def p_not_within(self, margin: float) -> float:
        """Return the p-value of two one-sided tests: that the difference is not within ± margin."""
        return self._p(margin - abs(self.difference))

    def p_worse_by(self, margin: float, *, smaller_is_better: bool) -> float:
        """Return the p-value of non-inferiority: of the first being worse by `margin`."""
        sign = -1 if smaller_is_better else 1
        return self._p(sign * self.difference + margin)

    def at(self, level: float) -> Interval:
        """Return the interval that leaves out the truth with this probability."""
        half = -float(special.stdtrit(self.degrees, level / 2)) * self.error
        return Interval(self.difference - half, self.difference + half).within(self.limit)

    def limited(self, limit: float) -> Self:
        """Return the same where no difference exceeds a limit."""
        return replace(self, limit=limit, interval=self.interval.within(limit))

    def _p(self, distance: float) -> float:
        if math.isnan(self.error):
            return 1.0
        if self.error == 0:
            return self.least_p if distance > 0 else 1.0
        return max(self.least_p, float(special.stdtr(self.degrees, -distance / self.error)))

    def without_spread(self, first: int, second: int) -> Self:
        """Return the interval of runs that all had the same value as the others of their side.

        That says that they differ little, not that they do not: a few rounded values, or shares of
        few examples, can be the same by chance. What so many runs can show at most is what the
        permutation test shows.

        Args:
            first: Runs of the first side.
            second: Of the second.
        """
        least = 1 / math.comb(first + second, first)
        p_value = max(self.p_value, smallest_p(first, second))
        return replace(self, least_p=least, p_value=p_value)


def probability_of_improvement(
    first: Sequence[float], second: Sequence[float], *, smaller_is_better: bool
) -> float:
    """Return the share of pairs of values, one of each, in which the first is better, ties half."""
    others, pairs = np.sort(second), len(first) * len(second)
    less = int(others.searchsorted(first, "left").sum())  # pairs whose second value is less
    not_more = int(others.searchsorted(first, "right").sum())
    twice = 2 * pairs - less - not_more if smaller_is_better else less + not_more
    return twice / 2 / pairs
