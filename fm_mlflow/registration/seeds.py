"""The seeds of a candidate's configuration beside those of the champion's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fm_mlflow.analysis.examples import match_examples, read_closely
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.resampling import SeedsAndExamples
from fm_mlflow.tracking.run_details import load_details


def values_of(runs: Iterable[TrainingRun], metric: str) -> tuple[float, ...]:
    """Return the metric of runs that have it."""
    return tuple(run.metrics[metric] for run in runs)


def over_examples(
    ours: Sequence[TrainingRun], theirs: Sequence[TrainingRun], objective: Objective
) -> DifferenceInterval | None:
    """Compare the seeds of two models as `compare` does; None where one has not several.

    The two may have the same configuration: of a pull request that changes what no parameter says,
    the seeds of one benchmark are held against those of another.
    """
    if min(len(ours), len(theirs)) < 2 or ours[0].data_digest != theirs[0].data_digest:
        return None
    if {run.run_id for run in ours} & {run.run_id for run in theirs}:
        return None
    first, second = (
        replace(group_runs(runs, 1, None, objective).groups[0], name=name)
        for name, runs in (("candidate", ours), ("champion", theirs))
    )
    details = load_details([*read_closely(first), *read_closely(second)], objective)
    examples = match_examples([first, second], details, objective)
    return SeedsAndExamples([first, second], examples, objective).interval(first, second)
