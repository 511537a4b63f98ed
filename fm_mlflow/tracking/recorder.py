"""What a run logs, as records of its journal."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fm_mlflow import keys
from fm_mlflow.data.dataset import Subset
from fm_mlflow.errors import InputError
from fm_mlflow.escaping import HIDDEN
from fm_mlflow.process.atomic_file import durable_folder, sync_folder
from fm_mlflow.process.redaction import redact_named
from fm_mlflow.tracking.datasets import describe_arrays, describe_dataset, short_digest
from fm_mlflow.tracking.model_files import ModelFiles
from fm_mlflow.tracking.outbox import records
from fm_mlflow.tracking.outbox.courier import Courier
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.remote_run import LeaseLostError
from fm_mlflow.tracking.params import same_value
from fm_mlflow.tracking.save_model import MODEL_FILE, save_model
from fm_mlflow.tracking.store import context_tags

# MLflow's limits: longer values are refused by some stores.
_MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 5000


class LoggedModel:
    """A model that a run has logged.

    Attributes:
        size_bytes: All its files together, as MLflow counts them; None where it does not.
    """

    def __init__(self, run: Recorder, size_bytes: int | None) -> None:
        self._run = run
        self.size_bytes = size_bytes

    @property
    def uri(self) -> str:
        """`models:/<model id>`; the folder of the saved model as long as the store lacks it."""
        return self._run.model_uri


class Recorder:
    """Writes what is logged into a run's journal, and wakes the courier.

    Nothing here waits for the store. What an interrupted run has logged already is not logged
    again when it is resumed.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self.name = ""
        """The run's name: the one it was given, else ours."""
        self._opened: Journal | None = None
        self._courier: Courier | None = None
        self._clock_zero = time.time_ns() - time.monotonic_ns()
        self._resumed = False
        self._logged_params: Mapping[str, str] = {}
        self._own_params: set[str] = set()
        self._logged_points: set[tuple[str, int]] = set()
        self._logged_values: Mapping[str, float] = {}
        self._long_params: dict[str, str] = {}
        self._files = 0
        self._model: LoggedModel | None = None
        self._model_folder = ""
        self._model_record = 0
        self._model_step = 0

    @property
    def _journal(self) -> Journal:
        if self._opened is None:
            raise RuntimeError("a TrackedRun is open inside its `with` block only")
        return self._opened

    def _append(self, record: records.Record, *, durable: bool = False) -> int:
        if self._courier is not None and self._courier.lost:
            raise LeaseLostError(self._courier.lost)
        number = self._journal.append(record, durable=durable)
        if self._courier is not None:
            self._courier.wake()
        return number

    def _now(self) -> int:
        """Return milliseconds since 1970; never backwards, whatever is done to the system clock."""
        return (self._clock_zero + time.monotonic_ns()) // 1_000_000

    @property
    def run_id(self) -> str:
        """The run's id in the store; the journal's, which `sync` takes, while it has none."""
        return self._journal.state.run_id or self._journal.journal_id

    @property
    def experiment_id(self) -> str:
        """The id of the run's experiment; empty as long as the store has not been reached."""
        return self._journal.state.experiment_id or ""

    @property
    def artifact_uri(self) -> str:
        """Where the run's artifacts are: in the store, else in the journal."""
        return self._journal.state.artifact_uri or str(self._journal.folder)

    @property
    def model_id(self) -> str | None:
        """The id of the logged model, once the store has one."""
        return self._journal.state.model_before(len(self._journal.records))

    @property
    def model_uri(self) -> str:
        """`models:/<model id>`, or the folder of the saved model; empty without a model."""
        state, number = self._journal.state, str(self._model_record)
        # In this order: the thread that delivers sets a record aside before it goes past it.
        is_past = state.position > self._model_record
        lacking = number in state.deferred or number in state.refused
        if self.model_id and is_past and not lacking:
            return f"models:/{self.model_id}"
        return self._model_folder

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the run over."""
        return self._courier is not None and bool(self._courier.lost)

    def log_params(
        self,
        params: Mapping[str, Any],
        *,
        of_compiled_model: bool = False,
        unless_logged: bool = False,
    ) -> None:
        """Log parameters; those that `mlflow run` logged already may be spelt differently.

        A value too long for the store is cut there; `params.json` has it in full. What looks like
        a secret is hidden, which is said.

        Args:
            params: Values by name.
            of_compiled_model: They are what a user compiled the model with. Where `mlflow run` has
                logged the option of that name, which then does not count, they are logged as
                `compiled/<name>`.
            unless_logged: A parameter that the run holds already stays as it is.

        Raises:
            InputError: The run holds another value of a parameter already.
        """
        new = {}
        for name, value in params.items():
            full = _encodable(redact_named(name, str(value)))
            text = full[:_MAX_PARAM_LENGTH]
            if text != full:
                self._long_params[name] = full
            if HIDDEN in full and HIDDEN not in str(value):
                what = "the" if full == HIDDEN else "a part of the"
                self._notice(
                    f"{what} parameter {name} looks like a secret: it is logged as {HIDDEN}"
                )
            logged = self._logged_params.get(name)
            if unless_logged and name in self._own_params:
                continue
            if logged is None:
                new[name] = text
            elif unless_logged or (self._resumed and same_value(logged, text)):
                continue
            elif of_compiled_model:
                new[f"{keys.COMPILED_PREFIX}{name}"] = text
            elif not same_value(logged, text):
                raise InputError(
                    name,
                    text,
                    f"{logged}, which run {self.run_id} holds already and MLflow never changes",
                )
        self._own_params |= new.keys()
        self._append(records.Batch(params=new))

    def _log_long_params(self) -> None:
        with self.artifacts() as folder:
            text = json.dumps(self._long_params, indent=2, ensure_ascii=False)
            (folder / keys.LONG_PARAMS_FILE).write_text(text + "\n", encoding="utf-8")
        self._long_params.clear()

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        *,
        of_model: bool = False,
        test_set: Subset | None = None,
        dataset_name: str | None = None,
    ) -> None:
        """Log metrics as one batch. The metrics of an epoch are on the disk when this returns.

        Args:
            metrics: Values by name (`fm_mlflow.keys`); NaN and infinities are kept.
            step: The epoch, from 1; 0 for values of the whole run.
            of_model: Link them to the logged model, so that its page shows them.
            test_set: The data set that they were measured on, with `dataset_name`.
            dataset_name: Name of that data set.
        """
        now = self._now()
        digest = short_digest(test_set.digest) if test_set else None
        points = tuple(
            records.Point(name, float(value), now, step, of_model, dataset_name, digest)
            for name, value in metrics.items()
            if (name, step) not in self._logged_points
            and (step > 0 or self._logged_values.get(name) != float(value))
        )
        self._append(records.Batch(points), durable=step > 0)

    def link_models(self, model_ids: Iterable[str]) -> None:
        """Record logged models as inputs of the run: it is about them."""
        self._append(records.LinkedModels(tuple(model_ids)))

    @property
    def checkpoint_folder(self) -> Path:
        """Where the run's checkpoints go."""
        return self._journal.folder / keys.CHECKPOINT_FOLDER

    def log_checkpoint(self, path: Path) -> None:
        """Have the store keep a checkpoint, so that another machine can continue from it."""
        self._append(records.Checkpoint(str(path.relative_to(self._journal.folder))))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, redacted."""
        safe = {
            key: _encodable(redact_named(key, value))[:MAX_TAG_LENGTH]
            for key, value in tags.items()
        }
        self._append(records.Batch(tags=safe))

    def rename(self, name: str) -> None:
        """Give the run another name."""
        self.name = name
        self.set_tags({keys.MLFLOW_RUN_NAME: name})

    def describe(self, markdown: str) -> None:
        """Set the description that the MLflow UI shows on the run's page."""
        self.set_tags({keys.MLFLOW_RUN_NOTE: markdown})

    def log_dataset(self, name: str, subset: Subset, context: str, source: str) -> None:
        """Log a data set as an input of the run.

        Args:
            name: Name of the data set.
            subset: Its contents; only shape, type and digest are stored.
            context: `training`, `validation` or `test`.
            source: Folder or library that it came from.
        """
        self._append(records.Dataset(describe_dataset(name, subset, source), context))

    def log_arrays(
        self, name: str, context: str, inputs: Any, targets: Any, digest: str, source: str
    ) -> None:
        """Log arrays of a script's own, or mappings of arrays, as an input of the run."""
        described = describe_arrays(name, inputs, targets, short_digest(digest), source)
        self._append(records.Dataset(described, context))

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """Give an empty folder; what is written into it becomes artifacts of the run."""
        name, folder = self._new_folder("artifacts")
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._append(records.Artifacts(name, sync_folder(folder)), durable=True)

    def _new_folder(self, kind: str) -> tuple[str, Path]:
        while True:  # a run that was resumed has some already
            self._files += 1
            name = f"{kind}/{self._files}"
            folder = self._journal.folder / name
            if not os.path.lexists(folder):
                durable_folder(folder)
                return name, folder

    def log_model(
        self,
        model: Any,
        *,
        input_example: Any,
        output_example: Any,
        class_names: tuple[str, ...],
        gives_logits: bool | None = None,
        takes_images: bool = False,
        code_folder: Path = Path(),
        code_files: tuple[Path, ...] = (),
        requirements: tuple[str, ...] = (),
        params: Mapping[str, Any] | None = None,
    ) -> LoggedModel:
        """Log a trained Keras model as the MLflow model `model`; metrics can be linked to it after.

        Args:
            model: The Keras model, saved with its optimizer state.
            input_example: A few inputs, shape (n, *input_shape), of the type that the model takes.
            output_example: The model's outputs for them, shape (n, classes).
            class_names: Travel with the model as metadata, in label order.
            gives_logits: Likewise; its outputs are logits, no probabilities. None of no classifier.
            takes_images: Likewise; its inputs are grey levels, scaled, no numbers of other kinds.
            code_folder: The folder that a user's own modules are imported from.
            code_files: Their source files that loading needs, relative to it.
            requirements: Packages that these need, as pip takes them.
            params: Shown on the model's page.

        Returns:
            The model: its size, and its URI once the run has ended.
        """
        if self._model is not None:  # logged before the run was interrupted
            return self._model
        name, folder = self._new_folder("models")
        size = save_model(
            model,
            folder,
            input_example=input_example,
            output_example=output_example,
            class_names=class_names,
            gives_logits=gives_logits,
            takes_images=takes_images,
            code_folder=code_folder,
            code_files=code_files,
            requirements=requirements,
        )
        files = sync_folder(folder)
        files.pop(MODEL_FILE, None)
        self._model_folder = str(folder)
        record = records.Model(
            time=self._now(),
            folder=name,
            size_bytes=size,
            step=self._model_step,
            params={key: redact_named(key, str(value)) for key, value in (params or {}).items()},
            tags=context_tags({keys.SAVED_DIGEST: ModelFiles.of(folder).saved_digest}),
            files=files,
        )
        self._model_record = self._append(record, durable=True)
        self._model = LoggedModel(self, size)
        return self._model


def _encodable(text: str) -> str:
    """Replace what no store can hold: halves of surrogate pairs, and the character zero."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
