"""What it takes to first reach an accuracy in validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group, TargetCost
from fm_mlflow.analysis.records import RunDetails, TrainingRun, is_number
from fm_mlflow.analysis.statistics.intervals import describe

_STEP = 100
_ROUNDING = 1e-9

Curve = Sequence[tuple[int, float]]


def common_target(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> float | None:
    """Return the largest accuracy, in whole hundredths, that every learning curve reaches."""
    curves = [curve for group in groups for run in group.runs if (curve := _curve(run, details))]
    if not curves:
        return None
    lowest = min(max(value for _, value in curve) for curve in curves)
    return math.floor(lowest * _STEP + _ROUNDING) / _STEP or None


def target_costs(
    groups: Sequence[Group], details: Mapping[str, RunDetails], target: float
) -> tuple[TargetCost, ...]:
    """Return what each group took to first reach a validation accuracy."""
    return tuple(_target_cost(group, details, target) for group in groups)


def _target_cost(group: Group, details: Mapping[str, RunDetails], target: float) -> TargetCost:
    runs = 0
    epochs, seconds, flops = [], [], []
    for run in group.runs:
        curve = _curve(run, details)
        if not curve:
            continue
        runs += 1
        first = next((step for step, value in curve if value >= target - _ROUNDING), None)
        if first is None:
            continue
        epochs.append(float(first))
        times = [
            seconds_of_epoch
            for step, seconds_of_epoch in details[run.run_id].curves.get(keys.EPOCH_SECONDS, ())
            if step <= first and is_number(seconds_of_epoch)
        ]
        if len(times) == first:  # else some are unknown
            seconds.append(math.fsum(times))
        total = run.metrics.get(keys.FLOPS_TRAINING_TOTAL)
        if total is not None:
            flops.append(total * first / curve[-1][0])
    reached = len(epochs)
    return TargetCost(
        group.name,
        reached,
        runs,
        describe(epochs) if epochs else None,
        # Means over other runs than the epochs' would not belong together.
        describe(seconds) if seconds and len(seconds) == reached else None,
        describe(flops) if flops and len(flops) == reached else None,
    )


def _curve(run: TrainingRun, details: Mapping[str, RunDetails]) -> Curve:
    """Return validation accuracy by epoch, from 1; empty without one."""
    curves = details[run.run_id].curves if run.run_id in details else {}
    return [
        (step, value)
        for step, value in curves.get(keys.VAL_ACCURACY, ())
        if step > 0 and is_number(value)
    ]
