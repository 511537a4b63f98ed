"""What a training run logs, stage by stage, and the figures that only the whole run knows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow import keys
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import TrainingError
from fm_mlflow.escaping import printable
from fm_mlflow.measure import measurement
from fm_mlflow.measure.machine import Machine
from fm_mlflow.measure.measurement import MIB, Measurement
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.naming import run_name
from fm_mlflow.process.beside import Beside
from fm_mlflow.process.redaction import redact
from fm_mlflow.report import plots
from fm_mlflow.report.describe import describe_training
from fm_mlflow.settings.config import NOT_SHAPING, TrainConfig
from fm_mlflow.settings.dataset import is_own
from fm_mlflow.settings.model_reference import ARGUMENT_PREFIX, ModelReference

if TYPE_CHECKING:
    import keras

    from fm_mlflow.fitting import FitResult, Stop
    from fm_mlflow.measure.flops import FlopsProfile
    from fm_mlflow.tracking.recorder import LoggedModel
    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.models import BuiltModel

_EXAMPLES_LOGGED = 2
_PREDICTION_BATCH = 1000
_OF_THE_EPOCH = (keys.EPOCH_SECONDS, keys.LEARNING_RATE, keys.MEMORY_RSS)
_OF_ONE_PROCESS = (keys.ENERGY_TRAINING, keys.ENERGY_GPU_TRAINING)


def log_setting(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    built: BuiltModel,
    machine: Machine,
    summary: str,
) -> None:
    """Log all that is known before training, so that even a run that fails has it."""
    run.log_params(
        config.model_dump(exclude={*NOT_SHAPING, "dataset", "learning_rate", "optimizer"})
    )
    # `mlflow run` has logged the path that was given.
    run.log_params({"dataset": config.dataset}, unless_logged=is_own(config.dataset))
    run.log_params(built.params, of_compiled_model=built.was_compiled)
    run.log_params({f"{ARGUMENT_PREFIX}{name}": text for name, text in built.arguments.items()})
    run.set_tags(
        {
            keys.MODEL: ModelReference.parse(config.model).name,
            keys.DATASET_DIGEST: dataset.digest,
            **machine.tags(),
        }
    )
    run.describe(describe_training(config, dataset))
    contexts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for context, subset in contexts.items():
        if subset is not None:
            run.log_dataset(dataset.name, subset, context, dataset.source)
    log_summary(run, summary, built.source.files)


def summary_of(model: keras.Model) -> str:
    """Return a model's layers as Keras prints them."""
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    return redact("\n".join(lines))


def log_summary(run: TrackedRun, summary: str, source_files: Sequence[Path] = ()) -> None:
    """Log a model's layers, and which files of the user's own travel with it."""
    with run.artifacts() as folder:
        (folder / keys.MODEL_SUMMARY_FILE).write_text(f"{summary}\n", encoding="utf-8")
        if source_files:
            listed = "".join(f"{printable(path.as_posix())}\n" for path in source_files)
            (folder / keys.SOURCE_FILES_FILE).write_text(listed, encoding="utf-8")


