"""A run's predictions on its test set, classes or numbers: foreign, so read within limits."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.objective import Objective, Quantity
from fm_mlflow.analysis.records import LARGEST, ExampleErrors, Predictions, TrainingRun
from fm_mlflow.data.npy import LARGEST_PREDICTIONS, NpzArray, open_npz

MOST_CLASSES = 1_000
"""Classes that are compared: a table of them, true by predicted, has the square of their number."""

_MOST_NUMBERS = 100_000
"""That a model predicts of one example: an image of 300 by 300, say."""

_CLASSES = {"label": "iu", "probability": "biuf"}
_NUMBERS = {"target": "biuf", "prediction": "biuf"}
_MOST_EXAMPLES = 10_000_000
_KERAS_EPSILON = 1e-7
_LARGEST_NUMBER = math.sqrt(LARGEST)


@dataclass(frozen=True)
class Wanted:
    """What is read of a file, and how much at most.

    Attributes:
        examples: As many may be in it.
        size: Bytes, packed or unpacked, beyond which it is refused.
        quantity: Of which the compared metric is a mean; None where no file tells.
        logged: The run's value of the metric.
    """

    examples: int
    size: int
    quantity: Quantity | None
    logged: float


def read_predictions(path: Path, wanted: Wanted) -> tuple[Predictions | None, ExampleErrors | None]:
    """Read predictions a few rows at a time: of an example only three numbers are kept.

    Args:
        path: An .npz file of `label` (n,) and `probability` (n, classes); or of `target` and
            `prediction`, (n,) or (n, …), as many numbers of each example in both.
        wanted: What is read of it.

    Returns:
        The classes, None in a file of numbers; and the errors that the metric is a mean of, None
        where it is none of such a mean.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file, damaged or too large.
    """
    with open_npz(path, _CLASSES, wanted.size, otherwise=_NUMBERS) as arrays:
        if "target" in arrays:
            return None, _errors(arrays["target"], arrays["prediction"], wanted)
        return _classes(arrays["label"], arrays["probability"], wanted)


def _classes(
    label: NpzArray, probability: NpzArray, wanted: Wanted
) -> tuple[Predictions, ExampleErrors | None]:
    shapes = label.header.shape, probability.header.shape
    if [len(each) for each in shapes] != [1, 2] or shapes[0][0] != shapes[1][0]:
        raise ValueError(f"label of shape {shapes[0]}, probability of {shapes[1]}")
    count, classes = shapes[1]
    if not (0 < count <= wanted.examples and 0 < classes <= MOST_CLASSES):
        raise ValueError(
            f"{count:,} images of {classes:,} classes, 1 to {wanted.examples:,} of 1 to "
            f"{MOST_CLASSES:,} are compared"
        )
    kind = np.min_scalar_type(classes)
    true = label.read()
    if not (true.min() >= 0 and true.max() < classes):
        raise ValueError(f"labels {true.min()} to {true.max()} of {classes} classes")
    with_losses = wanted.quantity == "cross-entropy"
    predicted, confidence, of_truth, done = [], [], [], 0
    for part in probability.chunks():
        predicted.append(part.argmax(axis=1).astype(kind))
        with np.errstate(all="ignore"):  # whatever a file may hold; what is NaN is no confidence
            confidence.append(np.nan_to_num(part.max(axis=1).astype(np.float32)))
        if with_losses:
            labels = true[done : done + len(part)].astype(np.intp)
            of_truth.append(part[np.arange(len(part)), labels].astype(np.float64))
            done += len(part)
    errors = _cross_entropy(np.concatenate(of_truth), true, wanted) if with_losses else None
    said = (np.concatenate(each) for each in (predicted, confidence))
    return Predictions(true.astype(kind), *said), errors


def _cross_entropy(
    probability: NDArray[np.float64], true: NDArray[Any], wanted: Wanted
) -> ExampleErrors | None:
    """Return the losses of the true classes' probabilities, shape (n,).

    Keras takes probabilities as they are after a softmax, else cut to 1e-7: what comes nearer to
    the loss that was logged.
    """
    if not (probability.min() >= 0 and probability.max() <= 1 + _KERAS_EPSILON):
        return None  # logits, say
    with np.errstate(divide="ignore"):
        ways = (
            -np.log(probability),
            -np.log(np.clip(probability, _KERAS_EPSILON, 1 - _KERAS_EPSILON)),
        )
    losses = min(ways, key=lambda way: abs(float(way.mean()) - wanted.logged))
    digest = hashlib.sha256(np.ascontiguousarray(true.astype(np.int64)).tobytes()).digest()
    return ExampleErrors(losses, digest) if np.isfinite(losses).all() else None


def _errors(target: NpzArray, prediction: NpzArray, wanted: Wanted) -> ExampleErrors | None:
    shapes = _shape(target), _shape(prediction)
    count, numbers = shapes[0]
    if shapes[0] != shapes[1]:
        declared = target.header.shape, prediction.header.shape
        raise ValueError(f"target of shape {declared[0]}, prediction of {declared[1]}")
    if not (0 < count <= wanted.examples and 0 < numbers <= _MOST_NUMBERS):
        raise ValueError(
            f"{count:,} examples of {numbers:,} numbers, 1 to {wanted.examples:,} of 1 to "
            f"{_MOST_NUMBERS:,} are compared"
        )
    digest = hashlib.sha256()
    means = []
    rows = min(target.rows_at_once, prediction.rows_at_once)
    for true, given in zip(target.chunks(rows), prediction.chunks(rows), strict=True):
        truth = true.astype(np.float64).reshape(len(true), numbers)
        # Of whole numbers of 64 bits the last digits are lost, which no model predicts.
        with np.errstate(all="ignore"):  # what is not finite is refused
            error = np.abs(given.astype(np.float64).reshape(truth.shape) - truth)
        if not (error < _LARGEST_NUMBER).all():  # NaN is not
            raise ValueError("targets or predictions that are no finite numbers, or too large")
        digest.update(truth.tobytes())
        means.append((error**2 if wanted.quantity == "squared error" else error).mean(axis=1))
    if wanted.quantity not in ("absolute error", "squared error"):
        return None
    return ExampleErrors(np.concatenate(means), digest.digest())


def _shape(array: NpzArray) -> tuple[int, int]:
    """Return how many examples and how many numbers of each there are."""
    count, *rest = array.header.shape
    return count, math.prod(rest)


def value_of_predictions(path: Path, run: TrainingRun, objective: Objective) -> float | None:
    """Return what a run's predictions make of a metric; None where they do not tell.

    Raises:
        OSError: They cannot be read.
        ValueError: They are damaged or too large.
    """
    quantity = objective.quantity(run.config)
    logged = run.metrics.get(objective.metric, math.nan)
    wanted = Wanted(_MOST_EXAMPLES, LARGEST_PREDICTIONS, quantity, logged)
    predictions, errors = read_predictions(path, wanted)
    if quantity == "correct" and predictions is not None:
        return float(predictions.correct.mean())
    return None if errors is None else float(objective.of_means(errors.values.mean()))
