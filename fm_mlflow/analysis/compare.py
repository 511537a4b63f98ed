"""From groups of runs to the whole comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fm_mlflow.analysis.choice import choose_best
from fm_mlflow.analysis.classes import by_class, class_names
from fm_mlflow.analysis.comparison import Comparison, Group, Repeat
from fm_mlflow.analysis.images import match_images
from fm_mlflow.analysis.pareto import fronts
from fm_mlflow.analysis.prose.answers import answer_questions
from fm_mlflow.analysis.prose.cautions import cautions
from fm_mlflow.analysis.prose.summary import summarise
from fm_mlflow.analysis.records import RunDetails, SkippedRun
from fm_mlflow.analysis.targets import common_target, target_costs
from fm_mlflow.analysis.verdicts import cost_verdicts
from fm_mlflow.config import CompareConfig


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
        experiment: Name of the experiment, or of what else is compared.
        groups: As `group_runs` gives them, with the top and the bounds of `config`.
        details: Of the runs of detailed groups, by run id; what is missing weakens the evidence.
        skipped: Runs left out, those that `group_runs` gave included.
        config: The rule of the decision and the target accuracy.
        repeat: Passed through.
    """
    groups = tuple(_detailed(group, details) for group in groups)
    closer = [group for group in groups if group.ranked and group.detailed]
    images = match_images(closer, details)
    accuracy, best = choose_best(groups, details, config)
    verdicts = (*accuracy, *cost_verdicts(groups))
    names = class_names(closer, details)
    classes = by_class(closer, details, images, len(names))
    target = config.target_accuracy
    if target is None:
        target = common_target(closer, details)
    return Comparison(
        experiment=experiment,
        summary=summarise(groups, verdicts, best),
        groups=groups,
        verdicts=verdicts,
        fronts=fronts(groups, details, images.count),
        best=best,
        target_accuracy=target,
        targets=() if target is None else target_costs(closer, details, target),
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
