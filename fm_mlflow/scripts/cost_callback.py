"""The Keras callback that logs what a `model.fit` of somebody's own costs."""

from __future__ import annotations

import atexit
import functools
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, TypeVar, cast
from weakref import WeakSet

import keras
import numpy as np
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.errors import TrainingError
from fm_mlflow.fitting.early_stop import kept_epoch, stop
from fm_mlflow.measure.memory import AFTER_FIT, FIRST_STEP, TRAINING
from fm_mlflow.measure.training import Trained
from fm_mlflow.process.redaction import one_line
from fm_mlflow.scripts.fit_observer import FitObserver
from fm_mlflow.scripts.fit_surroundings import (
    Given,
    call_first,
    callbacks_of_fit,
    callbacks_under_way,
    data_of_fit,
    examples_of_fit,
    logs_to_mlflow,
    was_drawn_from,
)
from fm_mlflow.scripts.script_run import ScriptRun
from fm_mlflow.scripts.script_settings import ScriptSettings, checked_params
from fm_mlflow.settings.base import parse
from fm_mlflow.tracking.callers_run import check_autologging, end_active_run
from fm_mlflow.training.run_contents import log_stop

_log = logging.getLogger("fm_mlflow")

Hook = TypeVar("Hook", bound=Callable[..., None])


def _never_raising(hook: Hook) -> Hook:
    """Keep what fails in a hook from the fit: say it once, and record no more of that fit."""

    @functools.wraps(hook)
    def guarded(self: CostCallback, *arguments: Any, **named: Any) -> None:
        if self._gave_up:
            return
        try:
            hook(self, *arguments, **named)
        except Exception as error:
            self._give_up(error)

    return cast("Hook", guarded)


def _told(error: BaseException) -> str:
    try:
        return one_line(error)
    except Exception:  # an error whose own text raises
        return type(error).__name__


