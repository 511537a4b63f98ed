"""What a comparison reads of the runs that it looks at closely: curves, predictions, methods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

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
from fm_mlflow.tracking.artifacts import artifact_file, is_missing
from fm_mlflow.tracking.metric_histories import RUNS_AT_ONCE as _AT_ONCE, read_histories
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

_WITHOUT: dict[str, str] = {
    keys.PREDICTIONS_FILE: ", so its test examples are not compared one by one",
    keys.MEASUREMENTS_FILE: ", so how its costs were measured is not known",
}

_T = TypeVar("_T")
_Curve = Sequence[tuple[int, float]]
_Texts = tuple[str, ...]


@dataclass(frozen=True)
class _Read(Generic[_T]):
    """What was read, and what could not be, in words."""

    value: _T
    problems: _Texts = ()


def load_details(
    runs: Iterable[TrainingRun], objective: Objective = DEFAULT
) -> dict[str, RunDetails]:
    """Read curves and artifacts of runs; what cannot be read is a problem in words, not an error.

    Everything has a limit; many runs share those of their predictions, so that what is read of all
    of them fits into memory. Names of classes and types of layers, which are the same in all runs
    of a configuration, are those of the first whose file can be read.

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
    alike: dict[Hashable, list[TrainingRun]] = defaultdict(list)
    for run in runs:
        alike[run.model, frozenset(run.config.items()), run.data_digest].append(run)

    def load(run: TrainingRun) -> RunDetails:
        logged = run.metrics.get(objective.metric, math.nan)
        wanted = Wanted(images, size, objective.quantity(run.config), logged)
        return _load(run, curves[run.run_id], names[run.run_id], layers[run.run_id], wanted)

    with store_errors("read runs"), ThreadPoolExecutor(_THREADS) as pool:
        curves = _read_curves(pool, runs, objective)
        names = _gathered(pool.map(_class_names_of, alike.values()))
        layers = _gathered(pool.map(_layer_types_of, alike.values()))
        return dict(zip((run.run_id for run in runs), pool.map(load, runs), strict=True))


def _gathered(parts: Iterable[Mapping[str, _Read[_Texts]]]) -> dict[str, _Read[_Texts]]:
    return {run_id: read for part in parts for run_id, read in part.items()}


def _load(
    run: TrainingRun,
    curves: _Read[dict[str, _Curve]],
    names: _Read[_Texts],
    layers: _Read[_Texts],
    wanted: Wanted,
) -> RunDetails:
    neither: tuple[Predictions | None, ExampleErrors | None] = (None, None)
    none: dict[str, Mapping[str, Any]] = {}
    predicted, measured = _Read(neither), _Read(none)
    if run.version is not None:  # one of ours
        read_both = partial(read_predictions, wanted=wanted)
        predicted = _read(run.artifact_uri, keys.PREDICTIONS_FILE, read_both, neither)
        measured = _read(run.artifact_uri, keys.MEASUREMENTS_FILE, read_measurements, none)
    predictions, errors = predicted.value
    return RunDetails(
        curves=curves.value,
        predictions=predictions,
        errors=errors,
        class_names=names.value,
        measurements=measured.value,
        layer_types=layers.value,
        problems=tuple(
            problem
            for each in (curves, predicted, names, measured, layers)
            for problem in each.problems
        ),
    )


def _read(
    root: str | Callable[[], str], artifact: str, parse: Callable[[Path], _T], otherwise: _T
) -> _Read[_T]:
    largest = LARGEST_PREDICTIONS if artifact == keys.PREDICTIONS_FILE else LARGEST_TEXT
    uri = ""
    try:
        uri = root if isinstance(root, str) else root()
        with artifact_file(uri, artifact, largest) as file:
            return _Read(parse(file))
    except _UNREADABLE as error:
        # Gone or damaged is a fact to report; a store that is down would make every artifact look
        # gone.
        check_reachable()
        if uri and is_missing(uri, artifact):
            return _Read(otherwise, (f"it has no {artifact}{_WITHOUT.get(artifact, '')}",))
        return _Read(otherwise, (f"its {artifact} cannot be read: {one_line(error)}",))


def _class_names_of(runs: Sequence[TrainingRun]) -> dict[str, _Read[_Texts]]:
    def read(run: TrainingRun) -> _Read[_Texts]:
        def root() -> str:
            model_id = str(run.model_uri).removeprefix("models:/")
            return str(MlflowClient().get_logged_model(model_id).artifact_location)

        return _read(root, _MODEL_FILE, _class_names, ())

    return _of_first(runs, [run for run in runs if run.model_uri], read)


def _layer_types_of(runs: Sequence[TrainingRun]) -> dict[str, _Read[_Texts]]:
    def read(run: TrainingRun) -> _Read[_Texts]:
        return _read(run.artifact_uri, keys.FLOPS_LAYERS_FILE, _layer_types, ())

    return _of_first(runs, [run for run in runs if keys.FLOPS_TRAINING in run.metrics], read)


def _of_first(
    runs: Sequence[TrainingRun],
    having: Sequence[TrainingRun],
    read: Callable[[TrainingRun], _Read[_Texts]],
) -> dict[str, _Read[_Texts]]:
    """Read until it succeeds; return for each run what was found, and its own problems."""
    value: _Texts = ()
    problems: dict[str, _Texts] = {}
    for run in having:
        found = read(run)
        problems[run.run_id] = found.problems
        if not found.problems:
            value = found.value
            break
    return {run.run_id: _Read(value, problems.get(run.run_id, ())) for run in runs}


def _read_curves(
    pool: ThreadPoolExecutor, runs: Sequence[TrainingRun], objective: Objective
) -> dict[str, _Read[dict[str, _Curve]]]:
    own = (objective.base, objective.validation)
    wanted = dict.fromkeys((*own, *([] if objective.is_of_test_set else [objective.metric])))
    names = tuple(dict.fromkeys((*_CURVES, *wanted)))
    most = min(_MOST_POINTS, _MOST_POINTS_OF_ALL // max(1, len(runs) * len(names)))
    tasks = []
    for name in names:
        having = [run.run_id for run in runs if name in run.metrics]
        tasks += [(name, having[at : at + _AT_ONCE]) for at in range(0, len(having), _AT_ONCE)]

    def read(task: tuple[str, Sequence[str]]) -> dict[str, _Read[_Curve]]:
        name, run_ids = task
        histories = read_histories(MlflowClient(), run_ids, name, most)
        return {run_id: _curve(histories.pop(run_id, []), name, most) for run_id in run_ids}

    found = {run.run_id: _Read[dict[str, _Curve]]({}) for run in runs}
    for (name, _), curves in zip(tasks, pool.map(read, tasks), strict=True):
        for run_id, curve in curves.items():
            before = found[run_id]
            if curve.problems:
                found[run_id] = replace(before, problems=(*before.problems, *curve.problems))
            else:
                before.value[name] = curve.value
    return found


def _curve(history: Sequence[Metric], name: str, most: int) -> _Read[_Curve]:
    """Return (epoch, value), epochs from 1; others count from 0, or log a step twice."""
    trouble = f"its points of {name} are not read"
    if len(history) > most:
        return _Read((), (f"{trouble}: there are more than {most:,}",))
    by_step = {each.step: each.value for each in sorted(history, key=lambda each: each.timestamp)}
    first, last = min(by_step, default=1), max(by_step, default=1)
    if last - first > _LAST_STEP:
        return _Read((), (f"{trouble}: their steps go from {first:,} to {last:,}",))
    return _Read([(step + 1 - first, by_step[step]) for step in sorted(by_step)])


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
