"""What a comparison reads of the runs that it looks at closely: curves, predictions, methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fm_mlflow import keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.records import ExampleErrors, Predictions, RunDetails, TrainingRun
from fm_mlflow.data.bounded_file import LARGEST_TEXT, read_csv, read_text, read_yaml
from fm_mlflow.data.model_io import LOGITS, OUTPUTS, PROBABILITIES
from fm_mlflow.data.npy import LARGEST_PREDICTIONS
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.tracking.artifacts import fetch_artifact
from fm_mlflow.tracking.predictions import MOST_CLASSES, Wanted, read_predictions
from fm_mlflow.tracking.store import check_reachable, store_errors

_CURVES = (keys.LOSS, keys.VAL_LOSS, keys.EPOCH_SECONDS)

# A server answers many at once; a SQLite file is read by one as fast as by many.
_THREADS = 8
_MODEL_FILE = "MLmodel"

_LONGEST_NAME = 200
_LONGEST_TEXT = 2_000
_MOST_MEASUREMENTS = 1_000
_MOST_LAYER_TYPES = 200

# Of one run, and of all that are read together.
_MOST_IMAGES, _MOST_IMAGES_OF_ALL = 250_000, 20_000_000
_LARGEST_OF_ALL = 4 * 1024**3
_MOST_POINTS, _MOST_POINTS_OF_ALL = 25_000, 2_000_000
_LAST_STEP = 2**31
"""Plots cannot tell apart what differs by less than a part in 10^15."""

_UNREADABLE = (MlflowException, OSError, ValueError)
"""What reading a file raises that is gone, damaged or too large."""

_T = TypeVar("_T")


def load_details(
    runs: Iterable[TrainingRun], objective: Objective = DEFAULT
) -> dict[str, RunDetails]:
    """Read curves and artifacts of runs; what cannot be read is a problem in words, not an error.

    Everything has a limit; many runs share those of their predictions, so that what is read of all
    of them fits into memory.

    Args:
        runs: Of any number.
        objective: The compared metric: its curves are read, and the errors that it is a mean of.

    Returns:
        Details by run id.

    Raises:
        TrackingError: The store no longer answers.
    """
    runs = list(runs)
    images = min(_MOST_IMAGES, _MOST_IMAGES_OF_ALL // max(1, len(runs)))
    size = min(LARGEST_PREDICTIONS, _LARGEST_OF_ALL // max(1, len(runs)))
    own = (objective.base, objective.validation)
    curves = dict.fromkeys((*own, *([] if objective.is_of_test_set else [objective.metric])))
    names = tuple(dict.fromkeys((*_CURVES, *curves)))
    points = min(_MOST_POINTS, _MOST_POINTS_OF_ALL // max(1, len(runs) * len(names)))

    def load(run: TrainingRun) -> RunDetails:
        logged = run.metrics.get(objective.metric, math.nan)
        wanted = Wanted(images, size, objective.quantity(run.config), logged)
        return _load(MlflowClient(), run, names, points, wanted)

    with store_errors("read runs"), ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip((run.run_id for run in runs), pool.map(load, runs), strict=True))


def _load(
    client: MlflowClient, run: TrainingRun, names: Sequence[str], points: int, wanted: Wanted
) -> RunDetails:
    problems: list[str] = []

    def read(artifact: str, parse: Callable[[Path], _T], otherwise: _T) -> _T:
        try:
            root = run.artifact_uri
            if artifact == _MODEL_FILE:
                model_id = str(run.model_uri).removeprefix("models:/")
                root = client.get_logged_model(model_id).artifact_location
            with temporary_folder() as folder:
                is_text = artifact != keys.PREDICTIONS_FILE
                largest = LARGEST_TEXT if is_text else LARGEST_PREDICTIONS
                return parse(fetch_artifact(root, artifact, str(folder), largest))
        except _UNREADABLE as error:
            # Gone or damaged is a fact to report; a store that is down would make every
            # artifact look gone.
            check_reachable()
            problems.append(f"its {artifact} cannot be read: {one_line(error)}")
            return otherwise

    curves: dict[str, Sequence[tuple[int, float]]] = {}
    for name in (name for name in names if name in run.metrics):
        try:
            curves[name] = _curve(client, run, name, points)
        except ValueError as error:
            problems.append(f"its points of {name} are not read: {error}")
    is_ours = run.version is not None
    none: Mapping[str, Mapping[str, Any]] = {}
    has_flops = keys.FLOPS_TRAINING in run.metrics
    read_both = partial(read_predictions, wanted=wanted)
    neither: tuple[Predictions | None, ExampleErrors | None] = (None, None)
    predictions, errors = read(keys.PREDICTIONS_FILE, read_both, neither) if is_ours else neither
    return RunDetails(
        curves=curves,
        predictions=predictions,
        errors=errors,
        class_names=read(_MODEL_FILE, _class_names, ()) if run.model_uri else (),
        measurements=read(keys.MEASUREMENTS_FILE, read_measurements, none) if is_ours else none,
        layer_types=read(keys.FLOPS_LAYERS_FILE, _layer_types, ()) if has_flops else (),
        problems=tuple(problems),
    )


def _curve(client: MlflowClient, run: TrainingRun, name: str, most: int) -> list[tuple[int, float]]:
    """Return (epoch, value), epochs from 1; others count from 0, or log a step twice."""
    history = _history(client, run.run_id, name, most + 1)
    if len(history) > most:
        raise ValueError(f"there are more than {most:,}")
    by_step = {each.step: each.value for each in sorted(history, key=lambda each: each.timestamp)}
    first, last = min(by_step, default=1), max(by_step, default=1)
    if last - first > _LAST_STEP:
        raise ValueError(f"their steps go from {first:,} to {last:,}")
    return [(step + 1 - first, by_step[step]) for step in sorted(by_step)]


def _history(client: MlflowClient, run_id: str, name: str, most: int) -> list[Metric]:
    try:
        store = client._tracking_client.store
    except AttributeError:  # the client itself gets all there are, however many
        return list(client.get_metric_history(run_id, name))
    return list(store.get_metric_history(run_id, name, max_results=most))


def _class_names(path: Path) -> tuple[str, ...]:
    return class_names(read_yaml(path))


def class_names(model: Any) -> tuple[str, ...]:
    """Return the names of classes, in label order, that a model's description holds.

    Raises:
        ValueError: They are too many, too long, or no names.
    """
    names = _mapping(_mapping(model).get("metadata") or {}).get("class_names") or ()
    if not isinstance(names, (list, tuple)):
        return ()
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{len(names):,} class names, at most {MOST_CLASSES:,} are read")
    if not all(isinstance(name, (str, int, float)) for name in names):
        raise ValueError("class names that are neither text nor numbers")
    if (longest := max((len(str(name)) for name in names), default=0)) > _LONGEST_NAME:
        raise ValueError(f"a class name of {longest:,} characters, at most {_LONGEST_NAME}")
    return tuple(map(str, names))


def gives_logits(model: Any) -> bool | None:
    """Tell whether a model's description says that it gives logits; None where it does not say.

    Raises:
        ValueError: It is no description.
    """
    outputs = _mapping(_mapping(model).get("metadata") or {}).get(OUTPUTS)
    return outputs == LOGITS if outputs in (LOGITS, PROBABILITIES) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__} where names and values were expected")
    return value


_Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]


class _Logged(BaseModel):
    """What is used of the file; pydantic's parser itself refuses what is nested too deep."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Details(_Logged):
    isolated: bool | None = None


class _Measurement(_Logged):
    name: _Text
    value: float | None = None
    unit: _Text = ""
    method: _Text = ""
    samples: int = 1
    spread: float | None = None
    reason: _Text | None = None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    details: _Details = _Details()


class _Measurements(_Logged):
    measurements: Annotated[list[_Measurement], Field(max_length=_MOST_MEASUREMENTS)] | None


def read_measurements(path: Path) -> dict[str, Mapping[str, Any]]:
    """Read a run's `measurements.json` by metric name.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged or too large.
    """
    try:
        document = _Measurements.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(": ".join(filter(None, [place, first["msg"]]))) from None
    return {each.name: each.model_dump() for each in document.measurements or ()}


def _layer_types(path: Path) -> tuple[str, ...]:
    """Return the types in the table of layers, each once."""
    types = sorted({row.get("type", "") for row in read_csv(path)})
    if len(types) > _MOST_LAYER_TYPES or any(len(each) > _LONGEST_NAME for each in types):
        raise ValueError(
            f"{len(types):,} types of layers, at most {_MOST_LAYER_TYPES} of up to "
            f"{_LONGEST_NAME} characters are read"
        )
    return tuple(types)
