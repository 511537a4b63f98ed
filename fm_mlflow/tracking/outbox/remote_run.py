"""A journal's run in the store: each request can be repeated and has one result.

Points, parameters, tags and inputs that the store has already are not doubled by it, and a run or a
model whose creation was not acknowledged is found again by its tag `fm_mlflow.journal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.tracking.outbox.batches import Item, only
from fm_mlflow.tracking.outbox.state import State, lock_folder
from fm_mlflow.tracking.params import same_value
from fm_mlflow.tracking.store import (
    StoreRefusedError,
    check_reachable,
    experiment_of,
    prepare,
    store_errors,
)


class RunGoneError(StoreRefusedError):
    """The run was deleted in the store."""


class RemoteRun:
    """The run of a journal in its store.

    All methods raise StoreUnavailableError where the store does not answer, and StoreRefusedError
    where it says no.

    Args:
        folder: The journal's folder, which is named by its id.
        state: The journal's state, which says which run it is.
        uri: The tracking URI, with its password if it has one.
    """

    def __init__(self, folder: Path, state: State, uri: str) -> None:
        self._folder = folder
        self.state = state
        self._uri = uri
        self._connected: MlflowClient | None = None
        self._known_params: dict[str, str] | None = None

    def connect(self) -> None:
        """Open the store, which MLflow does in the making of a client."""
        check_reachable(self._uri)
        if self._connected is None:
            prepare(self._uri, lock_folder())
            with store_errors("open the store", self._uri):
                self._connected = MlflowClient(tracking_uri=self._uri)

    @property
    def _client(self) -> MlflowClient:
        if self._connected is None:
            raise RuntimeError("nothing is delivered yet")
        return self._connected

    @property
    def _run_id(self) -> str:
        if self.state.run_id is None:
            raise RuntimeError("there is no run yet")
        return self.state.run_id

    def heartbeat(self) -> None:
        """Tell the store that the run lives."""
        if self.state.run_id is not None:
            check_reachable(self._uri)
            with store_errors("set a tag", self._uri):
                self._client.set_tag(self._run_id, keys.HEARTBEAT, utc_now())

    def open(
        self,
        run_id: str | None,
        experiment_id: str | None,
        experiment_name: str | None,
        **creation: Any,
    ) -> Run:
        """Return the run of an id, or the one that has the journal's tag; else create it.

        Args:
            run_id: The run that is joined, if one is.
            experiment_id: Where the run is.
            experiment_name: The same by name; without both it is MLflow's default experiment.
            **creation: What `MlflowClient.create_run` takes.
        """
        with store_errors("open a run", self._uri):
            if run_id is not None:
                return self._client.get_run(run_id)
            experiment = experiment_id or (
                experiment_of(self._client, experiment_name) if experiment_name else "0"
            )
            found = self._client.search_runs(
                [experiment], f"tags.`{keys.JOURNAL}` = '{self._folder.name}'", max_results=1
            )
            return found[0] if found else self._client.create_run(experiment, **creation)

    def check(self) -> None:
        """Make sure that the run is still there.

        Raises:
            RunGoneError: It was deleted.
        """
        try:
            with store_errors("find the run", self._uri):
                run = self._client.get_run(self._run_id)
        except StoreRefusedError as error:
            raise RunGoneError(str(error)) from error
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise RunGoneError(f"run {self._run_id} was deleted in the store")

    def log(self, items: list[Item]) -> None:
        """Log what fits into one request."""
        with store_errors("log", self._uri):
            self._client.log_batch(
                self._run_id,
                metrics=only(items, Metric),
                params=only(items, Param),
                tags=only(items, RunTag),
            )

    def has(self, item: Item) -> bool:
        """Tell whether a refused parameter is there already, maybe in another spelling."""
        if not isinstance(item, Param):
            return False
        if self._known_params is None:
            with store_errors("read the run", self._uri):
                self._known_params = dict(self._client.get_run(self._run_id).data.params)
        return item.key in self._known_params and same_value(
            self._known_params[item.key], item.value
        )

    def log_dataset(self, description: Mapping[str, Any], context: str) -> None:
        """Log a data set as an input of the run."""
        names = ("name", "digest", "source_type", "source", "schema", "profile")
        values: dict[str, Any] = {name: description.get(name) for name in names}
        tag = InputTag(keys.MLFLOW_DATASET_CONTEXT, context)
        with store_errors("log a data set", self._uri):
            self._client.log_inputs(self._run_id, datasets=[DatasetInput(Dataset(**values), [tag])])

    def log_artifacts(self, folder: str) -> None:
        """Store the files of a folder within the journal's as the run's artifacts."""
        with store_errors("log artifacts", self._uri):
            self._client.log_artifacts(self._run_id, str(self._folder / folder))

    def log_checkpoint(self, file: str) -> None:
        """Store a checkpoint among the run's artifacts, if it is in the journal's folder still."""
        path = self._folder / file
        if path.exists():
            with store_errors("store a checkpoint", self._uri):
                self._client.log_artifact(self._run_id, str(path), keys.CHECKPOINT_FOLDER)

    def find_or_create_model(
        self, number: int, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        """Return the id of the logged model of a record, for its files to come.

        Args:
            number: The record's.
            params: Of a new model, besides those of its run.
            tags: Of a new model.
        """
        identity = f"{self._folder.name}/{number}"
        experiment = str(self.state.experiment_id)
        with store_errors("log the model", self._uri):
            found = self._client.search_logged_models(
                [experiment], f"tags.`{keys.JOURNAL}` = '{identity}'", max_results=1
            )
            if found:
                return str(found[0].model_id)
            created = self._client.create_logged_model(
                experiment,
                name=keys.MODEL_NAME,
                source_run_id=self._run_id,
                params={**params, **self._client.get_run(self._run_id).data.params},
                tags={**tags, keys.JOURNAL: identity},
            )
            return str(created.model_id)

    def store_model(self, model_id: str, folder_name: str, step: int) -> None:
        """Link a logged model to the run, store its files and declare it ready."""
        folder = self._folder / folder_name
        with store_errors("log the model", self._uri):
            outputs = self._client.get_run(self._run_id).outputs
            linked = [model.model_id for model in outputs.model_outputs] if outputs else []
            if model_id not in linked:
                self._client.log_outputs(self._run_id, [LoggedModelOutput(model_id, step=step)])
            model = self._client.get_logged_model(model_id)
            _sign(folder, model, self._run_id)
            self._client.log_model_artifacts(model_id, str(folder))
            self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def link_models(self, model_ids: Sequence[str]) -> None:
        """Log models as inputs of the run."""
        models = [LoggedModelInput(model_id) for model_id in model_ids]
        if models:
            with store_errors("link models", self._uri):
                self._client.log_inputs(self._run_id, models=models)

    def reopen(self) -> None:
        """Let the run be RUNNING again."""
        with store_errors("reopen the run", self._uri):
            self._client.update_run(self._run_id, status=keys.RUNNING)
            # It told how an earlier part ended; the run has not ended now.
            if keys.ERROR in self._client.get_run(self._run_id).data.tags:
                self._client.delete_tag(self._run_id, keys.ERROR)

    def end(self, status: str, end_time: int) -> None:
        """Close the run."""
        with store_errors("close the run", self._uri):
            self._client.set_terminated(self._run_id, status, end_time)


def utc_now() -> str:
    """Return the time of day for a tag."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _sign(folder: Path, logged: Any, run_id: str) -> None:
    """Write into the saved model which logged model of which run it is."""
    from mlflow.models import Model

    model = Model.load(str(folder))
    if model.model_id != logged.model_id:
        model.model_id = model.model_uuid = logged.model_id
        model.artifact_path, model.run_id = logged.artifact_location, run_id
        model.save(str(folder / "MLmodel"))
