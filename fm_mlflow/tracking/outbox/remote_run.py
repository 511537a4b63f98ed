"""A journal's run in the store: each request can be repeated and has one result.

Points, parameters, tags and inputs that the store has already are not doubled by it, and a run or a
model whose creation was not acknowledged is found again by its tag `fm_mlflow.journal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from signal import SIGTERM
from typing import TypeVar

from mlflow.entities import LifecycleStage, LoggedModelInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.tracking.outbox.roots import UntrustedError, confined, lock_folder
from fm_mlflow.tracking.outbox.schema import RecordError, excerpt
from fm_mlflow.tracking.outbox.state import State
from fm_mlflow.tracking.params import same_value
from fm_mlflow.tracking.store import (
    StoreFailedError,
    StoreRefusedError,
    check_reachable,
    has_code,
    prepare,
    store_errors,
)

Item = Metric | Param | RunTag
ItemT = TypeVar("ItemT", Metric, Param, RunTag)


class RunGoneError(StoreRefusedError):
    """The run was deleted in the store, or another journal has taken it over."""


class LeaseLostError(RunGoneError):
    """Another process has taken the run over: this one must not write to it any more."""

    # As that of the SIGTERM by which the process is stopped, whichever comes first.
    exit_code = 128 + SIGTERM


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
        self.folder = folder
        self.state = state
        self._uri = uri

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Give what this store raises one shape (`store_errors`).

        What nobody could foresee counts as a store that failed at this very request: artifact
        stores raise the errors of libraries that are not even installed here.
        """
        try:
            with store_errors(action, self._uri):
                yield
        except TrackingError:
            raise
        except Exception as error:
            raise StoreFailedError(
                f"cannot {action} in {redact(self._uri)}: {one_line(error)}"
            ) from error

    def connect(self) -> MlflowClient:
        """Return the client of the store, which answers."""
        check_reachable(self._uri)
        return self.client

    @cached_property
    def client(self) -> MlflowClient:
        """The client of the store, which MLflow opens in the making of it."""
        with self.errors("open the store"):
            prepare(self._uri, lock_folder())
            return MlflowClient(tracking_uri=self._uri)

    @property
    def run_id(self) -> str:
        """The run's id in the store."""
        if self.state.run_id is None:
            raise RuntimeError("there is no run yet")
        return self.state.run_id

    def file(self, name: str) -> Path:
        """Return a file or folder of the journal, by its path in a record.

        Raises:
            StoreRefusedError: It is not within the journal, or holds links: it is not sent.
            RecordError: It is missing; MLflow would log nothing, and call it done.
        """
        try:
            found = confined(self.folder, name)
        except UntrustedError as error:
            raise StoreRefusedError(str(error)) from error
        if not found.exists():
            raise RecordError(f"{excerpt(name)} is missing in the journal")
        return found

    def heartbeat(self) -> None:
        """Tell the store that the run lives."""
        if self.state.run_id is not None:
            check_reachable(self._uri)
            self.note_heartbeat()

    def note_heartbeat(self) -> None:
        """Set the tag that tells when the run last lived."""
        with self.errors("set a tag"):
            self.client.set_tag(self.run_id, keys.HEARTBEAT, utc_now())

    def check(self) -> None:
        """Make sure that the run still exists.

        Raises:
            RunGoneError: It was deleted.
        """
        try:
            with self.errors("find the run"):
                run = self.client.get_run(self.run_id)
        except StoreRefusedError as error:
            raise RunGoneError(str(error)) from error
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise RunGoneError(f"run {self.run_id} was deleted in the store")

    def tags(self) -> dict[str, str]:
        """Return the tags that the run has now."""
        with self.errors("find the run"):
            return dict(self.client.get_run(self.run_id).data.tags)

    def check_not_taken_over(self) -> None:
        """Make sure that no other process has resumed the run since, with a journal of its own.

        Raises:
            RunGoneError: One has: what this journal holds would undo what that one logged.
        """
        owner = journal_of(self.tags())
        if owner not in (None, self.folder.name):
            raise RunGoneError(
                f"the run was resumed with the journal {excerpt(owner)}, and what this one holds "
                f"would undo that; delete {self.folder} unless you need it"
            )

    def log(self, items: list[Item]) -> None:
        """Log what fits into one request."""
        with self.errors("log"):
            self.client.log_batch(
                self.run_id,
                metrics=only(items, Metric),
                params=only(items, Param),
                tags=only(items, RunTag),
            )

    def find_or_create_model(
        self, number: int, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        """Return the id of the logged model of a record, for its files to come.

        Args:
            number: The record's.
            params: Of a new model, besides those of its run.
            tags: Of a new model.
        """
        if (known := self.state.models.get(str(number))) is not None:
            return known
        identity = f"{self.folder.name}/{number}"
        experiment = str(self.state.experiment_id)
        with self.errors("log the model"):
            found = self.client.search_logged_models(
                [experiment], f"tags.`{keys.JOURNAL}` = '{identity}'", max_results=1
            )
            model = (
                found[0]
                if found
                else self.client.create_logged_model(
                    experiment,
                    name=keys.MODEL_NAME,
                    source_run_id=self.run_id,
                    params={**params, **self.client.get_run(self.run_id).data.params},
                    tags={**tags, keys.JOURNAL: identity},
                )
            )
        return self.state.models.setdefault(str(number), str(model.model_id))

    def link_models(self, model_ids: Sequence[str]) -> None:
        """Link logged models as inputs of the run, but for those that MLflow does not let us.

        On a server with permissions it takes the right to change a model, whose page names the run.
        """
        models = [LoggedModelInput(model_id) for model_id in model_ids]
        try:
            self.client.log_inputs(self.run_id, models=models)
        except MlflowException as error:
            if not has_code(error, PERMISSION_DENIED):
                raise
            if len(model_ids) > 1:
                for model_id in model_ids:
                    self.link_models([model_id])

    def has(self, item: Item) -> bool:
        """Tell whether the run holds a refused parameter already, maybe in another spelling."""
        logged = self._params.get(item.key) if isinstance(item, Param) else None
        return logged is not None and same_value(logged, str(item.value))

    @cached_property
    def _params(self) -> dict[str, str]:
        with self.errors("read the run"):
            return dict(self.client.get_run(self.run_id).data.params)


def journal_of(tags: Mapping[str, str]) -> str | None:
    """Return the journal of a run by its tags; None where no process has opened it yet.

    What created it for another process to open left the identity of its request there, which
    no folder can be called (`create_child`).
    """
    name = tags.get(keys.JOURNAL, "/")
    return None if "/" in name else name


def check_sizes(folder: Path, files: Mapping[str, int]) -> None:
    """Make sure that files are as they were recorded: bytes by path in the folder.

    Raises:
        RecordError: One is missing, or has another size.
    """
    for name, size in files.items():
        try:
            found = (folder / name).stat().st_size
        except (OSError, ValueError):  # the latter: no file can have this name
            raise RecordError(f"{excerpt(name)} is missing in {folder}") from None
        if found != size:
            raise RecordError(f"{excerpt(name)} in {folder} has {found} bytes and had {size}")


def only(items: list[Item], kind: type[ItemT]) -> list[ItemT]:
    """Return those of one kind."""
    return [item for item in items if isinstance(item, kind)]


def utc_now() -> str:
    """Return the time of day for a tag."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
