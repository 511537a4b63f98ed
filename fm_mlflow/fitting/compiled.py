"""The loop over epochs and chunks of steps; it does what `model.fit` does around the steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from fm_mlflow.fitting import hooks
from fm_mlflow.fitting.cpu.fast_steps import fast_steps
from fm_mlflow.fitting.examples import Examples, Source, Window, epoch_order, source_of
from fm_mlflow.fitting.plan import Plan
from fm_mlflow.fitting.steps import Compiler, Logs, Steps
from fm_mlflow.process.redaction import one_line

_log = logging.getLogger(__name__)

Evaluate = Callable[[Examples], dict[str, Any]]
"""Returns a model's loss and metrics on examples, by Keras' names."""

_CHUNK_SECONDS = 0.1
"""About how long one call may take: so late come Ctrl-C and the progress bar."""
_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class Ahead:
    """The training steps of a fit that has not begun, compiled; the examples are on the device.

    Attributes:
        source: Of the examples.
        steps: No one has run.
        seconds: What it took.
    """

    source: Source
    steps: Steps
    seconds: float

    def close(self) -> None:
        """Free what the steps hold beside the model."""
        self.steps.close()


def compile_ahead(
    model: keras.Model, training: Examples, batch_size: int, seed: int
) -> Ahead | None:
    """Trace and compile the steps of a fit without callbacks that look at single batches.

    Python can do something else meanwhile, on another thread: most of it is the compiler's.

    Returns:
        What `fit` takes over; None where it failed, as the fit then will say itself, or where only
        `model.fit` will do.
    """
    if hooks.needs_keras_fit(model):
        return None
    keras.utils.set_random_seed(seed)
    began = time.perf_counter()
    try:
        source = source_of(training, batch_size)
        with closing(source(epoch_order(seed, 0, len(training)))) as windows:
            window = next(windows)
        steps = _traced(model, training, window, batch_size, step_by_step=False)
        if window.steps:
            steps.compile(window)
    except Exception as error:  # of the model's own code, as a rule
        _log.debug("the training steps were not compiled ahead: %s", one_line(error))
        return None
    return Ahead(source, steps, time.perf_counter() - began)


def _traced(
    model: keras.Model, training: Examples, window: Window, batch_size: int, step_by_step: bool
) -> Steps:
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    compiler = None
    if model.jit_compile:
        compiler = Compiler.XLA_STEP
    elif step_by_step or not window.steps:
        compiler = Compiler.TENSORFLOW
    settings = training, window, batch_size, compiler
    return fast_steps(model, *settings) or Steps(model.train_step, *settings)


class CompiledLoop:
    """A fit by compiled chunks of steps, of a model that is compiled and built.

    Args:
        model: The model.
        plan: What is to be done.
        ahead: Its steps, where they are compiled already.
    """

    def __init__(self, model: keras.Model, plan: Plan, ahead: Ahead | None = None) -> None:
        self._model = model
        self._plan = plan
        self._step_by_step = hooks.hears(plan.callbacks, hooks.TRAIN_HOOKS)
        if ahead is None or self._step_by_step:
            self._source = source_of(plan.training, plan.batch_size, plan.resident_bytes)
            self._steps: Steps | None = None
        else:
            self._source, self._steps = ahead.source, ahead.steps
        self._chunk = 1
        self._callbacks = keras.callbacks.CallbackList(
            list(plan.callbacks),
            add_history=True,
            model=model,
            verbose=0,
            epochs=plan.epochs,
            steps=plan.steps,
        )
        self._validation = _Validation(model, plan, self._callbacks)

    def run(self) -> str:
        """Train: epoch by epoch, each validated; return what ran the training steps."""
        model, plan = self._model, self._plan
        model.stop_training = False
        self._callbacks.on_train_begin()
        # BackupAndRestore sets it, by what it found.
        initial_epoch = getattr(model, "_initial_epoch", None) or plan.initial_epoch
        logs: dict[str, Any] | None = None
        for epoch in range(initial_epoch, plan.epochs):
            plan.reporter.start()
            model.reset_metrics()
            self._callbacks.on_epoch_begin(epoch)
            logs = dict(_result(model, self._train(epoch)))
            plan.reporter.end_training()
            plan.reporter.compiler = self._description
            validated = self._validation.run()
            logs.update({f"val_{name}": value for name, value in validated.items()})
            self._callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        if isinstance(model.optimizer, keras.optimizers.Optimizer) and plan.epochs > 0:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        self._callbacks.on_train_end(logs)
        return self._description

    @property
    def _description(self) -> str:
        return self._steps.description if self._steps else Compiler.TENSORFLOW.value

    @property
    def evaluate(self) -> Evaluate | None:
        """What evaluates other examples after the fit, by the steps that validated it.

        None where batches of another size could give other figures, and where a callback may have
        changed the model, by another compilation say.
        """
        is_as_it_was = list(self._plan.callbacks) == [self._plan.reporter]
        return self._validation.evaluate if is_as_it_was and self._validation.is_mean else None

    def close(self) -> None:
        """Free what the training steps hold."""
        if self._steps is not None:
            self._steps.close()

    def _train(self, epoch: int) -> Logs:
        """Run the steps of an epoch; return what the last one returned."""
        plan = self._plan
        on_batch, steps_of_epoch = plan.on_batch, plan.steps
        order = epoch_order(plan.seed, epoch, len(plan.training))
        done = 0
        logs: Logs = {}
        for window in self._source(order):
            if self._steps is None:
                settings = plan.training, window, plan.batch_size
                self._steps = _traced(self._model, *settings, self._step_by_step)
            first, last = 0, window.steps + bool(window.rest)
            while first < last and not self._model.stop_training:
                count, logs = self._advance(self._steps, window, first, done)
                first += count
                done += count
                if on_batch:
                    on_batch(done, steps_of_epoch)
        if self._steps is not None:
            self._steps.settle()
        return logs

    def _advance(self, steps: Steps, window: Window, first: int, done: int) -> tuple[int, Logs]:
        """Run the next steps of a window: how many they were, and the last one's logs."""
        if self._step_by_step:
            self._callbacks.on_train_batch_begin(done)
            logs = steps.run_one(window, first)
            self._callbacks.on_train_batch_end(done, logs)
            return 1, logs
        if first >= window.steps:
            return 1, steps.run_one(window, first)
        count = min(self._chunk, window.steps - first)
        began = time.perf_counter()
        logs = steps.run(window, first, count)
        _wait(logs)
        self._adapt(count, time.perf_counter() - began, is_first=done == 0)
        return count, logs

    def _adapt(self, count: int, seconds: float, is_first: bool) -> None:
        """Let the next call take about as long as it may; the first one of all compiles."""
        if count < self._chunk:
            return
        if seconds < _CHUNK_SECONDS / 2:
            self._chunk *= 2
        elif seconds > _CHUNK_SECONDS * 2 and not is_first:
            self._chunk = max(1, self._chunk // 2)


class _Validation:
    """Evaluates a model after each epoch, and after the fit, as `model.evaluate` does."""

    def __init__(
        self, model: keras.Model, plan: Plan, callbacks: keras.callbacks.CallbackList
    ) -> None:
        self._model = model
        self._examples = plan.validation
        self._callbacks = callbacks
        self._step_by_step = hooks.hears(plan.callbacks, hooks.TEST_HOOKS)
        self._batch_size = plan.batch_size
        self.is_mean = hooks.is_mean_over_examples(model)
        if not self._step_by_step and self.is_mean:
            self._batch_size = max(plan.batch_size, _VALIDATION_BATCH)
        self._resident_bytes = plan.resident_bytes
        self._source = source_of(plan.validation, self._batch_size, plan.resident_bytes)
        self._steps: Steps | None = None

    def run(self) -> dict[str, Any]:
        """Return the metrics, by Keras' names without `val_`."""
        self._callbacks.on_test_begin()
        result = self._evaluate(self._examples, self._source, self._step_by_step)
        self._callbacks.on_test_end(result)
        return result

    def evaluate(self, examples: Examples) -> dict[str, Any]:
        """Return the metrics of other examples; no callback hears of it."""
        if examples.kind != self._examples.kind:
            self._steps = None  # they were traced for arrays of other types
        source = source_of(examples, self._batch_size, self._resident_bytes)
        return self._evaluate(examples, source, step_by_step=False)

    def _evaluate(self, examples: Examples, source: Source, step_by_step: bool) -> dict[str, Any]:
        self._model.reset_metrics()
        self._model.stop_evaluating = False
        done = 0
        logs: Logs = {}
        for window in source(np.arange(len(examples), dtype=np.int32)):
            if self._steps is None:
                settings = examples, window, self._batch_size
                # Not worth a compilation by XLA.
                self._steps = Steps(self._model.test_step, *settings, Compiler.TENSORFLOW)
            if step_by_step:
                for number in range(window.steps + bool(window.rest)):
                    if self._model.stop_evaluating:
                        break
                    self._callbacks.on_test_batch_begin(done)
                    logs = self._steps.run_one(window, number)
                    self._callbacks.on_test_batch_end(done, logs)
                    done += 1
                continue
            if window.steps:
                logs = self._steps.run(window, 0, window.steps)
            if window.rest:
                logs = self._steps.run_one(window, window.steps)
        return {name: _plain(value) for name, value in dict(_result(self._model, logs)).items()}


def _result(model: keras.Model, logs: Logs) -> Logs:
    """Return the model's metrics, or what its own step returned where that is something else."""
    try:
        metrics = model.get_metrics_result()
    except ValueError:  # it was compiled with metrics that its own step leaves alone
        return logs
    if isinstance(logs, dict) and set(logs) == set(metrics):
        return metrics
    return logs


def _plain(value: Any) -> Any:
    """Return a number as float, as Keras' callbacks expect it; another value as it is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _wait(logs: Logs) -> None:
    """Wait until a chunk has run: on a GPU the call returns before."""
    for value in keras.tree.flatten(logs)[:1]:
        np.asarray(value)
