"""One tracked run: the single object through which everything reaches the tracking store."""

from __future__ import annotations

import importlib
import io
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunInfo, RunStatus, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from fm_mlflow import __version__, keys
from fm_mlflow.data import Subset
from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.lifecycle import shield
from fm_mlflow.redaction import one_line, redact
from fm_mlflow.tracking.store import check_reachable, store_errors

_log = logging.getLogger(__name__)

# MLflow's limits: longer values are refused by some stores.
_MAX_PARAM_LENGTH = 6000
_MAX_TAG_LENGTH = 5000
_MAX_DATASET_DIGEST_LENGTH = 36


@dataclass(frozen=True)
class LoggedModel:
    """A model in the store.

    Attributes:
        uri: `models:/<model id>`.
        size_bytes: All its files together, as MLflow counts them; None where it does not.
    """

    uri: str
    size_bytes: int | None


class TrackedRun:
    """A run in the tracking store, from its opening to its true end; a context manager.

    Three ways in: a run that the caller opened is joined and left open; a run that `mlflow run`
    handed over (MLFLOW_RUN_ID) is joined and closed; otherwise a run is created and closed. On the
    way out the run's status is what happened: FINISHED, FAILED or KILLED, the latter two with
    their one-line cause in the tag `fm_mlflow.error`.

    The run is also MLflow's active run meanwhile, so that a user's own `mlflow.log_*` calls, in a
    callback say, reach it.

    Entering raises TrackingError where the store cannot be reached or refuses, and InputError where
    the run to be joined cannot take a tracked run; that run is then left as it is.

    Args:
        kind: Value of the tag `fm_mlflow.kind`.
        name: Name of the run, unless it was given one already.
    """

    def __init__(self, kind: str, name: str) -> None:
        self._kind = kind
        self.name = name
        """The run's name: the one it was given, else ours."""
        self._owned = True
        self._run: Run | None = None
        self._logged_params: Mapping[str, str] = {}
        self._model_id: str | None = None
        self._client = MlflowClient()

    def __enter__(self) -> TrackedRun:
        """Open or join the run."""
        try:
            # A signal between the store's answer and ours would leave the run open for ever.
            with shield(), store_errors("open a run"):
                self._open()
        except BaseException as error:
            if self._run is not None:
                self._close(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the run as it truly ended."""
        self._close(error)

    def _open(self) -> None:
        caller_run = mlflow.active_run()
        self._owned = caller_run is None
        if caller_run is None:
            check_reachable()
        run_id = caller_run.info.run_id if caller_run else os.environ.get("MLFLOW_RUN_ID")
        tags: dict[str, str] = {keys.KIND: self._kind, keys.VERSION: __version__}
        if run_id is None:
            self._run = mlflow.start_run(run_name=self.name)
        else:
            existing = self._client.get_run(run_id)
            self._check_joinable(existing)
            self._run = caller_run or mlflow.start_run()
            self._logged_params = existing.data.params
            if _is_generated(existing.info.run_name):
                tags[MLFLOW_RUN_NAME] = self.name
            else:
                self.name = existing.info.run_name
        self.set_tags(tags)

    def _check_joinable(self, run: Run) -> None:
        run_id = run.info.run_id
        if keys.KIND in run.data.tags:
            accepted = "a run that holds no fm_mlflow run yet; open one (nested=True) for each"
            raise InputError("run", run_id, accepted)
        if RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
            raise InputError("run", run_id, f"a run that has not ended; it is {run.info.status}")

    def _close(self, error: BaseException | None) -> None:
        # What has come to its end is complete: an interruption now changes nothing.
        with shield(forget=error is None):
            if error is not None:
                # The store may be what failed: that must not hide the first error.
                try:
                    self.set_tags({keys.ERROR: one_line(error)})
                except TrackingError as failure:
                    _log.warning("run %s: its error is not recorded: %s", self.run_id, failure)
            if not self._owned:
                return
            try:
                with store_errors("close the run"):
                    self._end(_status(error))
            except TrackingError as failure:
                if error is None:
                    raise
                _log.warning("run %s is not closed: %s", self.run_id, failure)

    def _end(self, status: str) -> None:
        """End our run, and before it those that a callback has left open within it."""
        while (active := mlflow.active_run()) is not None:
            mlflow.end_run(status)
            if active.info.run_id == self.run_id:
                return
        # A callback ended our run: then it bears the status of that moment.
        self._client.set_terminated(self.run_id, status)

    @property
    def _info(self) -> RunInfo:
        if self._run is None:
            raise RuntimeError("a TrackedRun is open inside its `with` block only")
        return self._run.info

    @property
    def run_id(self) -> str:
        """The run's id in the store."""
        return str(self._info.run_id)

    @property
    def experiment_id(self) -> str:
        """The id of the run's experiment."""
        return str(self._info.experiment_id)

    @property
    def artifact_uri(self) -> str:
        """Where the run's artifacts are."""
        return str(self._info.artifact_uri)

    @property
    def model_id(self) -> str | None:
        """The id of the logged model, once there is one."""
        return self._model_id

    def log_params(self, params: Mapping[str, Any], *, of_compiled_model: bool = False) -> None:
        """Log parameters; those that `mlflow run` logged already may be spelt differently.

        Args:
            params: Values by name.
            of_compiled_model: They are what a user compiled the model with. Where `mlflow run` has
                logged the option of that name, which then does not count, they are logged as
                `compiled/<name>`.

        Raises:
            InputError: The run holds another value of a parameter already.
        """
        new = []
        for name, value in params.items():
            text = redact(str(value))[:_MAX_PARAM_LENGTH]
            logged = self._logged_params.get(name)
            if logged is None:
                new.append(Param(name, text))
            elif of_compiled_model:
                new.append(Param(f"{keys.COMPILED_PREFIX}{name}", text))
            elif not _same_value(logged, text):
                raise InputError(
                    name,
                    text,
                    f"{logged}, which run {self.run_id} holds already and MLflow never changes",
                )
        with store_errors("log parameters"):
            self._client.log_batch(self.run_id, params=new)

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        *,
        of_model: bool = False,
        test_set: Subset | None = None,
        dataset_name: str | None = None,
    ) -> None:
        """Log metrics as one batch.

        Args:
            metrics: Values by name (`fm_mlflow.keys`).
            step: The epoch, from 1; 0 for values of the whole run.
            of_model: Link them to the logged model, so that its page shows them.
            test_set: The data set that they were measured on, with `dataset_name`.
            dataset_name: Name of that data set.
        """
        now = int(time.time() * 1000)
        batch = [
            Metric(
                name,
                float(value),
                now,
                step,
                model_id=self._model_id if of_model else None,
                dataset_name=dataset_name,
                dataset_digest=_short(test_set.digest) if test_set else None,
                run_id=self.run_id,
            )
            for name, value in metrics.items()
        ]
        with store_errors("log metrics"):
            self._client.log_batch(self.run_id, metrics=batch)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, redacted."""
        batch = [RunTag(key, redact(value)[:_MAX_TAG_LENGTH]) for key, value in tags.items()]
        with store_errors("set tags"):
            self._client.log_batch(self.run_id, tags=batch)

    def describe(self, markdown: str) -> None:
        """Set the description that the MLflow UI shows on the run's page."""
        self.set_tags({MLFLOW_RUN_NOTE: markdown})

    def log_dataset(self, name: str, subset: Subset, context: str, source: str) -> None:
        """Log a data set as an input of the run.

        Args:
            name: Name of the data set.
            subset: Its contents; only shape, type and digest are stored.
            context: `training`, `validation` or `test`.
            source: Folder or library that it came from.
        """
        dataset = mlflow.data.from_numpy(  # type: ignore[attr-defined]  # set at import time
            subset.images,
            targets=subset.labels,
            source=_dataset_source(source),
            name=name,
            digest=_short(subset.digest),
        )
        with store_errors("log a data set"):
            mlflow.log_input(dataset, context=context)

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """Give an empty folder; what is written into it becomes artifacts of the run."""
        with tempfile.TemporaryDirectory(prefix="fm_mlflow-") as folder:
            yield Path(folder)
            with store_errors("log artifacts"):
                self._client.log_artifacts(self.run_id, folder)

    def log_model(
        self,
        model: Any,
        *,
        input_example: Any,
        output_example: Any,
        class_names: tuple[str, ...],
        code_paths: tuple[Path, ...] = (),
        requirements: tuple[str, ...] = (),
        params: Mapping[str, Any] | None = None,
    ) -> LoggedModel:
        """Log a trained Keras model as the MLflow model `model`; metrics can be linked to it after.

        Args:
            model: The Keras model, saved with its optimizer state.
            input_example: A few inputs, shape (n, *input_shape), float32.
            output_example: The model's outputs for them, shape (n, classes).
            class_names: Travel with the model as metadata, in label order.
            code_paths: A user's own source files that loading needs.
            requirements: Packages that these need, as pip takes them.
            params: Shown on the model's page.

        Returns:
            The model's URI, `models:/<model id>`, and its size.
        """
        # Local, because they import TensorFlow: comparing and registering must not.
        from mlflow.models import Model, infer_signature

        # MLflow tries the example, and Keras draws a progress bar on stdout for that.
        with store_errors("log the model"), redirect_stdout(io.StringIO()):
            info = mlflow.tensorflow.log_model(
                model,
                name=keys.MODEL_NAME,
                signature=infer_signature(input_example, output_example),
                input_example=input_example,
                pip_requirements=_requirements(requirements),
                metadata={"class_names": list(class_names)},
                code_paths=[str(path) for path in code_paths] or None,
                params={name: str(value) for name, value in (params or {}).items()},
            )
            size = Model.load(info.model_uri).model_size_bytes
        self._model_id = info.model_id
        return LoggedModel(str(info.model_uri), size)


