"""The main figures of a comparison, for the table of runs and its charts."""

from __future__ import annotations

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.costs import COSTS


def main_figures(comparison: Comparison) -> dict[str, float]:
    """Return how much was compared, and what the best model scores and costs, by logged name.

    Of the best model it is the mean over its runs. The names begin otherwise than those of a
    training, so that nobody who sorts runs by a metric takes a comparison for one.
    """
    ranked = [group for group in comparison.groups if group.ranked]
    figures: dict[str, float] = {
        keys.COMPARED_MODELS: len(ranked),
        keys.COMPARED_TRAININGS: sum(len(group.runs) for group in ranked),
    }
    for group in ranked:
        if group.name == comparison.best.model:
            for name in (comparison.objective.metric, *(cost.key for cost in COSTS)):
                if name in group.metrics:
                    of_recommended = keys.OF_RECOMMENDED.replace("*", name.replace("/", "_"))
                    figures[of_recommended] = group.metrics[name].mean
    return figures
