"""Reads a user's own model back as a stranger would, beside the first epochs of its training."""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import TrainingError
from fm_mlflow.process.confined import (
    ConfinedError,
    Limits,
    run_confined,
    scratch_folder,
)
from fm_mlflow.process.redaction import redact

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
_PATIENCE_SECONDS = 8.0
_LONGEST_WAIT_SECONDS = 60.0
_LIBRARIES_BYTES = 4 * 1024**3
_TIMES_MODEL = 4
_FILE_BYTES = 256 * 1024**2
_ANSWER_BYTES = 1024**2
_CHARACTERS = 64  # of two numbers
_TOLERANCE = 5e-3
_TOLERANCE_OF_NARROW_TYPES = 5e-2


class ReadBack:
    """Has another process load a model as it would be logged now; a context manager.

    The model is saved at once. The process runs on, only where a processor would idle, while the
    caller trains; leaving the block stops it. That it could not be done - no memory, no time - is
    told and harms nothing.

    Args:
        built: The model, before its training.
        dataset: For its input example.
        notice: Called with what a person should know, in one line.
    """

    def __init__(self, built: BuiltModel, dataset: Dataset, notice: Callable[[str], None]) -> None:
        self._built = built
        self._dataset = dataset
        self._notice = notice
        self._stack = ExitStack()
        self._expected: NDArray[Any] = np.empty(0)
        self._limits = Limits(0, 0, 0, 0)
        self._folder = Path()
        self._process: _Process | None = None

    def __enter__(self) -> ReadBack:
        """Save the model, and start the process."""
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process, if it still runs."""
        if self._process is not None:
            self._process.stop()
        self._stack.close()

    def check(self) -> None:
        """Return at once, unless it is known by now that the model cannot be read back.

        Raises:
            TrainingError: It cannot; says why.
        """
        if self._process is None or self._process.is_running:
            return
        if problem := self._process.problem:
            self._notice(
                f"it is not known whether others can load the model: the process that tried it was "
                f"stopped ({problem}); `fm-mlflow register` tries it again"
            )
        elif failure := redact(_judge(json.loads(self._process.answer), self._expected)):
            raise TrainingError(
                "the model cannot be loaded by others: in a process that has nothing but what is "
                f"logged with it, {failure}"
            )
        self._process = None

    def finish(self, stage: Callable[[str], None]) -> None:
        """Wait for the verdict, about a minute at most.

        Raises:
            TrainingError: The model cannot be read back.
        """
        if self._process is not None and self._process.is_running:
            stage("waiting until the model is read back")
            self._process.wait(_PATIENCE_SECONDS)
            if self._process.is_running:  # other work leaves it no processor; ours is done
                self._process.stop()
                limits = replace(self._limits, idle=False, seconds=_LONGEST_WAIT_SECONDS)
                self._process = _Process(self._folder, limits)
                self._process.wait(math.inf)
        self.check()

    def _start(self, stack: ExitStack) -> None:
        from fm_mlflow.tracking.save_model import save_model

        built, self._folder = self._built, stack.enter_context(scratch_folder())
        inputs = built.inputs(self._dataset.test.head(_EXAMPLES))
        self._expected = np.asarray(built.model(inputs, training=False))
        size = save_model(
            built.model,
            self._folder / _MODEL,
            input_example=inputs,
            output_example=self._expected,
            class_names=built.class_names,
            gives_logits=built.gives_logits,
            code_folder=built.source.folder,
            code_files=built.source.files,
            requirements=built.source.requirements,
        )
        room = _TIMES_MODEL * (size or 0)
        self._limits = Limits(
            seconds=_LONGEST_SECONDS,
            memory=min(psutil.virtual_memory().total, _LIBRARIES_BYTES + room),
            file_size=max(_FILE_BYTES, room),
            answer=_ANSWER_BYTES + self._expected.size * _CHARACTERS,
            idle=True,
        )
        self._process = _Process(self._folder, self._limits)


class _Process:
    """A stranger's process, and the thread that waits for it.

    Attributes:
        answer: What it sent.
        problem: Why it sent nothing.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.answer = b""
        self.problem = ""
        self._model = folder / _MODEL
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._limits = limits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fm_mlflow-read-back", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.is_running and time.monotonic() < until:
            self._thread.join(0.1)  # short, for the sake of signals

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        model, limits = [str(self._model)], self._limits
        try:
            self.answer = run_confined(
                _PROGRAM, model, self._folder, limits, _VARIABLES, beside=self._stop
            )
            json.loads(self.answer)
        except (ConfinedError, OSError, ValueError) as error:
            self.problem = redact(str(error))


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
