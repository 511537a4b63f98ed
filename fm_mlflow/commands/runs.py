"""From a store full of runs to a data frame: each training run with its costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.selection import RunsConfig

if TYPE_CHECKING:
    import pandas as pd


def runs(**settings: Any) -> pd.DataFrame:
    """Return the training runs of a tracking store as a data frame, oldest first.

    Failed and unfinished runs are there too; `status` and `error` say what became of them. Deleted
    runs are not, and runs that others logged only where `runs` names them.

    Args:
        **settings: The fields of `RunsConfig`: experiment, runs, models, filter, status.

    Returns:
        A row a run, by `run_id`. Columns: `run_name`, `model`, `seed`, `experiment`, `status`,
        `error`, `start_time` (UTC), `seconds` from creation to end, `host`, `jobs`, `parts`
        (processes in turn), `data_digest`, `model_uri`; parameters as `params.epochs`, machine as
        `machine.cpu`; and the last value of each metric under its logged name (`test_accuracy`,
        `flops/inference`), NaN where it was not measured. The columns that fm_mlflow logs are
        always there, and always of the same type.

    Raises:
        InputError: A setting was refused: no such experiment or run, a filter MLflow cannot read.
        TrackingError: The store refused or did not answer.

    Examples:
        >>> frame = fm_mlflow.runs(models="mlp,cnn", status="FINISHED")
        >>> frame.groupby("model")[["test_accuracy", "flops/inference"]].mean()
    """
    from fm_mlflow.results.frames import runs_frame
    from fm_mlflow.tracking.find_runs import find_runs

    config = parse(RunsConfig, settings)
    with rare_garbage_collection():
        found = find_runs(config)
        everyone = sorted([*found.runs, *found.unfinished], key=lambda run: run.start_time)
        return runs_frame(run for run in everyone if config.status in ("all", run.status))
