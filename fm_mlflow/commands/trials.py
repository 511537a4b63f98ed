"""Trains trials of a sweep, one after the other, in the process that `sweep` starts for them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from contextlib import nullcontext

from fm_mlflow.data.dataset import load_dataset
from fm_mlflow.listeners import Progress
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.parent import parent
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.signals import guard
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.space import TRAINING_SETTINGS, parse_space
from fm_mlflow.settings.sweep import SweepConfig, TrialsConfig
from fm_mlflow.training.trial import TrialSetting, run_trial

_log = logging.getLogger(__name__)


def trials(config: TrialsConfig) -> None:
    """Train trials up to their next rungs; one that fails says so in its run, and the next starts.

    Args:
        config: Which, and the settings of their sweep.

    Raises:
        InputError: There is no such trial.
        DataError: The data are damaged or cannot be had.
        TrackingError: The tracking store refused.
    """
    from fm_mlflow.tracking.child_runs import read_run

    pieces = config.pieces
    with guard(), rare_garbage_collection():
        setting = TrialSetting(
            metric=config.metric,
            bounds=config.bounds,
            needs_optimizer=bool({"learning_rate", "optimizer"} & parse_space(config.space).keys()),
        )
        alone = len(pieces) == 1 and not config.is_warm
        with MemoryMonitor() if alone else nullcontext() as memory:
            loaded = load_dataset(config.dataset, config.data_dir)
            dataset = loaded.hold_out(config.validation_split)
            import_tensorflow()
            gc.freeze()  # libraries stay; what trials leave is then found quickly
            for run_id, epochs in pieces.items():
                stored = read_run(run_id, "runs")
                trial = trial_config(config, stored.params)
                _tell("phase", stored.name, 0, epochs)

                def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
                    _tell("epoch", stored.name, epoch, epochs, metrics)  # noqa: B023

                try:
                    run_trial(
                        *(run_id, stored.name, trial, epochs, dataset, setting),
                        memory=memory,
                        on_epoch=on_epoch,
                        notice=lambda text: _tell("notice", text, 0, 0),
                    )
                except Exception as error:  # its run says it, too
                    _log.warning("%s: %s", stored.name, one_line(error))
                _forget()


def trial_config(sweep: SweepConfig, params: Mapping[str, str]) -> TrainConfig:
    """Return the settings of a trial's training.

    Args:
        sweep: The sweep's.
        params: Of the trial's run: what it alone has.
    """
    shared = {name: getattr(sweep, name) for name in TrainConfig.model_fields if name != "measure"}
    own = {name: params[name] for name in ("model", "seed", *TRAINING_SETTINGS)}
    return parse(TrainConfig, {**shared, "measure": "none", **own})


def _forget() -> None:
    """Let go of the trial before, so that its memory does not become the next one's."""
    import keras

    keras.backend.clear_session()
    gc.collect()


def _tell(
    event: str, text: str, epoch: int, epochs: int, metrics: Mapping[str, float] | None = None
) -> None:
    if (listening := parent()) is not None:
        told = Progress.model_validate(
            {
                "event": event,
                "text": text,
                "epoch": epoch,
                "epochs": epochs,
                "metrics": dict(metrics or {}),
            }
        )
        listening.tell(told.line())
