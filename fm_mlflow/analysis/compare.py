"""From groups of runs to the whole comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.analysis.choice import choose_best
from fm_mlflow.analysis.comparison import Comparison, Group, Repeat, TargetCost
from fm_mlflow.analysis.design_verdicts import chosen_seeds
from fm_mlflow.analysis.examples import match_examples
from fm_mlflow.analysis.expenses import expenses, in_words
from fm_mlflow.analysis.images import by_class, class_names
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.pareto import fronts
from fm_mlflow.analysis.prose.answers import answer_questions
from fm_mlflow.analysis.prose.cautions import cautions
from fm_mlflow.analysis.prose.headline import evidence, headline
from fm_mlflow.analysis.records import RunDetails, SkippedRun, TrainingRun, is_number
from fm_mlflow.analysis.statistics.intervals import describe
from fm_mlflow.analysis.verdicts import cost_verdicts, objective_verdicts
from fm_mlflow.analysis.wrong_examples import MOST_OF_A_KIND, wrong_examples
from fm_mlflow.settings.selection import CompareConfig

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
        config: What is compared, the rule of the decision, the target.
        repeat: Passed through.
    """
    groups = tuple(_detailed(group, details) for group in groups)
    closer = [group for group in groups if group.detailed]
    sets = {run.data_set for group in groups if group.ranked for run in group.runs}
    are_images = bool(sets) and all(each.holds_images for each in sets)
    objective = replace(Objective.of(config), example="image" if are_images else "example")
    examples = match_examples(closer, details, objective)
    images = examples if objective == DEFAULT else match_examples(closer, details, DEFAULT)
    by_metric = objective_verdicts(groups, examples, objective, config.margin)
    best = choose_best(groups, by_metric, config, objective)
    verdicts = (*by_metric, *cost_verdicts(groups))
    names = class_names(closer, details)
    classes = by_class(closer, details, images, len(names))
    target = config.target if config.target_accuracy is None else config.target_accuracy
    if target is None:
        target = _common_target(closer, details, objective)
    spent = expenses(closer, config.price_per_core_hour)
    in_money = in_words(spent, config.price_per_core_hour)
    reaching = [] if target is None else closer
    return Comparison(
        experiment=experiment,
        headline=headline(groups, verdicts, best, objective),
        evidence=evidence(groups, verdicts, best, objective),
        groups=groups,
        verdicts=verdicts,
        fronts=fronts(groups, details, examples, objective),
        best=best,
        target=target,
        targets=tuple(_reach(each, details, target or 0, objective) for each in reaching),
        class_names=names,
        by_class=classes,
        answers=(
            *answer_questions(groups, details, verdicts, classes, names, objective),
            *([in_money] if in_money else []),
        ),
        warnings=(
            *chosen_seeds(closer, objective),
            *cautions(groups, details, examples, objective),
        ),
        skipped=tuple(skipped),
        repeat=repeat,
        objective=objective,
        wrong=wrong_examples(closer, details, images, config.pictures or MOST_OF_A_KIND),
        expenses=spent,
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


def _common_target(
    groups: Sequence[Group], details: Mapping[str, RunDetails], objective: Objective
) -> float | None:
    """Return the best validation value that every learning curve reaches, rounded.

    Of an accuracy, in hundredths; of another metric, to two significant digits.
    """
    metric = objective.validation
    curves = [c for group in groups for run in group.runs if (c := _curve(run, details, metric))]
    if not curves:
        return None
    lowest = min(max(objective.gain(value) for _, value in curve) for curve in curves)
    if metric == keys.VAL_ACCURACY:
        return math.floor(lowest * 100 + _ROUNDING) / 100 or None
    unit = 10.0 ** (math.floor(math.log10(abs(lowest))) - 1) if lowest else 1.0
    return objective.gain(float(f"{math.floor(lowest / unit + _ROUNDING) * unit:.2g}"))


def _reach(
    group: Group, details: Mapping[str, RunDetails], target: float, objective: Objective
) -> TargetCost:
    """Return what a group took to first reach a value of the metric in validation."""
    runs = 0
    enough = objective.gain(target) - _ROUNDING * abs(target)
    epochs, seconds, flops = [], [], []
    for run in group.runs:
        curve = _curve(run, details, objective.validation)
        if not curve:
            continue
        runs += 1
        first = next((step for step, value in curve if objective.gain(value) >= enough), None)
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
        describe(epochs, objective.validation) if epochs else None,
        # Means over other runs than the epochs' would not belong together.
        describe(seconds, keys.FIT_SECONDS) if seconds and len(seconds) == reached else None,
        describe(flops, keys.FLOPS_TRAINING_TOTAL) if flops and len(flops) == reached else None,
    )


def _curve(
    run: TrainingRun, details: Mapping[str, RunDetails], metric: str
) -> Sequence[tuple[int, float]]:
    """Return a metric by epoch, from 1; empty without one."""
    points = details.get(run.run_id, RunDetails()).curves.get(metric, ())
    return [(step, value) for step, value in points if step > 0 and is_number(value)]
