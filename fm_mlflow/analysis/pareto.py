"""Pareto fronts: which groups no other beats in both the compared metric and a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.comparison import Front, Group
from fm_mlflow.analysis.costs import Cost, incomparable, machine_of, shown_costs
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.statistics.intervals import Interval, wilson
from fm_mlflow.analysis.statistics.resampling import of_one_run

MOST_DOMINATORS = 10
"""Of a group that is not looked at closely, so many are named."""

_NO_INTERVAL = Interval(-np.inf, np.inf)
"""The interval of a value whose uncertainty is unknown: it is clearly apart from no other."""


def fronts(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    examples: TestExamples,
    objective: Objective,
) -> tuple[Front, ...]:
    """Find the Pareto front of the compared metric against each cost, over all ranked groups.

    Args:
        groups: The best first.
        details: By run id, where they were loaded.
        examples: The test set that the ranked groups share, as far as it is known.
        objective: The metric.
    """
    ranked = [group for group in groups if group.ranked]
    gains = {group.name: _gain_interval(group, examples, objective) for group in ranked}
    measured = {metric for group in ranked for metric in group.metrics}
    return tuple(_front(ranked, details, gains, cost) for cost in shown_costs(measured))


def _front(
    ranked: Sequence[Group],
    details: Mapping[str, RunDetails],
    gains: Mapping[str, Interval],
    cost: Cost,
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
    dominated = _dominated(having, cost, details, gains)
    on_front = tuple(group.name for group in having if group.name not in dominated)
    return Front(cost.key, on_front, dominated, left_out)


def _interval(group: Group, metric: str) -> Interval | None:
    statistic = group.metrics[metric]
    if statistic.ci_low is None or statistic.ci_high is None:
        return None
    return Interval(statistic.ci_low, statistic.ci_high)


def _gain_interval(group: Group, examples: TestExamples, objective: Objective) -> Interval:
    """Return the interval of a group's metric, with the sign that makes more of it better."""
    interval = _metric_interval(group, examples, objective)
    ends = sorted(map(objective.gain, (interval.low, interval.high)))
    return Interval(*ends)


def _metric_interval(group: Group, examples: TestExamples, objective: Objective) -> Interval:
    if interval := _interval(group, objective.metric):
        return interval
    mean = group.metrics[objective.metric].mean
    if objective.is_accuracy:
        count = examples.count
        return wilson(mean, count) if count and 0 <= mean <= 1 else _NO_INTERVAL
    values = examples.of(group)
    return of_one_run(values[0].astype(np.float64), objective) if len(values) else _NO_INTERVAL


def _cost_interval(group: Group, details: Mapping[str, RunDetails], cost: Cost) -> Interval:
    if interval := _interval(group, cost.key):
        return interval
    for run in group.runs:
        if cost.key in run.metrics and run.run_id in details:
            match details[run.run_id].measurements.get(cost.key, {}).get("interval"):
                case [int() | float() as low, int() | float() as high]:
                    return Interval(float(low), float(high))
    return _NO_INTERVAL


def _dominated(
    groups: Sequence[Group],
    cost: Cost,
    details: Mapping[str, RunDetails],
    gains: Mapping[str, Interval],
) -> dict[str, tuple[str, ...]]:
    """Return, for each group that is dominated, those on the front that dominate it.

    Domination is transitive, so whatever is dominated is dominated by a group on the front.
    """
    if not groups:
        return {}
    counted = np.array([cost.counted and each.metrics[cost.key].is_constant for each in groups])
    means = np.array([each.metrics[cost.key].mean for each in groups])
    of_groups = [gains[each.name] for each in groups]
    gain_low, gain_high = np.array([(each.low, each.high) for each in of_groups]).T
    costs = [_cost_interval(each, details, cost) for each in groups]
    # A counted cost has no uncertainty.
    cost_low = np.where(counted, means, [each.low for each in costs])
    cost_high = np.where(counted, means, [each.high for each in costs])
    # The best of the metric at a clearly lower cost, and at the same counted one.
    rival = np.fmax(
        _highest_below(cost_high, gain_low, cost_low, "left"),
        np.where(
            counted,
            _highest_below(cost_high[counted], gain_low[counted], cost_low, "right"),
            -np.inf,
        ),
    )
    is_dominated = rival > gain_high
    front = np.flatnonzero(~is_dominated)
    dominated = {}
    for index in np.flatnonzero(is_dominated).tolist():
        cheaper = cost_high[front] < cost_low[index]
        same_count = counted[front] & counted[index] & (cost_low[front] == cost_low[index])
        by = front[(gain_low[front] > gain_high[index]) & (cheaper | same_count)]
        if not groups[index].detailed:  # of thousands, all pairs would be most of the memory
            by = by[:MOST_DOMINATORS]
        dominated[groups[index].name] = tuple(groups[other].name for other in by.tolist())
    return dominated


def _highest_below(
    costs: NDArray[np.float64],
    gains: NDArray[np.float64],
    limits: NDArray[np.float64],
    side: Literal["left", "right"],
) -> NDArray[np.float64]:
    """Return for each limit the highest gain whose cost is below it (`right`: or equal)."""
    order = np.argsort(costs)
    highest = np.concatenate([[-np.inf], np.maximum.accumulate(gains[order])])
    return highest[np.searchsorted(costs[order], limits, side=side)]
