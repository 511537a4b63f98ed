"""A run that is resumed, and how another process becomes its owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow.entities import Run, RunTag
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.identity import this_process
from fm_mlflow.tracking.outbox import records
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.lease import Lease


@dataclass
class Resumption:
    """A run that is resumed.

    Attributes:
        run_id: Its id in the store; None while the store has never heard of it.
        journal: Its journal, open, where this machine has it.
        name: Its name.
        tags: What to set on it now.
        params: Its parameters, which stay as they are.
        points: What it has logged already: metric and step.
        model_id: The model that it has logged of it, where the journal does not say so.
        model: The record of that model in the journal: number and record.
        stored: Returns the points and the model that the store has of it, asked anew.
        was_finished: Whether it had finished when it was looked at.
        keeps_results: Whether its results, points of step 0 and the model, stay as they are.
    """

    run_id: str | None
    journal: Journal | None
    name: str
    tags: dict[str, str]
    params: Mapping[str, str]
    points: set[tuple[str, int]]
    model_id: str | None = None
    model: tuple[int, records.Model] | None = None
    stored: Callable[[], tuple[set[tuple[str, int]], str | None]] | None = None
    was_finished: bool = False
    keeps_results: bool = True


def points_of_epochs(run: Run) -> set[tuple[str, int]]:
    """Return which points the store has of a run, metric and step, but for those of step 0."""
    client = MlflowClient()
    return {
        (key, point.step)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
        if point.step > 0
    }


def take_over(run_id: str, again: Resumption, tags: dict[str, str]) -> None:
    """Make this process the owner of a run; then note what an earlier one has logged until now.

    Args:
        run_id: Of the run.
        again: What is known of it; gets the points and the model that the store has now.
        tags: Of this process; gets its lease.

    Raises:
        TrackingError: The run has finished since it was looked at.
    """
    client = MlflowClient()
    before = client.get_run(run_id)
    if before.info.status == keys.FINISHED and not again.was_finished:
        raise TrackingError(f"run {run_id} has finished in the meantime")
    ours, stored = Lease.of(tags), Lease.of(before.data.tags)
    if stored is not None and (ours is None or ours.is_lost_to(stored)):
        tags[keys.LEASE] = str(Lease.after(stored))
    # The journal, too, at once: what an earlier one of the run holds is not to be delivered.
    names = (keys.LEASE, keys.JOURNAL, *this_process().tags())
    client.log_batch(run_id, tags=[RunTag(name, tags[name]) for name in names])
    if again.stored is not None:
        points, model_id = again.stored()
        again.points |= {point for point in points if point[1] > 0 or again.keeps_results}
        if again.keeps_results and again.model is None:
            again.model_id = model_id
