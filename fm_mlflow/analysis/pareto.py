"""Pareto fronts: which groups no other beats in both accuracy and a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Front, Group
from fm_mlflow.analysis.costs import COSTS, Cost, incomparable, machine_of
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.statistics.intervals import Interval, wilson

_NO_INTERVAL = Interval(-np.inf, np.inf)
"""The interval of a value whose uncertainty is unknown: it is clearly apart from no other."""


@dataclass(frozen=True)
class _Position:
    """Where a group stands; `counted` costs have no uncertainty."""

    group: Group
    accuracy: Interval
    cost: Interval
    counted: bool


def fronts(
    groups: Sequence[Group], details: Mapping[str, RunDetails], test_images: int
) -> tuple[Front, ...]:
    """Find the Pareto front of test accuracy against each cost, over all ranked groups.

    Args:
        groups: Most accurate first.
        details: By run id, where they were loaded.
        test_images: Size of the test set that the ranked groups share; 0 if unknown.
    """
    ranked = [group for group in groups if group.ranked]
    return tuple(_front(ranked, details, test_images, cost) for cost in COSTS)


def _front(
    ranked: Sequence[Group], details: Mapping[str, RunDetails], test_images: int, cost: Cost
) -> Front:
    left_out = {}
    having = []
    for group in ranked:
        if cost.key not in group.metrics:
            left_out[group.name] = group.missing.get(cost.key, "not measured")
        elif not cost.counted and not all(machine_of(run) for run in group.runs):
            left_out[group.name] = "its runs do not say on which machine they were"
        else:
            having.append(group)
    reason = incomparable(cost, [run for group in having for run in group.runs])
    if reason:
        return Front(cost.key, (), {}, left_out, reason)
    positions = [_position(group, details, test_images, cost) for group in having]
    dominated = _dominated(positions)
    on_front = tuple(group.name for group in having if group.name not in dominated)
    return Front(cost.key, on_front, dominated, left_out)


def _position(
    group: Group, details: Mapping[str, RunDetails], test_images: int, cost: Cost
) -> _Position:
    statistic = group.metrics[cost.key]
    counted = cost.counted and min(statistic.values) == max(statistic.values)
    return _Position(
        group,
        _accuracy_interval(group, test_images),
        Interval(statistic.mean, statistic.mean)
        if counted
        else _cost_interval(group, details, cost),
        counted,
    )


def _accuracy_interval(group: Group, test_images: int) -> Interval:
    statistic = group.metrics[keys.TEST_ACCURACY]
    if statistic.ci_low is not None and statistic.ci_high is not None:
        return Interval(statistic.ci_low, statistic.ci_high)
    if test_images and 0 <= statistic.mean <= 1:
        return wilson(statistic.mean, test_images)
    return _NO_INTERVAL


def _cost_interval(group: Group, details: Mapping[str, RunDetails], cost: Cost) -> Interval:
    statistic = group.metrics[cost.key]
    if statistic.ci_low is not None and statistic.ci_high is not None:
        return Interval(statistic.ci_low, statistic.ci_high)
    for run in group.runs:
        if cost.key in run.metrics and run.run_id in details:
            measured = details[run.run_id].measurements.get(cost.key, {}).get("interval")
            if isinstance(measured, (list, tuple)) and len(measured) == 2:
                low, high = measured
                if isinstance(low, (int, float)) and isinstance(high, (int, float)):
                    return Interval(float(low), float(high))
    return _NO_INTERVAL


def _dominated(positions: Sequence[_Position]) -> dict[str, tuple[str, ...]]:
    """Return, for each group that is dominated, those on the front that dominate it.

    Domination is transitive, so whatever is dominated is dominated by a group on the front.
    """
    if not positions:
        return {}
    accuracy_low = np.array([each.accuracy.low for each in positions])
    accuracy_high = np.array([each.accuracy.high for each in positions])
    cost_low = np.array([each.cost.low for each in positions])
    cost_high = np.array([each.cost.high for each in positions])
    counted = np.array([each.counted for each in positions])
    # The highest accuracy at a clearly lower cost, and at the same counted one.
    rival = np.fmax(
        _highest_below(cost_high, accuracy_low, cost_low, "left"),
        np.where(
            counted,
            _highest_below(cost_high[counted], accuracy_low[counted], cost_low, "right"),
            -np.inf,
        ),
    )
    is_dominated = rival > accuracy_high
    front = np.flatnonzero(~is_dominated)
    dominated = {}
    for index in np.flatnonzero(is_dominated).tolist():
        cheaper = cost_high[front] < cost_low[index]
        same_count = counted[front] & counted[index] & (cost_low[front] == cost_low[index])
        by = front[(accuracy_low[front] > accuracy_high[index]) & (cheaper | same_count)]
        dominated[positions[index].group.name] = tuple(
            positions[other].group.name for other in by.tolist()
        )
    return dominated


def _highest_below(
    costs: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    limits: NDArray[np.float64],
    side: Literal["left", "right"],
) -> NDArray[np.float64]:
    """Return for each limit the highest accuracy whose cost is below it (`right`: or equal)."""
    order = np.argsort(costs)
    highest = np.concatenate([[-np.inf], np.maximum.accumulate(accuracies[order])])
    return highest[np.searchsorted(costs[order], limits, side=side)]
