"""Checkpoints of a running fit, and its figures together with those of earlier parts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import keras

from fm_mlflow import keys
from fm_mlflow.fitting import FitResult
from fm_mlflow.process.redaction import redact
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.checkpoint import Checkpoint, CheckpointWriter, Start

if TYPE_CHECKING:
    from fm_mlflow.tracking.run import TrackedRun


class Checkpointing:
    """Writes a checkpoint at the end of each epoch of a fit, which starts now.

    Args:
        run: The run.
        model: The model.
        config: The settings of the training.
        digest: Of the data set.
        start: Where the training starts.
        seconds: What the fit has taken already, in steps compiled ahead.
    """

    def __init__(
        self,
        run: TrackedRun,
        model: keras.Model,
        config: TrainConfig,
        digest: str,
        start: Start,
        seconds: float = 0.0,
    ) -> None:
        self._model = model
        # The store keeps checkpoints, too.
        self._settings = {**config.model_dump(), "model": redact(config.model)}
        self._digest = digest
        self._start = start
        self._progress = start.progress
        self._writer = CheckpointWriter(run.checkpoint_folder, run.log_checkpoint)
        self._fit_started = time.perf_counter() - seconds

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        self._writer.close()

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record a finished epoch. One whose loss ends the training gets no checkpoint."""
        done, now = self._start.progress, time.perf_counter()
        history = {name: [*values] for name, values in self._progress.history.items()}
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        self._progress = replace(
            done,
            epoch=epoch,
            history=history,
            seconds=done.seconds + now - self._start.time,
            fit_seconds=done.fit_seconds + now - self._fit_started,
        )
        if all(math.isfinite(metrics.get(name, 0)) for name in (keys.LOSS, keys.VAL_LOSS)):
            state = Checkpoint.of(self._model, self._settings, self._digest, self._progress)
            self._writer.write(state)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Return the callbacks that must run before those of the user."""
        checkpoint = self._start.checkpoint
        if checkpoint is None:
            return []
        # So that callbacks draw the random numbers that they would have drawn.
        restore = keras.callbacks.LambdaCallback(
            on_train_begin=lambda _logs: checkpoint.restore_random_state()
        )
        return [restore]

    def whole(self, fitted: FitResult) -> FitResult:
        """Return the result of the whole training, earlier parts included."""
        done = self._start.progress
        if not done.epoch:
            return fitted
        earlier = done.history.get(keys.EPOCH_SECONDS, [])
        history = {
            name: [*values, *fitted.history.get(name, [])]
            for name, values in done.history.items()
            if name != keys.MEMORY_RSS
        }
        return replace(
            fitted,
            history=history,
            seconds=done.fit_seconds + fitted.seconds,
            training_seconds=fitted.training_seconds or earlier,
        )
