"""Resume a training that was interrupted, or extend one that is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.commands.train import run_training
from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.escaping import HIDDEN
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.measure.machine import load_average
from fm_mlflow.naming import run_name
from fm_mlflow.process.signals import guard
from fm_mlflow.results.train import TrainResult
from fm_mlflow.settings.base import check_id, parse
from fm_mlflow.settings.config import ResumeConfig, TrainConfig
from fm_mlflow.settings.dataset import FROM_PYTHON, is_own
from fm_mlflow.training.checkpoint import Checkpoint, Start, newest

if TYPE_CHECKING:
    import keras

    from fm_mlflow.tracking.resumption import Resumable


def resume(
    run_id: str,
    *,
    model: Callable[..., keras.Model] | None = None,
    progress: ProgressListener | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    data: Any = None,
    **settings: Any,
) -> TrainResult:
    """Resume a training run from its last checkpoint, in the same run.

    The result is, bit for bit, that of a run without the interruption. The run's
    parameters stay, nothing is logged twice. On another machine the checkpoint comes from the
    run's artifacts. More `epochs` than before extend a run, a finished one too; its test results
    and costs are then logged again.

    Args:
        run_id: The run's id in its store, or its journal's (`j-…`).
        model: The function that `train` was given, where it was given one.
        progress: Is called as the run progresses; by default nothing is shown.
        callbacks: The Keras callbacks that `train` was given. Their state is not restored.
        data: What `train` was given as data, where it was.
        **settings: The fields of `ResumeConfig`: epochs, data_dir, store,
            flush_timeout, checkpoint_seconds, take_over.

    Raises:
        InputError: There is no such run, it is finished, or data or model are not the run's.
        TrackingError: The run is still in progress, or another process has resumed it.
    """
    started = time.perf_counter()
    check_id("run", run_id)
    asked = parse(ResumeConfig, settings)
    from fm_mlflow.tracking.resumption import resumable

    with guard(), resumable(run_id, asked.store, take_over=asked.take_over) as found:
        checkpoint = newest(found.folders)
        config = _config(run_id, found, checkpoint, asked)
        before = found.extended_epochs or config.epochs
        epochs = asked.epochs or before
        if epochs < before or (epochs == before and found.finished):
            accepted = (
                f"more than {before}, by --epochs: the run is finished, all of them are trained"
                if found.finished
                else f"from {before}"
            )
            raise InputError("epochs", epochs, accepted)
        resumption, parts = found.resumption, found.parts + 1
        resumption.tags[keys.PARTS] = str(parts)
        if found.extended_epochs:
            resumption.tags[keys.EXTENDED_EPOCHS] = str(found.extended_epochs)
        if epochs > before:
            # Its results so far are of fewer epochs, so they are logged again.
            resumption.points = {point for point in resumption.points if point[1] > 0}
            resumption.model = resumption.model_id = None
            resumption.keeps_results = False
            resumption.tags[keys.EXTENDED_EPOCHS] = str(epochs)
            if resumption.name == run_name(config.model_copy(update={"epochs": before})):
                resumption.name = run_name(config.model_copy(update={"epochs": epochs}))
                resumption.tags[keys.MLFLOW_RUN_NAME] = resumption.name
            resumption.tags[keys.EXTENDED_AT] = str(time.time_ns() // 1_000_000)
        start = Start(started, load_average(), checkpoint, epochs, resumption, parts)
        if data is not None and config.dataset != FROM_PYTHON:
            raise InputError("data", type(data).__name__, f"nothing: its data are {config.dataset}")
        return run_training(config, model, progress, callbacks, start, data)


def _config(
    run_id: str, found: Resumable, checkpoint: Checkpoint | None, asked: ResumeConfig
) -> TrainConfig:
    settings = checkpoint.settings if checkpoint else found.settings
    if settings is None:
        raise TrackingError(
            f"run {run_id} has no whole checkpoint, here or in its artifacts, and does not say its "
            "settings; train it again"
        )
    if HIDDEN in str(settings.get("model")):
        plain = (found.settings or {}).get("model", HIDDEN)  # the journal's, on the same machine
        if HIDDEN in plain:
            raise TrackingError(
                f"an argument of the model of run {run_id} looks like a secret, which neither its "
                "store nor its checkpoints show; train it again"
            )
        settings = {**settings, "model": plain}
    folder = asked.data_dir or str(settings.get("data_dir", ""))
    is_elsewhere = not asked.data_dir and folder and not os.path.isdir(folder)
    if is_elsewhere and not is_own(str(settings.get("dataset", ""))):
        folder = ""  # another machine: look where data are looked for
    own = {
        "flush_timeout": asked.flush_timeout,
        "checkpoint_seconds": asked.checkpoint_seconds,
        "data_dir": folder,
    }
    return parse(TrainConfig, {**settings, **own})
