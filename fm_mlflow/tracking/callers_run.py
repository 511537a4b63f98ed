"""Runs that somebody else opened for us: `mlflow run`, or the calling script."""

from __future__ import annotations

from importlib.util import find_spec

import mlflow
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.tracking.store import check_reachable, status_after, store_errors


def check_autologging() -> None:
    """Say what MLflow's autologging of TensorFlow lacks, before a fit ends by it.

    Raises:
        InputError: It is on, and TensorBoard is not installed, without which it raises in each fit.
    """
    if find_spec("tensorboard") is not None:
        return
    try:
        from mlflow.utils.autologging_utils import autologging_is_disabled
    except ImportError:  # of a later MLflow: the fit will tell
        return
    if not autologging_is_disabled("tensorflow"):  # type: ignore[no-untyped-call]
        accepted = "an environment with TensorBoard: pip install 'fm_mlflow[autolog]'"
        raise InputError("mlflow.tensorflow.autolog", "no package tensorboard", accepted)


def close_inherited_run(run_id: str, error: BaseException) -> None:
    """Close the run that `mlflow run` created, when we failed before we could join it."""
    check_reachable()
    with store_errors("close the run"):
        client = MlflowClient()
        run = client.get_run(run_id)
        # A run with a kind is a TrackedRun's, maybe another process's: not ours to close.
        if run.info.status not in keys.ENDED and keys.KIND not in run.data.tags:
            client.set_tag(run_id, keys.ERROR, one_line(error))
            client.set_terminated(run_id, status_after(error))


def end_active_run(run_id: str, error: BaseException) -> None:
    """End a run that the caller opened and that is still active, by the error that it met."""
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        with store_errors("close the run"):
            mlflow.end_run(status_after(error))
