"""A training run and all that its promises are held against: files, digests, figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.data.bounded_file import LARGEST_TEXT, read_yaml
from fm_mlflow.data.dataset import LOADABLE
from fm_mlflow.data.npy import LARGEST_PREDICTIONS
from fm_mlflow.errors import InputError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.results.register import HOW_TO_LOG, GateError
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.artifacts import fetch_artifact
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.model_files import MODEL_FILE, ModelFiles, fetch_model
from fm_mlflow.tracking.run_details import class_names, gives_logits, read_measurements
from fm_mlflow.tracking.store import check_reachable, store_errors


@dataclass(frozen=True)
class Candidate:
    """A run's model, downloaded, and what the run says of it.

    Attributes:
        model_uri: The logged model, `models:/<id>`.
        model_folder: All its files, as downloaded.
        model_bytes: Their size, counted as MLflow counted it when the model was logged.
        model_digest: Of all of them: what is verified, and what may be promoted.
        own_digest: Of those that stay as the training saved them.
        saved_digest: The same when it saved them; None where the logged model does not say.
        input_shape: Of one image, as the model's signature says; None where it has several inputs.
        class_names: Those that travel with the model, in label order.
        gives_logits: Whether its outputs are logits; None where it does not say.
        predictions_file: The run's predictions on the test set; None where a run on data of its own
            has none.
        measurements: The run's `measurements.json` by metric name; empty where it has none.
        weights_digest: Of the trained weights; None where the run does not say.
        data_source: Folder that the test set came from; None where it was no folder.
    """

    run: TrainingRun
    model_uri: str
    model_folder: Path
    model_bytes: int
    model_digest: str
    own_digest: str
    saved_digest: str | None
    input_shape: tuple[int, ...] | None
    class_names: tuple[str, ...]
    gives_logits: bool | None
    predictions_file: Path | None
    measurements: Mapping[str, Mapping[str, Any]]
    weights_digest: str | None
    data_source: str | None

    @property
    def has_own_data(self) -> bool:
        """Whether it was tested on data that only its script had."""
        name = self.run.config.get("dataset", "")
        return name not in LOADABLE and os.path.basename(self.data_source or "") != name


def find_training_run(run_id: str, metric: str = keys.TEST_ACCURACY) -> TrainingRun:
    """Return a finished training run that has a metric.

    Raises:
        InputError: There is none with this id, it did not finish, or has no such metric.
        TrackingError: The store does not answer.
    """
    try:
        if run_id.strip() != run_id or "," in run_id or not run_id:  # none, or several
            raise InputError("run_id", run_id, "one id")
        found = find_runs(Choice(runs=run_id), metric)
    except InputError as error:
        raise InputError("run_id", run_id, "the id of a training run in the store") from error
    if found.skipped:
        accepted = f"a finished training run: {found.skipped[0].reason}"
        raise InputError("run_id", run_id, accepted)
    if not found.runs or found.runs[0].version is None:
        raise InputError("run_id", run_id, "a training run of fm-mlflow")
    return found.runs[0]


def seed_runs(
    run: TrainingRun, metric: str, *, of_its_benchmark: bool = False
) -> tuple[TrainingRun, ...]:
    """Return all runs of its experiment that have a metric and differ but in the seed, by seed.

    Args:
        run: One of them.
        metric: What each needs.
        of_its_benchmark: Only those that were trained with it, or like it in no benchmark: others
            may be of another version of the model's source, which no parameter tells.
    """
    models = "" if "," in run.model else run.model  # a comma separates models there
    found = find_runs(Choice(experiment=run.experiment, models=models), metric)
    by_seed = {
        each.seed: each
        for each in found.runs
        if each.seed is not None
        and (each.model, each.config, each.data_digest) == (run.model, run.config, run.data_digest)
        and not (of_its_benchmark and each.benchmark != run.benchmark)
    }
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def download_candidate(run: TrainingRun, folder: Path) -> Candidate:
    """Download a run's model and predictions.

    Args:
        run: Whose they are.
        folder: Where the files go; an empty folder. (Not given one, MLflow would hand out the
            store's own files and write into them.)

    Raises:
        GateError: The run has no model, or a file of it is missing or damaged; names it.
        TrackingError: The store does not answer.
    """
    check_reachable()
    if run.model_uri is None:
        raise GateError(f"run {run.run_id} has no logged model; {HOW_TO_LOG}")
    with store_errors("read the run"):
        stored = MlflowClient().get_run(run.run_id)
        logged = MlflowClient().get_logged_model(run.model_uri.removeprefix("models:/"))
    is_loadable = run.config.get("dataset", "") in LOADABLE
    predictions = measurements = None
    with nullcontext() if is_loadable else suppress(GateError):
        predictions = _artifact(run, keys.PREDICTIONS_FILE, folder, LARGEST_PREDICTIONS)
    with _readable(run.model_uri):
        model_folder = fetch_model(run.model_uri, folder / "model")
        files = ModelFiles.of(model_folder)
        input_shape, names, logits = _interface(model_folder / MODEL_FILE)
    with nullcontext() if is_loadable else suppress(GateError):
        measurements = _artifact(run, keys.MEASUREMENTS_FILE, folder, LARGEST_TEXT)
    try:
        costs = read_measurements(measurements) if measurements is not None else {}
    except (OSError, ValueError) as error:
        raise GateError(f"{keys.MEASUREMENTS_FILE} of run {run.run_id} is damaged") from error
    return Candidate(
        run=run,
        model_uri=run.model_uri,
        model_folder=model_folder,
        model_bytes=files.counted_bytes,
        model_digest=files.digest,
        own_digest=files.saved_digest,
        saved_digest=logged.tags.get(keys.SAVED_DIGEST),
        input_shape=input_shape,
        class_names=names,
        gives_logits=logits,
        predictions_file=predictions,
        measurements=costs,
        weights_digest=stored.data.tags.get(keys.WEIGHTS_DIGEST),
        data_source=_data_source(stored),
    )


def _artifact(run: TrainingRun, name: str, folder: Path, largest: int) -> Path:
    with _readable(f"{run.artifact_uri}/{name}"):
        return fetch_artifact(run.artifact_uri, name, str(folder), largest)


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError, ValueError, RecursionError) as error:
        check_reachable()  # a store that is down would make every file look missing
        raise GateError(f"{uri} is missing or cannot be read: {one_line(error)}") from error


def _interface(file: Path) -> tuple[tuple[int, ...] | None, tuple[str, ...], bool | None]:
    """Read from a model's description the shape of an image, its classes and kind of outputs."""
    try:
        described = read_yaml(file)
        inputs = json.loads(described["signature"]["inputs"])
        shapes = [tuple(map(int, each["tensor-spec"]["shape"][1:])) for each in inputs]
        shape = shapes[0] if len(shapes) == 1 else None
        return shape, class_names(described), gives_logits(described)
    except (
        *(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
    ) as error:
        raise GateError(f"the {MODEL_FILE} of the model is damaged: {one_line(error)}") from error


def _data_source(run: Run) -> str | None:
    for each in run.inputs.dataset_inputs if run.inputs else []:
        try:
            source = json.loads(each.dataset.source)
        except (ValueError, RecursionError):
            continue
        uri = source.get("uri") if isinstance(source, dict) else None
        if isinstance(uri, str):
            return uri.removeprefix("file://")
    return None
