"""How large a model is: its parameters and files; rules of thumb that follow from its weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.measurement import MIB, Measurement
from fm_mlflow.process.quiet import errors_only
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.temporary import temporary_folder

_KERNELS = "kernel weights: every trainable variable whose name ends in 'kernel'"


def model_sizes(model: keras.Model) -> list[Measurement]:
    """Measure how large a built Keras model is; HDF5 figures need it compiled to differ.

    Returns:
        Parameter counts, and in MiB = bytes / 1024²: `size/parameters_mib`, `size/weights_mib`,
        `size/inference_mib` and `size/h5_mib`.
    """
    counted = "product of each variable's shape, summed"
    trainable, others = _count(model.trainable_weights), _count(model.non_trainable_weights)
    return [
        Measurement.exact(keys.PARAMETERS_TRAINABLE, trainable, counted),
        Measurement.exact(keys.PARAMETERS_NON_TRAINABLE, others, counted),
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


def _count(weights: Iterable[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _saved_size(key: Key, method: str, save: Callable[[Path], object]) -> Measurement:
    # Keras warns on each HDF5 file that the format is old; here it is the point.
    with temporary_folder() as folder, errors_only("absl"):
        try:
            save(folder)
        except Exception as error:  # any class may refuse to be described in HDF5
            reason = f"Keras cannot save it so: {one_line(error)}"
            return Measurement.missing(key, method, reason)
        return Measurement.exact(key, sum(f.stat().st_size for f in folder.iterdir()) / MIB, method)


def estimates(model: keras.Model) -> list[Measurement]:
    """Compute the rules of thumb that the measured costs are compared with, of a built Keras model.

    They take every kernel weight once, so they are wrong wherever a weight is used more than once
    (a convolution uses it at every output position), and they charge the first layer for a gradient
    with respect to the images that nobody needs. They are kept because people still use them.

    Returns:
        `estimate/inference_flops` = 2 x kernel weights, `estimate/training_flops` = 3 x that (both
        an image), `estimate/training_memory_mib` = weights, gradients and one copy of state in
        float32.
    """
    kernels = _count(w for w in model.trainable_weights if w.name.endswith("kernel"))
    figures = {
        keys.ESTIMATE_INFERENCE_FLOPS: ("2", 2 * kernels),
        keys.ESTIMATE_TRAINING_FLOPS: ("3 x 2", 6 * kernels),
        keys.ESTIMATE_TRAINING_MEMORY: ("3 x 4 bytes", 12 * kernels / MIB),
    }
    if kernels == 0:
        reason = "the model has no trainable kernel"
        return [Measurement.missing(key, _KERNELS, reason) for key in figures]
    return [
        Measurement.exact(key, value, f"estimated, {factor} x {_KERNELS}")
        for key, (factor, value) in figures.items()
    ]


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of a model's weights, in hexadecimal: of shapes, types and values.

    It depends neither on the file that held them nor on the order or the names that Keras gives
    them, which loading may change.
    """
    digests = sorted(
        hashlib.sha256(
            f"{weight.dtype.name}{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes()
        ).hexdigest()
        for weight in model.get_weights()
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()
