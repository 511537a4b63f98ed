"""One fit: by the compiled loop, or by Keras where the model needs that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import keras

from fm_mlflow import keys
from fm_mlflow.fitting import hooks
from fm_mlflow.fitting.compiled import Ahead, CompiledLoop, Evaluate
from fm_mlflow.fitting.early_stop import Stop, kept_epoch, stop
from fm_mlflow.fitting.examples import Examples
from fm_mlflow.fitting.keras_fit import keras_fit
from fm_mlflow.fitting.metric_names import MetricNames
from fm_mlflow.fitting.plan import Plan
from fm_mlflow.fitting.reporter import OnBatch, OnCompiled, OnEpoch, Reporter
from fm_mlflow.fitting.steps import Compiler


@dataclass(frozen=True)
class FitResult:
    """How a fit went.

    Attributes:
        history: One value an epoch for each metric, by logged name.
        seconds: Wall time of the whole fit.
        training_seconds: Wall time of each epoch's training steps, validation left out.
        compiler: What ran the training steps, as the tag `fm_mlflow.compiler` says it.
        stopped: How it ended before its last epoch, if it did.
        kept_epoch: The epoch whose weights the model has, where a callback restored an earlier one.
        evaluate: Evaluates the model on other examples by the steps that validated it, traced
            already; None where Keras has to.
    """

    history: dict[str, list[float]]
    seconds: float
    training_seconds: list[float]
    compiler: str
    stopped: Stop | None = None
    kept_epoch: int | None = None
    evaluate: Evaluate | None = None

    @property
    def epochs_done(self) -> int | None:
        """Epochs of a fit that was stopped early; None of another."""
        return self.stopped.epoch if self.stopped else None


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
    on_compiled: OnCompiled | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    initial_epoch: int = 0,
    class_weight: Mapping[int, float] | None = None,
    resident_bytes: int | None = None,
    fit_loop: Literal["auto", "keras"] = "auto",
    metric_names: MetricNames | None = None,
    ahead: Ahead | None = None,
) -> FitResult:
    """Train a compiled model: every example once an epoch, in an order drawn from the seed.

    Does what `model.fit` does with `validation_data`, by the model's own `train_step` and
    `test_step`: the same batches give the same losses, to the rounding of float32. The steps run
    in compiled loops over examples that stay on the device; those that are larger than
    `resident_bytes` are brought there window by window, in the same order. One step a call, which
    is slower, where a callback has hooks for single batches; `model.fit` itself, on the same
    batches, where the model overrides more than its steps, runs eagerly or is distributed.

    The order of epoch `e` is `epoch_order(seed, e, n)`, so an interrupted fit continues exactly
    with `initial_epoch=e`, once the model has again what it had when epoch `e` began: its weights,
    all variables of its optimizer, and the states of its seed generators (dropout's; in
    `model.variables`, not in `model.weights`). Metrics start each epoch anew. What a callback
    remembers is the callback's to restore. Random operations of TensorFlow's own, with neither
    seed nor generator, continue as no state can tell.

    Args:
        model: Compiled and built.
        training: What it learns from.
        validation: What it is evaluated on after each epoch.
        epochs: The epoch to end with: `epochs - initial_epoch` passes over `training`.
        batch_size: Examples a step.
        seed: Same seed, same machine, same weights: bit for bit.
        on_epoch: Called with the epoch (from 1) and its metrics, by logged name.
        on_batch: Called with the steps done in this epoch and the steps of an epoch, several
            times a second.
        on_compiled: Called before the first call of `on_epoch` with what ran the training steps, as
            the tag `fm_mlflow.compiler` says it; of a fit without epochs never.
        callbacks: Keras callbacks of the user's.
        initial_epoch: Epochs that were done before, as in `model.fit`.
        class_weight: Weight of each class number in the training loss, as in `model.fit`.
        resident_bytes: Up to how many bytes of training examples stay on the device; by default a
            quarter of the memory that is free.
        fit_loop: `keras` takes `model.fit` for every model, on the same batches.
        metric_names: What the model's metrics are called.
        ahead: What `compile_ahead` made of the same model and examples; `seconds` include it.

    Raises:
        TrainingError: A loss is no longer a finite number; the epoch was reported first.
    """
    # Anything may have drawn random numbers since the model was built (MLflow names runs so).
    keras.utils.set_random_seed(seed)
    started = time.perf_counter()
    if class_weight is not None:
        training = training.weighted(class_weight)
    reporter = Reporter(on_epoch, metric_names or MetricNames(), on_compiled)
    plan = Plan(
        training,
        validation,
        epochs,
        initial_epoch,
        batch_size,
        seed,
        [*callbacks, reporter],
        reporter,
        on_batch,
        resident_bytes,
    )
    evaluate = None
    if fit_loop == "keras" or hooks.needs_keras_fit(model):
        compiler = reporter.compiler = Compiler.KERAS.value
        keras_fit(model, plan)
    else:
        with closing(CompiledLoop(model, plan, ahead)) as loop:
            compiler, evaluate = loop.run(), loop.evaluate
    seconds = time.perf_counter() - started + (ahead.seconds if ahead else 0)
    stopped = None
    if model.stop_training and 0 < reporter.epoch < epochs:
        stopped = stop(callbacks, reporter.epoch, reporter.history.get(keys.VAL_LOSS, []))
    kept = kept_epoch(callbacks)
    return FitResult(
        reporter.history,
        seconds,
        reporter.training_seconds,
        compiler,
        stopped,
        None if kept == reporter.epoch else kept,
        evaluate,
    )
