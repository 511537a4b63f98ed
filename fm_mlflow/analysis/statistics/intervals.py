"""One metric over the runs of a group: mean, spread and t-interval, for many groups at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes a second to import

from fm_mlflow.analysis.comparison import Statistic
from fm_mlflow.analysis.costs import MEASURED
from fm_mlflow.analysis.objective import limits
from fm_mlflow.analysis.records import LARGEST, TrainingRun

_UPPER = 0.975
"""Where a 95% interval ends: 2.5% are above it, 2.5% below the other end."""


@dataclass(frozen=True)
class Interval:
    """An interval from `low` to `high`, both included."""

    low: float
    high: float

    def within(self, limit: float) -> Interval:
        """Return what of it is within ± a limit."""
        return Interval(max(self.low, -limit), min(self.high, limit))


@lru_cache(maxsize=4096)
def t_quantile(degrees: float) -> float:
    """Return the 97.5% quantile of Student's t; `degrees` > 0."""
    return float(special.stdtrit(degrees, _UPPER))


def wilson(share: float, count: int) -> Interval:
    """Return the 95% interval of a binomial share (Wilson, 1927): 0.894 to 0.906 for 0.9 of 10,000.

    Args:
        share: Observed, 0 to 1.
        count: Of independent observations, at least 1.
    """
    z = float(special.ndtri(_UPPER))
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def describe(values: Sequence[float], metric: str) -> Statistic:
    """Summarise finite values of a metric, one a run; at least one."""
    array = np.array(values, dtype=np.float64)
    (statistic,) = _describe_segments(array, np.array([len(values)]), metric)
    return statistic


def describe_groups(groups: Sequence[Sequence[TrainingRun]]) -> list[dict[str, Statistic]]:
    """Summarise every metric of every group; values that are not finite are left out.

    Args:
        groups: The runs of each group, in the order in which their values shall stand.

    Returns:
        For each group, statistics by metric name, names in alphabetical order.
    """
    described: list[dict[str, Statistic]] = [{} for _ in groups]
    metrics = [run.metrics for runs in groups for run in runs]
    owners = np.repeat(np.arange(len(groups)), np.array([len(runs) for runs in groups], int))
    for name in sorted(set().union(*metrics)):
        # None, where a run lacks it, becomes NaN.
        values = np.array([each.get(name) for each in metrics], dtype=np.float64)
        is_number = np.abs(values) < LARGEST
        counts = np.bincount(owners[is_number], minlength=len(groups))
        present = np.flatnonzero(counts)
        statistics = _describe_segments(values[is_number], counts[present], name)
        for index, statistic in zip(present.tolist(), statistics, strict=True):
            described[index][name] = statistic
    return described


def _describe_segments(
    array: NDArray[np.float64], counts: NDArray[np.int64], metric: str
) -> list[Statistic]:
    """Summarise consecutive segments of values.

    Args:
        array: The values of all segments.
        counts: The segments' lengths, each at least 1.
        metric: Of a measured one the intervals of segments of positive values are those of the
            mean's logarithm (its standard error is sd / mean / sqrt(n), by the delta method); those
            of a share, such as an accuracy, end at 0 and 1, those of an error at 0.
    """
    values = array.tolist()
    if len(values) == len(counts):
        return [Statistic(1, value, None, None, None, (value,)) for value in values]
    ends = np.cumsum(counts)
    starts = ends - counts
    low, high = np.minimum.reduceat(array, starts), np.maximum.reduceat(array, starts)
    # Rounding must not move the mean of equal counts away from them.
    mean = np.clip(np.add.reduceat(array, starts) / counts, low, high)
    squares = np.add.reduceat((array - np.repeat(mean, counts)) ** 2, starts)
    sd = np.sqrt(squares / np.maximum(counts - 1, 1))
    sizes, which = np.unique(counts, return_inverse=True)
    quantiles = np.array([t_quantile(size - 1) if size > 1 else 0.0 for size in sizes.tolist()])
    half = quantiles[which] * sd / np.sqrt(counts)
    lower, upper = mean - half, mean + half
    least, most = limits(metric)
    is_within = (low >= least) & (high <= most)  # somebody else's may be in percent
    lower = np.where(is_within, np.maximum(lower, least), lower)
    upper = np.where(is_within, np.minimum(upper, most), upper)
    if metric in MEASURED:
        factor = np.exp(np.divide(half, mean, where=low > 0, out=np.zeros_like(half)))
        lower = np.where(low > 0, mean / factor, lower)
        upper = np.where(low > 0, mean * factor, upper)
    columns = (counts, mean, sd, lower, upper, starts, ends)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Statistic(n, centre, spread, ci_low, ci_high, tuple(values[start:end]))
        if n > 1
        else Statistic(1, values[start], None, None, None, (values[start],))
        for n, centre, spread, ci_low, ci_high, start, end in rows
    ]
