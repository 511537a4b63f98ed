"""How large a model is: its parameters and its files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.measurement import MIB, Measurement, describe_error
from fm_mlflow.process.quiet import errors_only


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


def model_sizes(model: keras.Model) -> list[Measurement]:
    """Measure how large a built Keras model is; HDF5 figures need it compiled to differ.

    Returns:
        Parameter counts, and in MiB = bytes / 1024²: `size/parameters_mib`, `size/weights_mib`,
        `size/inference_mib` and `size/h5_mib`.
    """
    return [
        *parameter_counts(model),
        Measurement.exact(
            keys.SIZE_PARAMETERS,
            weight_bytes(model) / MIB,
            "each weight's count x bytes of its type, summed",
        ),
        _saved_size(
            keys.SIZE_WEIGHTS,
            "size of Keras' .weights.h5, optimizer state included where compiled, / 1024²",
            lambda folder: model.save_weights(folder / "model.weights.h5"),
        ),
        _saved_size(
            keys.SIZE_INFERENCE,
            "size of the file that Keras saves as HDF5 without optimizer state, / 1024²",
            lambda folder: model.save(folder / "model.h5", include_optimizer=False),
        ),
        _saved_size(
            keys.SIZE_H5,
            "size of the file that Keras saves as HDF5 with optimizer state, / 1024²",
            lambda folder: model.save(folder / "model.h5", include_optimizer=True),
        ),
    ]


def weight_bytes(model: keras.Model) -> int:
    """Return what a built Keras model's weights take in memory, in bytes."""
    return sum(
        math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights
    )


def _saved_size(key: Key, method: str, save: Callable[[Path], object]) -> Measurement:
    # Keras warns on each HDF5 file that the format is old; here it is the point.
    with tempfile.TemporaryDirectory(prefix="fm_mlflow-") as name, errors_only("absl"):
        folder = Path(name)
        try:
            save(folder)
        except Exception as error:  # any class may refuse to be described in HDF5
            reason = f"Keras cannot save it so: {describe_error(error)}"
            return Measurement.missing(key, method, reason)
        return Measurement.exact(key, sum(f.stat().st_size for f in folder.iterdir()) / MIB, method)