def log_outcome(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    built: BuiltModel,
    fitted: FitResult,
    beside: Beside,
) -> tuple[LoggedModel, dict[str, float]]:
    """Evaluate the model on the test set; log it, its results and the plots of them.

    The plots are drawn beside the rest.

    Returns:
        The model as it is logged, and what it scored, by logged name.
    """
    from fm_mlflow.measure.size import weights_digest

    name = run_name(config, fitted.epochs_done)
    if fitted.stopped is not None:
        log_stop(run, fitted.stopped)
        if run.name == run_name(config):  # nobody gave it another
            run.rename(name)
    if fitted.kept_epoch is not None:
        at = fitted.kept_epoch - 1
        of_kept = {name: each[at] for name, each in fitted.history.items() if at < len(each)}
        log_kept(run, fitted.kept_epoch, of_kept)
    test = dataset.test
    outputs, evaluated = built.predict_and_evaluate(test, _PREDICTION_BATCH, fitted.evaluate)
    outcome: dict[str, float] = {keys.TEST_LOSS: float(evaluated["loss"])}
    predictions: dict[str, Any]
    if built.class_names:
        predicted = outputs.argmax(axis=1)
        outcome[keys.TEST_ACCURACY] = float(np.mean(predicted == test.targets))
        predictions = {"label": test.targets, "probability": outputs}
    else:
        from fm_mlflow.fitting.metric_names import of_test_set

        targets = test.targets.reshape(outputs.shape)
        named = built.metric_names.logged(evaluated)
        outcome |= {of_test_set(name): value for name, value in named.items()}
        outcome.pop(keys.TEST_ACCURACY, None)  # which Keras computes of anything
        error = np.abs(outputs.astype(np.float64) - targets)
        outcome[keys.TEST_MAE] = float(np.mean(error))
        predictions = {"target": targets, "prediction": outputs}
    if not math.isfinite(outcome[keys.TEST_LOSS]):
        raise TrainingError(f"test_loss is {outcome[keys.TEST_LOSS]} after training")
    example = built.inputs(test.head(_EXAMPLES_LOGGED))
    with run.artifacts() as folder:
        curve = _file(folder, keys.LEARNING_CURVE_FILE)
        beside.call(plots.save_learning_curve, fitted.history, name, curve)
        if built.class_names:
            matrix = test.targets, predicted, built.class_names, name
            file = _file(folder, keys.CONFUSION_MATRIX_FILE)
            beside.call(plots.save_confusion_matrix, *matrix, file)
        model = run.log_model(
            built.model,
            input_example=example,
            output_example=np.asarray(built.model(example, training=False)),
            class_names=built.class_names,
            gives_logits=built.gives_logits,
            takes_images=dataset.noun == "images",
            code_folder=built.source.folder,
            code_files=built.source.files,
            requirements=built.source.requirements,
            params={"model": config.model, "epochs": config.epochs, "seed": config.seed},
        )
        run.log_metrics(outcome, of_model=True, test_set=test, dataset_name=dataset.name)
        run.set_tags({keys.WEIGHTS_DIGEST: weights_digest(built.model)})
        np.savez_compressed(_file(folder, keys.PREDICTIONS_FILE), **predictions)
        beside.finish()
    return model, outcome


def log_curve(run: TrackedRun, name: str, history: Mapping[str, Sequence[float]]) -> None:
    """Log the plot of losses and accuracies by epoch."""
    with run.artifacts() as folder:
        plots.save_learning_curve(history, name, _file(folder, keys.LEARNING_CURVE_FILE))


def log_stop(run: TrackedRun, stopped: Stop) -> None:
    """Log that a callback stopped the run early, where a reader of the runs table sees it."""
    done, best, reason = str(stopped.epoch), str(stopped.best_epoch), stopped.reason
    tags: dict[str, str] = {keys.EPOCHS_DONE: done, keys.BEST_EPOCH: best, keys.STOPPED_BY: reason}
    params = dict(zip(keys.PARAMS_OF_STOP, (done, best, reason), strict=True))
    if stopped.best_epoch is None:
        del tags[keys.BEST_EPOCH], params["best_epoch"]
    run.set_tags(tags)
    run.log_params(params, unless_logged=True)  # of the run before it was extended


def log_kept(run: TrackedRun, epoch: int | None, history: Mapping[str, float]) -> None:
    """Log whose epoch's weights the model has, and the figures of that epoch as the model's.

    Args:
        run: The run.
        epoch: From 1; None where the model has the weights of the last epoch.
        history: The metrics of that epoch, by logged name.
    """
    if epoch is None:
        return
    run.set_tags({keys.KEPT_EPOCH: str(epoch)})
    of_model = {name: value for name, value in history.items() if name not in _OF_THE_EPOCH}
    run.log_metrics({f"{keys.KEPT_PREFIX}{name}": value for name, value in of_model.items()})


