"""What a comparison reads of the runs that it looks at closely: curves, predictions, methods."""

from __future__ import annotations

import csv
import json
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import yaml
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.analysis.records import Predictions, RunDetails, TrainingRun
from fm_mlflow.process.redaction import one_line
from fm_mlflow.tracking.store import check_reachable, store_errors

_CURVES = (keys.LOSS, keys.ACCURACY, keys.VAL_LOSS, keys.VAL_ACCURACY, keys.EPOCH_SECONDS)

# A server answers many at once; a SQLite file is read by one as fast as by many.
_THREADS = 8
_MODEL_FILE = "MLmodel"

_UNREADABLE = (
    MlflowException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    BadZipFile,
    zlib.error,
    yaml.YAMLError,
    csv.Error,
)
"""What reading a file raises that is gone, cut off or of another kind."""

_T = TypeVar("_T")


def load_details(runs: Iterable[TrainingRun]) -> dict[str, RunDetails]:
    """Read curves and artifacts of runs; what cannot be read is a problem in words, not an error.

    Returns:
        Details by run id.

    Raises:
        TrackingError: The store no longer answers.
    """
    runs, load = list(runs), partial(_load, MlflowClient())
    with store_errors("read runs"), ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip((run.run_id for run in runs), pool.map(load, runs), strict=True))


def _load(client: MlflowClient, run: TrainingRun) -> RunDetails:
    problems: list[str] = []

    def read(artifact: str, parse: Callable[[Path], _T], otherwise: _T) -> _T:
        try:
            root = run.artifact_uri
            if artifact == _MODEL_FILE:
                model_id = str(run.model_uri).removeprefix("models:/")
                root = client.get_logged_model(model_id).artifact_location
            with tempfile.TemporaryDirectory(prefix="fm_mlflow-") as folder:
                path = download_artifacts(artifact_uri=f"{root}/{artifact}", dst_path=folder)
                return parse(Path(path))
        except _UNREADABLE as error:
            # Gone or damaged is a fact to report; a store that is down would make every
            # artifact look gone.
            check_reachable()
            problems.append(f"its {artifact} cannot be read: {one_line(error)}")
            return otherwise

    is_ours = run.version is not None
    none: Mapping[str, Mapping[str, Any]] = {}
    has_flops = keys.FLOPS_TRAINING in run.metrics
    return RunDetails(
        curves={name: _curve(client, run, name) for name in _CURVES if name in run.metrics},
        predictions=read(keys.PREDICTIONS_FILE, _predictions, None) if is_ours else None,
        class_names=read(_MODEL_FILE, _class_names, ()) if run.model_uri else (),
        measurements=read(keys.MEASUREMENTS_FILE, read_measurements, none) if is_ours else none,
        layers=read(keys.FLOPS_LAYERS_FILE, _rows, ()) if has_flops else (),
        problems=tuple(problems),
    )


def _curve(client: MlflowClient, run: TrainingRun, name: str) -> list[tuple[int, float]]:
    """Return (epoch, value), epochs from 1; others count from 0, or log a step twice."""
    history = client.get_metric_history(run.run_id, name)
    by_step = {each.step: each.value for each in sorted(history, key=lambda each: each.timestamp)}
    first = min(by_step, default=1)
    return [(step + 1 - first, by_step[step]) for step in sorted(by_step)]


def _predictions(path: Path) -> Predictions:
    with np.load(path, allow_pickle=False) as file:
        label, probability = file["label"], file["probability"]
    if label.ndim != 1 or probability.shape[:1] != label.shape or probability.ndim != 2:
        raise ValueError(f"label of shape {label.shape}, probability of {probability.shape}")
    label = label.astype(np.int64)
    classes = probability.shape[1]
    if label.size and not (label.min() >= 0 and label.max() < classes):
        raise ValueError(f"labels {label.min()} to {label.max()} of {classes} classes")
    return Predictions(label, probability.astype(np.float64).argmax(axis=1))


def _class_names(path: Path) -> tuple[str, ...]:
    model = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    names = _mapping(model.get("metadata") or {}).get("class_names") or ()
    return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()


def read_measurements(path: Path) -> dict[str, Mapping[str, Any]]:
    """Read a run's `measurements.json` by metric name.

    Raises:
        ValueError, KeyError, TypeError: It is damaged.
    """
    document = _mapping(json.loads(path.read_text(encoding="utf-8")))
    return {str(_mapping(each)["name"]): each for each in document["measurements"] or ()}


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__} where names and values were expected")
    return value


def _rows(path: Path) -> Sequence[Mapping[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
