"""Keeps what other code prints out of our results and off a user's screen."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout

from fm_mlflow.errors import InputError
from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.lazy import lazy_modules

OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"
"""With it, a session has threads of its own, which `fm_mlflow.fitting.cpu.parts` wants."""

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""With it, a user says whether TensorFlow is to use oneDNN, instead of TensorFlow's own choice."""

# Read once, when TensorFlow starts. oneDNN's convolutions on few cores: let the thread that calls
# an operation work on it too, instead of waking another and waiting for it, and keep the generated
# code instead of making it each step.
THREADS = {
    "TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD": "1",
    "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "0",
    OWN_THREADS: "1",
}


_IMPORTED_ON_USE = (
    # Of Keras: they import scikit-learn and pyplot, half a second each.
    "keras.wrappers",
    "keras.visualization",
    "keras.src.visualization",
    # Of TensorFlow: TensorFlow Lite, and names of TensorFlow once more, 0.07 s.
    *(f"tensorflow._api.v2.{name}" for name in ("lite", "compat.v1.lite", "compat.v2.lite")),
    *(f"tensorflow._api.v2.compat.{name}.compat" for name in ("v1", "v2")),
)
"""Modules that work as ever when something is taken from them."""


@contextmanager
def ignoring_deprecations() -> Iterator[None]:
    """Keep libraries' notes to their own authors from being errors, as under `python -W error`.

    Keras calls NumPy in a way that NumPy deprecates, wherever it reads a variable.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without the lines that no logging setting switches off.

    They come from C++ before its log is set up ("could not find cuda drivers"). Shown after all
    when the import fails, and never hidden where the user set TF_CPP_MIN_LOG_LEVEL below 3.
    """
    # Keras reads it once; nothing else here works with another backend.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules:
        for name, value in THREADS.items():
            os.environ.setdefault(name, value)
    is_quiet = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3"
    with (
        rare_garbage_collection(),
        _stderr_held_back() if is_quiet else nullcontext(),
        lazy_modules(*_IMPORTED_ON_USE),
    ):
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    if keras.backend.backend() != "tensorflow":
        raise InputError("KERAS_BACKEND", keras.backend.backend(), "tensorflow")


@contextmanager
def errors_only(logger_name: str) -> Iterator[None]:
    """Let a logger pass on nothing less than errors, inside the block."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; show it if an error leaves the block."""
    sys.stderr.flush()
    visible = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            held.seek(0)
            os.write(visible, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(visible, 2)
            os.close(visible)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr whatever is printed, by child processes too: stdout is for results."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(results, 1)
        os.close(results)
