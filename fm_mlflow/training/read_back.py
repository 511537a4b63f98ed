"""Reads a user's own model back as a stranger would, beside the first seconds of its training."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import TrainingError
from fm_mlflow.process import supervisor
from fm_mlflow.process.beside import is_new_command
from fm_mlflow.process.confined import ConfinedError, Limits, run_confined
from fm_mlflow.process.forked import Forked
from fm_mlflow.process.redaction import redact
from fm_mlflow.process.temporary import temporary_folder

if TYPE_CHECKING:
    from fm_mlflow.training.models import BuiltModel

_PROGRAM = "fm_mlflow.training.stranger"
_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "CUDA_VISIBLE_DEVICES": "-1",  # the training's own
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"),
}
_MODEL = "model"
_EXAMPLES = 2
_LONGEST_SECONDS = 600.0
_LONGEST_WAIT_SECONDS = 60.0
_ANSWER_BYTES = 64 * 1024**2
_TOLERANCE = 5e-3
_TOLERANCE_OF_NARROW_TYPES = 5e-2


class ReadBack:
    """Has another process load a model as it would be logged now; a context manager.

    Where this is a command's process, the other one is a copy of it, made when the libraries are
    imported (`fork`); else a new one, which starts at once, so that it imports its libraries while
    the caller does. Then it waits for the model. Leaving the block stops it. That it could not be
    done - no memory, no time - is told and harms nothing.

    Args:
        notice: Called with what a person should know, in one line.
        is_needed: Without it, nothing is done.

    Attributes:
        epochs_beside: Epochs that have ended and began while the process was running.
    """

    def __init__(self, notice: Callable[[str], None], *, is_needed: bool) -> None:
        self.epochs_beside = 0
        self._notice = notice
        self._is_needed = is_needed
        self._may_fork = is_needed and is_new_command()
        self._folder = Path()
        self._answer: Future[bytes] | None = None
        self._stop = threading.Event()
        self._end = ExitStack()
        self._expected: NDArray[Any] = np.empty(0)
        self._until = math.inf
        self._is_beside = False

    def __enter__(self) -> ReadBack:
        """Start the process."""
        with ExitStack() as stack:
            stack.push(self)  # an interruption may come here
            if self._is_needed and not self._may_fork:
                self._start()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process, if it still runs."""
        self._stop.set()
        self._end.close()

    def fork(self) -> None:
        """Copy this process, if it may be: TensorFlow is imported and has done nothing yet."""
        if not self._may_fork:
            return
        forked = None
        if _is_without_gpu():
            with suppress(OSError):  # a new process may be small enough
                forked = Forked(supervisor.main)
        self._start(forked)

    def give(self, built: BuiltModel, dataset: Dataset) -> None:
        """Save a model for the process to load.

        Args:
            built: The model, before its training.
            dataset: For its input example.
        """
        if self._answer is None:
            return
        from fm_mlflow.tracking.save_model import save_model

        inputs = built.inputs(dataset.test.head(_EXAMPLES))
        self._expected = np.asarray(built.model(inputs, training=False))
        unfinished = self._folder / "unfinished"
        save_model(
            built.model,
            unfinished,
            input_example=inputs,
            output_example=self._expected,
            class_names=built.class_names,
            gives_logits=built.gives_logits,
            code_folder=built.source.folder,
            code_files=built.source.files,
            requirements=built.source.requirements,
        )
        unfinished.rename(self._folder / _MODEL)
        self._until = time.monotonic() + _LONGEST_SECONDS
        self._is_beside = True

    def check(self) -> None:
        """Return at once, unless it is known by now that the model cannot be read back.

        Raises:
            TrainingError: It cannot; says why.
        """
        if self._answer is None:
            return
        is_late = time.monotonic() > self._until
        if is_late:
            self._stop.set()
        elif not self._answer.done():
            return
        answer, self._answer = self._answer, None
        try:
            found = json.loads(answer.result())
        except (ConfinedError, OSError, RuntimeError, ValueError) as error:
            cause = "it did not end in time" if is_late else redact(str(error))
            self._notice(
                "it is not known whether others can load the model: the process that tried it was "
                f"stopped ({cause}); `fm-mlflow register` tries it again"
            )
            return
        if failure := redact(_judge(found, self._expected)):
            raise TrainingError(
                "the model cannot be loaded by others: in a process that has nothing but what is "
                f"logged with it, {failure}"
            )

    def end_epoch(self) -> None:
        """Note that an epoch has ended, and the next one begins."""
        self.epochs_beside += self._is_beside
        self._is_beside = self._answer is not None and not self._answer.done()

    def finish(self, stage: Callable[[str], None]) -> None:
        """Wait for the verdict, about a minute at most.

        Raises:
            TrainingError: The model cannot be read back.
        """
        if self._answer is not None and not self._answer.done():
            stage("waiting until the model is read back")
            self._until = min(self._until, time.monotonic() + _LONGEST_WAIT_SECONDS)
        while self._answer is not None:
            wait([self._answer], 0.1)  # short, for the sake of signals
            self.check()

    def _start(self, forked: Forked | None = None) -> None:
        self._folder = self._end.enter_context(temporary_folder())
        answer: Future[bytes] = Future()
        # How large the model will be is not known yet.
        most = psutil.virtual_memory().total // 2
        limits = Limits(seconds=math.inf, memory=most, file_size=most, answer=_ANSWER_BYTES)
        model = [str(self._folder / _MODEL)]

        def run() -> None:
            try:
                rest = (_VARIABLES, self._stop, forked)
                answer.set_result(run_confined(_PROGRAM, model, self._folder, limits, *rest))
            except Exception as error:  # told by `check`
                answer.set_exception(error)

        # No executor's: Python would wait for its end wherever an interruption came.
        thread = threading.Thread(target=run, name="fm_mlflow-read-back", daemon=True)
        thread.start()
        self._end.callback(thread.join)
        self._answer = answer


def _is_without_gpu() -> bool:
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")  # a copy could not use its driver


def _judge(answer: dict[str, Any], expected: NDArray[Any]) -> str:
    """Say what is wrong with what the other process got; nothing if it got the same."""
    if "error" in answer:
        return f"loading or calling it raised {answer['error']}"
    outputs, again = (np.asarray(answer[name]) for name in ("outputs", "again"))
    if outputs.shape != expected.shape:
        return f"it gives outputs of shape {outputs.shape}, here {expected.shape}"
    is_narrow = expected.dtype.itemsize < np.dtype(np.float32).itemsize
    tolerance = _TOLERANCE_OF_NARROW_TYPES if is_narrow else _TOLERANCE
    here = expected.astype(np.float64)
    tolerance *= max(1.0, float(np.abs(here).max()))
    # Of a model that draws random numbers, only the shape can be compared.
    is_random = np.abs(outputs - again).max() > tolerance
    if not is_random and not np.abs(outputs - here).max() <= tolerance:
        return "it gives other outputs than here: weights or settings of its layers are not saved"
    return ""