class CostCallback(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Logs a `model.fit` to MLflow, with what it costs.

    Into the active MLflow run, which stays open; else into a run of its own. Logged are loss and
    metrics of each epoch, parameters, and, when the fit has ended, every cost that
    `fm-mlflow train` logs, measured in the same way: FLOPs, memory, sizes, latency, throughput.
    The steps run as without it, compiled and unobserved; nothing that fails here reaches the fit.

    Beside `mlflow.keras.MlflowCallback` or MLflow's autologging it leaves to them what they log.

    Args:
        name: What is trained, as comparisons call it; by default the model's name.
        seed: The seed that the script set; logged, so that runs are seeds of one model.
        dataset: Name of the data.
        measure: Costs to measure, any of `flops`, `latency`, `memory` and `energy`, with commas;
            or `none`.
        params: Parameters of the script's own.
        example: A few hundred inputs for the latency; by default the first of the training data.
        flush_timeout: Seconds that the end waits for a store that does not answer.
        quiet: Do not say at the end where the run is.

    Raises:
        InputError: A parameter was refused; or MLflow's autologging is on without TensorBoard.

    Examples:
        >>> model.fit(x, y, epochs=5, callbacks=[fm_mlflow.CostCallback()])
    """

    def __init__(
        self,
        name: str = "",
        *,
        seed: int | None = None,
        dataset: str = "",
        measure: str = "flops,latency,memory,energy",
        params: Mapping[str, Any] | None = None,
        example: Any = None,
        flush_timeout: float = 60.0,
        quiet: bool = False,
        run: ScriptRun | None = None,
    ) -> None:
        super().__init__()
        check_autologging()
        values: dict[str, Any] = {
            "name": name,
            "seed": seed,
            "dataset": dataset,
            "measure": measure,
        }
        values |= {"flush_timeout": flush_timeout, "quiet": quiet}
        self._settings = parse(ScriptSettings, values)
        self._own_params = checked_params(params)
        self._example = example
        self._shared = run
        self._run: ScriptRun | None = run
        self.run_id = ""
        """The run that the last fit was logged to."""
        self._gave_up = False
        self._thread = 0
        self._clear()

    def _clear(self) -> None:
        """Forget the fit before: a callback may see several."""
        self._observer: FitObserver | None = None
        self._callbacks: list[keras.callbacks.Callback] = []
        self._given: Given | None = None
        self._epoch_seconds: list[float] = []
        self._fit_seconds = 0.0
        self._metrics: dict[int, dict[str, float]] = {}
        self._examples_an_epoch = 0
        self._epochs_done = 0
        self._first_step: int | None = None
        self._is_training = False
        self._cause: BaseException | None = None

    @override
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._gave_up = False
        self._begin()

    @_never_raising
    def _begin(self) -> None:
        self._end_interrupted()  # a fit before
        self._clear()
        if self._shared is None:
            end_dead_fits()
            self._run, self._thread = ScriptRun(self._settings, self._own_params), get_ident()
            self._run.open()
            _open.add(self)
            atexit.register(self._end_program)
        run = self._opened
        self.run_id = run.run_id
        self._callbacks = [each for each in callbacks_of_fit() if each is not self]
        self._given = given = data_of_fit(self.model)
        # What other callbacks do at the end of an epoch is no training.
        clock = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda _epoch, _logs: self._end_training_steps()
        )
        call_first(clock)
        run.begin(
            self.model,
            self.params.get("epochs"),
            alone=not self._is_logged_already,
            validation_split=given.validation_split if given else 0.0,
        )
        if given is not None and given.validation is not None:
            run.validate_on(given.validation)
        if given is not None and was_drawn_from(given.x):
            run.notice(
                "examples for the latency were drawn from these data after an earlier fit: what is "
                "random in them has moved on by a pass; example=... avoids that"
            )
        run.phase(FIRST_STEP)
        self._observer = FitObserver(self.model, self._on_first_step, self._on_error)
        self._observer.attach()
        self._fit_began = time.perf_counter()

    @_never_raising
    def _on_first_step(self) -> None:
        self._opened.phase(TRAINING)

    def _on_error(self, error: BaseException) -> None:
        """Note why a step failed; not the error itself, which holds all that the step had."""
        is_stop = isinstance(error, KeyboardInterrupt)
        self._cause = KeyboardInterrupt() if is_stop else TrainingError(_told(error))

    @property
    def _is_logged_already(self) -> bool:
        return any(logs_to_mlflow(each) for each in self._callbacks)

    @override
    @_never_raising
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._first_step is None:  # a second fit may count its epochs from 1 again
            done = self._opened.step
            self._first_step = 1 + (done if epoch < done else 0)
        self._is_training = True
        self._epoch_began = time.perf_counter()

    @override
    @_never_raising
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._end_training_steps()

    def _end_training_steps(self) -> None:
        if self._is_training:
            self._is_training = False
            self._epoch_seconds.append(time.perf_counter() - self._epoch_began)

    @override
    @_never_raising
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._end_training_steps()
        run, observer = self._opened, self._observer
        self._epochs_done = epoch + 1
        if not self._examples_an_epoch and observer is not None and observer.batch_size:
            self._examples_an_epoch = observer.examples
            run.log_fit({"batch_size": observer.batch_size})
        metrics = run.names.logged(logs or {})
        self._metrics[epoch] = metrics
        if self._is_logged_already:
            metrics = {}
        rate = getattr(self.model.optimizer, "learning_rate", None)
        if rate is not None:
            metrics[keys.LEARNING_RATE] = float(str(np.float32(rate)))
        metrics[keys.EPOCH_SECONDS] = time.perf_counter() - self._epoch_began
        run.log_epoch(metrics, epoch + (self._first_step or 1))

    @override
    @_never_raising
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._fit_seconds = time.perf_counter() - self._fit_began
        run = self._opened
        run.phase(AFTER_FIT)
        if self._observer is not None:
            self._observer.detach()
        if self.model.stop_training and 0 < self._epochs_done < self.params["epochs"]:
            own = [each for each in self._callbacks if not logs_to_mlflow(each)]
            losses = [each.get(keys.VAL_LOSS, math.nan) for each in self._metrics.values()]
            log_stop(run.run, stop(own, run.step, losses, before=self._epochs_before))
        if self._shared is None:
            self.log_costs()
            self._close(None)

    def log_costs(self) -> None:
        """Measure and log what the fit that has ended cost; `track` does so at its end."""
        observer, given = self._observer, self._given
        self._observer = self._given = None
        if observer is None or not self._epoch_seconds:
            return
        self._log_kept()
        batch, made_up = examples_of_fit(given, observer.data)
        if made_up:
            self._opened.notice(made_up)
        inputs = batch[0] if batch and self._example is None else self._example
        trained = Trained(
            model=self.model,
            inputs=inputs,
            labels=batch[1] if len(batch) > 1 else None,
            images=self._examples_an_epoch,
            batch_size=observer.batch_size or 1,
            training_seconds=self._epoch_seconds,
            memory=self._opened.memory,
            data=batch,
        )
        self._opened.log_costs(trained, self._fit_seconds)

    @property
    def _epochs_before(self) -> int:
        """Epochs of earlier fits, where this one counts from 1 again."""
        return (self._first_step or 1) - 1

    def _log_kept(self) -> None:
        kept = kept_epoch(self._callbacks)
        if kept is not None and kept < self._epochs_done:
            metrics = self._metrics.get(kept - 1, {})
            self._opened.keep_epoch(self._epochs_before + kept, metrics)

    @property
    def _opened(self) -> ScriptRun:
        if self._run is None:
            raise RuntimeError("no fit is under way")
        return self._run

    def _give_up(self, error: Exception) -> None:
        self._gave_up = True
        told = f"CostCallback records no more of this fit: {_told(error)}"
        try:
            if self._observer is not None:
                self._observer.detach()
            self._clear()
            if self._shared is None and self._run is not None:
                self._close(TrainingError(told))
        except Exception as another:  # the fit continues whatever happens
            told = f"{told}; {_told(another)}"
        _log.warning("%s", told)

    def _end_interrupted(self, cause: BaseException | None = None) -> None:
        """Close the run of a fit that did not end: Keras does not tell callbacks of an error."""
        if self._shared is not None or self._run is None:
            return
        unknown = TrainingError("the fit did not end; its error was the caller's")
        try:
            if self._observer is not None:
                self._observer.detach()
            self._close(cause or self._cause or unknown)
        except Exception as error:  # the next fit is another one
            _log.warning("the run of a fit that did not end was not closed: %s", one_line(error))
        self._clear()

    def _end_program(self) -> None:
        """Close the run of a fit that the program did not survive, and an active run that has it.

        MLflow would call the latter FINISHED.
        """
        if self._run is not None:
            cause = getattr(sys, "last_value", None)  # the error that ended the program
            run_id = self._run.run_id
            self._end_interrupted(cause)
            if cause is not None:
                end_active_run(run_id, cause)

    def _close(self, error: BaseException | None) -> None:
        atexit.unregister(self._end_program)
        _open.discard(self)
        run, self._run = self._run, None
        if run is not None:
            run.close(error)


_open: WeakSet[CostCallback] = WeakSet()
"""Those whose run is open and their own to close."""


def end_dead_fits() -> None:
    """Close the runs of this thread's fits that an error ended: the next fit cannot join them."""
    under_way = callbacks_under_way()
    for each in list(_open):
        if each._thread == get_ident() and each not in under_way:
            each._end_interrupted()
