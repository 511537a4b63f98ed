"""Comparisons that the store holds already: which groups they were about."""

from __future__ import annotations

from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.tracking.experiment import find_experiment
from fm_mlflow.tracking.store import OLDEST_FIRST, check_reachable, pages, store_errors

_LONGEST = 10_000


def earlier_comparisons(within: str | None) -> list[str]:
    """Return the tags by which comparisons of the active experiment name their groups.

    Args:
        within: Id of the benchmark that all runs in question are of, if they are. Its own
            comparisons do not count: what it trained was planned.

    Raises:
        TrackingError: The store does not answer or refuses.
    """
    check_reachable()
    client = MlflowClient()
    with store_errors("query comparisons"):
        experiment = find_experiment(client, "", with_trainings=False)
        text = f"tags.`{keys.KIND}` = '{keys.KIND_COMPARISON}'"
        found = pages(client.search_runs, [experiment.experiment_id], text, order_by=OLDEST_FIRST)
        return [
            tag
            for run in found
            if within is None or run.data.tags.get(keys.MLFLOW_PARENT_RUN_ID) != within
            if 0 < len(tag := run.data.tags.get(keys.COMPARED_GROUPS, "")) < _LONGEST
        ]
