"""The seeds of a candidate's configuration beside those of the champion's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fm_mlflow.analysis.examples import match_examples, read_closely
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.resampling import seeds_interval
from fm_mlflow.tracking.run_details import load_details


def values_of(runs: Iterable[TrainingRun], metric: str) -> tuple[float, ...]:
    """Return the metric of runs that have it."""
    return tuple(run.metrics[metric] for run in runs)


def over_examples(
    ours: Sequence[TrainingRun], theirs: Sequence[TrainingRun], objective: Objective
) -> DifferenceInterval | None:
    """Compare the seeds of two configurations as `compare` does; None where one has not several."""
    groups = group_runs([*ours, *theirs], 2, None, objective).detailed
    if len(groups) != 2 or min(len(ours), len(theirs)) < 2:
        return None
    details = load_details([run for group in groups for run in read_closely(group)], objective)
    examples = match_examples(groups, details, objective)
    first, second = groups
    if ours[0].run_id not in {run.run_id for run in first.runs}:
        first, second = second, first
    return seeds_interval(first, second, examples, objective)
