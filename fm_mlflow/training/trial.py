"""One trial of a sweep: built, measured against its bounds, trained up to a rung. Light.

It has no model in the store, no plots, no latency and no result on the test set, which selects
nothing. What it is up to next is decided elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fm_mlflow import keys
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import figure
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import InputError, ModelError, TrainingError
from fm_mlflow.measure import measurement
from fm_mlflow.measure.machine import describe_machine, load_average
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import EVALUATION, FIRST_STEP, MODEL, TRAINING, MemoryMonitor
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.checkpoint import Start, newest
from fm_mlflow.training.run_contents import log_costs, log_setting, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.models import BuiltModel

_EXAMPLES_PROFILED = 4
_NOT_ALONE = "several trials share a process, so that its memory is not one trial's (--warm false)"
_OF_TRIAL = "none: a trial of a sweep is light; its finalists are measured in full"


@dataclass(frozen=True)
class TrialSetting:
    """What is alike for all trials of a sweep.

    Attributes:
        metric: What the search improves.
        bounds: Most of a cost, by its logged name; checked before training.
        needs_optimizer: The sweep searches settings that only an uncompiled model takes.
    """

    metric: str
    bounds: Mapping[str, float]
    needs_optimizer: bool


def run_trial(
    run_id: str,
    name: str,
    config: TrainConfig,
    epochs: int,
    dataset: Dataset,
    setting: TrialSetting,
    *,
    memory: MemoryMonitor | None,
    on_epoch: Callable[[int, Mapping[str, float]], None],
    notice: Callable[[str], None],
) -> None:
    """Train a trial up to a number of epochs, from its last checkpoint if it was begun.

    Args:
        run_id: Its run, which exists.
        name: What the run is called.
        config: Its settings; its `epochs` are those of the last rung.
        epochs: The epoch to end with.
        dataset: With examples held out.
        setting: Of the sweep.
        memory: The monitor of a process that has only this trial.
        on_epoch: Hears of each epoch.
        notice: Hears what a person should know.

    Raises:
        InputError: The model cannot be built with these settings, or is not one to search.
        TrainingError: The loss or the metric is no longer a number.
    """
    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.models import build_model

    load = load_average()
    with _start(run_id, epochs, load) as start:
        if memory:
            memory.phase(MODEL)
        with TrackedRun(
            keys.KIND_TRIAL,
            name,
            flush_timeout=config.flush_timeout,
            checkpoint_seconds=config.checkpoint_seconds,
            notice=notice,
            settings=config.model_dump(),
            resumption=start.resumption,
        ) as run:
            built = build_model(config, dataset)
            if built.was_compiled and setting.needs_optimizer:
                accepted = (
                    "a model that is not compiled yet, where optimizer or learning rate is searched"
                )
                raise ModelError(config.model, accepted)
            if start.checkpoint is not None and start.checkpoint.variables:
                start.checkpoint.restore(built.model)
            if start.checkpoint is None:
                machine = describe_machine(load)
                log_setting(run, config, dataset, built, machine, summary_of(built.model))
                costs = [*trial_costs(built, dataset, config.batch_size), *_left_out(memory)]
                log_costs(run, name, costs, None, None, machine)
                if exceeded := over_bounds(measurement.metrics(costs), setting.bounds):
                    run.set_tags({keys.BOUNDED_OUT: exceeded})
                    return
            _fit(run, config, built, dataset, start, setting.metric, memory, on_epoch)


def trial_costs(built: BuiltModel, dataset: Dataset, batch_size: int) -> list[Measurement]:
    """Measure what is known of a model before its training; what fails says why."""
    from fm_mlflow.measure.training import known_costs

    examples = dataset.train.head(_EXAMPLES_PROFILED)
    return known_costs(
        built.model,
        built.inputs(examples),
        built.examples(examples).labels,
        min(batch_size, len(dataset.train)),
    )


def over_bounds(costs: Mapping[str, float], bounds: Mapping[str, float]) -> str:
    """Say which bounds a model exceeds; empty if none. What is not known exceeds."""
    return "; ".join(
        f"{cost_title(key)} {figure(key, costs[key])}, at most {figure(key, most)}"
        if key in costs
        else f"{cost_title(key)} not measured, at most {figure(key, most)}"
        for key, most in bounds.items()
        if not costs.get(key, float("inf")) <= most
    )


def _left_out(memory: MemoryMonitor | None) -> list[Measurement]:
    reason = _NOT_ALONE if memory is None else "measured after the training"
    return [
        Measurement.missing(keys.MEMORY_PEAK, "none", reason),
        Measurement.missing(keys.LATENCY_P50, "none", _OF_TRIAL),
        Measurement.missing(keys.SIZE_MLFLOW_MODEL, "none", _OF_TRIAL),
    ]


@contextmanager
def _start(run_id: str, epochs: int, load: float | None) -> Iterator[Start]:
    """Find where a trial starts: in a run that waits for it, or where the last process left it."""
    from fm_mlflow.tracking.child_runs import read_child
    from fm_mlflow.tracking.resumption import resumable

    now = time.perf_counter()
    os.environ.pop("MLFLOW_RUN_ID", None)
    if keys.KIND not in read_child(run_id).tags:
        os.environ["MLFLOW_RUN_ID"] = run_id
        try:
            yield Start(now, load, epochs=epochs)
        finally:
            os.environ.pop("MLFLOW_RUN_ID", None)
        return
    # Whoever starts this process knows that the one before has ended, or was cut off.
    with resumable(run_id, kind=keys.KIND_TRIAL, take_over=True) as found:
        checkpoint = newest(found.folders)
        parts = found.parts + 1
        found.resumption.tags[keys.PARTS] = str(parts)
        yield Start(now, load, checkpoint, epochs, found.resumption, parts)


def _fit(
    run: TrackedRun,
    config: TrainConfig,
    built: BuiltModel,
    dataset: Dataset,
    start: Start,
    metric: str,
    memory: MemoryMonitor | None,
    on_epoch: Callable[[int, Mapping[str, float]], None],
) -> None:
    from fm_mlflow.fitting import fit
    from fm_mlflow.training.fit_checkpoints import Checkpointing

    if dataset.validation is None:
        raise InputError("validation_split", 0, "a share above 0: the test set selects nothing")

    is_first_step = True

    def epoch_is_over(epoch: int, metrics: dict[str, float]) -> None:
        if metric not in metrics:
            names = ", ".join(name for name in metrics if name.startswith("val_"))
            raise InputError("metric", metric, f"a metric that the model has: {names}")
        run.log_metrics(metrics, step=epoch)
        if not abs(metrics[metric]) < float("inf"):
            raise TrainingError(f"{metric} is {metrics[metric]} after epoch {epoch}")
        checkpoints.epoch(epoch, metrics)
        on_epoch(epoch, metrics)

    def batch_is_over(_done: int, _total: int) -> None:
        nonlocal is_first_step
        if memory and is_first_step:
            memory.phase(TRAINING)
        is_first_step = False

    with closing(Checkpointing(run, built.model, config, dataset.digest, start)) as checkpoints:
        if memory:
            memory.phase(FIRST_STEP)
        fit(
            built.model,
            built.examples(dataset.train),
            built.examples(dataset.validation),
            epochs=start.until(config),
            batch_size=config.batch_size,
            seed=config.seed,
            on_epoch=epoch_is_over,
            on_batch=batch_is_over,
            callbacks=checkpoints.callbacks(),
            initial_epoch=start.progress.epoch,
            fit_loop=config.fit_loop,
            metric_names=built.metric_names,
        )
    if memory:
        memory.phase(EVALUATION)
        run.log_metrics(measurement.metrics(memory.measurements()))
