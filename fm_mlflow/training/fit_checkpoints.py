"""Checkpoints of a running fit, and its figures together with those of earlier parts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import keras
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.config import TrainConfig
from fm_mlflow.fitting import FitResult
from fm_mlflow.training.checkpoint import Checkpoint, CheckpointWriter, Progress

if TYPE_CHECKING:
    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.start import Start


class Checkpointing:
    """Writes a checkpoint at the end of each epoch; a context manager around the fit.

    Args:
        run: The run, which keeps the checkpoints.
        model: What is trained.
        config: The run's settings.
        digest: Of the data set.
        start: Where it continues from.
    """

    def __init__(
        self, run: TrackedRun, model: keras.Model, config: TrainConfig, digest: str, start: Start
    ) -> None:
        self._run = run
        self._model = model
        self._settings = config.model_dump()
        self._digest = digest
        self._start = start
        self._progress = start.progress
        self._fit_started = time.perf_counter()

    def __enter__(self) -> Checkpointing:
        """Start the thread that writes."""
        self._fit_started = time.perf_counter()
        self._writer = CheckpointWriter(self._run.checkpoint_folder, self._run.log_checkpoint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until the last checkpoint is written."""
        self._writer.close()

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record a finished epoch. One whose loss ends the training gets no checkpoint."""
        done, now = self._start.progress, time.perf_counter()
        history = {name: [*values] for name, values in self._progress.history.items()}
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        self._progress = Progress(
            epoch=epoch,
            history=history,
            seconds=done.seconds + now - self._start.time,
            fit_seconds=done.fit_seconds + now - self._fit_started,
            parts=done.parts,
        )
        if all(math.isfinite(metrics.get(name, 0)) for name in (keys.LOSS, keys.VAL_LOSS)):
            state = Checkpoint.of(self._model, self._settings, self._digest, self._progress)
            self._writer.write(state)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Return the callbacks that must run before those of the user."""
        checkpoint = self._start.checkpoint
        return [_RandomState(checkpoint)] if checkpoint is not None else []

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


class _RandomState(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Restores the random state, so that callbacks draw what they would have drawn."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    @override
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._checkpoint.restore_random_state()
