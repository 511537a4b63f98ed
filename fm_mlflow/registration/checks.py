"""Does a logged model hold what its run promised? A stranger's process loads and measures it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.data.model_io import are_probabilities, to_probabilities
from fm_mlflow.data.npy import LARGEST_PREDICTIONS, open_npz
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.measure.measurement import MIB
from fm_mlflow.process.confined import (
    ConfinedError,
    ConfinedTimeoutError,
    Limits,
    run_confined,
)
from fm_mlflow.process.redaction import redact
from fm_mlflow.process.waiting import Waiting
from fm_mlflow.registration.ahead import VARIABLES, WORKSPACE
from fm_mlflow.registration.figures import (
    NO_TEST_SET,
    Figures,
    check_files,
    check_interface,
    check_own_predictions,
    check_weights,
    short_digest,
    with_values,
)
from fm_mlflow.registration.findings import Findings, from_bytes, most_bytes
from fm_mlflow.registration.scores import scores
from fm_mlflow.results.register import Check, GateError
from fm_mlflow.settings.dataset import FROM_PYTHON, is_own

if TYPE_CHECKING:
    from fm_mlflow.tracking.candidate import Candidate

# HDF5 holds the weights' names, which lose the model's own name when it is loaded.
_NAMES_MIB_A_WEIGHT = 2048 / MIB

_NOT_COMPARED = frozenset({"load", "memory"})

_PROGRAM = "fm_mlflow.registration.fresh_process"
_IMAGES_FILE = "images.npy"

# Its limits: what the libraries take, drivers of a GPU included; twice what the training took; and
# room for copies of the model.
_LIBRARIES_BYTES = 4 * 1024**3
_TIMES_PEAK = 2
_TIMES_MODEL = 4
_FILE_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Verification:
    """What a fresh process found of a logged model.

    Attributes:
        checks: Each figure, logged and measured again.
        measurements: What was measured, as in `measurements.json`, by logged name.
        same_machine: Whether the run was trained on this machine, with the same versions.
        input_shape: Of one image; None of a model of several inputs.
        gives_logits: Whether its outputs are logits.
        verified_at: When, ISO 8601, UTC.
    """

    checks: tuple[Check, ...]
    measurements: Mapping[str, Mapping[str, Any]]
    same_machine: bool
    input_shape: tuple[int, ...] | None
    gives_logits: bool
    verified_at: str

    @property
    def metrics(self) -> dict[str, float]:
        """What has a value, by logged name."""
        return with_values(self.measurements)


def load_test_data(
    candidate: Candidate, data_dir: str, on_download: fashion_mnist.DownloadProgress | None = None
) -> Dataset | None:
    """Load the data set that a run was trained and tested on; None where only its script had it.

    Args:
        candidate: The run.
        data_dir: Folder that the data set is in; empty looks where the run had it.
        on_download: Hears of the progress of a download.

    Raises:
        InputError: The folder is not one of such files.
        DataError: The data cannot be had, or are not those of the run.
    """
    name, run_id = candidate.run.config.get("dataset", ""), candidate.run.run_id
    if candidate.has_own_data or name == FROM_PYTHON or not candidate.class_names:
        if data_dir:
            accepted = "nothing: the data of this run were its script's own, or are no classes"
            raise InputError("data_dir", data_dir, accepted)
        return None
    if not data_dir and (name == "idx" or is_own(name)):
        place = candidate.data_source or ""
        data_dir = os.path.dirname(place) if is_own(name) else place
        if not os.path.exists(place):
            raise DataError(
                f"the data set of run {run_id} was in {place or 'no folder'}, "
                "which is not here; name the folder that it is in with --data-dir"
            )
    if data_dir and name == "digits":
        raise InputError("data_dir", data_dir, "nothing: 'digits' comes with scikit-learn")
    dataset = load_dataset(name, data_dir, on_download)
    digest = candidate.run.data_digest or "none"
    if dataset.digest != digest:
        raise DataError(
            f"the data in {dataset.source} are not those of run {candidate.run.run_id}: "
            f"digest {short_digest(dataset.digest)}, the run's is {short_digest(digest)}; "
            "--data-dir names another folder"
        )
    return dataset


def verify(
    candidate: Candidate,
    dataset: Dataset | None,
    folder: Path,
    seconds: float,
    objective: Objective = DEFAULT,
    ready: Waiting | None = None,
) -> Verification:
    """Have a downloaded model run and measured in a fresh process, and hold it against its run.

    That process gets the model and the test images, and sends predictions and measurements. What
    they prove is decided here: nothing of the model is loaded in this process, and no file of the
    other one's folders is read after it was started.

    Args:
        candidate: The run and its files.
        dataset: What the run was tested on; None where nobody has it. Then no figure of the test
            set is measured again, and the checks say so.
        folder: Workspace that holds the model's folder.
        seconds: How long the other process may take.
        objective: The metric that decides; without the test set, what the run's own predictions
            make of it is held against what it logged.
        ready: What `fresh_process_ahead` has started for the same folder.

    Raises:
        GateError: The model cannot be loaded and run within its limits, or is not the one that the
            run saved; that is never run.
    """
    files = check_files(candidate)
    if files.passed is False:
        raise GateError(
            f"the files of {candidate.model_uri} are not those that its training saved: digest "
            f"{files.measured}, it saved {files.logged}"
        )
    file = candidate.predictions_file
    logged = _logged_predictions(file) if dataset is not None and file is not None else ""
    own = [check_own_predictions(candidate, objective), NO_TEST_SET] if dataset is None else []
    # It lies beside the other process's folder, and has the labels and the answers.
    if file is not None and file.is_relative_to(folder):  # else it is the store's own
        file.unlink()
    findings, outputs = _run_model(candidate, dataset, folder, seconds, ready)
    machine = {**describe_machine().facts(), "threads": findings.threads}
    same_machine = all(
        candidate.run.machine.get(name) == value
        for name, value in machine.items()
        if name not in _NOT_COMPARED
    )
    gives_logits = candidate.gives_logits
    if gives_logits is None:  # a model of before there was a word of it
        gives_logits = dataset is not None and not are_probabilities(outputs)
    probabilities = to_probabilities(outputs, gives_logits)
    measurements = {name: each.model_dump() for name, each in findings.measurements.items()}
    if dataset is not None:
        labels = dataset.test.targets
        measurements |= scores(findings, outputs, probabilities, gives_logits, labels)
    measured = with_values(measurements)
    measured[keys.SIZE_MLFLOW_MODEL] = candidate.model_bytes / MIB
    figures = Figures(candidate.run.metrics, measured, same_machine, dataset is None)
    names_mib = _NAMES_MIB_A_WEIGHT * findings.weights
    if dataset is not None:
        own = [
            figures.accuracy(),
            figures.loss(findings.penalty),
            figures.predictions(logged, dataset.test, probabilities),
        ]
    names = dataset.numbered_classes() if dataset is not None else None
    return Verification(
        checks=(
            *own,
            files,
            check_weights(candidate, findings),
            figures.within(keys.PARAMETERS_TRAINABLE),
            figures.within(keys.PARAMETERS_NON_TRAINABLE),
            figures.within(keys.SIZE_PARAMETERS),
            figures.within(keys.SIZE_INFERENCE, names_mib, " (names)"),
            figures.within(keys.SIZE_MLFLOW_MODEL),
            figures.flops(candidate.measurements, measurements),
            *check_interface(candidate, names, findings),
            *map(figures.shown, (keys.LATENCY_P50, keys.MEMORY_LOAD)),
        ),
        measurements=measurements,
        same_machine=same_machine,
        input_shape=candidate.input_shape,
        gives_logits=gives_logits,
        verified_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _run_model(
    candidate: Candidate,
    dataset: Dataset | None,
    folder: Path,
    seconds: float,
    ready: Waiting | None,
) -> tuple[Findings, NDArray[Any]]:
    """Return what a fresh process found of the model, and its outputs for any test images."""
    workspace = folder / WORKSPACE
    workspace.mkdir(exist_ok=ready is not None)
    candidate.model_folder.replace(workspace / "model")
    batch_size = candidate.run.config.get("batch_size", "1")
    arguments = [str(workspace / "model"), batch_size]
    images, classes = 0, 1
    if dataset is not None:
        shape, rows = candidate.input_shape, dataset.test.inputs
        if shape is None:
            raise GateError(f"{candidate.model_uri} takes several inputs, its data set has one")
        rows = rows.sized(shape) if hasattr(rows, "sized") else rows
        np.save(workspace / _IMAGES_FILE, np.asarray(rows))
        arguments.append(str(workspace / _IMAGES_FILE))
        images, classes = len(dataset.test), len(candidate.class_names)
    peak = candidate.run.metrics.get(keys.MEMORY_PEAK, 0.0) * MIB
    machine = psutil.virtual_memory().total
    needed = _LIBRARIES_BYTES + _TIMES_MODEL * candidate.model_bytes
    limits = Limits(
        seconds=seconds,
        memory=int(min(machine, needed + _TIMES_PEAK * min(max(0.0, peak), machine))),
        file_size=max(_FILE_BYTES, _TIMES_MODEL * candidate.model_bytes),
        answer=most_bytes(images, classes),
    )
    try:
        message = run_confined(_PROGRAM, arguments, workspace, limits, VARIABLES, None, ready)
        return from_bytes(message, images, classes)
    except (ConfinedError, ValueError) as error:
        cause = redact(str(error))
        if isinstance(error, ConfinedTimeoutError):
            cause += " (--verify-timeout)"
        raise GateError(
            f"the logged model cannot be loaded and run by a fresh process: {cause}"
        ) from error


def _logged_predictions(file: Path) -> tuple[NDArray[Any], NDArray[Any]] | str:
    """Read labels and probabilities that a run logged; say in words why they cannot be."""
    try:
        with open_npz(file, {"label": "iu", "probability": "f"}, LARGEST_PREDICTIONS) as arrays:
            return arrays["label"].read(), arrays["probability"].read()
    except (OSError, ValueError) as error:
        return f"unreadable ({type(error).__name__})"
