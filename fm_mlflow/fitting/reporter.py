"""From Keras' logs to the logged names, once an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.errors import TrainingError
from fm_mlflow.fitting.metric_names import MetricNames

OnEpoch = Callable[[int, "dict[str, float]"], None]
OnBatch = Callable[[int, int], None]
OnCompiled = Callable[[str], None]


class Reporter(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Times each epoch and passes its metrics on, by logged name; the last of the callbacks.

    Args:
        on_epoch: Called with the epoch (from 1) and its metrics.
        names: What the metrics are called.
        on_compiled: Called before that, once, with what runs the training steps.

    Attributes:
        epoch: The last one that was finished, from 1; 0 before.
        history: One value an epoch for each metric, by logged name.
        training_seconds: Wall time of each epoch, validation left out.
        compiler: What runs the training steps.
    """

    def __init__(
        self, on_epoch: OnEpoch, names: MetricNames, on_compiled: OnCompiled | None = None
    ) -> None:
        super().__init__()
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.training_seconds: list[float] = []
        self.compiler = ""
        self._on_epoch = on_epoch
        self._on_compiled = on_compiled
        self._names = names
        self._started = 0.0

    def start(self) -> None:
        """An epoch begins, before any callback hears of it."""
        self._started = time.perf_counter()

    def end_training(self) -> None:
        """The epoch's training steps are done."""
        self.training_seconds.append(time.perf_counter() - self._started)

    @override
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch + 1
        metrics = self._names.logged(logs or {})
        optimizer = self.model.optimizer
        if optimizer is not None:  # a model's own step may have several
            # Its shortest float32 spelling: 0.001, not 0.0010000000474974513.
            metrics[keys.LEARNING_RATE] = float(str(np.float32(optimizer.learning_rate)))
        metrics[keys.EPOCH_SECONDS] = time.perf_counter() - self._started
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        if self._on_compiled is not None:
            self._on_compiled(self.compiler)
            self._on_compiled = None
        self._on_epoch(epoch + 1, metrics)
        for name in (keys.LOSS, keys.VAL_LOSS):
            if not math.isfinite(metrics.get(name, 0)):
                raise TrainingError(
                    f"{name} became {metrics[name]} at epoch {epoch + 1}; "
                    "try a smaller --learning-rate"
                )
