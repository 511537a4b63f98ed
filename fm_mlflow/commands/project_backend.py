"""`mlflow run . -b fm-mlflow --backend-config cluster.json`: one training on an executor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fm_mlflow.errors import InputError
from fm_mlflow.jobs.choose import executor_of
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.placement import Placement

if TYPE_CHECKING:
    from fm_mlflow.tracking.project_backend import ProjectBackend

_log = logging.getLogger(__name__)

_ENTRY_POINT = "main"


def project_backend() -> ProjectBackend:
    """Return the backend; the entry point `fm-mlflow` of the group `mlflow.project_backend`."""
    from fm_mlflow.tracking.project_backend import ProjectBackend

    return ProjectBackend(_prepare)


def _prepare(
    entry_point: str, parameters: Mapping[str, Any], config: Mapping[str, Any]
) -> Callable[[str], bool]:
    """Check what is asked before anything starts; return what trains in a run, by its id.

    Raises:
        InputError: The entry point is another one, or a parameter or setting was refused.
    """
    if entry_point != _ENTRY_POINT:
        accepted = f"{_ENTRY_POINT}: benchmark takes `-P executor=...` and needs no backend"
        raise InputError("entry_point", entry_point, accepted)
    training = parse(TrainConfig, parameters)
    placement = parse(Placement, config)
    executor = executor_of(placement)

    def train(run_id: str) -> bool:
        from fm_mlflow.jobs.one_training import train_once

        return train_once(run_id, training, executor, placement.retries, _log.warning)

    return train
