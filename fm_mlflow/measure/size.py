"""How large a model is: its parameters and its files."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.measurement import MIB, Measurement


def parameter_counts(model: keras.Model) -> list[Measurement]:
    """Count the parameters of a built Keras model: `parameters/trainable` and the others."""
    method = "product of each variable's shape, summed"
    groups = {
        keys.PARAMETERS_TRAINABLE: model.trainable_weights,
        keys.PARAMETERS_NON_TRAINABLE: model.non_trainable_weights,
    }
    return [
        Measurement.exact(key, sum(math.prod(weight.shape) for weight in weights), method)
        for key, weights in groups.items()
    ]


def file_sizes(model: keras.Model) -> list[Measurement]:
    """Save a compiled, trained model as HDF5 with and without its optimizer state.

    Returns:
        `size/h5_mib` and `size/inference_mib`, in MiB = bytes / 1024².
    """
    return [
        _h5_size(model, keys.SIZE_H5, with_optimizer=True),
        _h5_size(model, keys.SIZE_INFERENCE, with_optimizer=False),
    ]


def _h5_size(model: keras.Model, key: Key, *, with_optimizer: bool) -> Measurement:
    state = "with" if with_optimizer else "without"
    method = f"size of the file that Keras saves as HDF5 {state} optimizer state, / 1024²"
    with tempfile.TemporaryDirectory(prefix="fm_mlflow-") as folder, _without_legacy_warning():
        path = Path(folder) / "model.h5"
        try:
            model.save(path, include_optimizer=with_optimizer)
        except Exception as error:  # any class may refuse to be described in HDF5
            reason = f"Keras cannot save it as HDF5: {type(error).__name__}: {error}"
            return Measurement.missing(key, method, reason)
        return Measurement.exact(key, path.stat().st_size / MIB, method)


@contextmanager
def _without_legacy_warning() -> Iterator[None]:
    """Keras warns on each HDF5 file that the format is old; here it is the point."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