def close_inherited_run(run_id: str, error: BaseException) -> None:
    """Close the run that `mlflow run` created, when we failed before we could join it."""
    check_reachable()
    with store_errors("close the run"):
        client = MlflowClient()
        run = client.get_run(run_id)
        # A run with a kind is a TrackedRun's, maybe another process's: not ours to close.
        ended = RunStatus.is_terminated(RunStatus.from_string(run.info.status))
        if not ended and keys.KIND not in run.data.tags:
            client.set_tag(run_id, keys.ERROR, one_line(error))
            client.set_terminated(run_id, _status(error))


def _is_generated(name: str | None) -> bool:
    """Tell whether MLflow named a run that nobody named: two words of its lists and a number."""
    from mlflow.utils import name_utils

    words = (name or "").split("-")
    return not name or (
        len(words) == 3
        and words[0] in name_utils._GENERATOR_PREDICATES
        and words[1] in name_utils._GENERATOR_NOUNS
        and words[2].isdigit()
    )


def _status(error: BaseException | None) -> str:
    if error is None:
        return RunStatus.to_string(RunStatus.FINISHED)
    killed = isinstance(error, KeyboardInterrupt)
    return RunStatus.to_string(RunStatus.KILLED if killed else RunStatus.FAILED)


def _same_value(logged: str, ours: str) -> bool:
    """Tell whether two spellings mean one value: `1e-3` and `0.001`, `'a b'` and `a b`."""
    try:
        logged = shlex.split(logged)[0]  # `mlflow run` logs values as its shell will see them
    except (ValueError, IndexError):
        logged = logged.strip("'")
    if logged == ours:
        return True
    try:
        return float(logged) == float(ours)
    except ValueError:
        return False


def _short(digest: str) -> str:
    return digest[:_MAX_DATASET_DIGEST_LENGTH]


def _dataset_source(source: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.sources import (  # type: ignore[attr-defined]  # made at import time
        LocalArtifactDatasetSource,
    )

    if Path(source).is_dir():
        return LocalArtifactDatasetSource(str(Path(source).resolve()))
    return CodeDatasetSource(tags={"source": source})


def _requirements(more: tuple[str, ...]) -> list[str]:
    """What loading the model needs, as installed here. MLflow would take 7 s to guess it."""
    # By module, because TensorFlow's distribution goes by several names (tensorflow-cpu, …).
    modules = (importlib.import_module(name) for name in ("mlflow", "tensorflow", "keras", "numpy"))
    return [*(f"{module.__name__}=={module.__version__}" for module in modules), *more]
