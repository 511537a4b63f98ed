"""Quantiles of a sample with intervals that assume no shape of the distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr  # scipy.stats takes a second to import

from fm_mlflow.keys import Key
from fm_mlflow.measure.measurement import Measurement

_TAIL = 0.025
_ROUNDING = 1e-9


def sample_quantile(
    readings: Sequence[float], share: float
) -> tuple[float, tuple[float, float] | None]:
    """Estimate the value that a share of all readings does not exceed.

    The number of n readings below the true quantile is binomial (n, share), whatever the
    distribution of continuous, independent readings: so two of them, in order, enclose it.

    Args:
        readings: In any order; at least one.
        share: Between 0 and 1.

    Returns:
        The quantile, linear between the two nearest readings (NumPy's default), and its 95%
        interval by order statistics; None where the sample is too small for one.

    Raises:
        ValueError: There are no readings.
    """
    if not readings:
        raise ValueError("a quantile needs at least one reading")
    ordered = sorted(readings)
    ranks = interval_ranks(len(ordered), share)
    interval = None if ranks is None else (ordered[ranks[0] - 1], ordered[ranks[1] - 1])
    return float(np.quantile(ordered, share)), interval


def summarised(
    key: Key, readings: Sequence[float], share: float, method: str, details: Mapping[str, Any]
) -> Measurement:
    """Return a quantile of readings as a measurement, with their spread and its interval."""
    value, interval = sample_quantile(readings, share)
    return Measurement(
        str(key),
        value,
        key.unit,
        method,
        samples=len(readings),
        spread=statistics.stdev(readings) if len(readings) > 1 else None,
        interval=interval,
        details=details,
    )


def interval_ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the ranks (from 1) of the readings that enclose a quantile with at least 95%.

    Each side fails with at most 2.5%. None where even the extreme readings cannot give that.
    """
    # The reading of rank l is above the quantile if fewer than l are below it, and so on.
    at_most = bdtr(np.arange(count + 1), count, share)
    low = int(np.searchsorted(at_most, _TAIL))
    high = int(np.searchsorted(at_most, 1 - _TAIL)) + 1
    return (low, high) if low >= 1 and high <= count else None


def readings_needed(share: float) -> int:
    """Return the smallest sample that has an interval for this quantile: 6 for the median."""
    extreme = max(share, 1 - share)
    return math.ceil(math.log(_TAIL) / math.log(extreme) - _ROUNDING)
