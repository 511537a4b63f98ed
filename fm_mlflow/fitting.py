"""The training loop, behind one function."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.errors import TrainingError
from fm_mlflow.models import ACCURACY_METRICS

# MLflow takes letters, digits and these in the name of a metric.
_REFUSED_IN_NAMES = re.compile(r"[^\w\-. /:]")

OnEpoch = Callable[[int, "dict[str, float]"], None]
OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class Examples:
    """What a model trains or validates on.

    Attributes:
        inputs: Shape (n, *input_shape), float32.
        labels: Class numbers, shape (n,), int32.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class FitResult:
    """How a fit went.

    Attributes:
        history: One value an epoch for each metric, by logged name.
        seconds: Wall time of the whole fit.
        training_seconds: Wall time of each epoch's training steps, validation left out.
    """

    history: dict[str, list[float]]
    seconds: float
    training_seconds: list[float]


def fit(
    model: keras.Model,
    training: Examples,
    validation: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch: OnEpoch,
    on_batch: OnBatch | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    initial_epoch: int = 0,
) -> FitResult:
    """Train a compiled model: every image once an epoch, in an order drawn from the seed.

    Args:
        model: Compiled and built.
        training: What it learns from.
        validation: What it is evaluated on after each epoch.
        epochs: Passes over `training`.
        batch_size: Images a step.
        seed: Same seed, same machine, same weights: bit for bit.
        on_epoch: Called with the epoch (from 1) and its metrics, by logged name.
        on_batch: Called with the steps done in this epoch and the steps of an epoch.
        callbacks: Keras callbacks of the user's.
        initial_epoch: Epochs that are done already; the order of the others is as it would be.

    Raises:
        TrainingError: A loss is no longer a finite number; the epoch was reported first.
    """
    # Anything may have drawn random numbers since the model was built (MLflow names runs so).
    keras.utils.set_random_seed(seed)
    reporter = _Reporter(on_epoch, on_batch)
    started = time.perf_counter()
    batches = _Batches(training, batch_size, seed, initial_epoch)
    model.fit(
        batches,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        validation_data=(validation.inputs, validation.labels),
        callbacks=[batches.follow(), *callbacks, reporter],
        verbose=0,
    )
    seconds = time.perf_counter() - started
    return FitResult(reporter.history, seconds, reporter.training_seconds)


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras is untyped
    """The batches of each epoch, in an order that follows from seed and epoch alone."""

    def __init__(self, examples: Examples, size: int, seed: int, epoch: int) -> None:
        super().__init__()
        self._examples, self._size, self._seed = examples, size, seed
        self._shuffle(epoch)

    def _shuffle(self, epoch: int) -> None:
        images = len(self._examples.labels)
        self._order = np.random.default_rng([self._seed, epoch]).permutation(images)

    def follow(self) -> keras.callbacks.Callback:
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: self._shuffle(epoch))

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._size)

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        chosen = self._order[number * self._size : (number + 1) * self._size]
        return self._examples.inputs[chosen], self._examples.labels[chosen]


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Turns Keras' logs into the logged names and passes them on."""

    def __init__(self, on_epoch: OnEpoch, on_batch: OnBatch | None) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.training_seconds: list[float] = []
        self._on_epoch = on_epoch
        self._on_batch = on_batch
        self._started = 0.0

    @override
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    @override
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._on_batch:
            self._on_batch(batch + 1, self.params["steps"])

    @override
    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.training_seconds.append(time.perf_counter() - self._started)

    @override
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = _logged(logs or {})
        # Its shortest float32 spelling: 0.001, not 0.0010000000474974513.
        rate = np.float32(self.model.optimizer.learning_rate)
        metrics[keys.LEARNING_RATE] = float(str(rate))
        metrics[keys.EPOCH_SECONDS] = time.perf_counter() - self._started
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self._on_epoch(epoch + 1, metrics)
        for name in (keys.LOSS, keys.VAL_LOSS):
            if not math.isfinite(metrics.get(name, 0)):
                raise TrainingError(
                    f"{name} became {metrics[name]} at epoch {epoch + 1}; "
                    "try a smaller --learning-rate"
                )


def _logged(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return Keras' logs by logged name: accuracy goes by one, and all suit the store."""
    accuracy = next((name for name in ACCURACY_METRICS if name in logs), None)
    metrics = {}
    for name, value in logs.items():
        prefix, bare = ("val_", name[4:]) if name.startswith("val_") else ("", name)
        logged = keys.ACCURACY if bare == accuracy else _REFUSED_IN_NAMES.sub("_", bare)
        metrics[f"{prefix}{logged}"] = float(value)
    return metrics
