"""Does a logged model hold what its run promised? A stranger's process loads and measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, Subset, load_dataset
from fm_mlflow.data.npy import open_npz
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.measure.measurement import MIB
from fm_mlflow.process.redaction import redact
from fm_mlflow.registration import fresh_process
from fm_mlflow.results.register import Check, GateError

if TYPE_CHECKING:
    from fm_mlflow.tracking.candidate import Candidate

_ELSEWHERE = 1e-4
_ROUNDING = 1e-6
_LARGEST_VALUE = 8
_PROBABILITY_ELSEWHERE = 1e-3

# HDF5 holds the weights' names, which lose the model's own name when it is loaded.
_NAMES_MIB_A_WEIGHT = 2048 / MIB

_NOT_COMPARED = frozenset({keys.MACHINE_LOAD, keys.MACHINE_MEMORY})
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Verification:
    """What a fresh process found of a logged model.

    Attributes:
        checks: Each figure, logged and measured again.
        measurements: What was measured, as in `measurements.json`, by logged name.
        same_machine: Whether the run was trained on this machine, with the same versions.
        input_shape: Of one image.
        gives_logits: Whether its outputs are logits.
        verified_at: When, ISO 8601, UTC.
    """

    checks: tuple[Check, ...]
    measurements: Mapping[str, Mapping[str, Any]]
    same_machine: bool
    input_shape: tuple[int, ...]
    gives_logits: bool
    verified_at: str

    @property
    def metrics(self) -> dict[str, float]:
        """What has a value, by logged name."""
        return _values(self.measurements)


def load_test_data(
    candidate: Candidate, data_dir: str, on_download: fashion_mnist.DownloadProgress | None = None
) -> Dataset:
    """Load the data set that a run was trained and tested on.

    Args:
        candidate: The run.
        data_dir: Folder of the data set's files; empty looks where the run had them.
        on_download: Hears of the progress of a download.

    Raises:
        InputError: The folder is not one of such files.
        DataError: The data cannot be had, or are not those of the run.
    """
    name = candidate.run.config.get("dataset", "")
    if not data_dir and name == "idx":
        data_dir = candidate.data_source or ""
        if not os.path.isdir(data_dir):
            raise DataError(
                f"the data set of run {candidate.run.run_id} was in {data_dir or 'no folder'}, "
                "which is not here; name the folder of its four files with --data-dir"
            )
    if data_dir and name == "digits":
        raise InputError("data_dir", data_dir, "nothing: 'digits' comes with scikit-learn")
    dataset = load_dataset(name, data_dir, on_download)
    digest = candidate.run.data_digest or "none"
    if dataset.digest != digest:
        raise DataError(
            f"the data in {dataset.source} are not those of run {candidate.run.run_id}: digest "
            f"{_short(dataset.digest)}, the run's is {_short(digest)}; --data-dir names another "
            "folder"
        )
    return dataset


def verify(candidate: Candidate, dataset: Dataset, folder: Path) -> Verification:
    """Measure a downloaded model again, in a fresh process, and hold it against its run.

    Args:
        candidate: The run and its files.
        dataset: What the run was tested on.
        folder: Workspace that holds the model's folder.

    Raises:
        GateError: The model cannot be loaded.
    """
    workspace = folder / "verification"
    workspace.mkdir()
    candidate.model_folder.replace(workspace / "model")
    np.savez(
        workspace / fresh_process.TASK_FILE,
        images=dataset.test.images,
        labels=dataset.test.labels,
        batch_size=int(candidate.run.config.get("batch_size", "1")),
    )
    found = _in_fresh_process(workspace)
    same_machine = all(
        candidate.run.machine.get(name.removeprefix(keys.MACHINE_PREFIX)) == value
        for name, value in found["machine"].items()
        if name not in _NOT_COMPARED
    )
    probabilities = np.load(workspace / fresh_process.PROBABILITIES_FILE)
    measured = _values(found["measurements"])
    measured[keys.SIZE_MLFLOW_MODEL] = candidate.model_bytes / MIB
    figures = _Figures(candidate.run.metrics, measured, same_machine)
    return Verification(
        checks=(
            figures.accuracy(),
            figures.loss(),
            figures.predictions(candidate.predictions_file, dataset.test, probabilities),
            _weights(candidate, found),
            figures.within(keys.PARAMETERS_TRAINABLE),
            figures.within(keys.PARAMETERS_NON_TRAINABLE),
            figures.within(keys.SIZE_PARAMETERS),
            figures.within(keys.SIZE_INFERENCE, _NAMES_MIB_A_WEIGHT * found["weights"], " (names)"),
            figures.within(keys.SIZE_MLFLOW_MODEL),
            figures.flops(candidate.measurements, found["measurements"]),
            *_interface(dataset.class_names, found),
            *map(figures.shown, (keys.LATENCY_P50, keys.MEMORY_LOAD)),
        ),
        measurements=found["measurements"],
        same_machine=same_machine,
        input_shape=tuple(found["input_shape"]),
        gives_logits=found["gives_logits"],
        verified_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _in_fresh_process(workspace: Path) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, [str(fresh_process.ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):  # it must not join our run
        environment.pop(name, None)
    # An empty working directory, so that only the logged model brings the user's own modules.
    (workspace / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "fm_mlflow.registration.fresh_process", str(workspace)],
        cwd=workspace / "empty",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        cause = redact(lines[-1]) if lines else f"it ended with code {done.returncode}"
        raise GateError(f"the logged model cannot be loaded and run by a fresh process: {cause}")
    found: dict[str, Any] = json.loads(
        (workspace / fresh_process.FOUND_FILE).read_text(encoding="utf-8")
    )
    return found


def _values(measurements: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    values = {name: each["value"] for name, each in measurements.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class _Figures:
    """The figures of a run, and those that the fresh process measured, by logged name."""

    logged: Mapping[str, float]
    measured: Mapping[str, float]
    same_machine: bool

    def within(self, key: keys.Key, tolerance: float = 0.0, why: str = "") -> Check:
        logged, measured = self.logged.get(key), self.measured.get(key)
        if logged is None and measured is None:
            return Check(str(key), None, None, "none: it cannot be measured", None)
        passed = logged is not None and measured is not None and abs(measured - logged) <= tolerance
        rule = f"within {tolerance:.1g}{why}" if tolerance else f"equal{why}"
        return Check(str(key), logged, measured, rule, passed)

    def shown(self, key: keys.Key, why: str = "measured again") -> Check:
        return Check(str(key), self.logged.get(key), self.measured.get(key), f"none: {why}", None)

    def accuracy(self) -> Check:
        if self.same_machine:
            return self.within(keys.TEST_ACCURACY)
        return self.within(keys.TEST_ACCURACY, _ELSEWHERE, " (another machine)")

    def loss(self) -> Check:
        measured = self.measured.get(keys.TEST_LOSS)
        if measured is None:
            return self.shown(keys.TEST_LOSS, "it is not compiled when loaded")
        share = _ROUNDING if self.same_machine else _ELSEWHERE
        return self.within(keys.TEST_LOSS, share * max(1.0, abs(measured)))

    def flops(self, *measurements: Mapping[str, Mapping[str, Any]]) -> Check:
        key = keys.FLOPS_INFERENCE
        if key not in self.logged:
            return self.shown(key)
        logged, measured = (each.get(key, {}).get("method") for each in measurements)
        if logged and measured and logged != measured:  # earlier versions took keras-flops' figure
            return self.shown(key, "the run counted by another method")
        return self.within(key)

    def predictions(self, file: Path, test: Subset, probabilities: NDArray[Any]) -> Check:
        """The largest difference of a probability, logged and measured."""
        name = str(keys.PREDICTIONS_FILE)
        tolerance = _ROUNDING if self.same_machine else _PROBABILITY_ELSEWHERE
        rule = f"no probability differs by more than {tolerance:g}"
        try:
            most = 2 * (probabilities.size + len(test)) * _LARGEST_VALUE
            with open_npz(file, {"label": "iu", "probability": "f"}, most) as arrays:
                labels, logged = arrays["label"].read(), arrays["probability"].read()
        except (OSError, ValueError) as error:
            return Check(name, f"unreadable ({type(error).__name__})", "probabilities", rule, False)
        if logged.shape != probabilities.shape or not np.array_equal(labels, test.labels):
            shapes = f"{logged.shape} of other images", f"{probabilities.shape}"
            return Check(name, *shapes, rule, False)
        difference = float(np.abs(logged.astype(np.float64) - probabilities).max())
        measured = "identical" if difference == 0 else f"up to {difference:.2g} apart"
        shown = f"{len(labels):,} x {logged.shape[1]}"
        return Check(name, shown, measured, rule, difference <= tolerance)


def _weights(candidate: Candidate, found: Mapping[str, Any]) -> Check:
    name = keys.WEIGHTS_DIGEST.removeprefix("fm_mlflow.").replace("_", " ")
    logged, measured = candidate.weights_digest, found["weights_digest"]
    if logged is None:  # of a run before there was this tag
        return Check(name, None, _short(measured), "none: the run has no digest", None)
    return Check(name, _short(logged), _short(measured), "equal", logged == measured)


def _interface(names: tuple[str, ...], found: Mapping[str, Any]) -> list[Check]:
    images, example = f"images of {tuple(found['input_shape'])}", found["example"]
    rule = "the input example is predicted"
    counts, same = (f"{len(names)} names", f"{len(found['class_names'])} names"), [*names]
    return [
        Check("signature", images, example, rule, example == "predicted"),
        Check("class names", *counts, "those of the data set", found["class_names"] == same),
    ]


def _short(digest: str) -> str:
    return digest[:_SHOWN_DIGITS]