def clocks(fit_seconds: float, logged: LoggedModel | None, started: float) -> list[Measurement]:
    """Return the size of the logged model and the times of the run as measurements.

    Args:
        fit_seconds: Wall time of the fit.
        logged: The model, if one was logged.
        started: When the run began, by `time.perf_counter`.
    """
    clock = "monotonic clock around"
    files = "files of the logged MLflow model, as MLflow counts them, / 1024²"
    if logged is None or logged.size_bytes is None:
        reason = "no model was logged" if logged is None else "the store does not say"
        size = Measurement.missing(keys.SIZE_MLFLOW_MODEL, files, reason)
    else:
        size = Measurement.exact(keys.SIZE_MLFLOW_MODEL, logged.size_bytes / MIB, files)
    return [
        size,
        Measurement.single(keys.FIT_SECONDS, fit_seconds, f"{clock} the fit, tracing included"),
        Measurement.single(
            keys.TOTAL_SECONDS,
            time.perf_counter() - started,
            f"{clock} the whole call, up to the logging of this value",
        ),
    ]


def of_parts(measurements: Sequence[Measurement], parts: int) -> list[Measurement]:
    """Have times, speeds and memory say that several processes trained the run.

    The energy of its training is missing then: what the last process drew is only a part of it.
    """
    if parts == 1:
        return list(measurements)
    last = f"of the last of {parts} processes that trained the run"
    every = f"the sum over {parts} processes that trained the run, each up to its last checkpoint"
    notes = {"memory/": last, "throughput/training": last, "utilization/": last, "time/": every}
    return [
        replace(each, method=f"{each.method}; {note}") if note else each
        for each in (_whole(measured, parts) for measured in measurements)
        for note in [next((text for name, text in notes.items() if each.name.startswith(name)), "")]
    ]


def _whole(measured: Measurement, parts: int) -> Measurement:
    if measured.value is None or measured.name not in _OF_ONE_PROCESS:
        return measured
    reason = (
        f"{parts} processes trained the run; the last of them, whose counters were read, took "
        f"{measured.value:.4g} {measured.unit}"
    )
    return replace(measured, value=None, samples=0, reason=reason)


def log_costs(
    run: TrackedRun,
    name: str,
    costs: Sequence[Measurement],
    flops: FlopsProfile | None,
    memory: MemoryMonitor | None,
    machine: Machine,
    beside: Beside | None = None,
) -> None:
    """Log every cost as metric and in `measurements.json`, with the tables and the plot.

    Args:
        run: The run.
        name: What the plot is called.
        costs: All of them, those that are missing included.
        flops: The profile behind the FLOPs.
        memory: The monitor of the run.
        machine: What it was measured on.
        beside: What draws the plot; without it, this process does.
    """
    values = measurement.metrics(costs)
    beside = beside or Beside(plots.prepare)
    # Before the metrics: of a run that is killed in between, `resume` measures both again.
    with run.artifacts() as folder:
        peak = values.get(keys.MEMORY_PEAK)
        if memory is not None and peak is not None:
            file = _file(folder, keys.MEMORY_PLOT_FILE)
            beside.call(plots.save_memory_timeline, memory.timeline, peak, name, file)
        text = measurement.to_json(costs, machine)
        _file(folder, keys.MEASUREMENTS_FILE).write_text(text, encoding="utf-8")
        if flops is not None and flops.layers:  # only TensorFlow's graph tells layers
            table = _file(folder, keys.FLOPS_LAYERS_FILE)
            table.write_text(flops.to_csv(), encoding="utf-8")
        if memory is not None:
            memory.write_timeline(_file(folder, keys.MEMORY_TIMELINE_FILE))
        beside.finish()
    run.log_metrics(values, of_model=True)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    return path
