"""MLflow's view of a project backend: it creates the run that the entry point is to join."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities import RunStatus
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.projects.utils import fetch_and_validate_project, get_or_create_run

_OF_MLFLOW = frozenset(
    ("ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth")
)

Prepare = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Callable[[str], bool]]
"""Checks entry point, parameters and configuration; returns what trains in a run, by its id."""


class ProjectBackend(AbstractBackend):
    """Runs an entry point of this project through an executor.

    Args:
        prepare: Checks what is asked, and returns what does it.
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, Any],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,  # noqa: ARG002 - MLflow's signature
        experiment_id: str,
    ) -> SubmittedRun:
        """Create the run, train in it, and return when it has ended."""
        config = {k: v for k, v in backend_config.items() if k not in _OF_MLFLOW}
        train = self._prepare(entry_point, params, config)
        folder = fetch_and_validate_project(project_uri, version, entry_point, params)  # type: ignore[no-untyped-call]
        run = get_or_create_run(  # type: ignore[no-untyped-call]
            None, project_uri, experiment_id, folder, version, entry_point, params
        )
        return _Done(run.info.run_id, train(run.info.run_id))


class _Done(SubmittedRun):
    """A run that has ended."""

    def __init__(self, run_id: str, has_finished: bool) -> None:
        self._run_id = run_id
        self._has_finished = has_finished

    @property
    def run_id(self) -> str:
        return self._run_id

    def wait(self) -> bool:
        return self._has_finished

    def get_status(self) -> str:
        status = RunStatus.FINISHED if self._has_finished else RunStatus.FAILED
        return str(RunStatus.to_string(status))

    def cancel(self) -> None:
        """Do nothing: it has ended."""
