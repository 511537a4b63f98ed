"""From groups of runs to the whole comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.analysis.choice import choose_best
from fm_mlflow.analysis.comparison import Comparison, Group, Repeat, TargetCost
from fm_mlflow.analysis.images import by_class, class_names, match_images
from fm_mlflow.analysis.pareto import fronts
from fm_mlflow.analysis.prose.answers import answer_questions, summarise
from fm_mlflow.analysis.prose.cautions import cautions
from fm_mlflow.analysis.records import RunDetails, SkippedRun, TrainingRun, is_number
from fm_mlflow.analysis.statistics.intervals import describe
from fm_mlflow.analysis.verdicts import accuracy_verdicts, cost_verdicts
from fm_mlflow.selection import CompareConfig

_ROUNDING = 1e-9


def compare(
    experiment: str,
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    skipped: Sequence[SkippedRun],
    config: CompareConfig,
    repeat: Repeat,
) -> Comparison:
    """Compare groups of runs: statistics, verdicts, trade-offs, decision, warnings.

    Args:
        experiment: Its name, or that of what else is compared.
        groups: As `group_runs` gives them, with the top and the bounds of `config`.
        details: Of the runs of detailed groups, by run id; what is missing weakens the evidence.
        skipped: Runs left out, those that `group_runs` gave included.
        config: The rule of the decision and the target accuracy.
        repeat: Passed through.
    """
    groups = tuple(_detailed(group, details) for group in groups)
    closer = [group for group in groups if group.detailed]
    images = match_images(closer, details)
    accuracy = accuracy_verdicts(groups, details)
    best = choose_best(groups, accuracy, config)
    verdicts = (*accuracy, *cost_verdicts(groups))
    names = class_names(closer, details)
    classes = by_class(closer, details, images, len(names))
    target = config.target_accuracy
    if target is None:
        target = _common_target(closer, details)
    targets = () if target is None else (_target_cost(each, details, target) for each in closer)
    return Comparison(
        experiment=experiment,
        summary=summarise(groups, verdicts, best),
        groups=groups,
        verdicts=verdicts,
        fronts=fronts(groups, details, images.count),
        best=best,
        target_accuracy=target,
        targets=tuple(targets),
        class_names=names,
        by_class=classes,
        answers=answer_questions(groups, details, verdicts, classes, names),
        warnings=cautions(groups, details, images),
        skipped=tuple(skipped),
        repeat=repeat,
    )


def _detailed(group: Group, details: Mapping[str, RunDetails]) -> Group:
    """Add to a detailed group what was read of its runs."""
    if not group.detailed:
        return group
    known = [details.get(run.run_id, RunDetails()) for run in group.runs]
    missing: dict[str, str] = {}
    for each in known:
        for name, measured in each.measurements.items():
            if name not in group.metrics and measured.get("reason"):
                missing.setdefault(name, str(measured["reason"]))
    return replace(group, curves=tuple(each.curves for each in known), missing=missing)


def _common_target(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> float | None:
    """Return the largest validation accuracy, in hundredths, that every learning curve reaches."""
    curves = [curve for group in groups for run in group.runs if (curve := _curve(run, details))]
    if not curves:
        return None
    lowest = min(max(value for _, value in curve) for curve in curves)
    return math.floor(lowest * 100 + _ROUNDING) / 100 or None


def _target_cost(group: Group, details: Mapping[str, RunDetails], target: float) -> TargetCost:
    """Return what a group took to first reach a validation accuracy."""
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
        times = [time for step, time in _curve(run, details, keys.EPOCH_SECONDS) if step <= first]
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
        describe(epochs, keys.VAL_ACCURACY) if epochs else None,
        # Means over other runs than the epochs' would not belong together.
        describe(seconds, keys.FIT_SECONDS) if seconds and len(seconds) == reached else None,
        describe(flops, keys.FLOPS_TRAINING_TOTAL) if flops and len(flops) == reached else None,
    )


def _curve(
    run: TrainingRun, details: Mapping[str, RunDetails], metric: str = keys.VAL_ACCURACY
) -> Sequence[tuple[int, float]]:
    """Return a metric by epoch, from 1; empty without one."""
    points = details.get(run.run_id, RunDetails()).curves.get(metric, ())
    return [(step, value) for step, value in points if step > 0 and is_number(value)]
