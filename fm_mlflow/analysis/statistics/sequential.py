"""Group-sequential tests: how much a p-value is worth that was looked for several times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

_SPENDING_POWER = 3.0
"""Of Kim and DeMets' family alpha x t^power: 1 spends evenly, 3 nearly as O'Brien and Fleming;
chosen by simulation (docs/statistics.md)."""

_LEVELS = np.geomspace(1e-7, 1.0, 57)
"""Overall levels at which the boundaries are computed; between them they are interpolated."""

_FARTHEST = 30.0
"""Where a bound ends that is to spend nothing: beyond any statistic that floating point tells."""

_NODES = 161
_HALVINGS = 50


def nominal_level(alpha: float, numbers: Sequence[int], look: int) -> float:
    """Return the two-sided level of one look of those that together keep `alpha`."""
    nominal = nominal_levels(tuple(numbers))[:, look]
    return math.exp(float(np.interp(math.log(alpha), np.log(_LEVELS), np.log(nominal))))


def adjusted_p(p_values: Sequence[float], numbers: Sequence[int]) -> float:
    """Return the p-value of all looks together: the lowest overall level at which one rejects.

    Args:
        p_values: Two-sided, of the looks so far, the first first; NaN where there was none.
        numbers: Seeds at each look of the whole design, those to come included.
    """
    levels, nominal = _LEVELS, nominal_levels(tuple(numbers))
    known = [
        float(np.interp(math.log(max(p, 1e-300)), np.log(nominal[:, look]), np.log(levels)))
        for look, p in enumerate(p_values)
        if not math.isnan(p)
    ]
    return min(1.0, math.exp(min(known))) if known else 1.0


@lru_cache(maxsize=32)
def nominal_levels(numbers: tuple[int, ...], power: float = _SPENDING_POWER) -> Array:
    """Return at which level to test at each look, so that together they keep an overall level.

    Lan and DeMets' (1983) alpha spending by the share of the seeds, alpha x t^power (Kim and
    DeMets, 1987), on the statistic's joint normal distribution, whose correlation of two looks
    is the root of the ratio of their numbers.

    Args:
        numbers: Seeds at each look.
        power: Of the spending.

    Returns:
        Two-sided levels, shape (overall levels, looks).
    """
    shares = np.array(numbers, dtype=np.float64) / numbers[-1]
    spent = _LEVELS[:, None] * shares**power
    return boundaries(shares, np.diff(spent, axis=1, prepend=0.0))


def boundaries(times: Array, spend: Array) -> Array:
    """Return the two-sided level of each look that spends so much (Armitage and others, 1969).

    Args:
        times: Share of the information at each look, shape (looks,).
        spend: Probability to reject at this look for the first time, shape (levels, looks).
    """
    count = len(spend)
    bound = np.minimum(-special.ndtri(spend[:, 0] / 2), _FARTHEST) * math.sqrt(times[0])
    result = [2 * special.ndtr(-bound / math.sqrt(times[0]))]
    grid, density = _first(bound, times[0])
    for look in range(1, len(times)):
        step = math.sqrt(times[look] - times[look - 1])
        low, high = np.zeros(count), np.full(count, _FARTHEST)
        for _ in range(_HALVINGS):  # of the bound's interval
            bound = (low + high) / 2
            above = special.ndtr((grid - bound[:, None]) / step)
            crossed = 2 * np.sum(density * above, axis=1)  # as much below, by symmetry
            low = np.where(crossed > spend[:, look], bound, low)
            high = np.where(crossed > spend[:, look], high, bound)
        result.append(2 * special.ndtr(-bound / math.sqrt(times[look])))
        if look + 1 < len(times):
            points = np.linspace(-bound, bound, _NODES, axis=1)
            lower = points[:, : _NODES // 2 + 1]  # and as dense above, by symmetry
            moved = (lower[:, :, None] - grid[:, None, :]) / step
            kernel = np.exp(-(moved**2) / 2) / (step * math.sqrt(2 * math.pi))
            reached = np.einsum("lpg,lg->lp", kernel, density)
            density = np.concatenate([reached, reached[:, -2::-1]], axis=1) * _weights(bound)
            grid = points
    return np.stack(result, axis=1)


def _first(bound: Array, time: float) -> tuple[Array, Array]:
    """Return where the score can be after the first look, and the probability there."""
    grid = np.linspace(-bound, bound, _NODES, axis=1)
    density = np.exp(-(grid**2) / (2 * time)) / math.sqrt(2 * math.pi * time)
    return grid, density * _weights(bound)


def _weights(bound: Array) -> Array:
    """Return Simpson's weights, shape (levels, nodes)."""
    pattern = np.ones(_NODES)
    pattern[1:-1:2], pattern[2:-1:2] = 4, 2
    return pattern * (2 * bound[:, None] / (_NODES - 1) / 3)
