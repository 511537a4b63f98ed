"""Asks the active store whether a run could be stored there, and changes nothing."""

from __future__ import annotations

import os

import mlflow
from mlflow.tracking import MlflowClient

from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.store import check_reachable, check_writable, store_errors
from fm_mlflow.tracking.uris import database_file


def probe() -> str:
    """Ask the active store for its experiments, and say in words that it answered.

    A database in a file that does not exist yet is left so.

    Raises:
        TrackingError: It does not answer, refuses, or cannot be written.
    """
    file = database_file(mlflow.get_tracking_uri())
    if file is not None and not file.exists():
        if not os.access(file.parent, os.W_OK):
            raise TrackingError(f"{file.parent} cannot be written: no run can be stored there")
        return "not there yet; the first run makes it"
    check_writable(mlflow.get_tracking_uri())
    check_reachable()
    with store_errors("query experiments"):
        MlflowClient().search_experiments(max_results=1)
    return "answers"
